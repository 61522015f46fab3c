"""Cross-fitting: scores of few training rows by models that have not seen them."""

import numpy as np

from .._data.source import Resident
from .._training.fit import train
from .._training.plan import FEW_ROWS
from .._training.together import together
from ._ensemble import fit_ensemble

__all__ = ["cross_fits", "cross_fitted"]

# Rows that count as few per component and per column, up to as many in all; see
# tests/benchmarks/bench_constants.py.
_ROWS_PER_COMPONENT = 20
_ROWS_PER_COLUMN = 10
_MAX_ROWS = 2000
# The fewest rows that are split.
_MIN_ROWS = 10


def cross_fits(plan):
    """Return whether the threshold is to be set from cross-fitted scores.

    Either the validation rows are too few to set a threshold, or there are so few rows
    per component or column that principal axes fit the training rows much better than
    new rows, or rows depend on each other: scores need a model that has seen nothing of
    their group, and a tenth of the groups are few. A validation set of the user's needs
    no such help.
    """
    n, width = plan.rows.shape
    k = plan.axes.n_components
    needed = max(_ROWS_PER_COMPONENT * k, _ROWS_PER_COLUMN * width)
    few = n < max(FEW_ROWS, min(needed, _MAX_ROWS))
    return plan.X_val is None and n >= _MIN_ROWS and (few or not plan.holdout.is_plain)


def cross_fitted(fit, unchanged, how, events):
    """Return a score of every training row by an ensemble that has not seen it.

    A generator, as a part of a fit; see `train`.

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
    scores : ndarray of shape (n_scores,), float64
        Of each row once, unless a splitter of the user's has other test rows.
    weight : ndarray of shape (n_scores,) or None
        Sample weights of these rows.
    """
    plan = fit.plan
    # As many epochs as with all rows; none if the initial weights were kept. After a
    # warm start these are not the ones that other rows begin with.
    n_epochs = None if plan.settings.warm_start else fit.net.best_epoch_
    if n_epochs == 0 and not unchanged:
        n_epochs = None
    folds = plan.folds()

    def scores_of(kept, rows):
        fold = plan.fold(kept, n_epochs, fit.net.leaves_start)
        first = yield from train(fold, **events)
        fitted = yield from fit_ensemble(first, **how, **events)
        return fitted.ensemble.score(_unseen(plan, kept, rows))

    scores = yield from together(scores_of(*fold) for fold in folds)
    rows = np.concatenate([rows for _, rows in folds])
    # In the order of the table.
    order = np.argsort(rows, kind="stable")
    weight = None if plan.weight is None else plan.weight[rows[order]]
    return np.concatenate(scores)[order], weight


def _unseen(plan, kept, rows):
    """Return rows as a model of the others gets them."""
    blocks = plan.settings.blocks
    if blocks is None:
        return plan.rows.subset(rows)
    x, seen = plan.rows.take(rows), plan.rows.take(kept)
    return Resident(blocks.unseen_as_missing(x, seen))
