"""Both estimators on a cluster of Dask.

``fit`` takes collections of Dask and trains where their partitions are; the methods of
the fitted model return collections of Dask, block by block. Everything else is as in
:mod:`skae`.

Needs ``pip install skae[distributed]``.
"""

from ._estimators import AutoencoderOutlierDetector, AutoencoderTransformer

__all__ = ["AutoencoderOutlierDetector", "AutoencoderTransformer"]
