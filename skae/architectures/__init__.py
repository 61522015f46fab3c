"""Architectures: the two networks, from the widths that the other parts ask for."""

from ._base import Architecture
from ._conv import Conv
from ._custom import Custom
from ._mlp import MLP

__all__ = ["MLP", "Architecture", "Conv", "Custom"]
