"""Architectures: builders of the encoder and the decoder network."""

from ._base import Architecture
from ._conv import Conv
from ._custom import Custom
from ._mlp import MLP

__all__ = ["MLP", "Architecture", "Conv", "Custom"]
