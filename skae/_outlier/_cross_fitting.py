"""Cross-fitting: scores of few training rows by models that have not seen them."""

import numpy as np

from .._data.source import Subset
from .._training.fit import train
from .._training.plan import FEW_ROWS
from ._ensemble import fit_ensemble

__all__ = ["N_PARTS", "cross_fitted", "few_rows"]

# Rows that count as few per component and per column, up to as many in all; see
# tests/benchmarks/bench_constants.py.
_ROWS_PER_COMPONENT = 20
_ROWS_PER_COLUMN = 10
_MAX_ROWS = 2000
# Parts into which few rows are split, each scored by a model of the others, and the
# fewest rows that are split.
N_PARTS = 5
_MIN_ROWS = 10


def few_rows(plan):
    """Return whether there are so few training rows that cross-fitting pays.

    Either the validation rows are too few to set a threshold, or there are so few rows
    per component or column that principal axes fit the training rows much better than
    new rows. A validation set of the user's needs no such help.
    """
    n, width = plan.rows.shape
    k = plan.axes.n_components
    needed = max(_ROWS_PER_COMPONENT * k, _ROWS_PER_COLUMN * width)
    few = _MIN_ROWS <= n < max(FEW_ROWS, min(needed, _MAX_ROWS))
    return few and plan.X_val is None


def cross_fitted(fit, unchanged, how, events):
    """Return a score of every training row by an ensemble that has not seen it.

    Parameters
    ----------
    fit : Fit
        Of the first member of the ensemble of all rows.
    unchanged : bool
        Whether the networks of all rows kept their initial weights.
    how : dict
        Arguments of `fit_ensemble`.
    events : dict
        ``progress`` and ``attributes``, as `train` takes them.

    Returns
    -------
    ndarray of shape (n_samples,), float64
    """
    plan = fit.plan
    # As many epochs as with all rows; none if the initial weights were kept. After a
    # warm start these are not the ones that other rows begin with.
    n_epochs = None if plan.settings.warm_start else fit.net.best_epoch_
    if n_epochs == 0 and not unchanged:
        n_epochs = None
    scores = np.empty(len(plan.rows))
    order = plan.random_state.permutation(len(scores))
    for rows in np.array_split(order, N_PARTS):
        first = train(plan.without(rows, n_epochs), **events)
        fitted = fit_ensemble(first, **how, **events)
        scores[rows] = fitted.ensemble.score(Subset(plan.rows, rows))
    return scores
