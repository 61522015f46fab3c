"""Losses against likelihoods, and trimming."""

import warnings
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from scipy.optimize import minimize
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss, mean_poisson_deviance
from torch.distributions import Bernoulli as Coins
from torch.distributions import Laplace, Normal
from torch.distributions import Poisson as Counts

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._component import Affine
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._gradient.closed_form import ClosedForm
from skae._model.autoencoder import Parts
from skae.anomaly_scores import Reconstruction
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, Variational
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


# Links and starts of counts and probabilities


def _counts(rng, n_rows, n_columns=10, rank=3, total=200):
    """Return counts around profiles of low rank, with totals that differ by factors."""
    profiles = rng.dirichlet(np.full(n_columns, 0.5), size=rank)
    mixture = rng.dirichlet(np.full(rank, 0.5), size=n_rows)
    totals = rng.lognormal(np.log(total), 1.0, size=(n_rows, 1))
    return rng.poisson(totals * (mixture @ profiles)).astype(float)


def _coins(rng, n_rows, n_columns=30, rank=3):
    logits = rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_columns))
    return rng.binomial(1, 1 / (1 + np.exp(-2 * logits))).astype(float)


def _by_pca(train, test, n_components):
    pca = PCA(n_components, svd_solver="full").fit(train)
    return pca.inverse_transform(pca.transform(test))


def _deviance(X, rates):
    return mean_poisson_deviance(X.ravel(), rates.ravel())


def _started(loss, train, fitted):
    """Return the link of a loss, started at reconstructions of rows, and its output."""
    train, fitted = torch.from_numpy(train), torch.from_numpy(fitted)
    link = loss.build(train.shape[1]).double()
    mean = train.mean(dim=0)
    # Rows as codes: the decoder then maps them to the reconstructions.
    weight = torch.eye(len(mean), dtype=torch.float64)
    weight, bias = link.start(Affine(weight, mean), train, fitted)
    return link, (fitted - mean) @ weight.T + bias


def test_rates_are_the_squareplus_function_of_the_reconstruction(rng):
    X = _counts(rng, 300)
    fitted = _by_pca(X, X, 3)
    link, output = _started(Poisson(), X, fitted)
    rates = Poisson().inverse_link(link(output)).numpy()
    unit = link.log_unit.exp().numpy()
    v = fitted / unit
    expected = unit * (v + np.sqrt(v**2 + 4)) / 2
    # It cancels where v is far below zero.
    clear = v > -10
    np.testing.assert_allclose(rates[clear], expected[clear], rtol=1e-6)
    assert (rates > 0).all()
    large = v > 100
    assert large.any()
    np.testing.assert_allclose(rates[large], fitted[large], rtol=1e-3)


def test_the_unit_of_a_column_is_the_one_with_the_least_deviance(rng):
    X = _counts(rng, 300)
    fitted, mean = _by_pca(X, X, 3), X.mean(axis=0)
    link, _ = _started(Poisson(), X, fitted)
    shares = np.array([0.01, 0.03, 0.1, 0.3, 1.0])
    for j, unit in enumerate(link.log_unit.exp().numpy()):
        units = shares * mean[j]
        v = fitted[:, j] / units[:, np.newaxis]
        rates = units[:, np.newaxis] * np.exp(np.arcsinh(v / 2))
        costs = [mean_poisson_deviance(X[:, j], rate) for rate in rates]
        assert unit == pytest.approx(units[np.argmin(costs)])


def test_without_output_rates_are_about_the_mean(rng):
    X = _counts(rng, 300)
    link, output = _started(Poisson(), X, _by_pca(X, X, 3))
    rates = Poisson().inverse_link(link(torch.zeros_like(output[:1])))[0].numpy()
    assert (rates >= X.mean(axis=0)).all()
    assert (rates < 2 * X.mean(axis=0)).all()


def test_logits_start_at_a_logistic_regression_by_column(rng):
    X = _coins(rng, 200, n_columns=5)
    fitted, mean = _by_pca(X, X, 2), X.mean(axis=0)
    _, found = _started(Bernoulli(), X, fitted)
    bias = np.log(mean / (1 - mean))
    for j in range(5):
        t = (fitted[:, j] - mean[j]) / max(mean[j] * (1 - mean[j]), 0.1)

        def cost(w, j=j, t=t):
            raw = bias[j] + w[1] + w[0] * t
            prior = (t**2).mean() * (w[0] - 1) ** 2 + w[1] ** 2
            return (np.logaddexp(0, raw) - X[:, j] * raw).sum() + prior / 2

        slope, shift = minimize(cost, [1.0, 0.0]).x
        expected = bias[j] + shift + slope * t
        np.testing.assert_allclose(found[:, j], expected, atol=1e-3)


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson()], ids=repr)
def test_a_start_is_finite_whatever_the_columns(loss, rng):
    X = rng.binomial(1, 0.5, size=(60, 6)).astype(float)
    # Constant, a single one, a copy, and what PCA separates without an error.
    X[:, 0], X[:, 1], X[:, 2], X[0, 2] = 0, 1, 0, 1
    X[:, 3] = X[:, 4]
    for fitted in (X, np.broadcast_to(X.mean(axis=0), X.shape).copy(), -100 * X):
        link, output = _started(loss, X, fitted)
        assert output.isfinite().all()
        assert loss.inverse_link(link(output)).isfinite().all()


def _untrained(X, n_components, loss):
    return AutoencoderTransformer(
        n_components,
        loss=loss,
        max_epochs=1,
        early_stopping=False,
        lr=1e-12,
        random_state=0,
    ).fit(X)


# With 60 rows there is no validation set.
@pytest.mark.parametrize("size", [(60, 10, 2), (400, 10, 3), (1000, 100, 5)])
def test_counts_start_below_pca_in_the_deviance(size, rng):
    n, d, k = size
    X = _counts(rng, n + 500, d, k, total=20 * d)
    train, test = X[:n], X[n:]
    rates = _untrained(train, k, Poisson()).reconstruct(test)
    linear = _by_pca(train, test, k)
    roots = np.maximum(_by_pca(np.sqrt(train), np.sqrt(test), k), 0) ** 2
    for floor in (1e-3, 1e-2, 1e-1):
        assert _deviance(test, rates) < _deviance(test, np.maximum(linear, floor))
        assert _deviance(test, rates) < _deviance(test, np.maximum(roots, floor))


def test_binary_rows_start_below_pca_in_the_log_loss(rng):
    X = _coins(rng, 900)
    train, test = X[:400], X[400:]
    found = _untrained(train, 3, Bernoulli()).reconstruct(test)
    clipped = _by_pca(train, test, 3).clip(0.01, 0.99)
    assert log_loss(test.ravel(), found.ravel()) < log_loss(
        test.ravel(), clipped.ravel()
    )


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_counts_are_not_left_at_the_mean(rng):
    X = _counts(rng, 800)
    train, test = X[:400], X[400:]
    model = AutoencoderTransformer(3, loss=Poisson(), random_state=0).fit(train)
    rates = model.reconstruct(test)
    linear = np.maximum(_by_pca(train, test, 3), 0.1)
    assert _deviance(test, rates) < _deviance(test, linear)
    assert model.diagnostics_["r2"] > 0.9


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_rates_of_rows_far_out_grow_linearly(rng):
    X = _counts(rng, 400)
    model = AutoencoderTransformer(
        3, loss=Poisson(), early_stopping=False, max_epochs=5, random_state=0
    ).fit(X)
    detector = AutoencoderOutlierDetector(3, loss=Poisson(), random_state=0).fit(X)
    far = 100 * X
    rates = model.reconstruct(far)
    assert np.isfinite(detector.score_samples(far)).all()
    assert (rates >= 0).all()
    assert rates.sum() == pytest.approx(far.sum(), rel=0.2)
    farther = model.reconstruct(1e6 * X)
    assert farther.sum() == pytest.approx(1e6 * X.sum(), rel=0.2)


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_rows_and_columns_without_counts_are_no_trouble(rng):
    X = _counts(rng, 300)
    X[::10] = 0
    X[:, 3] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = AutoencoderTransformer(3, loss=Poisson(), random_state=0).fit(X)
    rates = model.reconstruct(X)
    assert np.isfinite(rates).all()
    assert rates[:, 3].max() < 0.1
    assert _deviance(X, rates) < _deviance(X, np.maximum(_by_pca(X, X, 3), 0.1))


def test_variational_counts_start_with_a_code_that_is_used(rng):
    # The noise has unit variance in the units that the start is in.
    X = torch.from_numpy(_counts(rng, 400))
    loss = Poisson()
    module = Parts.of(bottleneck=Variational(), loss=loss).build(10, 3, 0).double()
    units = loss.variance(X.mean(dim=0)).sqrt()
    axes = PrincipalAxes(Dense((X / units).numpy()), None, 3, None)
    assert module.start(axes.statistics(Resident(X / units)), units)
    rates = module.reconstruct(X).detach().numpy()
    constant = np.broadcast_to(X.mean(dim=0), X.shape)
    assert _deviance(X.numpy(), rates) < 0.1 * _deviance(X.numpy(), constant)


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
    settings = {"early_stopping": False, "max_epochs": 60, "lr": 1e-2}
    # Outliers are part of the statistics of a batch, whatever the loss leaves out.
    settings |= {"architecture": MLP((32,), norm="layer"), "random_state": 0, **params}
    return cls(1, **settings).fit(X)


@pytest.mark.slow
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
        _fitted(
            X[:100],
            AutoencoderOutlierDetector,
            loss=loss,
            contamination=0.1,  # else the warning of outliers inside may be issued
            max_epochs=3,
        ).score_samples(clean)
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
        max_epochs=3,
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


def test_rounding_beyond_the_domain_is_shown():
    rows = np.array([[0.0, 1.0], [0.5, 1 + 1e-9]])
    with pytest.raises(ValueError, match=r"X ranges from 0 to 1.000000001\."):
        AutoencoderTransformer(1, loss=Bernoulli()).fit(rows)


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson()], ids=repr)
@pytest.mark.parametrize("scaling", ["global", "standard", "minmax"])
def test_such_rows_are_not_scaled(loss, scaling, rng):
    model = AutoencoderTransformer(2, loss=loss, scaling=scaling)
    with pytest.raises(ValueError, match="scaling must be None or 'auto'"):
        model.fit(rng.uniform(size=(60, 4)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
def test_counts_start_without_symbols_of_rounding_noise(rng):
    # Copies of columns, and constant ones: axes beyond the rank have no variance.
    X = _counts(rng, 300, 3, 2)
    X = np.c_[X, X, np.ones((300, 2))]
    model = AutoencoderTransformer(
        6, loss=Poisson(), bottleneck=FiniteScalar(), max_epochs=1, random_state=0
    ).fit(X)
    weights = model.net_.module_.encoder.state_dict().values()
    assert max(float(weight.abs().max()) for weight in weights) < 1e3
