"""Sources of rows: where the rows of a fit come from, one chunk or batch at a time.

Moments, axes, training and inference read rows through these classes only. A further
kind of rows (in files, on other machines) is a further class with the members of
`Source`, and an entry in `source_of` for what `BaseAutoencoder.fit` has checked.
"""

import math
from copy import copy
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy import sparse

from .sparse_table import SparseTable

__all__ = [
    "Chunked",
    "Dense",
    "Mapped",
    "Resident",
    "Scaled",
    "Source",
    "Sparse",
    "Subset",
    "chunk_rows",
    "is_small",
    "scaled_rows",
    "source_of",
]

# Numbers in a chunk: few enough to stay in a processor's cache from one operation to
# the next, and enough for products of matrices to run at full speed.
_BUDGET = 2**20
# Rows in a chunk: rounding errors of a sum grow with the number of its terms.
_MAX_ROWS = 8192
# Bytes of scaled rows up to which all are scaled in advance.
_SMALL = 2**26


def chunk_rows(width, budget=None, least=1):
    """Return how many rows to process at once: the one rule for all chunks.

    Parameters
    ----------
    width : int
        Numbers per row.
    budget : int, default=None
        Numbers in a chunk. None is 2**20.
    least : int, default=1
        Rows in a chunk, however wide they are.
    """
    budget = _BUDGET if budget is None else budget
    return max(least, 1, min(budget // max(width, 1), _MAX_ROWS))


@runtime_checkable
class Source(Protocol):
    """Rows of a table, read in chunks or by index.

    Tensors that it returns belong to the caller, who may write to them. `NaN` is
    reserved for missing entries.

    Attributes
    ----------
    shape : tuple of (int, int)
        Rows and columns.
    dtype : torch.dtype
        float32 or float64.
    device : torch.device
        Where the tensors are that `take` and `chunks` return.
    streamed : bool
        Whether `take` reads rows anew each time, from the beginning perhaps. Then the
        source has a method ``shuffled(n_batches, generator)``, too; see `Stream`.
    """

    shape: tuple
    dtype: torch.dtype
    device: torch.device
    streamed: bool

    def __len__(self):
        """Return the number of rows."""

    def chunks(self, budget=None, least=1):
        """Yield slices of rows, in their order, and the rows as tensors.

        Parameters
        ----------
        budget, least
            As `chunk_rows` takes them.
        """

    def take(self, index):
        """Return rows by a slice, or by a tensor or an array of integers."""

    def to(self, device):
        """Return the same rows, for a device."""

    def subset(self, index):
        """Return some of the rows as a source."""

    def without(self, index):
        """Return all rows but some as a source."""

    def stored(self):
        """Return the rows as a `SparseTable`, or None where they are dense."""


def _as_array(index):
    """Return an index as NumPy takes it: one row by a tensor stays one row."""
    return index if isinstance(index, slice) else np.asarray(index)


class Chunked:
    """What sources share: chunks are slices that are taken."""

    streamed = False

    def __len__(self):
        return self.shape[0]

    def chunks(self, budget=None, least=1):
        """Yield slices of rows and their tensors; see `Source.chunks`."""
        step = chunk_rows(self.shape[1], budget, least)
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self.take(rows)

    def to(self, device):
        """Return rows for a device: all of them, moved there."""
        if torch.device(device) == self.device:
            return self
        return Resident(self.take(slice(None)).to(device))

    def subset(self, index):
        """Return some of the rows, without a copy."""
        return Subset(self, index)

    def without(self, index):
        """Return all rows but some, without a copy."""
        return self.subset(np.setdiff1d(np.arange(len(self)), index))

    def stored(self):
        """Return a sparse table of the rows; see `Source.stored`."""
        return None


class _OnHost(Chunked):
    """Rows that lie in the memory of the host, or in a file that is mapped to it."""

    def __init__(self, X):
        self._X = X
        self.shape = X.shape
        self.dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        self.device = torch.device("cpu")


class Dense(_OnHost):
    """Rows of a NumPy array, which may be a map of a file.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        float32 or float64.
    """

    def take(self, index):
        """Return a copy of rows; see `Source.take`."""
        # Copies, since torch shares memory only with arrays that can be written to and
        # have no negative strides.
        if isinstance(index, slice):
            return torch.from_numpy(np.array(self._X[index], order="C"))
        return torch.from_numpy(self._X.take(_as_array(index), axis=0))


class Sparse(_OnHost):
    """Rows of a sparse matrix of SciPy, dense when they are read.

    Parameters
    ----------
    X : sparse matrix or array of shape (n_samples, n_columns)
        In canonical CSR format, float32 or float64.
    """

    def take(self, index):
        """Return rows; see `Source.take`."""
        return torch.from_numpy(self._X[_as_array(index)].toarray())

    def stored(self):
        """Return a sparse table of the rows; see `Source.stored`."""
        return SparseTable.of(self._X)


class Resident(Chunked):
    """Rows of a tensor, on its device.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_columns)
    """

    def __init__(self, x):
        self.x = x
        self.shape, self.dtype, self.device = tuple(x.shape), x.dtype, x.device

    def take(self, index):
        """Return a copy of rows; see `Source.take`."""
        if isinstance(index, slice):
            return self.x[index].clone()
        # Five times as fast as x[index].
        return self.x.index_select(0, torch.as_tensor(index, device=self.device))

    def to(self, device):
        """Return the same rows on a device."""
        return Resident(self.x.to(device))


class Subset(Chunked):
    """Some rows of another source, without a copy.

    Parameters
    ----------
    rows : Source
    index : ndarray of int of shape (n_rows,)
    """

    def __init__(self, rows, index):
        self._rows = rows
        self._index = index
        self.shape = len(index), rows.shape[1]
        self.dtype, self.device = rows.dtype, rows.device

    def take(self, index):
        """Return rows; see `Source.take`."""
        return self._rows.take(self._index[_as_array(index)])

    def to(self, device):
        """Return the same rows for a device."""
        return Subset(self._rows.to(device), self._index)

    def stored(self):
        """Return a sparse table of the rows; see `Source.stored`."""
        table = self._rows.stored()
        return None if table is None else table.take(self._index)


class Mapped(Chunked):
    """Rows of another source, mapped when they are read.

    A subclass has a method ``_mapped`` from rows to as many rows.

    Parameters
    ----------
    rows : Source
    """

    def __init__(self, rows):
        self._rows = rows
        self.shape, self.dtype, self.device = rows.shape, rows.dtype, rows.device

    @property
    def streamed(self):
        """Whether the rows are read anew each time."""
        return self._rows.streamed

    def take(self, index):
        """Return rows; see `Source.take`."""
        return self._mapped(self._rows.take(index))

    def chunks(self, budget=None, least=1):
        """Yield slices of rows and their tensors; see `Source.chunks`."""
        for rows, x in self._rows.chunks(budget, least):
            yield rows, self._mapped(x)

    def shuffled(self, n_batches, generator):
        """Yield all rows in a random order; see `Stream.shuffled`."""
        return map(self._mapped, self._rows.shuffled(n_batches, generator))

    def subset(self, index):
        """Return some of the rows, in memory where they would be read anew."""
        return Resident(self.take(index)) if self.streamed else super().subset(index)

    def without(self, index):
        """Return all rows but some, without a copy."""
        others = copy(self)
        Mapped.__init__(others, self._rows.without(index))
        return others


class Scaled(Mapped):
    """Rows of another source, scaled when they are read, in single precision.

    Parameters
    ----------
    rows : Source
        On the CPU.
    scaling : AffineMap
        On the CPU.
    device : torch.device or str, default="cpu"
    """

    def __init__(self, rows, scaling, device="cpu"):
        super().__init__(rows)
        self._scaling = scaling
        self.dtype, self.device = torch.float32, torch.device(device)

    def take(self, index):
        """Return rows, scaled; see `Source.take`."""
        return super().take(index.cpu() if isinstance(index, torch.Tensor) else index)

    def without(self, index):
        """Return all rows but some, without a copy."""
        return Scaled(self._rows.without(index), self._scaling, self.device)

    def _mapped(self, x):
        # The centre is subtracted in the precision of the data: a column of timestamps
        # would lose all its information if it were rounded first.
        x = self._scaling(x).float()
        if self.device.type == "cuda":
            # From pinned memory a copy does not keep the processor waiting.
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def to(self, device):
        """Return the same rows for a device: moved there now, if they have the room."""
        device = torch.device(device)
        if device.type == "cuda" and self._fits(device):
            return self.resident(device)
        return self.on(device)

    def on(self, device):
        """Return the same rows for a device: moved there when they are read."""
        return Scaled(self._rows, self._scaling, device)

    def stored(self):
        """Return a sparse table of the rows; see `Source.stored`."""
        table = self._rows.stored()
        return None if table is None else table.scaled(self._scaling)

    def resident(self, device="cpu"):
        """Return all rows, scaled chunk by chunk."""
        x = torch.empty(self.shape, dtype=torch.float32, device=device)
        for rows, chunk in self.chunks():
            x[rows] = chunk
        return Resident(x)

    def _fits(self, device):
        # The other half is for the model, its optimiser, and its activations.
        free, _ = torch.cuda.mem_get_info(device)
        return math.prod(self.shape) * 4 <= free / 2


def source_of(X):
    """Return the rows of an array or a sparse matrix as a source; None of None."""
    if X is None:
        return None
    return Sparse(X) if sparse.issparse(X) else Dense(X)


def scaled_rows(rows, scaling):
    """Return rows as the network sees them, in single precision.

    Parameters
    ----------
    rows : Source
    scaling : AffineMap

    Returns
    -------
    Resident or Scaled
        A small table is scaled in advance; of a large one there is no second copy. A
        sparse table of more than a chunk is large, and so is what is read in chunks.
    """
    scaled = Scaled(rows, scaling)
    dense = rows.stored() is None
    small = is_small(rows) if dense else math.prod(rows.shape) <= _BUDGET
    return scaled.resident() if small and not rows.streamed else scaled


def is_small(rows):
    """Return whether a copy of rows, in single precision, takes little memory."""
    return math.prod(rows.shape) * 4 <= _SMALL
