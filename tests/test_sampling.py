"""New rows: from the prior or from a density of the codes."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.losses import Bernoulli, Poisson

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


def _fit(X, n_components=2, sample_weight=None, **params):
    settings = {
        "architecture": MLP(()),
        "max_epochs": 5,
        "early_stopping": False,
        "random_state": 0,
        **params,
    }
    model = AutoencoderTransformer(n_components, **settings)
    return model.fit(X, sample_weight=sample_weight)


def _codes(model, n_samples, random_state=0):
    """Return the codes that the decoder makes samples of."""
    decoder = model._model.in_precision(torch.float64).autoencoder.decoder
    seen = []
    handle = decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.sample(n_samples, random_state=random_state)
    handle.remove()
    return torch.cat(seen).numpy()


@pytest.fixture
def normal(rng):
    """Rows of a normal distribution, far from the origin, and in a unit of its own."""
    mixing = rng.normal(size=(4, 6)) * [[9.0], [4.0], [0.3], [0.1]]
    return 50 * (rng.normal(size=(2000, 4)) @ mixing) + 1000 * rng.normal(size=6)


def _close(found, expected, share):
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


# Where codes come from


def test_variational_codes_are_standard_normal(normal):
    model = _fit(normal, bottleneck=Variational())
    codes = _codes(model, 50_000)
    error = 5 / 50_000**0.5
    assert np.abs(codes.mean(axis=0)).max() < error
    assert np.abs(np.cov(codes.T) - np.eye(2)).max() < 2 * error
    kurtosis = np.mean(codes**4, axis=0)
    assert np.abs(kurtosis - 3).max() < 10 * (24 / 50_000) ** 0.5


def test_variational_samples_have_the_covariance_of_the_decoder(normal):
    model = _fit(normal, bottleneck=Variational())
    samples = model.sample(50_000, random_state=0)
    expected = model.components_.T @ model.components_
    _close(np.cov(samples.T), expected, 0.05)
    mean = model.inverse_transform(np.zeros((1, 2)))[0]
    spread = np.sqrt(np.diag(expected))
    assert (np.abs(samples.mean(axis=0) - mean) < 5 * spread / 50_000**0.5).all()
    # At the start that is the data but for their noise.
    started = _fit(normal, bottleneck=Variational(), lr=1e-12, max_epochs=1)
    _close(np.cov(started.sample(50_000, random_state=0).T), np.cov(normal.T), 0.06)


@pytest.mark.parametrize("architecture", [MLP(()), MLP((16,))])
@pytest.mark.parametrize("bottleneck", [None, Plain("tanh")], ids=repr)
def test_other_samples_are_distributed_as_reconstructions(
    architecture, bottleneck, normal
):
    model = _fit(normal, architecture=architecture, bottleneck=bottleneck)
    samples, expected = model.sample(20_000, random_state=0), model.reconstruct(normal)
    _close(np.cov(samples.T), np.cov(expected.T), 0.15)
    off = samples.mean(axis=0) - expected.mean(axis=0)
    assert (np.abs(off) < 0.1 * expected.std(axis=0)).all()


def test_samples_of_two_clusters_lie_in_them_by_weight(rng):
    X = rng.normal(size=(400, 3)) * 0.1
    X[200:] += 10.0
    weight = np.r_[np.full(200, 4.0), np.ones(200)]
    samples = _fit(X, sample_weight=weight).sample(5000, random_state=0)
    near = np.abs(samples[:, 0]) < 1
    far = np.abs(samples[:, 0] - 10) < 1
    assert (near | far).mean() > 0.99
    assert near.mean() == pytest.approx(0.8, abs=0.03)
    # They come in no order.
    assert np.corrcoef(near[1:], near[:-1])[0, 1] == pytest.approx(0, abs=0.07)


# Codes that are possible


@pytest.mark.parametrize("architecture", [MLP(()), MLP((8,))])
def test_sampled_codes_of_a_codebook_are_its_rows(architecture, X):
    bottleneck = VectorQuantized(7, n_groups=2)
    model = _fit(X, 4, bottleneck=bottleneck, architecture=architecture)
    codebook = model._model.in_precision(
        torch.float64
    ).autoencoder.bottleneck.codebook.numpy()
    codes = _codes(model, 300)
    for piece, rows in zip(np.split(codes, 2, axis=1), codebook, strict=True):
        assert (piece[:, None] == rows).all(axis=2).any(axis=1).all()
    assert len(np.unique(codes, axis=0)) > 7


def test_sampled_codes_of_levels_are_levels(X):
    codes = _codes(_fit(X, 4, bottleneck=FiniteScalar(5)), 300)
    assert set(np.unique(codes)) == {-1, -0.5, 0, 0.5, 1}


@pytest.mark.parametrize("k", [1, 3])
def test_sampled_sparse_codes_have_at_most_k_components(k, X):
    codes = _codes(_fit(X, 12, bottleneck=TopK(k)), 300)
    assert (codes >= 0).all()
    n_left = (codes > 0).sum(axis=1)
    assert n_left.max() == k
    assert n_left.mean() > 0.8 * k


def test_sampled_sparse_codes_of_a_batch_are_above_its_threshold(X):
    model = _fit(X, 12, bottleneck=BatchTopK(3))
    codes = _codes(model, 300)
    threshold = model.net_.module_.bottleneck.threshold.item()
    assert (codes[codes != 0] > threshold * (1 - 1e-6)).all()
    assert ((codes > 0).sum(axis=1) > 0).mean() > 0.5


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_sampled_codes_lie_in_the_range_of_the_activation(activation, X):
    bottleneck = Plain(activation)
    codes = _codes(_fit(X, 3, bottleneck=bottleneck, max_epochs=20), 300)
    low, high = bottleneck.code_range
    assert low <= codes.min()
    assert codes.max() <= high
    assert codes.std(axis=0).min() > 0


# What users get


@pytest.mark.parametrize("bottleneck", [None, Variational(), TopK(1)], ids=repr)
def test_rows_are_in_the_datas_units(bottleneck, normal):
    model = _fit(normal, bottleneck=bottleneck, scaling="standard")
    samples = model.sample(500, random_state=0)
    assert samples.shape == (500, 6)
    assert samples.dtype == np.float64
    center, spread = normal.mean(axis=0), normal.std(axis=0)
    assert (np.abs(samples.mean(axis=0) - center) < spread).all()


@pytest.mark.parametrize(("loss", "top"), [(Bernoulli(), 1), (Poisson(), np.inf)])
@pytest.mark.parametrize("bottleneck", [None, Variational(), FiniteScalar()], ids=repr)
def test_rows_lie_in_the_domain_of_the_loss(loss, top, bottleneck, rng):
    X = rng.binomial(1, 0.3, size=(100, 6)) if top == 1 else rng.poisson(4, (100, 6))
    model = _fit(X, loss=loss, bottleneck=bottleneck, architecture=MLP((8,)), lr=0.05)
    samples = model.sample(1000, random_state=0)
    assert samples.min() >= 0
    assert samples.max() <= top
    assert (np.abs(samples.mean(axis=0) - X.mean(axis=0)) < 2 * X.std(axis=0)).all()


@pytest.mark.parametrize("bottleneck", [None, Variational(), TopK(1)], ids=repr)
def test_a_number_repeats_the_rows(bottleneck, X):
    model = _fit(X, bottleneck=bottleneck)
    first = model.sample(20, random_state=3)
    assert np.array_equal(first, model.sample(20, random_state=3))
    other = model.sample(20, random_state=4)
    assert not np.array_equal(np.sort(first, axis=0), np.sort(other, axis=0))
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(first, copy.sample(20, random_state=3))
    assert len(np.unique(first, axis=0)) > 1


@pytest.mark.parametrize("bottleneck", [None, Variational()], ids=repr)
def test_a_generator_goes_on(bottleneck, X):
    model = _fit(X, bottleneck=bottleneck)
    random_state = np.random.RandomState(0)
    first, second = (model.sample(20, random_state=random_state) for _ in range(2))
    assert not np.array_equal(first, second)
    before = torch.get_rng_state()
    model.sample(20)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_row_unless_asked_for_more(X):
    assert _fit(X).sample().shape == (1, 6)


@pytest.mark.parametrize("n_samples", [0, -1])
def test_the_number_of_rows_is_positive(n_samples, X):
    with pytest.raises(ValueError, match="n_samples == "):
        _fit(X).sample(n_samples)


@pytest.mark.parametrize("n_samples", [1.5, "1", None])
def test_the_number_of_rows_is_an_integer(n_samples, X):
    with pytest.raises(TypeError, match="n_samples must be an instance of"):
        _fit(X).sample(n_samples)


def test_nothing_to_sample_from_before_the_fit():
    with pytest.raises(NotFittedError):
        AutoencoderTransformer().sample()


def test_the_detector_does_not_sample():
    assert not hasattr(AutoencoderOutlierDetector(), "sample")


# Few rows, wide codes


@pytest.mark.parametrize("n_rows", [2, 3, 20])
@pytest.mark.parametrize("n_components", [1, 6])
def test_few_rows_are_enough(n_rows, n_components, X):
    samples = _fit(X[:n_rows], n_components, max_epochs=1).sample(50, random_state=0)
    assert np.isfinite(samples).all()


def test_a_code_wider_than_there_are_rows(X):
    model = _fit(X[:40], 96, bottleneck=TopK(2))
    codes = _codes(model, 50)
    assert (codes > 0).any(axis=1).mean() > 0.5
    assert (codes > 0).sum(axis=1).max() == 2


def test_rows_that_do_not_vary(X):
    rows = np.tile(X[:1], (50, 1))
    samples = _fit(rows, max_epochs=1).sample(10, random_state=0)
    np.testing.assert_allclose(samples, np.tile(X[:1], (10, 1)), atol=0.1)


@pytest.mark.parametrize("bottleneck", [VectorQuantized(3), FiniteScalar(2)], ids=repr)
def test_fewer_codes_than_parts_of_the_density(bottleneck, X):
    model = _fit(X, 2, bottleneck=bottleneck)
    codes = _codes(model, 500)
    assert 1 < len(np.unique(codes, axis=0)) <= 4


def test_the_density_is_fitted_once(X, monkeypatch):
    fitted, fit = [], GaussianMixture.fit
    monkeypatch.setattr(
        GaussianMixture, "fit", lambda self, X: fitted.append(self) or fit(self, X)
    )
    model = _fit(X)
    assert not fitted
    first, again = (model.sample(5, random_state=0) for _ in range(2))
    other = model.sample(5, random_state=1)
    assert len(fitted) == 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
