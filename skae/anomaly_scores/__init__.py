"""Anomaly scores: one number per row from its residual, latent code and cost."""

from ._base import AnomalyScore, Scorer, View
from ._combined import Combined
from ._likelihood import NegativeELBO, Reconstruction
from ._mahalanobis import Mahalanobis
from ._neighbors import Neighbors

__all__ = [
    "AnomalyScore",
    "Combined",
    "Mahalanobis",
    "NegativeELBO",
    "Neighbors",
    "Reconstruction",
    "Scorer",
    "View",
]
