"""Means and products of many rows, chunk by chunk, with no copy of them all.

A chunk is centred by its own mean, and how far that is from the mean of all is added up
at the end [1]_: one pass is enough, and nothing cancels, wherever the rows lie and
however they drift.

.. [1] Chan, Golub & LeVeque, "Algorithms for Computing the Sample Variance", The
   American Statistician 37, 1983.
"""

import numpy as np

__all__ = ["chunks", "moments", "products", "squares"]

# Numbers in a chunk: few enough to stay in a processor's cache from one operation to
# the next, and enough for products of matrices to run at full speed.
_CHUNK_ENTRIES = 2**20
# Most rows: rounding errors of a sum grow with the number of its terms.
_MAX_ROWS = 8192


def chunks(n_rows, n_columns, least=1):
    """Yield slices of rows, in their order and of a size that is always the same.

    Parameters
    ----------
    n_rows, n_columns : int
    least : int, default=1
        Rows of a chunk, however wide they are.
    """
    step = max(least, min(_CHUNK_ENTRIES // n_columns, _MAX_ROWS))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def products(rows):
    """Return the scalar products of all pairs of columns."""
    return rows.T @ rows


def squares(rows):
    """Return the sum of squares of each column."""
    return np.einsum("ij,ij->j", rows, rows)


def moments(x, weight=None, dtype=np.float64, second=squares):
    """Return the mean of rows and their second moment about it.

    Parameters
    ----------
    x : array-like of shape (n_samples, n_features)
        What slices of become arrays: an ndarray, a Tensor, or Streamed.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.
    dtype : dtype, default=float64
        Precision within a chunk. Between chunks it is double in any case: errors in
        single precision are those of one chunk, whatever the number of rows.
    second : callable, default=squares
        `squares` for the variance of each feature, `products` for the covariance.

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
    moment : ndarray of shape (n_features,) or (n_features, n_features), float64
    """
    total, totals, means, errors, origin = 0.0, [], [], [], None
    for rows in chunks(*x.shape):
        # One order in memory, whatever that of x: sums must not depend on it.
        chunk = np.ascontiguousarray(x[rows], dtype=dtype)
        counts = np.ones(len(chunk)) if weight is None else weight[rows]
        share = (counts / counts.sum()).astype(dtype)
        center = share @ chunk
        chunk = chunk - center
        # The rounding error of the centre, as far as the precision shows it.
        error = (share @ chunk).astype(np.float64)
        if weight is not None:
            chunk *= np.sqrt(counts).astype(dtype)[:, np.newaxis]
        total = total + second(chunk).astype(np.float64)
        totals.append(counts.sum())
        # From where the first chunk is: further away double precision is coarse.
        center = center.astype(np.float64)
        origin = center if origin is None else origin
        means.append(center - origin + error)
        errors.append(error)
    means, n_rows = np.array(means), np.sum(totals)
    share = np.array(totals) / n_rows
    mean, roots = share @ means, np.sqrt(share)[:, np.newaxis]
    between = second(roots * (means - mean)) - second(roots * np.array(errors))
    return origin + mean, total / n_rows + between
