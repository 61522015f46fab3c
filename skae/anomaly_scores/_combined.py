"""The mean of several anomaly scores."""

import torch
from torch import nn

from ._base import AnomalyScore, Scorer, deviation
from ._neighbors import Neighbors

__all__ = ["Combined"]


class Combined(AnomalyScore):
    """The mean of several scores, each in units of its own deviation.

    Each score is divided by its mean absolute deviation from the median over validation
    rows, then the mean is taken. ``Combined()`` is the default of the detector
    (``anomaly_score=None``): the distance of a row to stored training rows, both in
    residual and latent code and in the data themselves, for several neighbourhood
    sizes. So rows are abnormal that are reconstructed badly, rows whose code is far
    from other codes or in a gap between them, and rows that are unlike all training
    rows although they happen to be reconstructed well.

    Parameters
    ----------
    scores : list of AnomalyScore, default=None
        The scores to combine. None is ``[Neighbors(space="joint"),
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
        """Check the list and each score in it; see `Component.validate`."""
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
        """Return a module that combines the scores; see `AnomalyScore.build`."""
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
