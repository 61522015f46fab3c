"""Bottlenecks: what stands between encoder and decoder, and its price."""

from ._base import Bottleneck
from ._plain import Plain
from ._quantized import FiniteScalar, VectorQuantized
from ._topk import BatchTopK, TopK
from ._variational import Variational

__all__ = [
    "BatchTopK",
    "Bottleneck",
    "FiniteScalar",
    "Plain",
    "TopK",
    "Variational",
    "VectorQuantized",
]
