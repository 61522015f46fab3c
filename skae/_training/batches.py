"""Rows and their weights on the device of the net, and the batches of an epoch."""

import math
from copy import copy, deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._data.missing import Known
from .._data.source import Resident, chunk_rows
from .._data.subsample import subsample
from .workers import Workers

__all__ = [
    "Batch",
    "Batches",
    "Data",
    "Rows",
    "Share",
    "SharedBatches",
    "hides_entries",
]


# Share of the rows with missing entries from which others are hidden in training; and
# rows that are looked at for it. With fewer, hiding would change what a network learns
# for the sake of a row or two.
_LEAST_MISSING = 0.01
_MAX_ROWS = 4096
# Probability with which a known entry is hidden in training, beside those that are
# missing in another row.
_HIDDEN = 0.1
# Epochs after which other entries are hidden: completing rows takes longer than steps.
_KEPT = 10


class Batch(NamedTuple):
    """Rows of one step.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_features)
        Rows to reconstruct, scaled.
    weight : Tensor of shape (n_rows,) or None
        Sample weights, of mean one over the training rows.
    mask : Tensor of bool of shape (n_rows, n_features) or None
        Which entries are known. None is all of them.
    input : Tensor of shape (n_rows, n_features) or None
        Rows to reconstruct them from, scaled. None is ``x``.
    """

    x: Tensor
    weight: Tensor | None = None
    mask: Tensor | None = None
    input: Tensor | None = None

    @property
    def seen(self):
        """What the encoder gets, before a corruption."""
        return self.x if self.input is None else self.input


class Rows(torch.utils.data.Dataset):
    """Scaled rows of a source, or some of them, with their weights.

    Parameters
    ----------
    source : Source
    weight : Tensor of shape (n_rows,), default=None
    index : Tensor of shape (n_rows,), default=None
        Which rows of the source, in which order; all of them by default.
    input : Source, default=None
        Rows to reconstruct those of ``source`` from. None is the same.
    known : Tensor of bool of shape (n_rows, n_features) or Known, default=None
        Which entries of ``source`` are known.
    completion : Completion, default=None
        What missing entries are taken as; required with ``known``.
    blocks : Blocks, default=None
        Columns that are hidden together.
    """

    def __init__(
        self,
        source,
        weight=None,
        index=None,
        input=None,
        known=None,
        completion=None,
        blocks=None,
    ):
        self.source = source
        self.weight = weight
        self.index = index
        self.input = input
        self.known = known
        self.completion = completion
        self.blocks = blocks

    def __len__(self):
        return len(self.source if self.index is None else self.index)

    def __getitem__(self, rows):
        """Return the batch of a slice or an index."""
        if self.source.streamed:
            return self._resident(self.source.take(rows))[:]
        weight = None if self.weight is None else self.weight[rows]
        if self.index is not None:
            rows = self.index[rows]
        given = None if self.input is None else self.input.take(rows)
        mask = None if self.known is None else self.known[rows]
        return Batch(self.source.take(rows), weight, mask, given)

    def hidden(self, generator=None):
        """Return the same rows, of which further entries are hidden from the encoder.

        So that other patterns of missing entries may come later, those are hidden that
        are missing in another row, and some at random. The loss still compares with
        what is hidden. What is missing or hidden is completed. Nothing is hidden where
        less than a hundredth of the rows of the source has missing entries.

        Parameters
        ----------
        generator : torch.Generator, default=None
            On the device of the rows. None hides nothing.
        """
        if self.completion is None:
            return self
        if self.source.streamed:
            return self  # what is missing is known when a batch is read
        if not hides_entries(self.known, len(self.source)):
            generator = None
        if isinstance(self.known, Known):
            given = _Hidden(self, generator)
            return Rows(self.source, self.weight, self.index, given, self.known)
        seen = torch.empty(self.source.shape, device=self.source.device)
        step = chunk_rows(seen.shape[1])
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            rows = rows if self.index is None else self.index[rows]
            seen[rows] = self.seen(rows, generator)
        return Rows(self.source, self.weight, self.index, Resident(seen), self.known)

    def seen(self, rows, generator):
        """Return what the encoder gets of rows of the source; see `hidden`."""
        known = self.known[rows]
        if self.input is None:
            x = torch.where(known, self.source.take(rows), torch.nan)
        else:
            x = self.input.take(rows)
        if generator is not None:
            how = {"generator": generator, "device": generator.device}
            others = torch.randint(len(self), (len(x),), **how)
            if self.index is not None:
                others = self.index[others]
            x = self._masked(x, self.known[others], generator)
        return self.completion(x)

    def _masked(self, x, known, generator):
        """Return rows with NaN where others have some, and at random."""
        how = {"generator": generator, "device": generator.device}
        if self.blocks is None:
            at_random = torch.rand(x.shape, **how) < _HIDDEN
        else:
            features = torch.rand(len(x), self.blocks.n_features, **how)
            at_random = self.blocks.repeated(features) < _HIDDEN
        return x.masked_fill(at_random | ~known, torch.nan)

    def to(self, device):
        """Return the same rows on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        index = None if self.index is None else self.index.to(device)
        given = None if self.input is None else self.input.to(device)
        known = None if self.known is None else self.known.to(device)
        completion = self.completion
        if completion is not None:
            completion = deepcopy(completion).to(device)
        # What is missing of rows that are read in chunks is completed batch by batch.
        anew = self.source.streamed and completion is not None
        return Rows(
            self.source.on(device) if anew else self.source.to(device),
            weight,
            index,
            given,
            known,
            completion,
            self.blocks,
        )

    def take(self, index):
        """Return some of the rows, their weights again of mean one, without a copy."""
        if self.source.streamed:
            return self._resident(self.source.take(index))
        index = torch.as_tensor(index, device=self.source.device)
        weight = None if self.weight is None else self.weight[index]
        if self.index is not None:
            index = self.index[index]
        weight = None if weight is None else weight / weight.mean()
        return Rows(
            self.source,
            weight,
            index,
            self.input,
            self.known,
            self.completion,
            self.blocks,
        )

    def without(self, index):
        """Return all rows but some, without a copy."""
        if self.source.streamed:
            others = copy(self)
            others.source = self.source.without(index)
            return others
        return self.take(np.setdiff1d(np.arange(len(self)), index))

    def shuffled(self, n_batches, generator):
        """Yield all rows once, in a random order, in equal batches."""
        if self.source.streamed:
            for x in self.source.shuffled(n_batches, generator):
                yield self._batch(x, generator)
            return
        for index in self.order(generator).tensor_split(n_batches):
            yield self[index]

    def order(self, generator):
        """Draw an order of the rows."""
        return torch.randperm(len(self), generator=generator, device=generator.device)

    def _resident(self, x):
        """Return rows that were read as rows in memory."""
        if self.completion is None:
            return Rows(Resident(x))
        filled = Resident(self.completion(x))
        return Rows(filled, known=~x.isnan(), completion=self.completion)

    def _batch(self, x, generator):
        """Return rows that were read as a batch; entries are hidden as by `hidden`."""
        if self.completion is None:
            return Batch(x)
        known, given = ~x.isnan(), None
        if hides_entries(self.known, len(self.source)):
            others = torch.randint(
                len(x), (len(x),), generator=generator, device=x.device
            )
            given = self.completion(self._masked(x, known[others], generator))
        return Batch(self.completion(x), None, known, given)

    def weight_array(self):
        """Return the weights as an ndarray of float64, or None."""
        return None if self.weight is None else self.weight.double().cpu().numpy()


class _Hidden:
    """What the encoder gets of rows, hidden when they are read: `Rows.input`."""

    def __init__(self, rows, generator):
        self._rows, self._generator = rows, generator

    def take(self, index):
        return self._rows.seen(index, self._generator)


class Share(NamedTuple):
    """What one of several processes trains on.

    Parameters
    ----------
    workers : Workers
    rows : Rows
        The training rows of this process.
    sizes : list of int
        Number of training rows of each process.
    """

    workers: Workers
    rows: Rows
    sizes: list


class Data(NamedTuple):
    """The training set and the validation set, if there is one.

    Parameters
    ----------
    train : Rows
    validation : Rows or None
        The same in all processes that train together.
    share : Share or None
        What this process trains on, where there are several. All have the same
        ``train`` then, a sample of all rows.
    """

    train: Rows
    validation: Rows | None = None
    share: Share | None = None


def hides_entries(known, n_rows):
    """Return whether entries are hidden in training.

    Parameters
    ----------
    known : Tensor of bool of shape (n_rows, n_features), Known or None
    n_rows : int
    """
    if known is None:
        return False
    if isinstance(known, Known):
        return known.incomplete >= _LEAST_MISSING
    some = known[torch.from_numpy(subsample(n_rows, _MAX_ROWS)).to(known.device)]
    return bool((~some).any(dim=1).double().mean() >= _LEAST_MISSING)


class Batches:
    """Iterates over rows: in order and chunks, or shuffled and in equal batches.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Largest number of rows in a batch. Shuffled batches differ by at most one row in
        size: there is no short last one, whose statistics would be poor or, for a
        single row, undefined.
    generator : torch.Generator, default=None
        On the device of the rows. Given one, every pass has a new order.
    """

    def __init__(self, rows, batch_size, generator=None):
        self.rows = rows
        self._batch_size = batch_size
        self._generator = generator
        self._n_passes = 0
        self._hidden = self._hidden_from = None

    def __len__(self):
        return math.ceil(len(self.rows) / self._batch_size)

    @property
    def least_rows(self):
        """Number of rows of the smallest batch of a pass."""
        return len(self.rows) // len(self)

    def state_dict(self):
        """Return what determines the next passes: states of the generator, as now."""
        return {
            "n_passes": self._n_passes,
            "hidden_from": self._hidden_from,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state):
        """Go on from a state."""
        self._n_passes = state["n_passes"]
        self._hidden_from = state["hidden_from"]
        self._generator.set_state(self._hidden_from)
        self._hidden = self.rows.hidden(self._generator)
        self._generator.set_state(state["generator"])

    def __iter__(self):
        if self._generator is None:
            for start in range(0, len(self.rows), self._batch_size):
                yield self.rows[start : start + self._batch_size]
            return
        yield from self._next().shuffled(len(self), self._generator)

    def _next(self):
        """Return the rows of the next pass."""
        if self._n_passes % _KEPT == 0:
            self._hidden_from = self._generator.get_state()
            self._hidden = self.rows.hidden(self._generator)
        self._n_passes += 1
        return self._hidden

    def shuffled(self):
        """Return all rows of the next pass in its order: a batch of rows in memory."""
        rows = self._next()
        return rows[rows.order(self._generator)]


class SharedBatches(Batches):
    """The part of each batch that one of several processes has.

    All processes take as many steps. Each has about the same share of every step, which
    may be no row at all.

    Parameters
    ----------
    share : Share
    batch_size : int
        Largest number of rows in a batch, of all processes together.
    generator : torch.Generator
    """

    def __init__(self, share, batch_size, generator):
        super().__init__(share.rows, batch_size, generator)
        self._sizes = np.array(share.sizes)
        self._rank = share.workers.rank

    def __len__(self):
        return math.ceil(self._sizes.sum() / self._batch_size)

    def __iter__(self):
        # As `tensor_split` and `Stream.shuffled` divide rows.
        least, larger = np.divmod(self._sizes, len(self))
        for i, batch in enumerate(super().__iter__()):
            n_rows = least + (i < larger)
            part = _Part(*batch)
            part.share = float(n_rows[self._rank] / n_rows.sum())
            yield part


class _Part(Batch):
    """The rows of a step that one of several processes has.

    Attributes
    ----------
    share : float
        Share of the rows of the step that these are.
    """
