"""Scores that are the training objective: nothing is estimated for them."""

from math import inf

import torch

from ._base import ROUNDING, AnomalyScore, Scorer, spread

__all__ = ["NegativeELBO", "Reconstruction"]


class Reconstruction(AnomalyScore):
    """The training loss between a row and its reconstruction, per feature.

    The usual score of an autoencoder. With the squared error it is half the mean
    squared residual, in units of the scaled data. It ignores the latent code: an
    extreme row that follows the relations between the columns can be reconstructed
    well [1]_. An entry that differs from its reconstruction by no more than rounding of
    single precision (a hundred-thousandth of the spread of its column) counts as equal:
    that bears means of up to a hundred standard deviations.

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

    def start(self, rows, held_out):
        self.register_buffer("middle", rows.x.mean(dim=0))
        self.register_buffer("size", spread(rows.x - self.middle))

    def forward(self, view):
        return self.loss(view.raw, self._rows(view)) / view.x.shape[1]

    def _rows(self, view):
        """Return the rows, with entries that come back up to rounding as they do.

        What rounding leaves of them depends on the batch and the dtype. Probabilities
        and rates do not come back exactly.
        """
        if self.loss.domain != (-inf, inf):
            return view.x
        rounding = ROUNDING * (self.size + (view.x - self.middle).abs())
        expected = self.loss.inverse_link(view.raw)
        return torch.where(view.residual.abs() > rounding, view.x, expected)

    def contributions(self, view):
        terms = self.loss.per_entry(view.raw, self._rows(view))
        by_feature = terms.clamp_min(0) / view.x.shape[1]
        return by_feature, by_feature.new_zeros(len(by_feature))


class NegativeELBO(AnomalyScore):
    """The training objective of each row: loss plus cost of the bottleneck.

    With :class:`~skae.bottlenecks.Variational` it is the negative evidence lower bound
    [1]_: the loss plus the divergence of the posterior from the prior. The code is the
    posterior mean, without noise, so that a row always has the same score. With
    bottlenecks that have no cost it ranks rows as `Reconstruction` does. `explain`
    divides the whole score among the features, in proportion to their terms of the
    loss.

    References
    ----------
    .. [1] Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import NegativeELBO
    >>> from skae.bottlenecks import Variational
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 4))
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> detector = AutoencoderOutlierDetector(
    ...     2, bottleneck=Variational(), anomaly_score=NegativeELBO(), random_state=0
    ... ).fit(X)
    >>> far_out = [[10.0, 0.0, 0.0, 0.0]]
    >>> bool(detector.score_samples(far_out) < detector.score_samples(X).min())
    True
    """

    def build(self, loss):
        """Return a module that returns the objective; see `AnomalyScore.build`."""
        return _NegativeELBO(loss)


class _NegativeELBO(_Reconstruction):
    def forward(self, view):
        return view.objective

    def contributions(self, view):
        # The loss may be weighted in the objective, as with a learnt variance, and the
        # cost of the code belongs to no feature more than to another.
        by_feature, by_code = super().contributions(view)
        total = by_feature.sum(dim=1, keepdim=True)
        share = torch.where(total > 0, by_feature / total, 1 / view.x.shape[1])
        return share * view.objective[:, None].clamp_min(0), by_code
