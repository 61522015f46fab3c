"""Search over parameters, at less than the price of all its fits."""

from ._search import AutoencoderSearchCV

__all__ = ["AutoencoderSearchCV"]
