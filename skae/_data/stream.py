"""Rows that are read in chunks whenever they are needed, and never all in memory."""

from copy import copy

import numpy as np
import torch

from . import readers
from .source import Chunked, Resident, chunk_rows

__all__ = ["Stream"]

# Rows of a table of any width that is read into memory.
_FEW_ROWS = 4096
# Bytes of the rows in the shuffle buffer; see tests/benchmarks/bench_scale.py.
_BUFFER = 2**27
# Share of the buffer that is drawn before it is filled up again.
_DRAWN = 0.5


class Stream(Chunked):
    """Rows that a reader reads, from the beginning, whenever they are needed.

    Parameters
    ----------
    reader : Reader
    checked : callable
        From a chunk as the reader returns it to an ndarray of float32 or float64, of
        shape (n_rows, n_columns). It may raise an error.

    Attributes
    ----------
    missing : ndarray of int of shape (n_columns,)
        Number of entries of each column that are NaN; after `survey`.
    """

    streamed = True
    device = torch.device("cpu")

    def __init__(self, reader, checked):
        self._reader = reader
        self._checked = checked
        self._out = np.empty(0, dtype=np.int64)
        self._kept = None
        if reader.sizes is None:
            self.survey()
        else:
            self.shape = sum(reader.sizes), reader.width
            self.dtype = _TENSOR[reader.dtype]
            self._n_rows = self.shape[0]

    def survey(self):
        """Count and check all rows, and keep them where they are few."""
        kept, n_rows, n_bytes = [], 0, 0
        width, dtype = self._reader.width, np.float32
        self.missing = 0
        for _, chunk in self._raw():
            rows = self._checked(chunk)
            n_rows, n_bytes = n_rows + len(rows), n_bytes + rows.nbytes
            width, dtype = rows.shape[1], np.result_type(dtype, rows)
            self.missing = self.missing + np.isnan(rows).sum(axis=0)
            if kept is not None:
                kept.append(rows.copy())
                if not _is_small(n_rows, n_bytes):
                    kept = None
        if n_rows == 0:
            raise ValueError("X has no rows, but at least two are required.")
        self.shape, self._n_rows, self._kept = (n_rows, width), n_rows, kept
        self.dtype = _TENSOR[dtype.type]

    def array(self):
        """Return all rows as an ndarray where they are few, else None."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return np.concatenate(kept).astype(_NUMPY[self.dtype], copy=False)
        n_rows, width = self.shape
        if not _is_small(n_rows, n_rows * width * self.dtype.itemsize):
            return None
        return self.take(slice(None)).numpy()

    def checked_by(self, check):
        """Return the same rows, checked by a further function of each chunk."""
        stream = copy(self)

        def checked(chunk):
            rows = self._checked(chunk)
            check(rows)
            return rows

        stream._checked = checked
        return stream

    def _raw(self, parts=None):
        """Yield row numbers and chunks, of parts in a given order."""
        sizes = self._reader.sizes
        starts = [0] if sizes is None else np.cumsum([0, *sizes[:-1]])
        parts = range(len(starts)) if parts is None else parts

        def chunks():
            for part in parts:
                for chunk in self._reader.read(part):
                    yield part, chunk

        current, start = None, 0
        for part, chunk in readers.ahead(chunks()):
            if part != current:
                current, start = part, int(starts[part])
            n_rows = chunk.shape[0] if hasattr(chunk, "shape") else len(chunk)
            if n_rows:
                yield start, chunk
            start += n_rows

    def _tensors(self, parts=None):
        """Yield the numbers of rows, and tensors of them, without those left out."""
        n_read = 0
        for start, chunk in self._raw(parts):
            rows = self._checked(chunk)
            n_read += len(rows)
            # A copy, since the caller may write to it.
            rows = np.array(rows, dtype=_NUMPY[self.dtype], order="C")
            first, last = np.searchsorted(self._out, [start, start + len(rows)])
            number = np.arange(start - first, start + len(rows) - last)
            if first < last:
                rows = np.delete(rows, self._out[first:last] - start, axis=0)
            if len(rows):
                yield number, torch.from_numpy(rows)
        if parts is None or len(parts) == self._n_parts:
            self._check_same(n_read)

    def _check_same(self, n_read):
        if n_read != self._n_rows:
            raise ValueError(
                f"X had {self._n_rows} rows when it was read for the first time, and "
                f"{n_read} now: every loop over it must yield the same rows."
            )

    @property
    def _n_parts(self):
        return 1 if self._reader.sizes is None else len(self._reader.sizes)

    def chunks(self, budget=None, least=1):
        """Yield slices of rows and their tensors; see `Source.chunks`."""
        step = chunk_rows(self.shape[1], budget, least)
        for number, x in self._tensors():
            for start in range(0, len(x), step):
                part = x[start : start + step]
                first = int(number[0]) + start
                yield slice(first, first + len(part)), part

    def take(self, index):
        """Return rows; see `Source.take`. The parts that have them are read."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        x = torch.empty((len(index), self.shape[1]), dtype=self.dtype)
        if not len(index):
            return x
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        found = 0
        for number, rows in self._tensors(self._parts_with(ordered)):
            first, last = np.searchsorted(ordered, [number[0], number[-1] + 1])
            x[order[first:last]] = rows[ordered[first:last] - number[0]]
            found += last - first
            if found == len(index):
                break
        return x

    def _parts_with(self, ordered):
        """Return the parts that have rows, by their numbers in increasing order."""
        sizes = self._reader.sizes
        if sizes is None:
            return [0]
        ends = np.cumsum(sizes)
        # Rows that are left out have no number.
        ends = ends - np.searchsorted(self._out, ends)
        return np.unique(np.searchsorted(ends, ordered, side="right"))

    def without(self, index):
        """Return the same rows but for some of them, given in increasing order."""
        stream, index = copy(self), np.asarray(index)
        # Their numbers among all rows of the reader.
        before = self._out - np.arange(len(self._out))
        index = index + np.searchsorted(before, index, side="right")
        stream._out = np.union1d(self._out, index)
        stream.shape = self.shape[0] - len(index), self.shape[1]
        return stream

    def subset(self, index):
        """Return some of the rows, in memory."""
        return Resident(self.take(index))

    def shuffled(self, n_batches, generator):
        """Yield all rows once, in an order that is close to a random one.

        Parts are read in a random order into a buffer, from which rows are drawn. If
        all rows fit into the buffer, every order is equally likely.

        Parameters
        ----------
        n_batches : int
            Batches differ by at most one row in size.
        generator : torch.Generator
        """
        # The generator may be on a device.
        seed = torch.randint(
            2**62, (1,), generator=generator, device=generator.device
        ).item()
        generator = torch.Generator().manual_seed(seed)
        parts = torch.randperm(self._n_parts, generator=generator).tolist()
        least, larger = divmod(len(self), n_batches)
        sizes = [least + 1] * larger + [least] * (n_batches - larger)
        row = self.shape[1] * self.dtype.itemsize
        capacity = max(_BUFFER // row, 2 * sizes[0])
        x = (x for _, x in self._tensors(parts))
        return _drawn(x, sizes, min(capacity, len(self)), self.shape[1], generator)


def _drawn(chunks, sizes, capacity, width, generator):
    """Yield batches of rows that are drawn from a buffer that chunks fill up.

    Parameters
    ----------
    chunks : iterable of Tensor of shape (n_rows, width)
    sizes : list of int
        Number of rows of each batch, the largest first.
    capacity : int
        Rows in the buffer: all of them, or at least two batches.
    """
    buffer, free, sizes = None, torch.arange(capacity), list(sizes[::-1])
    for x in chunks:
        if buffer is None:
            buffer = torch.empty((capacity, width), dtype=x.dtype)
        while len(x):
            n = min(len(x), len(free))
            buffer.index_copy_(0, free[:n], x[:n])
            x, free = x[n:], free[n:]
            if len(free):
                break
            order = torch.randperm(capacity, generator=generator)
            n_drawn = 0
            while sizes and n_drawn < _DRAWN * capacity:
                batch = order[n_drawn : n_drawn + sizes.pop()]
                yield buffer.index_select(0, batch)
                n_drawn += len(batch)
            if not n_drawn:
                break  # more rows than before, which the end of the chunks tells
            free = order[:n_drawn]
    held = torch.ones(capacity, dtype=torch.bool)
    held[free] = False
    rest = held.nonzero()[:, 0]
    rest = rest[torch.randperm(len(rest), generator=generator)]
    for index in rest.split(sizes[::-1]):
        yield buffer.index_select(0, index)


def _is_small(n_rows, n_bytes):
    return n_bytes <= readers.SMALL_TABLE or n_rows <= _FEW_ROWS


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
_TENSOR = {numpy: tensor for tensor, numpy in _NUMPY.items()}
