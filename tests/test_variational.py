"""The variational bottleneck, compared with its formulas and probabilistic PCA."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch.distributions import Normal, kl_divergence

from skae import AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Parts
from skae.architectures import MLP
from skae.bottlenecks import Variational
from skae.exceptions import CollapsedCodeWarning
from skae.losses import AbsoluteError, Bernoulli, Huber, Poisson, SquaredError


def _module(n_components=3, seed=0, **params):
    generator = torch.Generator().manual_seed(seed)
    return Variational(**params).build(n_components, generator).double()


def _encoded(generator, n_components=3):
    shape = (50, 2 * n_components)
    # Below the values at which the variance is clipped.
    return torch.randn(shape, generator=generator, dtype=torch.float64).clamp(max=3.9)


def _divergence(h):
    """Return the divergence from the prior of each component of each row."""
    mean, log_variance = h.chunk(2, dim=1)
    return kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))


# Cost and code


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_cost_is_the_divergence_from_the_prior(beta, drawn, generator):
    h = _encoded(generator)
    module = _module(beta=beta)
    draw = (module.draw(len(h), generator),) if drawn else ()
    _, cost = module(h, *draw)
    torch.testing.assert_close(cost, beta * _divergence(h).sum(dim=1))


def test_the_cost_of_the_prior_is_zero():
    _, cost = _module()(torch.zeros(5, 6).double())
    assert not cost.any()


@pytest.mark.parametrize("free_bits", [0.1, 2.0])
def test_free_bits_count_per_component_in_training_only(free_bits, generator):
    h = _encoded(generator).requires_grad_()
    module = _module(free_bits=free_bits, beta=2.0)
    divergence = _divergence(h)
    below = divergence < free_bits
    assert 0 < below.double().mean() < 1
    _, cost = module(h, module.draw(len(h), generator))
    torch.testing.assert_close(cost, 2 * divergence.clamp(min=free_bits).sum(dim=1))
    (gradient,) = torch.autograd.grad(cost.sum(), h)
    for part in gradient.chunk(2, dim=1):
        assert torch.equal(part == 0, below)
    _, cost = module(h)
    torch.testing.assert_close(cost, 2 * divergence.sum(dim=1))


def test_codes_are_drawn_from_the_posterior(generator):
    h = _encoded(generator)[:1].expand(100_000, -1)
    module = _module()
    code, _ = module(h, module.draw(len(h), generator))
    mean, log_variance = h[0].chunk(2)
    z = (code - mean) / (log_variance / 2).exp()
    error = 5 / len(h) ** 0.5
    assert z.mean(dim=0).abs().max() < error
    assert (z.std(dim=0) - 1).abs().max() < error
    covariance = torch.cov(z.T) - torch.eye(3)
    assert covariance.abs().max() < 2 * error


def test_without_a_draw_the_code_is_the_mean(generator):
    h = _encoded(generator)
    code, _ = _module()(h)
    assert torch.equal(code, h[:, :3])


def test_extreme_outputs_of_the_encoder_are_finite():
    h = torch.tensor([[0.0, 1e4], [0.0, -1e4], [1e4, 0.0]]).float().requires_grad_()
    code, cost = _module(1).float()(h, torch.ones(3, 1))
    (gradient,) = torch.autograd.grad(code.sum() + cost.sum(), h)
    assert all(t.isfinite().all() for t in (code, cost, gradient))


# Schedule


def test_the_cost_warms_up_in_training_and_is_full_in_evaluation(generator):
    h = _encoded(generator)
    module = _module(beta=3.0, warm_up=0.5)
    draw = module.draw(len(h), generator)
    full = 3.0 * _divergence(h).sum(dim=1)
    for progress, share in [(0, 0), (0.1, 0.2), (0.25, 0.5), (0.5, 1), (1, 1)]:
        if progress:
            module.after_step(progress)
        torch.testing.assert_close(module.train()(h, draw)[1], share * full)
        torch.testing.assert_close(module.eval()(h, draw)[1], full)
        torch.testing.assert_close(module.eval()(h)[1], full)


def test_without_a_warm_up_the_cost_is_full_from_the_start(generator):
    h = _encoded(generator)
    module = _module()
    draw = module.draw(len(h), generator)
    for step in range(2):
        _, cost = module.train()(h, draw)
        torch.testing.assert_close(cost, _divergence(h).sum(dim=1))
        module.after_step(0.5 * (step + 1))


# The bound

# Width of the code and hidden layers; the third code is wider than the signal.
CASES = [(2, ()), (2, (8,)), (5, ()), (2, "auto")]


def _started(X, n_components, hidden=(), loss=None, **params):
    parts = Parts(MLP(hidden), Variational(**params), loss or SquaredError())
    module = parts.build(X.shape[1], n_components, seed=0).double()
    x = torch.from_numpy(X)
    assert module.start(
        PrincipalAxes(Dense(X), None, n_components, None).statistics(Resident(x))
    )
    return module, x


def _ppca_likelihood(X, k):
    """Return the log-likelihood of each row under fitted probabilistic PCA."""
    covariance = np.cov(X.T, bias=True)
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    noise = variances[k:].mean()
    model = axes[:, :k] * (variances[:k] - noise) @ axes[:, :k].T
    model += noise * np.eye(len(variances))
    return multivariate_normal(X.mean(axis=0), model).logpdf(X)


@pytest.mark.parametrize(("n_components", "hidden"), CASES)
def test_the_start_is_probabilistic_pca_and_its_bound_is_tight(n_components, hidden, X):
    module, x = _started(X, n_components, hidden)
    # These points have mean zero and unit covariance, like standard normal numbers.
    # Quadratic functions therefore have the same mean over them.
    axes = n_components**0.5 * torch.eye(n_components, dtype=torch.float64)
    points = [point.expand(len(x), -1) for point in (*axes, *-axes)]
    terms = torch.stack([module(x, {"bottleneck": point})[2] for point in points])
    bound = -terms.mean(dim=0) - X.shape[1] / 2 * np.log(2 * np.pi)
    # For every row: the posterior is exact.
    np.testing.assert_allclose(
        bound.detach(), _ppca_likelihood(X, n_components), rtol=1e-6
    )


def test_the_objective_is_that_bound_on_average(X):
    module, x = _started(X, 2)
    constant = X.shape[1] / 2 * np.log(2 * np.pi)
    bounds = [
        -module(x, module.draw(x.shape, torch.Generator().manual_seed(i)))[2].mean()
        for i in range(300)
    ]
    bounds = torch.stack(bounds).detach().numpy() - constant
    error = bounds.std() / len(bounds) ** 0.5
    assert abs(bounds.mean() - _ppca_likelihood(X, 2).mean()) < 5 * error
    assert error < 0.02


def test_the_closed_form_is_that_of_scikit_learn(X):
    # scikit-learn divides variances by n - 1. The rows are scaled to compensate for it.
    n, mean = len(X), X.mean(axis=0)
    pca = PCA(2, svd_solver="full").fit(mean + (X - mean) * np.sqrt((n - 1) / n))
    np.testing.assert_allclose(_ppca_likelihood(X, 2), pca.score_samples(X))


def test_a_direction_below_the_noise_starts_at_the_prior(X):
    # All variances are below that of the noise.
    module, x = _started(X[:, :3], 3, decoder_variance=1e6)
    mean, log_variance = module.bottleneck.posterior(module.encoder(x))
    assert not mean.any()
    assert not log_variance.any()
    found = module.decode(module.encode(x)).detach()[0]
    np.testing.assert_allclose(found, X[:, :3].mean(axis=0))


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("variance", [0.25, 3.0])
def test_the_loss_counts_as_a_likelihood_with_the_variance(degree, variance, generator):
    loss = {1: AbsoluteError(), 2: SquaredError()}[degree]
    raw, x = torch.randn(2, 20, 5, generator=generator, dtype=torch.float64)
    scale = variance**0.5
    if degree == 2:
        expected = Normal(raw, scale).log_prob(x).sum(dim=1)
        expected = -expected - 5 / 2 * np.log(2 * np.pi)
    else:
        expected = torch.distributions.Laplace(raw, scale).log_prob(x).sum(dim=1)
        expected = -expected - 5 * np.log(2)
    module = _module(decoder_variance=variance)
    found = module.likelihood(loss(raw, x), 5, degree)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson(), Huber()], ids=repr)
def test_losses_without_a_scale_are_not_changed(loss, generator):
    raw, x = torch.rand(2, 20, 5, generator=generator)
    module = _module(decoder_variance=9.0)
    assert torch.equal(module.likelihood(loss(raw, x), 5, loss.degree), loss(raw, x))


def _fit(X, n_components=2, *, early_stopping=False, bottleneck=None, **params):
    settings = {
        "architecture": MLP((16,)),
        "max_epochs": 100,
        "random_state": 0,
        **params,
    }
    return AutoencoderTransformer(
        n_components,
        bottleneck=bottleneck or Variational(),
        early_stopping=early_stopping,
        **settings,
    ).fit(X)


def _variance(model):
    return model.net_.module_.bottleneck.log_noise.exp().item()


@pytest.mark.parametrize(
    ("beta", "variance", "learned"),
    [
        (1.0, "auto", True),
        (2.0, "auto", False),
        (0.5, "auto", False),
        (2.0, "learned", True),
        (1.0, 0.1, False),
    ],
)
def test_the_variance_is_learned_if_the_objective_is_the_bound(
    beta, variance, learned, X
):
    bottleneck = Variational(beta, decoder_variance=variance)
    started, trained = (
        _variance(_fit(X, bottleneck=bottleneck, max_epochs=n, lr=lr))
        for n, lr in [(1, 1e-12), (20, 1e-2)]
    )
    assert (trained != pytest.approx(started, rel=1e-3)) is learned
    if variance != 0.1:
        # It starts at the noise variance of probabilistic PCA.
        noise = PCA(2).fit(X).noise_variance_ * (len(X) - 1) / len(X)
        scale = X.var(axis=0).mean()
        assert started == pytest.approx(noise / scale, rel=1e-3)


def test_a_learned_variance_is_that_of_the_residuals(X):
    # From random weights, far from the optimum.
    model = _fit(
        X,
        architecture=MLP((16,), start="random"),
        scaling="standard",
        lr=1e-2,
        max_epochs=150,
    )
    module = model.net_.module_
    x = torch.from_numpy((X - model.mean_) / model.scale_).float()
    with torch.no_grad():
        raws = [
            module(x, module.draw(x.shape, torch.Generator().manual_seed(i)))[0]
            for i in range(20)
        ]
    residual = torch.stack([(raw - x).square().mean() for raw in raws]).mean().item()
    assert _variance(model) == pytest.approx(residual, rel=0.25)


@pytest.mark.parametrize("variance", [0.01, 0.1])
def test_a_fixed_variance_stays(variance, X):
    bottleneck = Variational(decoder_variance=variance)
    model = _fit(X, bottleneck=bottleneck, max_epochs=5)
    assert _variance(model) == pytest.approx(variance)


@pytest.mark.parametrize(("loss", "power"), [(SquaredError(), 2), (AbsoluteError(), 1)])
def test_the_bound_is_best_at_the_scale_of_the_residuals(loss, power, generator):
    raw, x = torch.randn(2, 200, 5, generator=generator, dtype=torch.float64)
    # Root mean square for the normal, mean absolute value for the Laplace distribution.
    scale = (raw - x).abs().pow(power).mean() ** (1 / power)
    module = _module(decoder_variance="learned")
    slopes = []
    for factor in (0.9, 1.0, 1.1):
        with torch.no_grad():
            module.log_noise.fill_(2 * (factor * scale).log())
        value = module.likelihood(loss(raw, x), 5, loss.degree).mean()
        slopes.append(torch.autograd.grad(value, module.log_noise)[0].item())
    assert slopes[0] < -0.1
    assert slopes[1] == pytest.approx(0, abs=1e-9)
    assert slopes[2] > 0.1


def test_rows_without_noise_keep_the_bound_finite(rng):
    X = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 5))
    model = _fit(X, max_epochs=20)
    assert np.isfinite(model.history_["train_loss"]).all()
    assert model.score(X) > 0.99


# In an estimator


def test_transform_is_the_mean_of_the_posterior_whenever_called(X):
    model = _fit(X, max_epochs=5)
    code = model.transform(X)
    assert np.array_equal(code, model.transform(X))
    module = model._model.in_precision(torch.float64).autoencoder
    x = torch.from_numpy((X - model.mean_) / model.scale_)
    mean, _ = module.bottleneck.posterior(module.encoder(x))
    order = np.abs(mean.detach().numpy().T @ code).argmax(axis=0)
    np.testing.assert_allclose(code, mean.detach().numpy()[:, order], atol=1e-9)


def test_active_units_are_those_whose_mean_varies(rng):
    # Two directions and noise; a third component would cost more than it gains.
    X = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 8)) * 2
    X += 0.5 * rng.normal(size=X.shape)
    with pytest.warns(
        CollapsedCodeWarning, match="components of the code are constant"
    ):
        model = _fit(X, 4, max_epochs=30, bottleneck=Variational(4.0))
    variances = model.transform(X).var(axis=0)
    assert model.active_units_ == (variances > 0.01).sum() == 2
    assert model.diagnostics_["n_active_components"] == 2


def test_too_high_a_cost_collapses_the_code(X):
    with pytest.warns(CollapsedCodeWarning, match="Lower n_components or weaken the"):
        model = _fit(X, bottleneck=Variational(1e4), max_epochs=150, lr=1e-2)
    assert model.active_units_ == 0


def test_attributes_of_an_earlier_bottleneck_are_removed(X):
    model = _fit(X, max_epochs=2, lr=1e-5)
    assert model.active_units_ == 2
    model.set_params(bottleneck=None).fit(X)
    assert not hasattr(model, "active_units_")


def test_a_higher_beta_lowers_the_divergence(X):
    def divergence(beta):
        bottleneck = Variational(beta, decoder_variance=0.1)
        model = _fit(X, bottleneck=bottleneck, max_epochs=30)
        module = model.net_.module_
        x = torch.from_numpy((X - model.mean_) / model.scale_).float()
        return _divergence(module.encoder(x)).sum().item()

    assert divergence(4.0) < 0.9 * divergence(1.0)


def test_sample_weights_count_in_active_units(X):
    weight = np.r_[np.ones(75), np.full(75, 3.0)]
    model = _fit(X, max_epochs=2).fit(X, sample_weight=weight)
    assert model.active_units_ == 2


def test_weight_decay_leaves_the_variance_of_the_decoder_alone(X):
    # Steps of no size but for the decay, which is that of AdamW.
    start, decayed = (
        _fit(
            X,
            bottleneck=Variational(),
            optimizer="sgd",
            lr=1e-6,
            weight_decay=weight_decay,
            max_epochs=3,
            net_params={"averaging": 0},
        ).net_.module_
        for weight_decay in (0.0, 1e4)
    )
    changed = {
        name
        for name, p in start.named_parameters()
        if not torch.allclose(p, decayed.get_parameter(name), rtol=1e-3, atol=1e-4)
    }
    assert changed
    assert all(start.get_parameter(name).ndim >= 2 for name in changed)
    torch.testing.assert_close(
        start.bottleneck.log_noise, decayed.bottleneck.log_noise, rtol=1e-3, atol=1e-3
    )
