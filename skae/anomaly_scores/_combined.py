"""Several scores as one."""

import torch
from torch import nn

from ._base import AnomalyScore, Scorer, deviation
from ._neighbors import Neighbors

__all__ = ["Combined"]


class Combined(AnomalyScore):
    """The mean of several scores, each in units of its own spread.

    Each score is divided by its mean absolute deviation from the median over held-out
    rows, then the mean is taken. ``Combined()`` is what ``anomaly_score=None`` of the
    detector stands for: how far a row lies from training rows, in what the model makes
    of it (residual and code) and in the data themselves, near by and farther away. So
    rows count as abnormal that do not come back, rows whose code is far out or in a
    gap, and rows that the model happens to reconstruct although there is nothing like
    them.

    Parameters
    ----------
    scores : list of AnomalyScore, default=None
        What is combined. None is ``[Neighbors(space="joint"),
        Neighbors(space="data")]``.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import Combined, Mahalanobis, Reconstruction
    >>> X = np.c_[np.arange(50.0), np.arange(50.0)]
    >>> detector = AutoencoderOutlierDetector(
    ...     1, anomaly_score=Combined([Reconstruction(), Mahalanobis()])
    ... ).fit(X)
    >>> far_out, off, usual = detector.score_samples([[99, 99], [10, 20], [10, 10.0]])
    >>> bool(far_out < usual) and bool(off < usual)
    True
    """

    _parameter_constraints: dict = {"scores": [list, tuple, None]}

    def __init__(self, scores=None):
        self.scores = scores

    def validate(self):
        """Check the scores, one by one; see `Component.validate`."""
        super().validate()
        scores = self._scores()
        if not scores or not all(isinstance(s, AnomalyScore) for s in scores):
            raise ValueError(
                "The 'scores' parameter of Combined must be a list of at least one "
                f"AnomalyScore, or None. Got {self.scores!r} instead."
            )
        for score in scores:
            score.validate()

    def _scores(self):
        if self.scores is None:
            return [Neighbors(space="joint"), Neighbors(space="data")]
        return self.scores

    def build(self, loss):
        """Return a module that holds those of the scores; see `AnomalyScore.build`."""
        return _Combined([score.build(loss) for score in self._scores()])


class _Combined(Scorer):
    def __init__(self, scorers):
        super().__init__()
        self.scorers = nn.ModuleList(scorers)

    def start(self, rows, held_out):
        scales = []
        for scorer in self.scorers:
            scorer.start(rows, held_out)
            scale = deviation(scorer(held_out))
            scales.append(scale if scale > 0 else torch.ones_like(scale))
        self.register_buffer("scales", len(scales) * torch.stack(scales))

    def forward(self, view):
        scores = torch.stack([scorer(view) for scorer in self.scorers], dim=1)
        return (scores / self.scales).sum(dim=1)

    def contributions(self, view):
        parts = [scorer.contributions(view) for scorer in self.scorers]
        return tuple(
            sum(part / scale for part, scale in zip(terms, self.scales, strict=True))
            for terms in zip(*parts, strict=True)
        )
