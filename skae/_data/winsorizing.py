"""Winsorizing: a few wild values of a column are replaced before anything is learnt."""

import numpy as np
import torch
from scipy import sparse

from .scaling import known_statistics
from .source import Mapped
from .sparse_table import SparseTable, dense_column
from .subsample import subsample

__all__ = ["Winsorized", "winsorized"]

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
# Rows of a table that is read in chunks that medians are taken from, and powers of two
# that distances may have.
_MAX_ROWS = 2**14
_N_BINS = 1100


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


class Winsorized(Mapped):
    """Rows that are read in chunks, without wild values; see `winsorized`.

    Medians, and whether there are ten other values, are those of some of the rows.

    Parameters
    ----------
    rows : Source
    """

    def __init__(self, rows):
        super().__init__(rows)
        self._low, self._high = (
            torch.from_numpy(bound).to(rows.dtype) for bound in _bounds_of(rows)
        )

    def _mapped(self, x):
        return x.clamp(self._low, self._high)


def _bounds_of(rows):
    """Return the least and the largest value of each column that is not wild."""
    n_samples, width = rows.shape
    bounds = np.full(width, -np.inf), np.full(width, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance, low, high = known_statistics(rows)
    most = int(_MOST * n_samples)
    reach = np.maximum(high - mean, mean - low)
    with np.errstate(over="ignore", invalid="ignore"):
        spared = most * reach**2 < n_samples * variance / 4
    suspects = np.flatnonzero(~spared & (reach > 0))
    if not len(suspects):
        return bounds
    drawn = rows.take(subsample(n_samples, _MAX_ROWS)).double().numpy()[:, suspects]
    columns = [column[~np.isnan(column)] for column in drawn.T]
    bins = [
        _Bins(np.median(column) if len(column) else 0.0, low[j], high[j])
        for j, column in zip(suspects, columns, strict=True)
    ]
    for _, x in rows.chunks():
        x = x.double().numpy()
        for j, of_column in zip(suspects, bins, strict=True):
            of_column.add(x[:, j])
    for j, column, of_column in zip(suspects, columns, bins, strict=True):
        found = of_column.bounds(most)
        if found is None:
            continue
        others = column[(column >= found[0]) & (column <= found[1])]
        if len(np.unique(others)) >= _LEAST_DISTINCT:
            bounds[0][j], bounds[1][j] = found
    return bounds


class _Bins:
    """Values of a column, by the power of two of their distance to a center.

    Between the distances of two bins, a gap is known exactly.

    Parameters
    ----------
    center : float
    low, high : float
        Least and largest value.
    """

    def __init__(self, center, low, high):
        self._center = center
        self._unit = max(high - center, center - low)
        self._counts, self._squares = (
            np.zeros(_N_BINS, dtype=np.int64),
            np.zeros(_N_BINS),
        )
        self._near, self._far = np.full(_N_BINS, np.inf), np.zeros(_N_BINS)
        self._low, self._high = np.full(_N_BINS, np.inf), np.full(_N_BINS, -np.inf)

    def add(self, values):
        """Take values into account, of which some may be NaN."""
        values = values[~np.isnan(values)]
        # The largest is one, so that no square overflows.
        distance = np.abs(values - self._center) / self._unit
        _, power = np.frexp(distance)
        bins = np.where(distance > 0, np.minimum(1 - power, _N_BINS - 1), _N_BINS - 1)
        self._counts += np.bincount(bins, minlength=_N_BINS)
        self._squares += np.bincount(bins, np.square(distance), minlength=_N_BINS)
        np.minimum.at(self._near, bins, distance)
        np.maximum.at(self._far, bins, distance)
        np.minimum.at(self._low, bins, values)
        np.maximum.at(self._high, bins, values)

    def bounds(self, most):
        """Return the least and the largest value that is not wild; None if none is."""
        filled = np.flatnonzero(self._counts)[::-1]  # from near to far
        beyond = self._counts.sum() - np.cumsum(self._counts[filled])
        near, far = self._near[filled], self._far[filled]
        gaps = (near[1:] >= _GAP * far[:-1]) & (beyond[:-1] <= most) & (far[:-1] > 0)
        if not gaps.any():
            return None
        last = int(np.argmax(gaps)) + 1
        usual, wild = filled[:last], filled[last:]
        if self._squares[wild].sum() < self._squares[usual].sum():
            return None
        return self._low[usual].min(), self._high[usual].max()


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
