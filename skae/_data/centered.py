"""Products of centred, weighted rows, from which principal axes are computed.

Rows that are read in chunks are centred, then multiplied. Of a sparse table nothing is
centred: products with the centre are subtracted from those with the stored entries,
as by PCA of sparse rows [1]_.

.. [1] Li, Linderman, Szlam, Stanton, Kluger & Tygert, "Algorithm 971: An Implementation
   of a Randomized Algorithm for Principal Component Analysis", ACM Transactions on
   Mathematical Software 43, 2017.
"""

import numpy as np
from sklearn.utils.sparsefuncs import (
    inplace_column_scale,
    inplace_row_scale,
    mean_variance_axis,
)

from .moments import moments, products
from .source import chunk_rows

__all__ = ["ChunkProducts", "SparseProducts", "TurnedProducts", "centered"]

# Rows of a block of scalar products of rows: with fewer, reading would take longer
# than multiplying.
_MIN_BLOCK = 256


def centered(x, weight, dtype, mean, least=1):
    """Yield slices, and their rows: centred, times the root of their weight."""
    mean = mean.astype(dtype)
    for rows, chunk in x.chunks(least=least):
        chunk = chunk.numpy().astype(dtype, copy=False) - mean
        if weight is not None:
            chunk *= np.sqrt(weight[rows]).astype(dtype)[:, np.newaxis]
        yield rows, chunk


class ChunkProducts:
    """Products of the rows ``Z`` of a source: centred, times the root of their weight.

    Parameters
    ----------
    x : Source
    weight : ndarray of shape (n_samples,) or None
        Sample weights of mean one.
    dtype : dtype
        Precision of the products.
    """

    def __init__(self, x, weight, dtype):
        self.shape = x.shape
        self._x, self._weight, self._dtype = x, weight, dtype
        self._mean = None

    def _chunks(self, least=1):
        return centered(self._x, self._weight, self._dtype, self._mean, least)

    def moments(self):
        """Return mean and variance of each column."""
        self._mean, variance = moments(self._x, self._weight, self._dtype)
        return self._mean, variance

    def covariance(self):
        """Return mean and covariance of the columns: ``Z.T @ Z / n_samples``."""
        return moments(self._x, self._weight, self._dtype, products)

    def whole(self):
        """Return ``Z``, of few entries; after `moments`."""
        ((_, rows),) = self._chunks(self.shape[0])
        return rows

    def image(self, directions):
        """Return ``Z.T @ (Z @ directions)``; after `moments`."""
        image = np.zeros_like(directions)
        directions = directions.astype(self._dtype)
        for _, rows in self._chunks():
            image += rows.T @ (rows @ directions)
        return image

    def gram(self):
        """Return ``Z @ Z.T``; after `moments`."""
        gram = np.empty((self.shape[0], self.shape[0]))
        for above, rows in self._chunks(_MIN_BLOCK):
            for left, others in self._chunks(_MIN_BLOCK):
                if left.start > above.start:
                    break
                gram[above, left] = rows @ others.T
                gram[left, above] = gram[above, left].T
        return gram

    def combined(self, vectors):
        """Return ``vectors.T @ Z``; after `moments`."""
        total = np.zeros((vectors.shape[1], self.shape[1]))
        for block, rows in self._chunks(_MIN_BLOCK):
            total += vectors[block].T.astype(self._dtype) @ rows
        return total


class SparseProducts:
    """The same products of a sparse table, in double precision.

    Parameters
    ----------
    table : SparseTable
        Without missing entries.
    weight : ndarray of shape (n_samples,) or None
        Sample weights of mean one.
    """

    def __init__(self, table, weight):
        self.shape = n_samples, n_features = table.matrix.shape
        matrix = table.matrix.astype(np.float64)  # a copy
        # A column with a zero varies by as much as that differs from its mean. One
        # without may be all but constant, far from zero, and must be centred before
        # anything is squared.
        stored = np.bincount(matrix.indices, minlength=n_features)
        mean, _ = mean_variance_axis(matrix, 0)
        origin = np.where(stored == n_samples, mean, 0.0)
        matrix.data -= origin[matrix.indices]
        inplace_column_scale(matrix, 1 / table.scale)
        self._center, self._variance = mean_variance_axis(matrix, 0, weights=weight)
        self._mean = self._center + (origin - table.center) / table.scale
        self._root = np.ones(n_samples) if weight is None else np.sqrt(weight)
        inplace_row_scale(matrix, self._root)
        # Z is this matrix minus the outer product of root and center. Both orders:
        # products with the rows of a matrix are the fast ones.
        self._matrix, self._transposed = matrix, matrix.T.tocsr()

    def moments(self):
        """Return mean and variance of each column."""
        return self._mean, self._variance

    def covariance(self):
        """Return mean and covariance of the columns: ``Z.T @ Z / n_samples``."""
        # Weights have mean one.
        covariance = _product(self._transposed, self._matrix) / self.shape[0]
        covariance -= np.outer(self._center, self._center)
        return self._mean, covariance

    def image(self, directions):
        """Return ``Z.T @ (Z @ directions)``."""
        return self.combined(self.scores(directions)).T

    def gram(self):
        """Return ``Z @ Z.T``."""
        gram = _product(self._matrix, self._transposed)
        # Rows are Z plus a multiple of the center.
        cross = np.outer(self._matrix @ self._center, self._root)
        gram -= cross
        gram -= cross.T
        gram += (self._center @ self._center) * np.outer(self._root, self._root)
        return gram

    def combined(self, vectors):
        """Return ``vectors.T @ Z``."""
        stored = (self._transposed @ vectors).T
        return stored - np.outer(self._root @ vectors, self._center)

    def scores(self, directions):
        """Return ``Z @ directions``."""
        stored = self._matrix @ directions
        return stored - np.outer(self._root, self._center @ directions)


class TurnedProducts:
    """Products of ``Z.T``: directions are of rows instead of columns.

    Parameters
    ----------
    rows : SparseProducts
    """

    def __init__(self, rows):
        self.shape = rows.shape[::-1]
        self._rows = rows

    def image(self, directions):
        """Return ``Z @ (Z.T @ directions)``."""
        return self._rows.scores(self._rows.combined(directions).T)


def _product(left, right):
    """Return the product of two matrices in CSR format, an ndarray."""
    total = np.empty((left.shape[0], right.shape[1]))
    step = chunk_rows(right.shape[1])
    for start in range(0, len(total), step):
        total[start : start + step] = (left[start : start + step] @ right).toarray()
    return total
