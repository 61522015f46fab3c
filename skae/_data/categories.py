"""Categories: tables with columns that are not numbers, as numbers and back."""

from numbers import Real

import narwhals as nw
import numpy as np
from sklearn.utils import check_array

from .arrays import foreign
from .blocks import Blocks
from .frames import FrameKind, column_of, columns_of, frame_of

__all__ = [
    "Categories",
    "categorical_columns",
    "explain_refusal",
    "is_missing",
    "refuse_dates",
]

# Categories of a feature, at most: with more it is rather an identifier, and the
# networks would have a column for each of its values.
_MAX_CATEGORIES = 1000
# What to do with columns that are neither numbers nor categories.
_REMEDIES = {
    "text": "pass categorical_features for categories, or encode texts first",
    "date": "convert dates to numbers, such as days since the first one",
}


def categorical_columns(X, categorical_features):
    """Return which features are categories.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, n_features)
    categorical_features : "from_dtype", array-like or None
        As the estimators take it.

    Returns
    -------
    ndarray of bool of shape (n_features,), or None
        None if no feature is.

    Raises
    ------
    ValueError, TypeError
        If ``categorical_features`` is not accepted, or ``X`` is of a library that has
        no categories.
    """
    if categorical_features is None:
        return None
    frame = frame_of(X)
    if isinstance(categorical_features, str):
        if frame is None:
            return None
        dtypes = frame.schema.dtypes()
        mask = np.array([isinstance(d, nw.Categorical | nw.Enum) for d in dtypes])
        return mask if mask.any() else None
    given = np.asarray(categorical_features)
    if given.size == 0:
        return None
    if given.ndim != 1 or given.dtype.kind not in "biuUO":
        raise TypeError(
            "The 'categorical_features' parameter must be 'from_dtype', None, or a "
            "list of names, of indices, or of one bool per feature. Got "
            f"{categorical_features!r} instead."
        )
    if foreign(X) is not None or hasattr(X, "tocsr"):
        raise TypeError(
            "categorical_features needs a data frame or a NumPy array, but X is "
            f"{type(X).__name__}: pass categorical_features=None, or convert X."
        )
    if frame is None and np.ndim(X) != 2:
        return None  # the check of rows says so
    n_features = np.shape(X)[1] if frame is None else len(frame.columns)
    mask = np.zeros(n_features, dtype=bool)
    if given.dtype.kind == "b":
        if len(given) != n_features:
            raise ValueError(
                f"categorical_features has {len(given)} bools, but X has {n_features} "
                "features."
            )
        return given if given.any() else None
    names = None if frame is None else list(frame.columns)
    for item in given.tolist():
        if isinstance(item, str):
            if names is None or item not in names:
                of = "X has no names" if names is None else f"X has {names}"
                raise ValueError(
                    f"categorical_features has {item!r}, which is no feature: {of}."
                )
            mask[names.index(item)] = True
        elif not isinstance(item, int) or not 0 <= item < n_features:
            raise ValueError(
                f"categorical_features has {item!r}, which is not the index of one of "
                f"{n_features} features."
            )
        else:
            mask[item] = True
    return mask


class Categories:
    """The categories of a table: from its values to encoded rows and back.

    Encoded rows have the numbers of a table as they are, and indicators of the
    categories; see `Blocks`. What is missing, or a category that `fit` has not seen, is
    NaN in the whole block.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, n_features)
        Training rows.
    is_categorical : ndarray of bool of shape (n_features,)

    Attributes
    ----------
    is_categorical : ndarray of bool of shape (n_features,)
    blocks : Blocks
        The columns of encoded rows. Set by `keep`.
    """

    def __init__(self, X, is_categorical):
        self.is_categorical = is_categorical
        frame = frame_of(X)
        # What rows are returned in: a frame, or an array.
        self._kind = None if frame is None else FrameKind(frame)
        self._all = [
            _sorted(column_of(_table(X), j)) if categorical else None
            for j, categorical in enumerate(is_categorical)
        ]
        for j in np.flatnonzero(is_categorical):
            if len(self._all[j]) > _MAX_CATEGORIES:
                raise ValueError(
                    f"Feature {_name(X, j)!r} has {len(self._all[j])} categories: at "
                    f"most {_MAX_CATEGORIES} are accepted. Group the rare ones, or "
                    "leave the feature out if it names rows."
                )

    @property
    def values(self):
        """The categories of each feature that have columns; None for numbers."""
        return [
            None if values is None else values[kept]
            for values, kept in zip(self._all, self._kept, strict=True)
        ]

    def codes(self, X, estimator, name="X", **checks):
        """Return numbers as they are, and categories as their positions.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        estimator : estimator
            Named in error messages.
        name : str, default="X"
            Of the rows, in error messages.
        **checks : dict
            For `sklearn.utils.check_array`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            float32 or float64; NaN for what is missing or not among the categories.
        """
        numbers = np.flatnonzero(~self.is_categorical)
        checks = {"ensure_all_finite": "allow-nan", "input_name": name} | checks
        table = self._checked_shape(X, name)
        if len(numbers):
            found = check_array(
                columns_of(table, numbers),
                dtype=[np.float64, np.float32],
                estimator=estimator,
                **checks,
            )
            codes = np.empty((len(found), len(self._all)), found.dtype)
            codes[:, numbers] = found
        else:
            codes = np.empty((len(table), len(self._all)))
            least = checks.get("ensure_min_samples", 1)
            if len(codes) < least:
                raise ValueError(
                    f"{name} has {len(codes)} sample(s) while a minimum of {least} is "
                    "required."
                )
        for j in np.flatnonzero(self.is_categorical):
            place = {value: float(k) for k, value in enumerate(self._all[j])}
            codes[:, j] = [
                np.nan if is_missing(value) else place.get(value, np.nan)
                for value in column_of(table, j)
            ]
        return codes

    def _checked_shape(self, X, name):
        table = _table(X)
        if len(np.shape(table)) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(np.shape(table))}D array instead: {name} "
                "must have one row per sample and one column per feature."
            )
        if np.shape(table)[1] != len(self._all):
            raise ValueError(
                f"{name} has {np.shape(table)[1]} features, but {len(self._all)} are "
                "expected."
            )
        return table

    def keep(self, codes):
        """Give columns to the categories that some of these rows have, and to no other.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)
        """
        self._kept = [
            None if values is None else _present(codes[:, j], len(values))
            for j, values in enumerate(self._all)
        ]
        # One column where no row has a value: it is all NaN.
        self.blocks = Blocks([0 if k is None else max(len(k), 1) for k in self._kept])

    def encode(self, codes):
        """Return encoded rows.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
        """
        blocks = self.blocks
        encoded = np.full((len(codes), len(blocks.feature)), np.nan, codes.dtype)
        for j, kept in enumerate(self._kept):
            column = codes[:, j]
            if kept is None:
                encoded[:, blocks.first[j]] = column
            elif len(kept):
                known = np.isin(column, kept)
                columns = blocks.columns(j)
                encoded[known, columns] = column[known, np.newaxis] == kept
        return encoded

    def probable(self, encoded):
        """Return the codes of encoded rows: of categories the most probable one."""
        blocks = self.blocks
        codes = encoded[:, blocks.first].copy()
        for j in np.flatnonzero(self.is_categorical):
            codes[:, j] = self._kept[j][encoded[:, blocks.columns(j)].argmax(axis=1)]
        return codes

    def drawn(self, encoded, random_state):
        """Return the codes of encoded rows: categories drawn by their probability."""
        codes = self.probable(encoded)
        for j in np.flatnonzero(self.is_categorical):
            p = encoded[:, self.blocks.columns(j)].clip(min=0.0).cumsum(axis=1)
            u = random_state.uniform(size=(len(p), 1)) * p[:, -1:]
            drawn = np.minimum((p <= u).sum(axis=1), p.shape[1] - 1)
            codes[:, j] = self._kept[j][drawn]
        return codes

    def table(self, codes):
        """Return the values that codes stand for.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Floats, NaN where something is missing. Objects and None if a category is
            not a number.
        """
        categories = [v for values in self._all if values is not None for v in values]
        numeric = all(isinstance(value, Real) for value in categories)
        table = np.full(
            codes.shape, np.nan if numeric else None, codes.dtype if numeric else object
        )
        for j, values in enumerate(self._all):
            known = ~np.isnan(codes[:, j])
            found = codes[known, j]
            table[known, j] = (
                found.tolist() if values is None else values[_index(found)]
            )
        return table

    def restore(self, codes, like=None):
        """Return rows as they were given to `fit`: a frame, or an array.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)
        like : array-like or data frame, default=None
            Rows whose kind and index are taken. None is that of the training rows.

        Returns
        -------
        data frame or ndarray of shape (n_samples, n_features)
            Columns of a frame have the dtypes of the training rows; those of integers
            and bools are rounded. An array is of floats, or of objects where a category
            is not a number.
        """
        if self._kind is None or (like is not None and frame_of(like) is None):
            return self.table(codes)
        columns = []
        for j, values in enumerate(self._all):
            column = codes[:, j]
            if values is not None:
                known = ~np.isnan(column)
                found = values[_index(column[known])]
                column = np.full(len(codes), None, dtype=object)
                column[known] = found
            columns.append(column)
        return self._kind.frame(columns, getattr(like, "index", None))


def refuse_dates(X, is_categorical):
    """Raise an error if columns are dates, which would be numbers of nanoseconds.

    Parameters
    ----------
    X : array-like or data frame
    is_categorical : ndarray of bool of shape (n_features,) or None
        Features that need not be numbers.
    """
    found = _not_numbers(X, is_categorical)
    if any(kind == "date" for _, kind, _ in found):
        raise ValueError(_refusal(found))


def explain_refusal(X, is_categorical, error):
    """Raise an error that names the columns that are not numbers, if there are any.

    Parameters
    ----------
    X : array-like or data frame
        Rows that were not accepted.
    is_categorical : ndarray of bool of shape (n_features,) or None
        Features that need not be numbers.
    error : Exception
        What was raised.
    """
    found = _not_numbers(X, is_categorical)
    if found:
        raise ValueError(_refusal(found)) from error


def _not_numbers(X, is_categorical):
    """Return name, kind and dtype of the columns that are not numbers."""
    frame = frame_of(X)
    if frame is not None:
        names = list(frame.columns)
        kinds = [
            (name, "date" if dtype.is_temporal() else "text", str(dtype))
            for name, dtype in frame.schema.items()
            if not (dtype.is_numeric() or dtype == nw.Boolean)
        ]
    elif isinstance(X, np.ndarray | list | tuple) and _as_array(X).ndim == 2:
        table = _as_array(X)
        names = list(range(table.shape[1]))
        kinds = [(j, kind, kind) for j in names if (kind := _kind(table[:, j]))]
    else:
        return []
    if is_categorical is None:
        return kinds
    if len(is_categorical) != len(names):
        return []  # what is wrong is their number
    known = {names[j] for j in np.flatnonzero(is_categorical)}
    return [column for column in kinds if column[0] not in known]


def _refusal(found):
    columns = ", ".join(f"{name!r} ({dtype})" for name, _, dtype in found)
    kinds = {kind for _, kind, _ in found}
    remedies = ", and ".join(text for kind, text in _REMEDIES.items() if kind in kinds)
    texts = [name for name, kind, _ in found if kind == "text"]
    example = f" Here: categorical_features={texts}." if texts else ""
    return (
        f"X has columns that are not numbers: {columns}. {remedies.capitalize()}."
        f"{example}"
    )


def _kind(column):
    """Return what a column of an array has that is not a number, or None."""
    if column.dtype.kind not in "OUSmM":
        return None
    for value in column:
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return "text"
        elif hasattr(value, "year") or isinstance(value, np.datetime64):
            return "date"
    return None


def _as_array(X):
    """Return rows as an array; mixed lists as one of objects."""
    if isinstance(X, np.ndarray):
        return X
    table = np.asarray(X)
    return table if table.dtype.kind in "fiub" else np.array(X, dtype=object)


def _table(X):
    """Return a frame as it is, and other rows as an array."""
    return _as_array(X) if frame_of(X) is None else X


def _name(X, j):
    frame = frame_of(X)
    return f"x{j}" if frame is None else frame.columns[j]


def is_missing(value):
    """Return whether a value is None, NaN, NaT or pandas.NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA is neither true nor false
        return True


def _sorted(values):
    """Return the distinct values that are not missing, an array of objects."""
    found = {value for value in values if not is_missing(value)}
    try:
        ordered = sorted(found)
    except TypeError:
        ordered = sorted(found, key=lambda value: (type(value).__name__, str(value)))
    array = np.empty(len(ordered), dtype=object)
    array[:] = ordered
    return array


def _index(codes):
    return codes.astype(np.int64)


def _present(codes, n):
    """Return which of ``n`` categories occur in a column of codes."""
    return np.flatnonzero(np.bincount(_index(codes[~np.isnan(codes)]), minlength=n))
