"""Tables between the steps of a pipeline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .._compat.sklearn import get_feature_names, safe_indexing
from .._data.arrays import on_host

__all__ = ["Table", "names_out"]


@dataclass(frozen=True)
class Table:
    """Input or output of a step.

    Attributes
    ----------
    rows : array, sparse matrix, data frame, or sequence of texts
    names : list of str or None
        Names of the columns, in the order in which a step was fitted to them. None if
        there are no columns, but texts.
    """

    rows: Any
    names: list | None

    @classmethod
    def of(cls, rows, step=None, names=None):
        """Return the table that a step gets.

        Parameters
        ----------
        rows : array-like
        step : transformer, default=None
        names : list of str, default=None
            Names of the columns where ``rows`` and the step have none.
        """
        if isinstance(rows, (list, tuple)):
            numbers = np.asarray(rows)
            rows = numbers if numbers.dtype.kind in "fiub" else np.array(rows, object)
        if len(rows.shape) < 2:
            return cls(rows, None)
        own = getattr(step, "feature_names_in_", get_feature_names(rows))
        if own is None:
            own = names
        if own is None:
            own = [f"x{j}" for j in range(rows.shape[1])]
        return cls(rows, list(own))

    @property
    def is_frame(self):
        """Whether columns have names in the rows themselves."""
        return get_feature_names(self.rows) is not None

    def keys(self, positions):
        """Return by what columns are selected: steps accept frames in any order."""
        return [self.names[j] for j in positions] if self.is_frame else list(positions)

    def select(self, positions):
        """Return the table of some columns."""
        rows = safe_indexing(self.rows, self.keys(positions), axis=1)
        return Table(rows, [self.names[j] for j in positions])

    def texts(self, position):
        """Return a column as a table without columns."""
        return Table(safe_indexing(self.rows, self.keys([position])[0], axis=1), None)

    def column(self, position):
        """Return the values of a column, ndarray of shape (n_samples,)."""
        column = self.texts(position).rows
        if sparse.issparse(column):
            column = column.toarray().ravel()
        return np.asarray(on_host(column))

    def numbers(self):
        """Return a copy of the rows as floats, ndarray of shape (n_samples, n)."""
        rows = self.rows
        rows = rows.toarray() if sparse.issparse(rows) else np.array(on_host(rows))
        return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


def names_out(step, names):
    """Return the names of the output of a step, or None."""
    try:
        return list(step.get_feature_names_out(names))
    except (AttributeError, TypeError, ValueError):
        return None
