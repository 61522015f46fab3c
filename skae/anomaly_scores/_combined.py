"""The mean of several anomaly scores."""

from numbers import Real

import torch
from torch import nn

from .._compat.sklearn import Interval
from ._base import AnomalyScore, Scorer
from ._neighbors import Neighbors
from ._ranks import Surprise, shared_out

__all__ = ["Combined"]


class Combined(AnomalyScore):
    r"""The mean of several scores, each as the negative logarithm of its p-value.

    Scores have different units. Each is converted to the negative logarithm of its
    conformal p-value [1]_, the share of validation rows that are at least as abnormal,
    interpolated between them; then the mean is taken. For the most abnormal 15 %, of
    which the p-values are uncertain and which may be outliers, an exponential tail is
    used: beyond the quantile :math:`q_{85}` the scale is
    :math:`-\log .15 + (s - q_{85}) / u` with
    :math:`u = (q_{85} - q_{50}) / \log (.5 / .15)`.
    :math:`n` validation rows say nothing of p-values below :math:`1 / (n + 1)`. A value
    :math:`v` of the scale that is larger than :math:`m = \log(n + 1)` (at least
    :math:`-\log .15`) is replaced by :math:`m + m \log(v / m)`, so that one score that
    is far out does not hide what the others say. The scale is finite and increases
    strictly, and does not depend on the unit of the score.

    ``Combined()`` is the default of the detector (``anomaly_score=None``): the distance
    of a row to stored training rows, both in residual and latent code and in the data,
    mapped to normal quantiles. So rows are abnormal that are reconstructed badly, rows
    whose code is far from other codes or in a gap between them, and rows that are
    unlike all training rows although they happen to be reconstructed well.

    Parameters
    ----------
    scores : list of AnomalyScore, default=None
        The scores to combine. None is ``[Neighbors(space="joint"),
        Neighbors(space="quantile")]``.

    contamination : float, default=0.0
        Share of outliers among the training rows, for the default ``scores``; see
        :class:`Neighbors`. Given scores have their own.

    References
    ----------
    .. [1] Bates, Candès, Lei, Romano & Sesia, "Testing for Outliers with Conformal
       p-values", Annals of Statistics 51, 2023.

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

    _parameter_constraints: dict = {
        "scores": [list, tuple, None],
        "contamination": [Interval(Real, 0, 0.5, closed="both")],
    }

    def __init__(self, scores=None, *, contamination=0.0):
        self.scores = scores
        self.contamination = contamination

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
            share = {"contamination": self.contamination}
            return [Neighbors(space=space, **share) for space in ("joint", "quantile")]
        return self.scores

    def build(self, loss):
        """Return a module that combines the scores; see `AnomalyScore.build`."""
        return _Combined([score.build(loss) for score in self._scores()])


class _Combined(Scorer):
    def __init__(self, scorers):
        super().__init__()
        self.scorers = nn.ModuleList(scorers)

    def start(self, rows, held_out):
        for scorer in self.scorers:
            scorer.start(rows, held_out)
        self.scale = Surprise()
        self.scale.start(self._parts(held_out))

    @property
    def stored_rows(self):
        stored = (scorer.stored_rows for scorer in self.scorers)
        return next((rows for rows in stored if rows is not None), None)

    def forward(self, view):
        return self.scale(self._parts(view)).mean(dim=1).to(view.x.dtype)

    def _parts(self, view):
        return torch.stack([scorer(view) for scorer in self.scorers], dim=1)

    def contributions(self, view):
        scores = self.scale(self._parts(view)) / len(self.scorers)
        total = 0
        for scorer, score in zip(self.scorers, scores.T, strict=True):
            by_feature, by_code = scorer.contributions(view)
            parts = torch.cat([by_feature, by_code[:, None]], dim=1)
            total = total + shared_out(score, parts)
        total = total.to(view.x.dtype)
        return total[:, :-1], total[:, -1]
