"""Autoencoders as scikit-learn estimators, trained with PyTorch."""

from . import (
    anomaly_scores,
    architectures,
    bottlenecks,
    corruptions,
    displays,
    exceptions,
    inspection,
    losses,
    metrics,
    penalties,
)
from ._files import load, save
from ._imputer import AutoencoderImputer
from ._outlier import AutoencoderOutlierDetector
from ._training.workers import distributed
from ._transformer import AutoencoderTransformer

__version__ = "0.1.0"

__all__ = [
    "AutoencoderImputer",
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "anomaly_scores",
    "architectures",
    "bottlenecks",
    "corruptions",
    "displays",
    "distributed",
    "exceptions",
    "inspection",
    "load",
    "losses",
    "metrics",
    "penalties",
    "save",
]
