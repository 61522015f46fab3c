"""Sparse tables: what follows from the stored entries, without a dense copy."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

__all__ = ["SparseTable", "canonical", "dense_column", "entries", "joined"]


def canonical(X):
    """Return a CSR matrix whose rows have each column at most once, in order.

    Other arrays, and matrices that are like this, are returned as they are.
    """
    if not sparse.issparse(X) or X.has_canonical_format:
        return X
    X = X.copy()  # not in the place of the user's
    X.sum_duplicates()
    return X


def entries(X):
    """Return an array with all values of a table: one zero for those not stored."""
    if not sparse.issparse(X):
        return X
    return X.data if X.nnz == np.prod(X.shape) else np.append(X.data, X.dtype.type(0))


def joined(X, Y):
    """Return the columns of two tables side by side, sparse if one of them is."""
    if sparse.issparse(X) or sparse.issparse(Y):
        return sparse.hstack([sparse.csr_array(X), sparse.csr_array(Y)], format="csr")
    return np.hstack([X, Y])


@dataclass(frozen=True)
class SparseTable:
    """The rows ``(matrix - center) / scale``.

    Attributes
    ----------
    matrix : sparse matrix or array of shape (n_samples, n_features)
        In canonical CSR format; NaN where an entry is missing.
    center, scale : ndarray of shape (n_features,), float64
    """

    matrix: sparse.sparray | sparse.spmatrix
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, matrix):
        """Return the rows of a matrix as they are."""
        n_features = matrix.shape[1]
        return cls(matrix, np.zeros(n_features), np.ones(n_features))

    def take(self, index):
        """Return some of the rows."""
        return SparseTable(self.matrix[index], self.center, self.scale)

    def scaled(self, scaling):
        """Return the rows after an `AffineMap`; None if it cuts values off."""
        center = self.center + self.scale * scaling.center.numpy()
        table = SparseTable(self.matrix, center, self.scale * scaling.scale.numpy())
        if scaling.limit is not None:
            *_, low, high = table.statistics()
            if (np.maximum(high, -low) > scaling.limit.numpy()).any():
                return None
        return table

    def missing(self):
        """Return which entries are missing, a sparse matrix of zeros and ones."""
        missing = self.matrix.copy()  # whose indices change
        missing.data = np.isnan(missing.data).astype(np.float64)
        missing.eliminate_zeros()
        return sparse.csr_array(missing)

    def times(self, matrix):
        """Return the products of the rows with a matrix of n_features rows."""
        matrix = matrix / self.scale[:, np.newaxis]
        return self.matrix @ matrix - self.center @ matrix

    def statistics(self, weight=None):
        """Return mean, variance, smallest and largest value of each column.

        Missing entries have no part in them; a column of which all are missing counts
        as one of zeros.

        Parameters
        ----------
        weight : ndarray of shape (n_samples,), default=None
            Sample weights, for mean and variance.

        Returns
        -------
        tuple of ndarray of shape (n_features,), float64
        """
        matrix = self.matrix.astype(np.float64)
        with np.errstate(invalid="ignore"):  # of a column without known entries
            mean, variance = mean_variance_axis(matrix, 0, weights=weight)
        low, high = min_max_axis(matrix, 0, ignore_nan=True)
        found = np.stack([mean, variance, low, high])
        found[:, np.isnan(low)] = 0.0
        mean, variance, low, high = found
        mean, low, high = ((v - self.center) / self.scale for v in (mean, low, high))
        return mean, variance / np.square(self.scale), low, high

    def quantiles(self, q):
        """Return quantiles of the known entries of each column.

        Parameters
        ----------
        q : list of float
            Between 0.25 and 0.75.

        Returns
        -------
        ndarray of shape (len(q), n_features), float64
        """
        n_samples, n_features = self.matrix.shape
        found = np.zeros((len(q), n_features))
        columns = self.matrix.tocsc().astype(np.float64)
        # Where fewer than a quarter are stored, all these quantiles are zeros.
        for j in np.flatnonzero(np.diff(columns.indptr) >= n_samples / 4 - 1):
            column = dense_column(columns, j)
            column = column[~np.isnan(column)]
            if len(column):
                found[:, j] = np.quantile(column, q)
        return (found - self.center) / self.scale


def dense_column(columns, j):
    """Return a column of a matrix in CSC format, ndarray of shape (n_samples,)."""
    column = np.zeros(columns.shape[0], columns.dtype)
    stored = slice(columns.indptr[j], columns.indptr[j + 1])
    column[columns.indices[stored]] = columns.data[stored]
    return column
