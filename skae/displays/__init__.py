"""Plots of fitted models, by the conventions of scikit-learn's displays.

Matplotlib is imported when the first plot is drawn.
"""

from ._anomaly_score import AnomalyScoreDisplay
from ._code_size import CodeSizeDisplay
from ._explanation import ExplanationDisplay
from ._latent_space import LatentSpaceDisplay
from ._loss_curve import LossCurveDisplay
from ._reconstruction import ReconstructionDisplay

__all__ = [
    "AnomalyScoreDisplay",
    "CodeSizeDisplay",
    "ExplanationDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
]
