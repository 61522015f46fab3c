"""Which weights are kept, and when training stops."""

import numpy as np
import pytest
import torch
from torch import nn

from skae._training.selection import Selection, is_clear_gain

# is_clear_gain


def test_a_gain_of_every_row_is_clear():
    assert is_clear_gain(np.full(50, 1e-9))


def test_no_gain_is_not_clear():
    assert not is_clear_gain(np.zeros(50))
    assert not is_clear_gain(np.tile([-1.0, 1.0], 50))


def test_noise_is_seldom_taken_for_a_gain(rng):
    # Two standard errors on one side: about one in forty.
    taken = [is_clear_gain(rng.normal(size=100)) for _ in range(1000)]
    assert np.mean(taken) < 0.04


def test_a_larger_gain_is_never_less_clear(rng):
    gains = rng.normal(size=100)
    clear = [is_clear_gain(gains + shift) for shift in np.linspace(-1, 1, 41)]
    assert clear == sorted(clear)
    assert clear[0] is False
    assert clear[-1] is True


def test_a_small_gain_is_clear_on_enough_rows(rng):
    noise = rng.normal(size=50)
    gains = noise - noise.mean() + 0.3
    assert not is_clear_gain(np.r_[gains, -gains * 0.5])
    assert is_clear_gain(np.tile(gains, 100))


def test_units_do_not_matter(rng):
    for shift in (0.0, 0.1, 0.2, 0.5):
        gains = rng.normal(size=100) + shift
        weight = rng.uniform(size=100)
        expected = is_clear_gain(gains, weight)
        assert is_clear_gain(1e6 * gains, weight) is expected
        assert is_clear_gain(gains, 1e6 * weight) is expected


def test_equal_weights_are_none(rng):
    for shift in np.linspace(0, 0.4, 9):
        gains = rng.normal(size=100) + shift
        assert is_clear_gain(gains, np.full(100, 3.0)) is is_clear_gain(gains)


def test_rows_of_little_weight_have_little_say(rng):
    gains = np.r_[np.full(50, 1.0), np.full(50, -100.0)]
    assert not is_clear_gain(gains)
    assert is_clear_gain(gains, np.r_[np.ones(50), np.full(50, 1e-6)])


def test_few_rows_of_all_the_weight_are_not_enough():
    # As many rows as the weights are worth: two, of which one lost.
    gains = np.r_[1.0, -0.5, np.full(98, 1.0)]
    assert not is_clear_gain(gains, np.r_[1.0, 1.0, np.full(98, 1e-6)])


def test_extreme_rows_count_as_the_largest_of_the_others(rng):
    noise = rng.normal(size=97)
    usual = noise - noise.mean() + 0.16  # about 1.6 standard errors
    assert not is_clear_gain(usual)
    assert is_clear_gain(np.r_[usual, 50.0, 60.0, 70.0])
    assert not is_clear_gain(np.r_[usual, 500.0, -60.0, -70.0])


def test_a_lucky_row_does_not_count_but_an_unlucky_one_does():
    steady = np.full(99, 0.01)
    assert not is_clear_gain(np.r_[-steady, 100.0])
    assert not is_clear_gain(np.r_[steady, -100.0])
    assert is_clear_gain(np.r_[steady, 100.0])


# Selection


def _module():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    return module


def _run(held_out, *, starts_fitted=False, weight=None, n_iter_no_change=1000, tol=0.0):
    """Go through epochs, each of whose weights is its number; return what was kept."""
    module = _module()
    selection = Selection(
        module,
        held_out[0],
        weight,
        starts_fitted=starts_fitted,
        n_iter_no_change=n_iter_no_change,
        tol=tol,
    )
    n_epochs = len(held_out) - 1
    for epoch, rows in enumerate(held_out[1:], start=1):
        nn.init.constant_(module.weight, epoch)
        loss = np.average(rows, weights=weight)
        if selection.update(epoch, loss, rows):
            n_epochs = epoch
            break
    selection.finish()
    assert module.weight.item() == selection.best_epoch
    return selection, n_epochs


def _stops_after(losses, **kwargs):
    """Return after how many epochs training stops, or None."""
    _, n_epochs = _run([np.full(60, loss) for loss in losses], **kwargs)
    return None if n_epochs == len(losses) - 1 else n_epochs


@pytest.mark.parametrize("weighted", [False, True])
def test_the_best_epoch_is_kept_the_start_included(weighted, rng):
    for _ in range(10):
        held_out = list(rng.normal(size=(8, 60)))
        weight = rng.uniform(size=60) if weighted else None
        losses = [np.average(rows, weights=weight) for rows in held_out]
        selection, _ = _run(held_out, weight=weight)
        assert selection.best_epoch == np.argmin(losses)
        assert selection.best_loss == pytest.approx(min(losses))
        assert selection.initial_loss == pytest.approx(losses[0])


def test_a_fitted_start_is_left_for_a_clear_gain(rng):
    start = rng.normal(size=60)
    better = start - rng.uniform(1, 2, size=60)
    selection, _ = _run([start, start - 0.5, better, start], starts_fitted=True)
    assert selection.best_epoch == 2


def test_a_fitted_start_is_kept_for_want_of_a_clear_gain(rng):
    start = rng.normal(size=60)
    noise = rng.normal(size=60)
    slightly_better = start - (noise - noise.mean() + 1e-3)
    selection, _ = _run([start, slightly_better], starts_fitted=True)
    assert selection.best_epoch == 0
    assert selection.best_loss == selection.initial_loss
    assert _run([start, slightly_better])[0].best_epoch == 1


def test_weights_have_their_say_in_what_is_clear():
    start = np.zeros(100)
    half_better = np.r_[np.full(50, -1.0), np.full(50, 0.9)]
    light = np.r_[np.ones(50), np.full(50, 1e-6)]
    held_out = [start, half_better]
    assert _run(held_out, starts_fitted=True)[0].best_epoch == 0
    assert _run(held_out, starts_fitted=True, weight=light)[0].best_epoch == 1


def test_the_last_weights_are_kept_where_nothing_judges():
    module = _module()
    selection = Selection(
        module, None, None, starts_fitted=True, n_iter_no_change=2, tol=0.0
    )
    stops = []
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.6], start=1):
        nn.init.constant_(module.weight, epoch)
        stops.append(selection.update(epoch, loss, None))
    selection.finish()
    assert stops == [False, False, False, True]
    assert module.weight.item() == selection.best_epoch == 4


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_is_over(patience):
    losses = [5.0, 4.0, 3.0, *[3.5] * 10]
    assert _stops_after(losses, n_iter_no_change=patience) == 2 + patience


def test_an_improvement_starts_the_wait_anew():
    losses = [5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    assert _stops_after(losses, n_iter_no_change=3) is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("share", "stops"), [(0.5, 3), (2.0, None)])
def test_tol_is_a_share_of_the_objective(share, stops, sign):
    # Losses that are negative, as likelihoods may be, improve downwards too.
    losses = 100.0 * sign - share * np.arange(10.0)
    if stops:
        losses[2:] = losses[1]
    assert _stops_after(losses, tol=0.01, n_iter_no_change=3) == stops


def test_small_improvements_add_up():
    losses = 100 - 0.4 * np.arange(30.0)
    assert _stops_after(losses, tol=0.01, n_iter_no_change=4) is None


def test_an_improvement_below_tol_is_kept_all_the_same():
    held_out = [np.full(60, loss) for loss in (1.0, 1.0 - 1e-6)]
    assert _run(held_out, tol=0.1)[0].best_epoch == 1


def test_kept_weights_are_not_those_still_trained():
    module = _module()
    selection = Selection(
        module, np.ones(60), None, starts_fitted=False, n_iter_no_change=5, tol=0.0
    )
    with torch.no_grad():
        module.weight.add_(1.0)
        selection.update(1, 0.5, np.full(60, 0.5))
        module.weight.add_(1.0)
    selection.finish()
    assert module.weight.item() == 1.0
