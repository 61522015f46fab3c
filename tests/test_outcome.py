"""What a fit says of the weights that it kept, and when it warns of them."""

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP, Custom
from skae.exceptions import (
    CollapsedCodeWarning,
    DivergenceWarning,
    FitWarning,
    InitialWeightsWarning,
    WorseThanPCAWarning,
)
from skae.losses import AbsoluteError, Poisson

both = pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)


@pytest.fixture
def curve(rng):
    """Rows on half a circle, which one number describes, but not linearly."""
    angle = rng.uniform(0, np.pi, size=300)
    return np.c_[np.cos(angle), np.sin(angle)] + 0.01 * rng.normal(size=(300, 2))


class OneRow(nn.Module):
    """Decoder that returns the same row for all codes."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.row = nn.Parameter(torch.zeros(n_out))

    def forward(self, z):
        return self.row + 0 * z[:, :1]


def new(estimator=AutoencoderTransformer, **params):
    own = {"n_components": 1, "random_state": 0, "max_epochs": 30}
    return estimator(**own | params)


def fit(model, X, **kwargs):
    """Return a fitted model and the one warning of its initial weights, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, **kwargs)
    kept = [w for w in caught if issubclass(w.category, InitialWeightsWarning)]
    assert len(kept) <= 1
    others = [w.category for w in caught if w not in kept]
    assert set(others) <= {ConvergenceWarning, DivergenceWarning, WorseThanPCAWarning}
    # The warning, the attributes and the model say the same.
    assert (model.best_epoch_ == 0) == model.kept_weights_.startswith("initial weights")
    return model, kept[0] if kept else None


@pytest.mark.slow
@both
def test_a_trained_model_says_its_epoch_and_warns_of_nothing(estimator, curve):
    model, warning = fit(new(estimator), curve)
    assert warning is None
    assert model.kept_weights_ == f"epoch {model.best_epoch_} of {model.n_iter_}"
    assert model.kept_weights_ in model._repr_html_()
    assert "kept_weights_" not in clone(model)._repr_html_()
    # As a step, too, while `repr` is the call of the constructor, as anywhere.
    assert model.kept_weights_ in Pipeline([("model", model)])._repr_html_()
    assert repr(model) == repr(clone(model))


@both
def test_few_rows(estimator, curve):
    few = curve[:20]
    model, warning = fit(new(estimator, scaling="global"), few)
    assert model.kept_weights_ == "initial weights: too few rows to validate"
    assert issubclass(warning.category, FitWarning)
    assert warning.filename == __file__
    assert "those of PCA" in str(warning.message)
    assert "X_val" in str(warning.message)
    pca = PCA(1).fit(few)
    expected = pca.inverse_transform(pca.transform(few))
    np.testing.assert_allclose(model.reconstruct(few), expected, atol=1e-5)
    # The remedy is one.
    assert fit(new(estimator), few, X_val=curve[20:])[1] is None


@pytest.mark.parametrize(
    ("params", "reason", "remedy"),
    [
        ({"lr": 1e-12}, "lr too low", "Raise lr"),
        ({"lr": 10.0}, "no epoch was better", "lower lr"),
        (
            {"lr": 1e30, "optimizer": "sgd", "gradient_clip": None},
            "loss not finite",
            "Lower lr",
        ),
    ],
)
def test_the_reason_names_the_remedy(params, reason, remedy, curve):
    # Trained from PCA itself.
    model, warning = fit(new(architecture=MLP((8,), start="pca"), **params), curve)
    assert model.kept_weights_ == f"initial weights: {reason}"
    assert reason in str(warning.message)
    assert remedy in str(warning.message)


@both
def test_default_networks_may_be_judged_and_left_out(estimator, rng):
    X = rng.normal(size=(100, 1)) @ rng.normal(size=(1, 4))
    X += 0.1 * rng.normal(size=X.shape)  # there is nothing but PCA to learn
    model, warning = fit(new(estimator, max_epochs=5), X)
    assert model.best_epoch_ == 0
    assert warning is None
    model, warning = fit(new(estimator, max_epochs=5, architecture=MLP()), X)
    assert "PCA may be all there is" in str(warning.message)


def test_random_weights_that_were_kept_are_not_called_pca(curve):
    model = new(
        architecture=MLP((8,), start="random"),
        lr=1e30,
        optimizer="sgd",
        gradient_clip=None,
    )
    model, warning = fit(model, curve)
    assert "PCA" not in str(warning.message)
    assert "loss not finite" in str(warning.message)


def test_a_search_is_told_that_its_parameters_had_no_effect(curve):
    grid = {"lr": [1e-3, 1e-2], "architecture__hidden_layer_sizes": [(4,), (8,)]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = GridSearchCV(new(architecture=MLP()), grid, cv=2, refit=False)
        search.fit(curve[:40])
    assert np.ptp(search.cv_results_["mean_test_score"]) < 1e-6
    kept = [w for w in caught if issubclass(w.category, InitialWeightsWarning)]
    # In each fit the same line: a filter for one is a filter for all.
    assert len(kept) == 8
    assert len({(str(w.message), w.filename, w.lineno) for w in kept}) == 1
    assert re.search("Parameters of the networks .* no effect", str(kept[0].message))


@both
def test_nothing_is_said_where_nothing_was_to_be_gained(estimator, curve, rng):
    linear = new(estimator, architecture=MLP(()))
    exact = np.outer(rng.normal(size=30), [1.0, 2.0])
    for model, X in ((linear, curve), (linear, curve[:20]), (new(estimator), exact)):
        model, warning = fit(clone(model), X)
        assert model.best_epoch_ == 0
        assert warning is None


@pytest.mark.parametrize("value", [7.0, 7.3])  # one is exact in single precision
@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("params", [{"loss": Poisson()}, {"scaling": None}])
def test_rows_that_do_not_vary_are_told(params, n, value):
    X = np.full((n, 5), value)  # in five columns sums were rounded, in two not
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # torch may warn of itself
        model = new(**params).fit(X)
    (said,) = (w for w in caught if issubclass(w.category, FitWarning))
    assert said.category is CollapsedCodeWarning
    assert "rows do not vary" in str(said.message)
    assert model.diagnostics_["r2"] == model.diagnostics_["pca_r2"] == 1
    np.testing.assert_array_equal(model.explained_variance_ratio_, [0.0])
    np.testing.assert_allclose(model.reconstruct(X), X, rtol=1e-3)


@pytest.mark.slow
def test_a_warm_start_that_has_converged_is_fine(curve):
    model, warning = fit(new(warm_start=True, max_epochs=300), curve)
    assert warning is None
    model, warning = fit(model.set_params(lr=1e-12), curve)
    assert model.best_epoch_ == 0
    assert warning is None


def test_networks_without_weights_have_nothing_to_train(curve):
    class Same(nn.Module):
        def forward(self, x):
            return x

    same = Custom(lambda a, b: Same(), lambda a, b: Same())
    model, warning = fit(new(n_components=2, architecture=same), curve)
    assert warning is None
    assert model.kept_weights_ == "initial weights: no network has weights to train"


def test_the_last_epoch_is_kept_without_early_stopping(curve):
    model, warning = fit(new(early_stopping=False, max_epochs=3), curve)
    assert warning is None
    assert model.kept_weights_ == "epoch 3 of 3"


@pytest.mark.parametrize("loss", [None, Poisson(), AbsoluteError()])
def test_one_row_repeated_is_told_whatever_the_loss(loss, rng):
    share = rng.dirichlet(np.ones(10), 4)
    X = rng.poisson(rng.lognormal(4, 1, (200, 4)) @ share).astype(float)
    params = {"loss": loss, "early_stopping": False, "max_epochs": 40}
    useful = new(n_components=3, **params)
    # Its code varies, and is not used.
    mean = clone(useful).set_params(architecture=Custom(nn.Linear, OneRow), lr=1.0)
    for model, is_mean in ((useful, False), (mean, True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = model.fit(X).reconstruct(X)
        assert (np.ptp(rows, axis=0).max() == 0) == is_mean
        told = [w for w in caught if issubclass(w.category, WorseThanPCAWarning)]
        assert any("mean" in str(w.message) for w in told) == is_mean
