"""Corruptions: which entries they change, how, and how often."""

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind

from skae.corruptions import (
    Corruption,
    Dropout,
    Gaussian,
    Masking,
    SaltAndPepper,
    Swap,
)

all_corruptions = pytest.mark.parametrize(
    "corruption", of_kind(Corruption, SETTINGS), ids=repr
)
# Of one hundred thousand rows: a share is known to within five standard errors.
N_ROWS = 100_000


def _corrupted(corruption, x, generator):
    return corruption(x, corruption.draw(x.shape, generator))


def _share(hit):
    """Return the share of entries that were hit, and how far off it may be."""
    share = hit.double().mean().item()
    return share, 5 * (0.25 / hit.numel()) ** 0.5


# What all share


@all_corruptions
def test_a_corruption_leaves_the_rows_alone(corruption, generator):
    x = torch.rand(20, 5, generator=generator)
    before = x.clone()
    corrupted = _corrupted(corruption, x, generator)
    assert corrupted.shape == x.shape
    assert torch.equal(x, before)


@all_corruptions
def test_draws_come_from_the_generator_alone(corruption, seed):
    before = torch.get_rng_state()
    x = torch.rand(20, 5, generator=torch.Generator())
    first, second = (
        _corrupted(corruption, x, torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "corruption",
    [Gaussian(0), Masking(0), SaltAndPepper(0), Dropout(0), Swap(0)],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_strength_changes_nothing(corruption, dtype, generator):
    x = torch.randn(1000, 5, generator=generator, dtype=dtype)
    corrupted = _corrupted(corruption, x, generator)
    assert corrupted.dtype == dtype
    assert torch.equal(corrupted, x)


@pytest.mark.parametrize(
    ("cls", "rate"),
    [
        (cls, rate)
        for cls in (Masking, SaltAndPepper, Dropout, Swap)
        for rate in (0.1, 0.5, 0.9)
    ],
)
def test_entries_are_hit_at_the_rate_independently(cls, rate, generator):
    # All entries of a column differ, and none is an extreme, a zero or scaled.
    x = torch.rand(N_ROWS, 2, generator=generator) + 1
    corrupted = _corrupted(cls(rate), x, generator)
    if cls is Dropout:
        corrupted = corrupted * (1 - rate)
    hit = ~torch.isclose(corrupted, x)
    for column in hit.T:
        share, tolerance = _share(column)
        assert share == pytest.approx(rate, abs=tolerance)
    both, tolerance = _share(hit.all(dim=1))
    assert both == pytest.approx(rate**2, abs=tolerance)
    neighbours, tolerance = _share(hit[1:, 0] & hit[:-1, 0])
    assert neighbours == pytest.approx(rate**2, abs=2 * tolerance)


@pytest.mark.parametrize("cls", [Masking, SaltAndPepper, Swap])
@pytest.mark.parametrize("rate", [-0.1, 1.1, None])
def test_a_rate_is_a_share(cls, rate):
    with pytest.raises(ValueError, match="'rate' parameter of"):
        cls(rate).validate()


def test_dropout_keeps_something():
    with pytest.raises(ValueError, match="'rate' parameter of Dropout"):
        Dropout(1.0).validate()


# Gaussian


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_gaussian_noise_is_centred_with_its_scale(scale, generator):
    x = torch.full((N_ROWS, 2), 5.0)
    noise = _corrupted(Gaussian(scale), x, generator) - x
    error = scale / len(x) ** 0.5
    assert noise.mean(dim=0).abs().max() < 5 * error
    assert (noise.std(dim=0) - scale).abs().max() < 5 * error
    assert torch.corrcoef(noise.T)[0, 1].abs() < 5 / len(x) ** 0.5
    # Normal: kurtosis three, known to within sqrt(24 / n).
    kurtosis = (noise / scale).pow(4).mean(dim=0)
    assert (kurtosis - 3).abs().max() < 10 * (24 / len(x)) ** 0.5


# Masking and dropout


def test_masked_entries_are_zero_and_others_as_they_were(generator):
    x = torch.rand(1000, 3, generator=generator) + 1
    masked = _corrupted(Masking(0.4), x, generator)
    assert ((masked == 0) | (masked == x)).all()


def test_everything_may_be_masked(generator):
    assert not _corrupted(Masking(1.0), torch.ones(1000, 3), generator).any()


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_dropout_keeps_the_mean(rate, generator):
    x = torch.ones(N_ROWS, 3)
    dropped = _corrupted(Dropout(rate), x, generator)
    torch.testing.assert_close(
        dropped.unique(), torch.tensor([0.0, 1 / (1 - rate)]), rtol=1e-6, atol=0
    )
    spread = (rate / (1 - rate)) ** 0.5
    error = 5 * spread / N_ROWS**0.5
    assert (dropped.mean(dim=0) - 1).abs().max() < error


# Salt and pepper


def test_salt_and_pepper_are_the_extremes_of_each_feature(generator):
    x = torch.randn(1000, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1])
    noisy = _corrupted(SaltAndPepper(1.0), x, generator)
    for column, corrupted in zip(x.T, noisy.T, strict=True):
        extremes = torch.stack([column.min(), column.max()])
        assert torch.equal(corrupted.unique(), extremes)


@pytest.mark.parametrize("rate", [0.2, 1.0])
@pytest.mark.parametrize("extremes", [{}, {"low": 0, "high": 1}])
def test_half_is_salt_and_half_is_pepper(rate, extremes, generator):
    x = torch.rand(N_ROWS, 2, generator=generator) * 0.9 + 0.05
    noisy = _corrupted(SaltAndPepper(rate, **extremes), x, generator)
    low = extremes.get("low", x.amin(dim=0))
    high = extremes.get("high", x.amax(dim=0))
    for value in (low, high):
        share, tolerance = _share(noisy == value)
        assert share == pytest.approx(rate / 2, abs=tolerance)


@pytest.mark.parametrize("given", ["low", "high"])
def test_one_extreme_may_be_given(given, generator):
    x = torch.rand(1000, 2, generator=generator)
    noisy = _corrupted(SaltAndPepper(1.0, **{given: 7.0}), x, generator)
    other = x.amax(dim=0) if given == "low" else x.amin(dim=0)
    assert ((noisy == 7.0) | (noisy == other)).all()
    assert (noisy == 7.0).any(dim=0).all()
    assert (noisy == other).any(dim=0).all()


# Swap


def test_swapped_entries_are_values_of_their_column(generator):
    x = torch.rand(500, 3, generator=generator)
    swapped = _corrupted(Swap(1.0), x, generator)
    for column, corrupted in zip(x.T, swapped.T, strict=True):
        assert np.isin(corrupted.numpy(), column.numpy()).all()


def test_swap_keeps_the_distribution_of_each_column(generator):
    # Skewed, two-valued, and one with a rare value; columns that go together.
    u = torch.rand(N_ROWS, generator=generator)
    x = torch.stack([u**4, (u > 0.3).float(), (u > 0.99).float()], dim=1)
    swapped = _corrupted(Swap(1.0), x, generator)
    for level in (0.01, 0.1, 0.5, 0.9):
        before, after = (rows <= level for rows in (x, swapped))
        difference = after.double().mean(dim=0) - before.double().mean(dim=0)
        assert difference.abs().max() < 5 * (0.25 / N_ROWS) ** 0.5
    # What went together no longer does: every entry comes from a row of its own.
    assert torch.corrcoef(x.T)[0, 1] > 0.3
    assert torch.corrcoef(swapped.T)[0, 1].abs() < 5 / N_ROWS**0.5
