"""Bottlenecks: map the output of the encoder to the code and its cost."""

from ._base import Bottleneck
from ._nested import Nested
from ._plain import Plain
from ._quantized import FiniteScalar, VectorQuantized
from ._topk import BatchTopK, TopK
from ._variational import Variational

__all__ = [
    "BatchTopK",
    "Bottleneck",
    "FiniteScalar",
    "Nested",
    "Plain",
    "TopK",
    "Variational",
    "VectorQuantized",
]
