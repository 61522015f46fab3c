"""Readers of tables that need not fit into memory, one chunk of rows at a time.

A table consists of parts that can be read in any order: slices of an array, row groups
of Parquet files. An iterable of chunks is a single part.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from importlib import import_module
from numbers import Integral
from os import PathLike
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Protocol

import numpy as np
import torch
from scipy import sparse

from .frames import frame_of

__all__ = ["SMALL_TABLE", "Reader", "ahead", "reader_of"]

# Bytes of a table up to which it is read into memory.
SMALL_TABLE = 2**28
# Bytes of the slices that an array is read in: enough for a disk to be faster than
# training, and few enough that hundreds of them, from all over the table, are in the
# shuffle buffer at a time; see tests/benchmarks/bench_scale.py.
_PART = 2**18
# Bytes of the rows that are decoded at once from a row group.
_BATCH = 2**22
# Chunks that a thread reads before they are asked for.
_N_AHEAD = 4
# Seconds after which a thread that waits looks whether it is still needed.
_PATIENCE = 0.1


class Reader(Protocol):
    """A table that is read in chunks.

    Attributes
    ----------
    sizes : sequence of int or None
        Number of rows of each part. None: one part of an unknown number of rows.
    width : int or None
        Number of columns, where it is known.
    dtype : dtype or None
        float32 or float64, where it is known.
    head : array-like or data frame
        A table of few rows, or none, that has the columns.
    named : bool
        Whether chunks are arrays without the names of the columns that ``head`` has.
    """

    sizes: Sequence | None
    width: int | None
    dtype: type | None
    head: object
    named: bool

    def read(self, part):
        """Yield the rows of a part in chunks, in their order."""


class Slices:
    """An array that is read by slices of rows: ``X[start:stop]``.

    Parameters
    ----------
    X : array-like
        With ``shape``, ``dtype`` and slices, such as an array of Zarr or Dask, a data
        set of h5py, or a map of a file. Slices follow its chunks, if it has any.
    """

    named = False

    def __init__(self, X):
        self._X = X
        n_rows, self.width = map(int, X.shape)
        self.dtype = _float(X.dtype)
        self.head = np.empty((0, self.width))
        stored = (getattr(X, "chunks", None) or [1])[0]
        if isinstance(stored, Integral):
            # Of equal size, as those of Zarr and h5py.
            unit = int(stored)
            row = self.width * np.dtype(X.dtype).itemsize
            step = unit * max(1, _PART // max(row * unit, 1))
            self.sizes = np.diff([*range(0, n_rows, step), n_rows]).tolist()
        else:
            # The sizes of all, as those of Dask: a part of one costs as much as all.
            self.sizes = list(map(int, stored))
        self._starts = np.cumsum([0, *self.sizes]).tolist()

    def read(self, part):
        """Yield the rows of a slice; see `Reader`."""
        start = self._starts[part]
        # A copy: of a map of a file, the slice alone would read nothing.
        yield np.array(self._X[start : start + self.sizes[part]])


class RowGroups:
    """Parquet files, or other files that PyArrow reads, by their row groups.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
        Whose columns are numbers.

    Raises
    ------
    TypeError
        If a column is of another type.
    """

    def __init__(self, dataset):
        pa = _pyarrow("pyarrow")
        types = pa.types
        for field in dataset.schema:
            t = field.type
            if not (
                types.is_integer(t)
                or types.is_floating(t)
                or types.is_boolean(t)
                or types.is_decimal(t)
            ):
                raise TypeError(
                    f"X has a column {field.name!r} of type {t}, but rows that are "
                    "read in chunks must be numbers: encode it, drop it with "
                    "dataset.replace_schema, or pass rows that are in memory."
                )
        self._schema = dataset.schema
        single = all(t == pa.float32() for t in dataset.schema.types)
        self.dtype = np.float32 if single else np.float64
        self.width = len(dataset.schema)
        self._to = pa.float32() if single else pa.float64()
        self.head = dataset.schema.empty_table()
        self.named = True
        self._parts = []
        for fragment in dataset.get_fragments():
            split = getattr(fragment, "split_by_row_group", None)
            self._parts += [fragment] if split is None else split()
        self.sizes = [_n_rows(part) for part in self._parts]

    def read(self, part):
        """Yield the rows of a row group; see `Reader`."""
        scanner = self._parts[part].scanner(
            schema=self._schema,
            batch_size=max(1, _BATCH // (8 * self.width)),
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=False,
        )
        for batch in scanner.to_batches():
            rows = np.empty((batch.num_rows, self.width), self.dtype)
            for j, column in enumerate(batch.columns):
                column = column.cast(self._to, safe=False)
                rows[:, j] = column.to_numpy(zero_copy_only=False)
            yield rows


def _pyarrow(name):
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            "Files are read by PyArrow, which is not installed: pip install pyarrow."
        ) from error


def _float(dtype):
    """Return the dtype that rows are used in."""
    return np.float32 if np.dtype(dtype) == np.float32 else np.float64


def _n_rows(part):
    groups = getattr(part, "row_groups", None)
    if groups is None:
        return part.count_rows()
    return sum(group.num_rows for group in groups)


class Chunks:
    """An iterable of chunks of rows, which begins anew with every loop over it.

    Parameters
    ----------
    X : iterable
        Of arrays, tensors or data frames.
    """

    sizes = width = dtype = None
    named = False

    def __init__(self, X):
        self._X = X

    @property
    def head(self):
        """The first chunk."""
        for chunk in self.read(0):
            return chunk
        raise ValueError("X yields no chunk of rows.")

    def read(self, part):
        """Yield the chunks; see `Reader`."""
        for chunk in self._X:
            # A DataLoader of torch makes lists of the parts of a sample.
            is_list = isinstance(chunk, tuple | list) and len(chunk) == 1
            yield chunk[0] if is_list else chunk


def reader_of(X):
    """Return a reader of a table that need not be in memory; None of others.

    Raises
    ------
    ValueError
        If ``X`` is an iterator, which can be read only once, or a string.
    """
    if isinstance(X, str):
        raise ValueError(
            f"A string is no table: for Parquet files pass pathlib.Path({X!r})."
        )
    if isinstance(X, np.memmap):
        large = X.nbytes > SMALL_TABLE
        return Slices(X) if large and X.ndim == 2 and X.dtype.kind in "biuf" else None
    if X is None or isinstance(X, bytes | np.ndarray | torch.Tensor):
        return None
    if isinstance(X, PathLike):
        return RowGroups(_pyarrow("pyarrow.dataset").dataset(X))
    if isinstance(X, Sequence | Mapping | Set) or sparse.issparse(X):
        return None
    dataset = sys.modules.get("pyarrow.dataset")
    if dataset is not None and isinstance(X, dataset.Dataset):
        return RowGroups(X)
    if frame_of(X) is not None:
        return None
    if hasattr(X, "__array_namespace__") or hasattr(X, "__dlpack__"):
        return None
    if _has_slices(X):
        return Slices(X)
    if hasattr(X, "shape") or hasattr(X, "__array__") or not isinstance(X, Iterable):
        return None
    if isinstance(X, Iterator):
        raise ValueError(
            f"X is an iterator ({type(X).__name__}), which can be read only once, but "
            "fit passes over the rows several times: pass an object whose __iter__ "
            "returns a new iterator of chunks."
        )
    return Chunks(X)


def _has_slices(X):
    shape, dtype = getattr(X, "shape", None), getattr(X, "dtype", None)
    if not (isinstance(shape, tuple) and len(shape) == 2 and hasattr(X, "__getitem__")):
        return False
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        return False
    return kind in "biuf" and all(isinstance(n, Integral) for n in shape)


_END = object()


def ahead(items):
    """Iterate over items that a thread gets in advance, a few at a time.

    Parameters
    ----------
    items : generator
        Closed where the iteration ends early. What it raises is raised here.
    """
    waiting: Queue = Queue(_N_AHEAD)
    unneeded = Event()

    def offer(item):
        while not unneeded.is_set():
            try:
                return waiting.put(item, timeout=_PATIENCE)
            except Full:
                pass

    def work():
        try:
            for item in items:
                offer((item, None))
                if unneeded.is_set():
                    return
            offer((_END, None))
        except BaseException as error:
            offer((_END, error))
        finally:
            items.close()

    thread = Thread(target=work, name="skae-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        unneeded.set()
        while True:
            try:
                waiting.get_nowait()
            except Empty:
                break
        thread.join()
