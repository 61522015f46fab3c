"""Rows on the device of the net, and the order in which training sees them."""

import math
from typing import NamedTuple

import torch

from .scaling import as_tensor

__all__ = ["Batches", "Data", "Rows", "Streamed", "scaled_rows"]

# Bytes of scaled rows up to which all are scaled in advance.
_SMALL = 2**26
# Rows that are scaled at once.
_CHUNK = 8192


def scaled_rows(X, scaling):
    """Return rows as the network sees them, in single precision.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    scaling : Scaling

    Returns
    -------
    Tensor or Streamed
        A small table is scaled in advance; of a large one there is no second copy.
    """
    streamed = Streamed(X, scaling)
    return streamed if X.size * 4 > _SMALL else streamed.to_tensor()


class Streamed:
    """Rows that are scaled whenever some of them are looked at.

    It can what is asked of a tensor of rows: ``shape``, ``device``, slices,
    ``index_select``. What it is made of may be a map of a file.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    scaling : Scaling
    device : torch.device or str
        Where rows go that are looked at.
    """

    def __init__(self, X, scaling, device="cpu"):
        self._X = X
        self._scaling = scaling
        self.device = torch.device(device)
        self.shape = X.shape

    def __len__(self):
        return len(self._X)

    def __getitem__(self, rows):
        return self._scaled(as_tensor(self._X[rows]))

    def index_select(self, dim, index):
        """Return the rows of an index; ``dim`` is 0, as there are no others."""
        # What NumPy takes is a copy, and free of what torch does not like of an array.
        X = self._X.take(index.cpu().numpy(), axis=dim)
        return self._scaled(torch.from_numpy(X))

    def _scaled(self, x):
        # The centre is taken off in the precision of X: a column of timestamps would
        # lose all it says if it were rounded first.
        x = self._scaling.apply(x, out=x).float()
        if self.device.type == "cuda":
            # From pinned memory a copy does not keep the processor waiting.
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def to(self, device):
        """Return the same rows for a device: there at once, if they have the room."""
        device = torch.device(device)
        if device.type == "cuda" and self._fits(device):
            return self.to_tensor(device)
        return Streamed(self._X, self._scaling, device)

    def to_tensor(self, device="cpu"):
        """Return all rows, scaled chunk by chunk."""
        x = torch.empty(self.shape, dtype=torch.float32, device=device)
        for i in range(0, len(self), _CHUNK):
            x[i : i + _CHUNK] = self[i : i + _CHUNK]
        return x

    def _fits(self, device):
        # The other half is for the model, its optimiser, and what passes through it.
        free, _ = torch.cuda.mem_get_info(device)
        return math.prod(self.shape) * 4 <= free / 2


class Rows(torch.utils.data.Dataset):
    """Scaled rows, or some of them, with their weights.

    Parameters
    ----------
    x : Tensor or Streamed, of shape (n_rows, n_features)
    weight : Tensor of shape (n_samples,) or None
    index : Tensor of shape (n_samples,), default=None
        Which rows of ``x`` are meant, in which order; all of them by default.
    """

    def __init__(self, x, weight=None, index=None):
        self.x = x
        self.weight = weight
        self.index = index

    @property
    def device(self):
        """Where rows are looked up."""
        return "cpu" if isinstance(self.x, Streamed) else self.x.device

    def __len__(self):
        return len(self.x if self.index is None else self.index)

    def __getitem__(self, rows):
        """Return rows, of a slice or an index, and their weights."""
        weight = None if self.weight is None else self.weight[rows]
        if self.index is not None:
            rows = self.index[rows]
        if isinstance(rows, slice):
            return self.x[rows], weight
        # Five times as fast as x[rows].
        return self.x.index_select(0, rows), weight

    def to(self, device):
        """Return the same rows on a device."""
        rows = Rows(self.x.to(device), self.weight, self.index)
        if self.weight is not None:
            rows.weight = self.weight.to(device)
        if self.index is not None:
            rows.index = self.index.to(rows.device)
        return rows

    def take(self, index):
        """Return some of the rows, their weights again of mean one, without a copy."""
        index = torch.from_numpy(index).to(self.device)
        weight = None if self.weight is None else self.weight[index]
        if self.index is not None:
            index = self.index[index]
        return Rows(self.x, None if weight is None else weight / weight.mean(), index)

    def weight_array(self):
        """Return the weights as NumPy has them."""
        return None if self.weight is None else self.weight.double().cpu().numpy()


class Data(NamedTuple):
    """What a net is fitted on; ``valid=None`` holds no rows out."""

    train: Rows
    valid: Rows | None = None


class Batches:
    """Iterates over rows: in order and chunks, or shuffled and in equal batches.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Most rows at once. Shuffled batches differ by at most one row in size: there
        is no short last one, whose statistics would be poor or, for a single row,
        undefined.
    generator : torch.Generator, default=None
        On the device of the rows. Given one, every pass has a new order.
    """

    def __init__(self, rows, batch_size, generator=None):
        self._rows = rows
        self._batch_size = batch_size
        self._generator = generator

    def __len__(self):
        return math.ceil(len(self._rows) / self._batch_size)

    def __iter__(self):
        if self._generator is None:
            for start in range(0, len(self._rows), self._batch_size):
                yield self._rows[start : start + self._batch_size]
            return
        device = self._generator.device
        order = torch.randperm(
            len(self._rows), generator=self._generator, device=device
        )
        # Where rows wait on the host: once an epoch, not in every batch.
        order = order.to(self._rows.device)
        for index in order.tensor_split(len(self)):
            yield self._rows[index]
