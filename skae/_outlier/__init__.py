"""The detector: an autoencoder where IsolationForest would stand."""

from ._detector import AutoencoderOutlierDetector

__all__ = ["AutoencoderOutlierDetector"]
