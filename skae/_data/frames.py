"""Data frames of any library: their columns, and frames made like a given one."""

from importlib import import_module

import narwhals as nw
import numpy as np

__all__ = ["FrameKind", "column_of", "columns_of", "frame_of"]

_LIBRARIES = ("pandas", "polars", "pyarrow")


def frame_of(X):
    """Return a data frame of any library as one of narwhals; None for what is none."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None


def column_of(table, j):
    """Return the values of a column of a frame or an array, as a list of objects."""
    frame = frame_of(table)
    return table[:, j].tolist() if frame is None else frame[:, int(j)].to_list()


def columns_of(table, columns):
    """Return some columns of a frame or an array, by their positions."""
    frame = frame_of(table)
    if frame is None:
        return table[:, columns]
    return frame[:, columns.tolist()].to_native()


class FrameKind:
    """Library, names and dtypes of a data frame, as strings and lists.

    So a model keeps no object of the library.

    Parameters
    ----------
    frame : narwhals.DataFrame
    is_categorical : ndarray of bool of shape (n_features,)
        Features that are categories. Others with a categorical dtype, whose categories
        are numbers, become columns of numbers.

    Raises
    ------
    TypeError
        If columns of such a dtype cannot be made.
    """

    def __init__(self, frame, is_categorical):
        native = frame.to_native()
        self.names = list(frame.columns)
        self._whole = [_whole_numbers(dtype) for dtype in frame.schema.dtypes()]
        space = frame.implementation
        if space.is_polars():
            self.library = "polars"
            self.dtypes = [_of_polars(dtype) for dtype in native.schema.values()]
        elif space.is_pyarrow():
            self.library = "pyarrow"
            self.dtypes = [_of_arrow(field.type) for field in native.schema]
        elif space.is_pandas():
            self.library = "pandas"
            self.dtypes = [_of_pandas(dtype) for dtype in native.dtypes]
        else:
            raise TypeError(
                "Categories are accepted in data frames of pandas, Polars and PyArrow. "
                f"Got one of {space}: convert it first."
            )
        for j in np.flatnonzero(~is_categorical):
            if self.dtypes[j][1] is not None and self.library != "polars":
                self.dtypes[j] = (
                    "float64" if self.library == "pandas" else "double",
                    None,
                )
        try:
            self.frame([np.empty(0, dtype=object) for _ in self.names])
        except Exception as error:
            raise TypeError(
                f"X has dtypes that no frame of {self.library} can be made of: "
                f"{', '.join(name for name, _ in self.dtypes)}. Convert them first."
            ) from error

    def rounded(self, columns):
        """Return columns, those of integers and bools rounded."""
        return [
            column if kind is None else _as_whole(column, *kind)
            for column, kind in zip(columns, self._whole, strict=True)
        ]

    def frame(self, columns, index=None):
        """Return a frame.

        Parameters
        ----------
        columns : list of ndarray
            Values of each column. Those of integers and bools are rounded.
        index : pandas.Index, default=None
            Index of a frame of pandas; None counts the rows.
        """
        # The name may come from a file, which must not have others imported.
        library = import_module(_LIBRARIES[_LIBRARIES.index(self.library)])
        columns = self.rounded(columns)
        lists = [column.tolist() for column in columns]
        if self.library == "polars":
            schema = {
                name: _polars_dtype(library, *dtype)
                for name, dtype in zip(self.names, self.dtypes, strict=True)
            }
            return library.DataFrame(
                dict(zip(self.names, lists, strict=True)), schema=schema
            )
        if self.library == "pyarrow":
            arrays = [
                _arrow_array(library, values, *dtype)
                for values, dtype in zip(lists, self.dtypes, strict=True)
            ]
            return library.table(arrays, names=self.names)
        if index is None:
            index = library.RangeIndex(len(columns[0]))
        series = [
            library.Series(
                column, index=index, dtype=_pandas_dtype(library, *dtype, column)
            )
            for column, dtype in zip(columns, self.dtypes, strict=True)
        ]
        frame = library.concat(series, axis=1)
        frame.columns = self.names
        return frame


# A dtype is its name, and what a categorical one needs beside it, or None.


def _of_pandas(dtype):
    if str(dtype) != "category":
        return str(dtype), None
    categories = dtype.categories
    more = categories.tolist(), str(categories.dtype), bool(dtype.ordered)
    return "category", more


def _pandas_dtype(pandas, name, more, values):
    if more is None:
        return pandas.api.types.pandas_dtype(name)
    categories, of_categories, ordered = more
    known = set(categories)
    others = [v for v in dict.fromkeys(values) if v is not None and v not in known]
    index = pandas.Index(
        [*categories, *others], dtype=None if others else of_categories
    )
    return pandas.CategoricalDtype(index, ordered)


def _of_polars(dtype):
    categories = getattr(dtype, "categories", None)
    is_enum = dtype.base_type().__name__ == "Enum"
    return dtype.base_type().__name__, categories.to_list() if is_enum else None


def _polars_dtype(polars, name, categories):
    dtype = getattr(polars, name)
    if not issubclass(dtype, polars.DataType):
        raise TypeError(f"{name} is no dtype of Polars.")
    return dtype if categories is None else dtype(categories)


def _of_arrow(dtype):
    if not hasattr(dtype, "index_type"):
        return str(dtype), None
    return str(dtype.value_type), (str(dtype.index_type), bool(dtype.ordered))


def _arrow_array(pyarrow, values, name, more):
    array = pyarrow.array(values, pyarrow.type_for_alias(name))
    if more is None:
        return array
    # PyArrow does not make dictionaries from Python objects.
    index, ordered = more
    dtype = pyarrow.dictionary(pyarrow.type_for_alias(index), array.type, ordered)
    return array.dictionary_encode().cast(dtype)


def _whole_numbers(dtype):
    """Return the least and the largest value of integers, (0, 1) of bools; or None."""
    if dtype == nw.Boolean:
        return False, True
    if not dtype.is_integer():
        return None
    limits = np.iinfo(str(dtype).lower())
    return int(limits.min), int(limits.max)


def _as_whole(column, least, most):
    """Return numbers as Python integers or bools in a range, missing ones as None.

    Objects, such as categories, stay as they are.
    """
    if column.dtype.kind != "f":
        return column
    whole = np.empty(len(column), dtype=object)
    for i, value in enumerate(column.tolist()):
        if value == value:
            whole[i] = type(least)(min(max(round(value), least), most))
    return whole
