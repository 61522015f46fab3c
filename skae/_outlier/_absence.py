"""Missing entries as a reason of their own to call a row abnormal."""

import math

import numpy as np
import torch

from .._data.affine import DoubleConstants
from .._data.subsample import subsample

__all__ = ["Absence", "fit_absence"]

# Rows whose missing entries are kept for comparison, at most.
_MAX_ROWS = 8192
# Share of the rows whose missing entries are rare enough to count: with more, those of
# which entries are missing at random would be ranked by chance.
_RARE = 0.01
# What a row without any value costs in addition.
_NOTHING = 100.0
# Shares of rows above the quantiles that say how fast scores grow as they get rarer.
_BODY, _TAIL, _FAR = 0.5, 0.1, 0.01


class Absence(DoubleConstants):
    """The least score of a row, by how rare it is that such entries are missing.

    An entry costs the negative logarithm of the share of the training rows in which it
    is missing. The sum over a row is compared with those of the training rows: the
    negative logarithm of its conformal p-value, plus what the sum is above the largest
    of them. One in a hundred has at least the score of the most abnormal tenth, and
    rarer ones more. So rows that lack what others lack have the score of what they do
    not lack. A row without any value is abnormal, however many others are.

    Parameters
    ----------
    cost : array-like of shape (n_features,)
    usual : array-like of shape (n_rows,)
        Sums of the costs of training rows, in increasing order.
    n_rows : int
        Number of all training rows.
    start, unit : float
        Least score of the most abnormal tenth of validation rows; and increase of the
        score of rows that are rarer by a factor of e.
    """

    def __init__(self, cost, usual, n_rows, start, unit):
        super().__init__()
        for name, value in (
            ("cost", cost),
            ("usual", usual),
            ("scale", (n_rows, start, unit)),
        ):
            value = torch.as_tensor(value, dtype=torch.float64)
            self.register_buffer(name, value)

    def forward(self, scores, x):
        """Return scores, not less than those for what is missing.

        Parameters
        ----------
        scores : Tensor of shape (n_samples,)
        x : Tensor of shape (n_samples, n_features)
            NaN where an entry is missing.
        """
        if not x.sum().isnan():
            return scores
        missing = x.isnan()
        least = self.least(missing).to(scores.dtype)
        return torch.where(missing.any(dim=1), torch.maximum(scores, least), scores)

    def least(self, missing):
        """Return the least scores of rows, by which entries are missing."""
        total = missing.to(self.cost.dtype) @ self.cost
        n_rows, start, unit = self.scale
        # Sums of equal entries may differ by rounding.
        equal = total * (1 - 1e-9)
        rarer = len(self.usual) - torch.searchsorted(self.usual, equal)
        p = (n_rows * rarer / len(self.usual) + 0.5) / (n_rows + 1)
        surprise = (total - self.usual[-1]).clamp_min(0) - p.log()
        surprise = torch.where(missing.all(dim=1), surprise + _NOTHING, surprise)
        return start + unit * (surprise + math.log(_RARE))

    def contributions(self, more, x):
        """Share out what missing entries have added to scores.

        Parameters
        ----------
        more : Tensor of shape (n_samples,)
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_features)
        """
        parts = x.isnan() * self.cost.to(more.dtype)
        total = parts.sum(dim=1, keepdim=True)
        return more[:, None] * torch.where(total > 0, parts / total, 0.0)


def fit_absence(rows, weight, scores, has_missing, blocks=None):
    """Learn from training rows how rare it is that entries are missing.

    A category of a single training row is missing, too, as without this row it would
    be unseen. So the share of these rows is that of new rows with an unseen one [1]_.

    Parameters
    ----------
    rows : Source
    weight : ndarray of shape (n_samples,) or None
        Sample weights of mean one.
    scores : Tensor of shape (n_held_out,)
        Of validation rows.
    has_missing : bool
        Whether there are missing entries.
    blocks : Blocks, default=None
        Which columns are indicators of categories. What is missing of a feature counts
        once, in its first column.

    References
    ----------
    .. [1] Good, "The Population Frequencies of Species and the Estimation of Population
       Parameters", Biometrika 40, 1953.
    """
    n_rows, n_features = rows.shape
    count, kept = np.zeros(n_features), np.zeros((1, n_features), dtype=bool)
    table = rows.stored()
    if has_missing and table is not None:
        missing = table.missing()
        count = (np.ones(n_rows) if weight is None else weight) @ missing
        kept = missing[subsample(n_rows, _MAX_ROWS, weight)]
    elif has_missing:
        for chunk, x in rows.chunks():
            missing = x.isnan().numpy()
            share = np.ones(len(missing)) if weight is None else weight[chunk]
            count += share @ missing
        drawn = rows.take(subsample(n_rows, _MAX_ROWS, weight))
        kept = drawn.isnan().numpy()
    cost = -np.log((count + 0.5) / (n_rows + 1))
    if blocks is not None:
        cost[np.setdiff1d(np.arange(n_features), blocks.first)] = 0.0
    return Absence(cost, np.sort(kept @ cost), n_rows, *_tail(scores.double().numpy()))


def _tail(scores):
    """Return the score of the most abnormal tenth, and how fast scores grow there."""
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return 0.0, 1.0
    body, tail, far = np.quantile(scores, [1 - _BODY, 1 - _TAIL, 1 - _FAR])
    unit = max(
        (tail - body) / math.log(_BODY / _TAIL), (far - tail) / math.log(_TAIL / _FAR)
    )
    return tail, unit if unit > 0 else abs(tail) or 1.0
