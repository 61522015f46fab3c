"""Rows on a device, and the order in which training sees them."""

import numpy as np
import pytest
import torch

from skae._data.source import Resident
from skae._training.batches import Batches, Rows


def _column(n_rows):
    return Resident(torch.arange(n_rows).reshape(-1, 1))


@pytest.mark.parametrize(
    ("n_rows", "batch_size"), [(1, 1), (7, 7), (7, 100), (100, 32), (129, 64), (10, 1)]
)
def test_an_epoch_has_every_row_once_in_equal_batches(n_rows, batch_size, generator):
    rows = Rows(Resident(torch.arange(n_rows).reshape(-1, 1)))
    batches = Batches(rows, batch_size, generator)
    passes = [[batch.x for batch in batches] for _ in range(2)]
    sizes = [len(x) for x in passes[0]]
    assert len(sizes) == len(batches) == -(-n_rows // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    first, second = (torch.cat(batches).flatten() for batches in passes)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(n_rows))
    assert n_rows < 20 or not torch.equal(first, second)


def test_the_order_comes_from_the_generator_alone(seed):
    rows = Rows(_column(50))
    before = torch.get_rng_state()
    first, again = (
        torch.cat(
            [batch.x for batch in Batches(rows, 8, torch.Generator().manual_seed(seed))]
        )
        for _ in range(2)
    )
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_rows_come_in_order():
    rows = Rows(_column(9), torch.arange(9) * 2.0)
    x, weight, masks, _ = zip(*Batches(rows, 4), strict=True)
    x, weight = torch.cat(x), torch.cat(weight)
    assert masks == (None, None, None)
    assert torch.equal(x, rows.source.x)
    assert torch.equal(weight, rows.weight)


def test_rows_keep_their_weights_when_some_are_taken():
    taken = Rows(_column(10), torch.arange(10) * 2.0).take(np.array([7, 2]))
    x, weight, *_ = taken[:]
    assert x.flatten().tolist() == [7, 2]
    assert torch.equal(weight, taken.weight)
    assert taken.weight_array().tolist() == pytest.approx([14 / 9, 4 / 9])
