"""Mean and second moment of many rows, from chunks that are added one by one.

A chunk is centred by its own mean, and the distance between means is added when chunks
are merged [1]_: one pass is enough, and nothing cancels, wherever the rows lie and
however they drift.

.. [1] Chan, Golub & LeVeque, "Algorithms for Computing the Sample Variance", The
   American Statistician 37, 1983.
"""

import numpy as np

__all__ = ["Moments", "moments", "products", "squares"]


def products(rows):
    """Return the scalar products of all pairs of columns."""
    return rows.T @ rows


def squares(rows):
    """Return the sum of squares of each column."""
    return np.einsum("ij,ij->j", rows, rows)


class Moments:
    """Weighted mean of rows and their second moment about it.

    Parameters
    ----------
    second : callable, default=squares
        `squares` for the variance of each column, `products` for the covariance.
    dtype : dtype, default=float64
        Precision within a chunk. Between chunks it is double in any case: errors in
        single precision are those of one chunk, whatever the number of rows.

    Attributes
    ----------
    total : float
        Sum of the weights of the rows.
    """

    def __init__(self, second=squares, dtype=np.float64):
        self.total = 0.0
        self._second = second
        self._dtype = dtype
        # The mean is `_origin + _offset`: the origin is near the rows, where the
        # offset, and the distance between two means, is not rounded to their size.
        self._origin = self._offset = self._scatter = None

    def add(self, rows, weight=None):
        """Take a chunk of rows into account.

        Parameters
        ----------
        rows : array-like of shape (n_rows, n_columns)
        weight : ndarray of shape (n_rows,), default=None
            Sample weights; None is one for each row.
        """
        chunk = Moments(self._second, self._dtype)
        # One order in memory, whatever that of the rows: sums must not depend on it.
        rows = np.ascontiguousarray(rows, dtype=self._dtype)
        counts = np.ones(len(rows)) if weight is None else weight
        chunk.total = counts.sum()
        share = (counts / chunk.total).astype(self._dtype)
        center = share @ rows
        rows = rows - center
        # The rounding error of the centre, as far as the precision shows it.
        chunk._offset = (share @ rows).astype(np.float64)
        chunk._origin = center.astype(np.float64)
        if weight is not None:
            rows *= np.sqrt(counts).astype(self._dtype)[:, np.newaxis]
        about_center = self._second(rows).astype(np.float64)
        error = self._second(chunk._offset[np.newaxis])
        chunk._scatter = about_center - chunk.total * error
        self.merge(chunk)

    def merge(self, other):
        """Take the rows of other moments into account.

        Parameters
        ----------
        other : Moments
            With the same ``second``. It is left as it is.
        """
        if other.total == 0:
            return
        if self.total == 0:
            self.total = other.total
            self._origin, self._offset = other._origin, other._offset
            self._scatter = other._scatter
            return
        total = self.total + other.total
        distance = (other._origin - self._origin) + (other._offset - self._offset)
        between = self._second(distance[np.newaxis])
        self._offset = self._offset + distance * (other.total / total)
        self._scatter = (
            self._scatter
            + other._scatter
            + between * (self.total * other.total / total)
        )
        self.total = total

    def fade(self, factor):
        """Multiply the weight of all rows so far."""
        self.total *= factor
        if self._scatter is not None:
            self._scatter = self._scatter * factor

    def parts(self):
        """Return what `of_parts` makes the same moments of: a number and arrays."""
        return self.total, self._origin, self._offset, self._scatter

    @classmethod
    def of_parts(cls, parts, second=squares, dtype=np.float64):
        """Return moments from what `parts` has returned."""
        made = cls(second, dtype)
        made.total, made._origin, made._offset, made._scatter = parts
        return made

    @classmethod
    def of(cls, total, mean, second_moment, second=squares):
        """Return the moments of rows of which the results are known."""
        parts = total, mean, np.zeros_like(mean), total * second_moment
        return cls.of_parts(parts, second)

    @property
    def mean(self):
        """Weighted mean, float64 of shape (n_columns,)."""
        return self._origin + self._offset

    @property
    def second(self):
        """Variances (n_columns,), or covariances (n_columns, n_columns), float64."""
        return self._scatter / self.total


def moments(rows, weight=None, dtype=np.float64, second=squares):
    """Return the mean and the second moment of the rows of a source.

    Parameters
    ----------
    rows : Source
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.
    dtype, second
        As `Moments` takes them.

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
    moment : ndarray of shape (n_features,) or (n_features, n_features), float64
    """
    collected = Moments(second, dtype)
    for chunk, x in rows.chunks():
        collected.add(x, None if weight is None else weight[chunk])
    return collected.mean, collected.second
