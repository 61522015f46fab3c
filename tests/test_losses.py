"""Losses against likelihoods, and trimming."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from torch.distributions import Bernoulli as Coins
from torch.distributions import Laplace, Normal
from torch.distributions import Poisson as Counts

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._component import Affine
from skae._gradient.closed_form import ClosedForm
from skae.anomaly_scores import Reconstruction
from skae.architectures import MLP
from skae.losses import (
    AbsoluteError,
    Bernoulli,
    Huber,
    Loss,
    Poisson,
    SquaredError,
    Trimmed,
)

all_losses = pytest.mark.parametrize("loss", of_kind(Loss, SETTINGS), ids=repr)


def _rows(generator, n_rows=20, n_columns=5):
    # Within [0, 1], which every loss accepts.
    return torch.rand(n_rows, n_columns, generator=generator, dtype=torch.float64)


def _outputs(generator, n_rows=20, n_columns=5):
    shape = (n_rows, n_columns)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


# What all share


@all_losses
def test_a_loss_is_per_row_and_a_sum_over_features(loss, generator):
    x, raw = _rows(generator), _outputs(generator)
    per_row = loss(raw, x)
    assert per_row.shape == (len(x),)
    terms = loss.per_entry(raw, x)
    assert terms.shape == x.shape
    assert torch.equal(per_row, terms.sum(dim=1))
    one_by_one = sum(loss(raw[:, [j]], x[:, [j]]) for j in range(x.shape[1]))
    torch.testing.assert_close(per_row, one_by_one)


@all_losses
def test_masked_entries_count_zero_and_have_no_gradient(loss, generator):
    x, raw = _rows(generator), _outputs(generator).requires_grad_()
    mask = torch.rand(x.shape, generator=generator) < 0.7
    per_row = loss(raw, x, mask)
    torch.testing.assert_close(per_row, (loss.per_entry(raw, x) * mask).sum(dim=1))
    (gradient,) = torch.autograd.grad(per_row.sum(), raw)
    (whole,) = torch.autograd.grad(loss(raw, x).sum(), raw)
    assert torch.equal(gradient, whole * mask)
    assert torch.equal(loss(raw, x, torch.ones_like(mask)), loss(raw, x))


@all_losses
def test_a_loss_is_smallest_where_the_link_gives_the_row(loss, generator):
    x = _rows(generator).reshape(-1, 1)
    # Each entry is a row of its own, and every loss is convex: cut intervals by thirds.
    low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
    for _ in range(100):
        third = (high - low) / 3
        falls = (loss(low + third, x) > loss(high - third, x))[:, None]
        low = torch.where(falls, low + third, low)
        high = torch.where(falls, high, high - third)
    torch.testing.assert_close(loss.inverse_link(low), x, rtol=0, atol=1e-6)


@all_losses
def test_degree_is_the_power_with_which_a_loss_grows(loss, generator):
    residual = _outputs(generator)
    x = torch.zeros_like(residual)
    powers = {
        degree
        for degree in (1, 2)
        if torch.allclose(loss(3 * residual, x), 3.0**degree * loss(residual, x))
    }
    assert powers == (set() if loss.degree is None else {loss.degree})


@all_losses
def test_gradients_are_finite_far_out(loss, generator):
    x = _rows(generator)
    raw = (1e3 * _outputs(generator)).requires_grad_()
    per_row = loss(raw, x)
    (gradient,) = torch.autograd.grad(per_row.sum(), raw)
    assert per_row.isfinite().all()
    assert gradient.isfinite().all()


@all_losses
@pytest.mark.parametrize("raw", [-1e3, -50.0, 50.0, 1e3])
def test_a_step_down_leads_back_from_far_out(loss, raw, generator):
    x = 0.1 + 0.8 * _rows(generator)
    outputs = torch.full_like(x, raw).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(outputs, x).sum(), outputs)
    assert (gradient.sign() == np.sign(raw)).all()


@all_losses
def test_a_start_gives_the_mean_where_the_code_is_zero(loss, generator):
    weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    mean = 0.1 + 0.8 * _rows(generator)[0]
    _, bias = loss.start(Affine(weight, mean))
    torch.testing.assert_close(loss.inverse_link(bias), mean)


@all_losses
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_a_start_at_the_edge_of_the_domain_is_finite(loss, mean):
    weight, mean = torch.ones(1, 2), torch.tensor([mean])
    affine = loss.start(Affine(weight, mean))
    assert all(t.isfinite().all() for t in affine)
    value = loss.inverse_link(affine.bias)
    torch.testing.assert_close(value, mean, rtol=0, atol=1e-2)


@pytest.mark.parametrize("loss", [SquaredError(), Bernoulli()], ids=repr)
def test_a_start_follows_the_map_to_first_order(loss, generator):
    # In the middle of the domain, where no slope is too flat to be divided by.
    weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    mean = 0.4 + 0.2 * _rows(generator)[0]
    started = loss.start(Affine(weight, mean))
    code = 1e-4 * _outputs(generator, n_columns=2)
    found = loss.inverse_link(code @ started.weight.T + started.bias)
    expected = code @ weight.T + mean
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


# Likelihoods


def test_squared_error_is_a_normal_likelihood(generator):
    x, raw = _rows(generator), _outputs(generator)
    likelihood = Normal(raw, 1.0).log_prob(x).sum(dim=1)
    constant = x.shape[1] / 2 * np.log(2 * np.pi)
    torch.testing.assert_close(SquaredError()(raw, x), -likelihood - constant)


def test_absolute_error_is_a_laplace_likelihood(generator):
    x, raw = _rows(generator), _outputs(generator)
    likelihood = Laplace(raw, 1.0).log_prob(x).sum(dim=1)
    constant = x.shape[1] * np.log(2)
    torch.testing.assert_close(AbsoluteError()(raw, x), -likelihood - constant)


def test_bernoulli_is_the_likelihood_of_coins(generator):
    x, raw = _rows(generator).round(), _outputs(generator)
    likelihood = Coins(logits=raw).log_prob(x).sum(dim=1)
    torch.testing.assert_close(Bernoulli()(raw, x), -likelihood)
    torch.testing.assert_close(Bernoulli().inverse_link(raw), Coins(logits=raw).probs)


def test_bernoulli_of_grey_values_is_the_cross_entropy(generator):
    x, raw = _rows(generator), _outputs(generator)
    p = 1 / (1 + (-raw).exp())
    entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum(dim=1)
    torch.testing.assert_close(Bernoulli()(raw, x), entropy)


def test_poisson_is_the_likelihood_of_counts(generator):
    x, raw = (10 * _rows(generator)).round(), _outputs(generator)
    likelihood = Counts(raw.exp()).log_prob(x).sum(dim=1)
    torch.testing.assert_close(Poisson()(raw, x), -likelihood)
    torch.testing.assert_close(Poisson().inverse_link(raw), raw.exp())


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
def test_huber_is_squared_inside_and_absolute_outside(delta, generator):
    x = _rows(generator).numpy()
    raw = x + delta * _outputs(generator).numpy()
    size = np.abs(x - raw)
    assert 0 < (size < delta).mean() < 1
    expected = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))
    found = Huber(delta)(torch.from_numpy(raw), torch.from_numpy(x))
    np.testing.assert_allclose(found, expected.sum(axis=1))


def test_huber_lies_between_its_limits(generator):
    x, raw = _rows(generator), _outputs(generator)
    torch.testing.assert_close(Huber(1e6)(raw, x), SquaredError()(raw, x))
    torch.testing.assert_close(
        Huber(1e-6)(raw, x) / 1e-6, AbsoluteError()(raw, x), rtol=1e-5, atol=1e-5
    )


# Trimmed


@pytest.mark.parametrize("fraction", [0.0, 0.04, 0.1, 0.25, 0.3, 0.7, 0.9, 0.99])
def test_the_mean_of_trusted_terms_is_that_of_the_best_rows(fraction, generator):
    terms = torch.rand(20, generator=generator, dtype=torch.float64)
    trusted = Trimmed(SquaredError(), fraction).trusted(terms)
    # Of what is left out the share is at least this one, in whole rows; not all.
    n_kept = max(1, 20 - ceil(20 * Fraction(str(fraction))))
    expected = np.sort(terms.numpy())[:n_kept].mean()
    assert trusted.mean().item() == pytest.approx(expected)
    assert torch.count_nonzero(trusted) == n_kept


def test_rows_left_out_have_no_gradient(generator):
    x, raw = _rows(generator), _outputs(generator).requires_grad_()
    trimmed = Trimmed(SquaredError(), 0.3)
    terms = trimmed(raw, x)
    (gradient,) = torch.autograd.grad(trimmed.trusted(terms).mean(), raw)
    order = terms.argsort()
    best, worst = order[:14], order[14:]
    assert not gradient[worst].any()
    torch.testing.assert_close(gradient[best], (raw - x)[best] / 14)


def test_rows_left_out_may_be_as_bad_as_they_like(generator):
    # Their terms overflow; those of the others count as if they were not there.
    x = _rows(generator).float()
    x[0] = 1e30
    raw = torch.zeros_like(x).requires_grad_()
    trimmed = Trimmed(SquaredError(), 0.1)
    loss = trimmed.trusted(trimmed(raw, x)).mean()
    (gradient,) = torch.autograd.grad(loss, raw)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("inside", [SquaredError(), Huber(0.1), Bernoulli()], ids=repr)
def test_a_trimmed_loss_is_the_one_inside_in_all_else(inside, generator):
    x, raw = _rows(generator), _outputs(generator)
    trimmed = Trimmed(inside, 0.3)
    assert torch.equal(trimmed(raw, x), inside(raw, x))
    assert torch.equal(trimmed.inverse_link(raw), inside.inverse_link(raw))
    assert (trimmed.domain, trimmed.degree) == (inside.domain, inside.degree)
    affine = Affine(raw, x[:, 0])
    for found, expected in zip(
        trimmed.start(affine), inside.start(affine), strict=True
    ):
        assert torch.equal(found, expected)


def _contaminated(rng):
    """Return rows on a curve, with one in ten elsewhere, and more of the curve."""

    def curve(n):
        t = rng.uniform(-2, 2, size=n)
        rows = np.c_[t, t**2, np.sin(2 * t), np.cos(2 * t)]
        return rows + 0.05 * rng.normal(size=rows.shape)

    X, clean = curve(400), curve(400)
    X[::10] = rng.normal([0, 10, 10, 10], 1.0, size=(40, 4))
    return X, clean


def _fitted(X, cls=AutoencoderTransformer, **params):
    return cls(
        1,
        architecture=MLP((32,)),
        early_stopping=False,
        max_epochs=60,
        lr=1e-2,
        random_state=0,
        **params,
    ).fit(X)


def test_a_trimmed_model_is_better_on_rows_that_are_no_outliers(rng):
    X, clean = _contaminated(rng)
    errors = {
        fraction: _fitted(X, loss=Trimmed(SquaredError(), fraction))
        .reconstruction_error(clean)
        .mean()
        for fraction in (0.0, 0.12)
    }
    assert errors[0.12] < 0.5 * errors[0.0]


def test_trimming_nothing_changes_nothing(rng, monkeypatch):
    # The closed form, which the plain loss has, rounds otherwise.
    monkeypatch.setattr(ClosedForm, "suits", staticmethod(lambda module: False))
    X, clean = _contaminated(rng)
    plain, trimmed = (
        _fitted(X[:100], AutoencoderOutlierDetector, loss=loss).score_samples(clean)
        for loss in (None, Trimmed(SquaredError(), 0.0))
    )
    np.testing.assert_array_equal(plain, trimmed)


def test_scores_are_those_of_the_loss_inside(rng):
    X, _ = _contaminated(rng)
    trimmed = _fitted(
        X[:100],
        AutoencoderOutlierDetector,
        scaling=None,
        loss=Trimmed(SquaredError(), 0.15),
        anomaly_score=Reconstruction(),
    )
    expected = -trimmed.reconstruction_error(X) / 2
    np.testing.assert_allclose(trimmed.score_samples(X), expected, rtol=1e-6)


# Domains


@pytest.mark.parametrize(
    ("loss", "bad"),
    [(Bernoulli(), -0.1), (Bernoulli(), 1.1), (Poisson(), -1.0)],
)
@pytest.mark.parametrize("where", ["X", "X_val"])
def test_rows_outside_the_domain_are_refused(loss, bad, where, rng):
    rows = {name: rng.uniform(size=(60, 4)) for name in ("X", "X_val")}
    rows[where][3, 2] = bad
    model = AutoencoderTransformer(2, loss=Trimmed(loss, 0.1))
    with pytest.raises(ValueError, match=f"{where} ranges from"):
        model.fit(**rows)
    with pytest.raises(ValueError, match=f"{type(loss).__name__} is a loss for data"):
        model.set_params(loss=loss).fit(**rows)


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson()], ids=repr)
@pytest.mark.parametrize("scaling", ["global", "standard", "minmax"])
def test_such_rows_are_not_scaled(loss, scaling, rng):
    model = AutoencoderTransformer(2, loss=loss, scaling=scaling)
    with pytest.raises(ValueError, match="scaling must be None or 'auto'"):
        model.fit(rng.uniform(size=(60, 4)))
