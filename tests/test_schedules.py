"""What training remembers, what it forgets, and what it waits for."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._data.subsample import subsample
from skae._model.autoencoder import Parts
from skae.architectures import MLP, Custom
from skae.bottlenecks import BatchTopK, Plain, TopK, Variational, VectorQuantized
from skae.corruptions import SaltAndPepper
from skae.exceptions import OvercompleteWarning
from skae.losses import Bernoulli, Poisson, SquaredError


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:900]


# Schedules and patience


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_up_is_waited_for(digits):
    model = AutoencoderTransformer(
        4,
        architecture=MLP((16,)),
        bottleneck=Variational(warm_up=0.5),
        max_epochs=60,
        n_iter_no_change=5,
        random_state=0,
    ).fit(digits)
    # Judged by the full price from the start, the first epochs gain nothing.
    assert model.n_iter_ > 30
    assert model.best_epoch_ > 0


@pytest.mark.parametrize(
    "bottleneck", [TopK(2), BatchTopK(2), Variational(warm_up=0.5)]
)
def test_where_training_is_is_not_part_of_the_state(bottleneck, X):
    model = AutoencoderTransformer(
        6,
        architecture=MLP((8,)),
        bottleneck=bottleneck,
        max_epochs=3,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    module = model.net_.module_.bottleneck
    stayed = {"progress", "idle", "fired", "n_observed", "warmth"} & set(
        module.state_dict()
    )
    assert not stayed


def test_a_variance_that_is_given_holds_after_a_warm_start(X):
    model = AutoencoderTransformer(
        2,
        bottleneck=Variational(decoder_variance=0.5),
        architecture=MLP((8,)),
        max_epochs=2,
        early_stopping=False,
        warm_start=True,
        random_state=0,
    ).fit(X)
    model.set_params(bottleneck__decoder_variance=9.0).fit(X)
    log_noise = model.net_.module_.bottleneck.log_noise
    assert log_noise.exp().item() == pytest.approx(9.0)


# Starts


def test_a_large_batch_leaves_the_codebook_where_it_starts(generator):
    module = VectorQuantized(4).build(3, generator).double()
    module.codebook.copy_(10 * torch.eye(4, 3))  # the last one at the origin
    before = module.codebook.clone()
    # All rows are near the last one: the others are out of use, but not for long.
    h = 0.1 * torch.randn(512, 3, generator=generator, dtype=torch.float64)
    code, _ = module(h)
    module.observe(h, code, module.draw(512, generator), None)
    assert torch.equal(module.codebook[:, :3], before[:, :3])


def test_every_group_of_a_codebook_gets_large_and_small_axes(X):
    parts = Parts(MLP(()), VectorQuantized(8, n_groups=2), SquaredError())
    module = parts.build(6, 4, seed=0).double()
    x = torch.from_numpy(X)
    axes = PrincipalAxes(Dense(X), None, 4, None)
    module.start(axes.statistics(Resident(x)))
    spread = module.encoder(x).detach().var(dim=0, correction=0)
    expected = axes.statistics(Resident(x)).variances[[0, 2, 1, 3]]
    torch.testing.assert_close(spread, expected)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_the_variational_start_is_where_no_linear_step_leads_on(beta, X):
    k, noise = 2, 0.05
    bottleneck = Variational(beta, decoder_variance=noise)
    module = Parts(MLP(()), bottleneck, SquaredError()).build(6, k, seed=0).double()
    x = torch.from_numpy(X)
    module.start(PrincipalAxes(Dense(X), None, k, None).statistics(Resident(x)))
    module.bottleneck.double()
    # The expectation over the noise in closed form, of a linear decoder.
    mean, log_variance = module.bottleneck.posterior(module.encoder(x))
    weight, bias = module.decoder.linear.weight, module.decoder.linear.bias
    residual = (x - mean @ weight.T - bias).square().sum(dim=1)
    spread = (log_variance.exp() * weight.square().sum(dim=0)).sum(dim=1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    objective = (residual + spread) / (2 * noise) + beta * divergence.sum(dim=1)
    gradients = torch.autograd.grad(
        objective.mean(), [*module.encoder.parameters(), weight, bias]
    )
    for gradient in gradients:
        assert gradient.abs().max() < 1e-4 * objective.mean().abs()


def test_a_variance_far_above_the_noise_is_no_infinity(rng):
    X = rng.normal(size=(300, 1)) * [[1e9, 2e9]]
    module = Parts(MLP(()), Variational(), SquaredError()).build(2, 1, seed=0).double()
    x = torch.from_numpy(X)
    assert module.start(PrincipalAxes(Dense(X), None, 1, None).statistics(Resident(x)))
    for output in module(x):
        assert output.isfinite().all()


# What the auxiliary loss of dead components may not do


def _dropping(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.Dropout(0.5), nn.Linear(8, n_out))


def _normalising(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Linear(8, n_out))


@pytest.mark.filterwarnings("ignore::skae.exceptions.CollapsedCodeWarning")
@pytest.mark.parametrize("network", [_dropping, _normalising])
def test_revival_decodes_as_training_does(network, X):
    def fit():
        return AutoencoderTransformer(
            30,
            architecture=Custom(network, network),
            bottleneck=TopK(1, dead_window=0.01),
            max_epochs=4,
            early_stopping=False,
            random_state=0,
        ).fit(X)

    before = torch.get_rng_state()
    first = fit()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first.reconstruct(X), fit().reconstruct(X))


# Rows that the loss is not for


@pytest.mark.parametrize(("loss", "bad"), [(Bernoulli(), 1.5), (Poisson(), -0.5)])
@pytest.mark.filterwarnings("ignore::skae.exceptions.WorseThanPCAWarning")
def test_rows_outside_the_domain_have_no_score(loss, bad, rng):
    X = rng.uniform(size=(60, 4))
    detector = AutoencoderOutlierDetector(
        2, loss=loss, max_epochs=2, early_stopping=False, random_state=0
    ).fit(X)
    X[3, 2] = bad
    name = type(loss).__name__
    for method in (detector.score_samples, detector.predict):
        with pytest.raises(ValueError, match=f"{name} is a loss for data in"):
            method(X)


# Named errors


def test_a_module_is_no_function_that_returns_one(X):
    layer = nn.Linear(6, 2)
    model = AutoencoderTransformer(2, architecture=Custom(layer, _dropping))
    with pytest.raises(
        TypeError, match="'encoder' parameter of Custom must be a funct"
    ):
        model.fit(X)


def test_pepper_is_not_above_salt():
    with pytest.raises(ValueError, match="low=1 above high=0"):
        SaltAndPepper(low=1, high=0).validate()


def test_an_overcomplete_code_is_not_called_worse_than_pca(X):
    model = AutoencoderTransformer(
        9, bottleneck=Plain(), max_epochs=2, early_stopping=False, random_state=0
    )
    # Any other warning would be an error.
    with pytest.warns(OvercompleteWarning):
        model.fit(X)


# Rows that stand for all


@pytest.mark.parametrize(("n_samples", "n_kept"), [(10, 3), (7, 7), (5, 9), (1000, 1)])
def test_rows_are_spread_evenly_in_their_order(n_samples, n_kept):
    rows = subsample(n_samples, n_kept)
    assert len(rows) == min(n_samples, n_kept)
    assert (np.diff(rows) > 0).all()
    counts, _ = np.histogram(rows, bins=len(rows), range=(0, n_samples))
    assert counts.max() <= 2
    assert np.array_equal(subsample(n_samples, n_kept, np.ones(n_samples)), rows)


def test_rows_come_as_often_as_they_count(rng):
    weight = rng.uniform(size=50)
    weight[7] = 0
    times = np.bincount(subsample(50, 50, weight), minlength=50)
    assert times[7] == 0
    # At both ends of a row's weight a stratum may draw it or its neighbour.
    assert np.abs(times - 50 * weight / weight.sum()).max() < 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_rows", "period"), [(24 * 1024, 24), (2**16, 16)])
def test_all_phases_of_a_period_are_drawn_alike(n_rows, period, weighted):
    # Evenly spaced rows are all of one phase at these lengths.
    weight = np.ones(n_rows) if weighted else None
    rows = subsample(n_rows, 1024, weight)
    counts = np.bincount(rows % period, minlength=period)
    expected = 1024 / period
    # Six standard deviations of a count.
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)
