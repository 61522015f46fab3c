"""Rows on the device of the net, and the order in which training sees them."""

import math
from typing import NamedTuple

import torch

__all__ = ["Batches", "Data", "Rows"]


class Rows(torch.utils.data.Dataset):
    """Scaled rows, with their weights.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
    weight : Tensor of shape (n_samples,) or None
    """

    def __init__(self, x, weight=None):
        self.x = x
        self.weight = weight

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        """Return rows and their weights."""
        return self.x[index], None if self.weight is None else self.weight[index]

    def to(self, device):
        """Return the same rows on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return Rows(self.x.to(device), weight)

    def take(self, index):
        """Return some of the rows, their weights again of mean one."""
        x, weight = self[torch.from_numpy(index).to(self.x.device)]
        return Rows(x, None if weight is None else weight / weight.mean())

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
        for index in order.tensor_split(len(self)):
            yield self._rows[index]
