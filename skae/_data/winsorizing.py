"""Winsorizing: a few wild values of a column are replaced before anything is learnt."""

import numpy as np
from scipy import sparse

from .sparse_table import SparseTable, dense_column

__all__ = ["winsorized"]

# Share of the rows that may have a wild value in a column, and the number of rows from
# which one may.
_MOST = 0.01
_MIN_ROWS = 20
# How many times as far from the median as all others wild values are. The largest of
# many values of a normal, an exponential or a log-normal column is hardly ever twice as
# far as the next.
_GAP = 10.0
# Other values that a column must have, all different: with fewer it is a category, and
# the distance of a rare one means nothing.
_LEAST_DISTINCT = 10


def winsorized(X):
    """Return rows in which no column has a few values that dominate its variance.

    Values of a column are wild if they are at most 1 % of all, ten times as far from
    the median as any other, and at least double the variance of the column: a missing
    value that was coded as -9999, a decimal point that was lost. They are replaced by
    the largest, or smallest, of the other values [1]_. A heavy tail has no such gap. A
    column with fewer than ten other values stays as it is: categories have no distance.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Finite, or NaN where an entry is missing.

    Returns
    -------
    ndarray or CSR matrix of shape (n_samples, n_features)
        ``X`` itself where there is nothing to replace.

    References
    ----------
    .. [1] Dixon, "Simplified Estimation from Censored Normal Samples", Annals of
       Mathematical Statistics 31, 1960.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(100.0).reshape(-1, 1)
    >>> X[0] = 1e9
    >>> float(winsorized(X).max())
    99.0
    """
    n_samples = X.shape[0]
    most = int(_MOST * n_samples) or int(n_samples >= _MIN_ROWS)
    if sparse.issparse(X):
        return _winsorized_table(X, most)
    replaced = None
    for j in _suspects(X, most):
        column = X[:, j].astype(np.float64)
        bounds = _bounds(column[~np.isnan(column)], most)
        if bounds is not None:
            replaced = X.copy() if replaced is None else replaced
            replaced[:, j] = X[:, j].clip(*bounds)
    return X if replaced is None else replaced


def _winsorized_table(X, most):
    """Return a sparse matrix without wild values."""
    n_samples = X.shape[0]
    columns = X.tocsc()
    replaced = {}
    for j in _suspects(X, most):
        stored = columns.data[columns.indptr[j] : columns.indptr[j + 1]]
        n_zeros = n_samples - len(stored)
        if n_zeros > len(stored):
            # The median is zero, and as many zeros as make it so are enough: what does
            # not differ from the median adds to no distance.
            if np.count_nonzero(stored) <= most:
                continue
            values = np.append(stored, np.zeros(len(stored) + 1))
        else:
            values = dense_column(columns, j)
        values = values.astype(np.float64)
        bounds = _bounds(values[~np.isnan(values)], most)
        if bounds is not None:
            replaced[j] = dense_column(columns, j).clip(*bounds)
    if not replaced:
        return X
    return _with_columns(X, replaced)


def _with_columns(X, replaced):
    """Return a CSR matrix with some columns, by position, replaced by dense ones."""
    stored = X.tocoo()
    others = ~np.isin(stored.col, list(replaced))
    data, rows, columns = (
        [part[others]] for part in (stored.data, stored.row, stored.col)
    )
    for j, column in replaced.items():
        there = np.flatnonzero(column)
        data.append(column[there])
        rows.append(there)
        columns.append(np.full(len(there), j))
    index = np.concatenate(rows), np.concatenate(columns)
    return type(X)((np.concatenate(data), index), shape=X.shape)


def _suspects(X, most):
    """Return the columns in which so few values may dominate the variance."""
    if most == 0:
        return ()
    with np.errstate(over="ignore", invalid="ignore"):
        if sparse.issparse(X):
            mean, variance, low, high = SparseTable.of(X).statistics()
            mean[X.indices[np.isnan(X.data)]] = np.nan
        else:
            mean = X.mean(axis=0, dtype=np.float64)
            variance = X.var(axis=0, dtype=np.float64)
            low, high = X.min(axis=0), X.max(axis=0)
        reach = np.maximum(high - mean, mean - low)
        # About the mean, which wild values draw to themselves, not the median: hence
        # less than the half that is asked for. Not so what overflows.
        spared = most * reach**2 < X.shape[0] * variance / 4
    # Nor does what is missing.
    return np.flatnonzero((~spared & (reach > 0)) | np.isnan(mean))


def _bounds(column, most):
    """Return the least and the largest value that is not wild; None if none is."""
    if len(column) <= most:
        return None
    with np.errstate(over="ignore"):
        distance = np.abs(column - np.median(column))
    if not 0 < distance.max() < np.inf:
        return None
    distance /= distance.max()
    first = len(column) - most - 1
    ordered = np.partition(distance, first)
    tail = np.sort(ordered[first:])
    gaps = np.flatnonzero(tail[1:] >= _GAP * tail[:-1])
    if not len(gaps) or tail[gaps[0]] == 0:
        return None
    usual = distance <= tail[gaps[0]]
    squares = np.square(distance)
    others = column[usual]
    dominates = squares[~usual].sum() >= squares[usual].sum()
    if not dominates or len(np.unique(others)) < _LEAST_DISTINCT:
        return None
    return others.min(), others.max()
