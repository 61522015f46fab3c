"""Scores that are what training minimises: nothing is learnt for them."""

import torch

from ._base import AnomalyScore, Scorer

__all__ = ["NegativeELBO", "Reconstruction"]


class Reconstruction(AnomalyScore):
    """The training loss between a row and its reconstruction, per feature.

    The score of the textbook. With the squared error it is half the mean squared
    residual, in units of the scaled data. It does not see how far out the code is: a
    row that is extreme but keeps to the relations between the columns can come back
    well [1]_.

    References
    ----------
    .. [1] Bouman & Heskes, "Autoencoders for Anomaly Detection are Unreliable", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import Reconstruction
    >>> X = np.c_[np.arange(50.0), np.arange(50.0)]
    >>> detector = AutoencoderOutlierDetector(1, anomaly_score=Reconstruction()).fit(X)
    >>> scores = detector.score_samples([[500.0, 500.0], [10.0, 20.0]])
    >>> bool(scores[0] > scores[1])  # far out on the line, but on it
    True
    """

    def build(self, loss):
        """Return a module that applies ``loss``; see `AnomalyScore.build`."""
        return _Reconstruction(loss)


class _Reconstruction(Scorer):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, view):
        return self.loss(view.raw, view.x) / view.x.shape[1]

    def contributions(self, view):
        # Losses are sums over features: one entry at a time gives the terms.
        terms = self.loss(view.raw.reshape(-1, 1), view.x.reshape(-1, 1))
        by_feature = terms.view_as(view.x).clamp_min(0) / view.x.shape[1]
        return by_feature, by_feature.new_zeros(len(by_feature))


class NegativeELBO(AnomalyScore):
    """What training minimises, for each row: loss and price of the bottleneck.

    With :class:`~skae.bottlenecks.Variational` it is the negative evidence lower bound
    [1]_ with the code at its posterior mean, without noise, so that a row always has
    the same score: what is left over counts, and how far the posterior is from the
    prior. With bottlenecks that have no price it ranks rows as `Reconstruction` does.
    `explain` divides the whole of it among the features by their parts in the loss.

    References
    ----------
    .. [1] Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import NegativeELBO
    >>> from skae.bottlenecks import Variational
    >>> X = np.random.RandomState(0).normal(size=(300, 4)) * [3, 2, 1, 1]
    >>> detector = AutoencoderOutlierDetector(
    ...     2, bottleneck=Variational(), anomaly_score=NegativeELBO(), random_state=0
    ... ).fit(X)
    >>> far_out = [[30.0, 0.0, 0.0, 0.0]]
    >>> bool(detector.score_samples(far_out) < detector.score_samples(X).min())
    True
    """

    def build(self, loss):
        """Return a module that passes it on; see `AnomalyScore.build`."""
        return _NegativeELBO(loss)


class _NegativeELBO(_Reconstruction):
    def forward(self, view):
        return view.objective

    def contributions(self, view):
        # The loss may enter with a weight of its own, as where the variance is learnt,
        # and the price of the code belongs to no feature more than to another.
        by_feature, by_code = super().contributions(view)
        total = by_feature.sum(dim=1, keepdim=True)
        share = torch.where(total > 0, by_feature / total, 1 / view.x.shape[1])
        return share * view.objective[:, None].clamp_min(0), by_code
