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
    "as_objects",
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
    categories; see `Blocks`. A category has a column if at least two training rows have
    it: nothing can be learnt of one of a single row. What is missing, or a category
    without a column, is NaN in the whole block.

    Parameters
    ----------
    tables : list of array-like or data frame of shape (n_samples, n_features)
        Training rows, and what to reconstruct from them, if that is something else.
    is_categorical : ndarray of bool of shape (n_features,)

    Attributes
    ----------
    is_categorical : ndarray of bool of shape (n_features,)
    blocks : Blocks
        The columns of encoded rows. Set by `keep`.
    """

    def __init__(self, tables, is_categorical):
        self.is_categorical = is_categorical
        tables = [_table(table) for table in tables]
        frame = frame_of(tables[0])
        # What rows are returned in: a frame, or an array.
        self._kind = None if frame is None else FrameKind(frame, is_categorical)
        self._names = [_name(tables[0], j) for j in range(len(is_categorical))]
        self._all = [
            _sorted([value for table in tables for value in column_of(table, j)])
            if categorical
            else None
            for j, categorical in enumerate(is_categorical)
        ]

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
        """Give columns to the categories that at least two of these rows have.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If a feature has values, but none twice, or too many categories.
        """
        self._kept = [None] * len(self._all)
        for j in np.flatnonzero(self.is_categorical):
            known = _index(codes[~np.isnan(codes[:, j]), j])
            kept = np.flatnonzero(np.bincount(known, minlength=len(self._all[j])) > 1)
            name = self._names[j]
            if len(known) and not len(kept):
                raise ValueError(
                    f"Feature {name!r} has another category in each row, of which "
                    "nothing can be learnt: leave it out."
                )
            if len(kept) > _MAX_CATEGORIES:
                raise ValueError(
                    f"Feature {name!r} has {len(kept)} categories that at least two "
                    f"rows have: at most {_MAX_CATEGORIES} are accepted. Group the "
                    "rare ones."
                )
            self._kept[j] = kept
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

    def table(self, codes, given=None):
        """Return the values that codes stand for.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)
        given : array-like or data frame, default=None
            Rows whose categories are taken as they are, also those without a code.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Floats, NaN where something is missing. Objects and None if a category is
            not a number.
        """
        columns = self._columns(codes)
        if given is not None:
            given = _table(given)
            for j in np.flatnonzero(self.is_categorical):
                columns[j] = as_objects(column_of(given, j))
        categories = [values for values in self._all if values is not None]
        numeric = all(map(_is_numeric, [*columns, *categories]))
        table = np.empty(codes.shape, dtype=codes.dtype if numeric else object)
        for j, column in enumerate(columns):
            if numeric and column.dtype.kind != "f":
                column = [np.nan if value is None else value for value in column]
            elif not numeric and column.dtype.kind == "f":
                column = as_objects(column.tolist())
            table[:, j] = column
        return table

    def restore(self, codes, like=None):
        """Return rows as they were given to `fit`: a frame, or an array.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)
        like : array-like or data frame, default=None
            Rows whose index is taken. If they are not a frame, neither is the result.

        Returns
        -------
        data frame or ndarray of shape (n_samples, n_features)
            Columns of a frame have the dtypes of the training rows; those of integers
            and bools are rounded. An array is of floats, or of objects where a category
            is not a number.
        """
        if self._kind is None or (like is not None and frame_of(like) is None):
            return self.table(codes)
        return self._kind.frame(self._columns(codes), getattr(like, "index", None))

    def filled(self, X, codes):
        """Return rows as they are, with the values of codes where they have none.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
        codes : ndarray of shape (n_samples, n_features)

        Returns
        -------
        data frame or ndarray of shape (n_samples, n_features)
            Of the kind and the dtypes of ``X``.
        """
        table = _table(X)
        found = self._columns(codes)
        if self._kind is not None:
            found = self._kind.rounded(found)
        columns = []
        for j, column in enumerate(found):
            given = as_objects(column_of(table, j))
            missing = np.array([value is None for value in given], dtype=bool)
            given[missing] = column[missing]
            columns.append(given)
        frame = frame_of(table)
        if frame is not None:
            kind = FrameKind(frame, self.is_categorical)
            return kind.frame(columns, getattr(X, "index", None))
        kept = table.dtype if table.dtype.kind in ("f", "O") else codes.dtype
        return np.column_stack(columns).astype(kept)

    def _columns(self, codes):
        """Return the values of each feature: floats, or objects for categories."""
        columns = []
        for j, values in enumerate(self._all):
            column = codes[:, j]
            if values is not None:
                known = ~np.isnan(column)
                found = values[_index(column[known])]
                column = np.full(len(codes), None, dtype=object)
                column[known] = found
            columns.append(column)
        return columns


def refuse_dates(X, is_categorical):
    """Raise an error if columns are dates, which would be numbers of nanoseconds.

    Parameters
    ----------
    X : array-like or data frame
    is_categorical : ndarray of bool of shape (n_features,) or None
        Features that need not be numbers.
    """
    # The values of other arrays and of lists are looked at if they are refused only.
    is_of_dates = isinstance(X, np.ndarray) and X.dtype.kind in "mM"
    if frame_of(X) is None and not is_of_dates:
        return
    found = _not_numbers(X, is_categorical)
    if any(kind == "date" for _, kind, _ in found):
        raise ValueError(_refusal(X, found, is_categorical))


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
        raise ValueError(_refusal(X, found, is_categorical)) from error


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


def _refusal(X, found, is_categorical):
    columns = ", ".join(f"{name!r} ({dtype})" for name, _, dtype in found)
    kinds = {kind for _, kind, _ in found}
    remedies = ", and ".join(text for kind, text in _REMEDIES.items() if kind in kinds)
    texts = [name for name, kind, _ in found if kind == "text"]
    example = ""
    if texts:
        mask = [] if is_categorical is None else is_categorical
        known = [_key(X, j) for j in np.flatnonzero(mask)]
        example = f" Here: categorical_features={known + texts}."
    return (
        f"X has columns that are not numbers: {columns}. {remedies.capitalize()}."
        f"{example}"
    )


def _key(X, j):
    """Return by what ``categorical_features`` names a feature."""
    frame = frame_of(X)
    return int(j) if frame is None else frame.columns[j]


def _kind(column):
    """Return what a column of an array has that is not a number, or None."""
    if column.dtype.kind not in "OUSmM":
        return None
    if column.dtype.kind in "mM":
        return "date"
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


def as_objects(values):
    """Return a list of values as an array of objects, None for missing ones."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = None if is_missing(value) else value
    return array


def _is_numeric(column):
    """Return whether all values of a column that are not None are numbers."""
    return column.dtype.kind == "f" or all(
        value is None or isinstance(value, Real) for value in column
    )
