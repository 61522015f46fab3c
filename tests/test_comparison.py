"""Models are compared with PCA and with one row for all: in their own loss, on rows
that none of them has seen where there are such rows.
"""

import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import poisson
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer, _base
from skae._training import diagnosis
from skae._training.comparison import on_training_rows, on_unseen_rows
from skae.architectures import MLP
from skae.bottlenecks import TopK, Variational
from skae.corruptions import Dropout, Gaussian, Masking, SaltAndPepper, Swap
from skae.exceptions import WorseThanPCAWarning
from skae.losses import (
    AbsoluteError,
    Bernoulli,
    Huber,
    Poisson,
    SquaredError,
    Trimmed,
)
from skae.penalties import L1, Decorrelation

slow = partial(pytest.param, marks=pytest.mark.slow)
RANDOM = MLP((8,), start="random", linear_path=False)
FAINT = {"lr": 1e-6, "max_epochs": 1, "early_stopping": False}


def new(n_components=2, **params):
    return AutoencoderTransformer(n_components, random_state=0, **params)


def wide(rng, n_rows=400, n_features=150, rank=10):
    """Return rows of some directions and noise, for training and for tests."""
    code = rng.normal(size=(n_rows, rank)) * np.linspace(1, 0.2, rank)
    X = code @ rng.normal(size=(rank, n_features))
    X += rng.normal(size=X.shape)
    return X[:100], X[100:]


def counts(rng):
    share = rng.dirichlet(np.ones(8), 3)
    return rng.poisson(rng.lognormal(3, 0.5, (300, 3)) @ share).astype(float)


def told(model, X):
    """Return what is said of a fit that is worse than PCA, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    said = [w for w in caught if issubclass(w.category, WorseThanPCAWarning)]
    assert len(said) <= 1
    return str(said[0].message) if said else None


@pytest.fixture
def fit_of(monkeypatch):
    """Return a function that returns what training leaves to the diagnosis."""

    def fit_of(model, X, **kwargs):
        found = []
        monkeypatch.setattr(
            _base, "diagnose", lambda fit, names: found.append(fit) or {}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, **kwargs)
        return found[0]

    return fit_of


# What is compared


@pytest.mark.parametrize("given", [False, True])
def test_pca_has_not_seen_the_rows_either(given, fit_of, rng):
    X, X_new = wide(rng)
    model = new(5, corruption=Gaussian(), max_epochs=2)
    fit = fit_of(model, X, X_val=X_new if given else None)
    found = on_unseen_rows(fit)
    unit = np.sqrt(X.var(axis=0).mean())
    learnt, unseen = X, X_new
    if not given:
        held_out = fit.plan.validation
        learnt, unseen = np.delete(X, held_out, axis=0), X[held_out]
    pca = PCA(5).fit(learnt)
    residual = (unseen - pca.inverse_transform(pca.transform(unseen))) / unit
    np.testing.assert_allclose(found.pca, np.square(residual).sum(1) / 2, rtol=1e-3)
    # Each column of the one row is that of mean and median which is nearer to all.
    rows = learnt.mean(axis=0), np.median(learnt, axis=0)
    squares = np.array([np.square((unseen - row) / unit).sum(axis=0) for row in rows])
    least = squares.min(axis=0).sum() / 2 / len(unseen)
    assert found.constant.mean() == pytest.approx(least, rel=0.02)


def test_the_network_has_not_seen_the_rows_either(fit_of, rng):
    X, _ = wide(rng)
    fit = fit_of(new(5, architecture=RANDOM, max_epochs=20), X)
    assert fit.net.best_epoch_ > 0
    assert fit.validated is not fit.net.module_
    unseen = on_unseen_rows(fit).model
    # The model itself was trained on them.
    x = fit.plan.data().validation[:].x
    with torch.no_grad():
        seen = (x - fit.net.module_.reconstruct(x)).square().sum(dim=1) / 2
    assert unseen.mean() > 1.05 * seen.mean().item()


@pytest.mark.parametrize(
    ("loss", "entry"),
    [
        (AbsoluteError(), np.abs),
        (Huber(0.5), lambda r: np.where(abs(r) < 0.5, r**2 / 2, abs(r) / 2 - 0.125)),
        (SquaredError(), lambda r: r**2 / 2),
    ],
)
def test_losses_of_training_rows(loss, entry, fit_of, rng):
    X = rng.exponential(size=(150, 6))
    fit = fit_of(new(loss=loss, early_stopping=False, max_epochs=2), X)
    found = on_training_rows(fit)
    unit = np.sqrt(X.var(axis=0).mean())
    pca = PCA(2).fit(X)
    residual = (X - pca.inverse_transform(pca.transform(X))) / unit
    np.testing.assert_allclose(found.pca, entry(residual).sum(axis=1), rtol=1e-3)
    of_rows = [
        entry((X - row) / unit).sum(axis=0) for row in (X.mean(0), np.median(X, 0))
    ]
    least = np.min(of_rows, axis=0).sum() / len(X)
    assert found.constant.mean() == pytest.approx(least, rel=1e-3)
    with np.errstate(all="raise"):
        model, pca_loss, constant = found.means()
    assert model < pca_loss < constant


def test_counts_have_pca_and_mean_of_their_own(fit_of, rng):
    X = counts(rng)
    found = on_training_rows(fit_of(new(3, loss=Poisson(), max_epochs=1), X))
    of_mean = -poisson.logpmf(X, X.mean(axis=0)).sum(axis=1)
    np.testing.assert_allclose(found.constant, of_mean, rtol=1e-2)
    # The rates are known to vary with three numbers: PCA is near to them.
    assert found.pca.mean() < 0.8 * of_mean.mean()


def test_weights_count_as_copies(fit_of, rng):
    X = rng.exponential(size=(150, 6))
    weight = rng.randint(1, 3, size=150)
    model = new(loss=AbsoluteError(), architecture=RANDOM, **FAINT)
    weighted = on_training_rows(fit_of(clone(model), X, sample_weight=weight))
    copied = on_training_rows(fit_of(clone(model), np.repeat(X, weight, axis=0)))
    np.testing.assert_allclose(weighted.means()[1:], copied.means()[1:], rtol=1e-3)


# What is said


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"corruption": Masking(0.5)}, r"not trained on.*replace Masking by Dropout"),
        slow({"early_stopping": False, "max_epochs": 25}, r"not trained on.*early_sto"),
        ({"bottleneck": Variational(20.0)}, r"Weaken the bottleneck"),
        ({"corruption": Dropout(0.3), "max_epochs": 10}, None),
        slow({"corruption": Gaussian(), "max_epochs": 10}, None),
        slow({"penalty": L1(), "max_epochs": 10}, None),
        slow({"bottleneck": Variational()}, None),
        # Another code, not another strength.
        slow({"bottleneck": TopK(2), "max_epochs": 5}, None),
        slow({}, None),
    ],
)
def test_wide_tables_are_told_if_pca_is_far_better_on_new_rows(params, says, rng):
    X, X_new = wide(rng)
    model = new(10, **params)
    said = told(model, X)
    assert (said is None) == (says is None), said
    pca = PCA(10).fit(X)
    residual = X_new - pca.inverse_transform(pca.transform(X_new))
    of_pca = 1 - np.square(residual).sum() / np.square(X_new - X.mean(axis=0)).sum()
    if says is not None:
        assert re.search(says, said)
        # It is true of rows that no part of the fit has seen.
        assert model.score(X_new) < of_pca - 0.04
    elif not isinstance(params.get("bottleneck"), TopK):
        assert model.score(X_new) > of_pca - 0.04


def test_nothing_is_said_of_a_model_that_stays_near_pca(fit_of, rng):
    # The code is so small that a network with a validation set begins at random.
    X = rng.permutation(load_digits().data)
    X, X_new = X[:40], X[40:]
    model = new(4, early_stopping=False, max_epochs=5)
    assert told(model, X) is None
    pca = PCA(4).fit(X)
    residual = X_new - pca.inverse_transform(pca.transform(X_new))
    assert model.reconstruction_error(X_new).mean() < np.square(residual).mean()
    found = on_unseen_rows(fit_of(clone(model), X))
    assert found.model.mean() < found.pca.mean()


def test_the_check_does_not_change_the_fit(monkeypatch, rng):
    X, X_new = wide(rng)
    # A generator: later fits draw from where this one has ended.
    models = [new(5, early_stopping=False, max_epochs=5) for _ in range(2)]
    states = [np.random.RandomState(1) for _ in models]
    said = []
    for model, state in zip(models, states, strict=True):
        said.append(told(model.set_params(random_state=state), X))
        monkeypatch.setattr(diagnosis, "on_unseen_rows", lambda fit: None)
    codes = [model.transform(X_new) for model in models]
    np.testing.assert_array_equal(*codes)
    assert states[0].randint(2**31) == states[1].randint(2**31)


@pytest.mark.parametrize(
    "loss",
    [
        AbsoluteError(),
        Bernoulli(),
        Huber(),
        Poisson(),
        Trimmed(SquaredError(), 0.1),
    ],
)
def test_a_model_that_learnt_nothing_is_told_in_its_own_loss(loss, rng):
    X = counts(rng)
    if isinstance(loss, Bernoulli):
        X = X / X.max(axis=0)
    said = told(new(3, loss=loss, architecture=RANDOM, **FAINT), X)
    assert said is not None
    if "nearly the same" not in said:
        assert f"({type(loss).__name__})" in said
    # At its start, and after some training, it is at least PCA.
    assert told(new(3, loss=loss, max_epochs=10), X) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {"corruption": Gaussian()},
        {"corruption": Masking()},
        {"corruption": SaltAndPepper()},
        {"corruption": Swap()},
        {"penalty": L1()},
        {"penalty": Decorrelation()},
        {"bottleneck": Variational()},
        {"loss": AbsoluteError()},
    ],
)
def test_nothing_is_said_of_a_usual_table(params):
    assert told(new(1, max_epochs=60, **params), scale(load_iris().data)) is None
