"""Next to scikit-learn's own: nested parameters, searches, cross-validation."""

import numpy as np
import pytest
from _estimators import new
from sklearn.base import clone
from sklearn.datasets import load_wine, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP, Conv
from skae.bottlenecks import FiniteScalar, TopK, Variational
from skae.corruptions import Gaussian, Masking
from skae.losses import Huber
from skae.metrics import make_outlier_scorer, reconstruction_scorer
from skae.penalties import L1, Contractive

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]
both = pytest.mark.parametrize("estimator", ESTIMATORS)


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0]


def small(estimator=AutoencoderTransformer, **params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "max_epochs": 3,
        "random_state": 0,
    }
    return new(estimator, **defaults | params)


# clone and nested parameters


@both
def test_clone_keeps_parameters_and_drops_the_rest(roll, estimator):
    model = small(estimator, penalty=L1(0.1) + L1(0.2), net_params={"callbacks": []})
    copy = clone(model.fit(roll))
    assert not hasattr(copy, "net_")
    assert repr(copy.get_params()) == repr(model.get_params())
    assert copy.penalty is not model.penalty


@both
def test_nested_parameters(estimator):
    model = estimator(architecture=MLP((8,)), penalty=L1(0.1) + L1(0.2))
    assert model.get_params()["penalty__right__alpha"] == 0.2
    model.set_params(penalty__right__alpha=0.5, architecture__activation="relu")
    assert model.penalty.right.alpha == 0.5
    assert model.architecture.activation == "relu"
    with pytest.raises(ValueError, match="Invalid parameter 'strength'"):
        model.set_params(penalty__right__strength=1.0)


# Searches


@both
def test_search_without_y(roll, estimator):
    search = GridSearchCV(small(estimator), {"n_components": [1, 2]}, cv=2).fit(roll)
    assert search.best_params_ == {"n_components": 2}
    assert search.transform(roll).shape == (300, 2)
    assert search.score(roll) == search.best_estimator_.score(roll)


def test_search_over_arrays_of_sizes(X):
    grid = {"n_components": np.arange(1, 4)}
    search = GridSearchCV(AutoencoderTransformer(), grid, cv=2).fit(X)
    expected = [
        cross_val_score(AutoencoderTransformer(k), X, cv=2).mean() for k in (1, 2, 3)
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)


@pytest.mark.slow
def test_search_over_parts_and_their_parameters(roll):
    grid = {
        "penalty": [None, L1(10.0)],
        "corruption": [None, Gaussian()],
        "architecture__hidden_layer_sizes": [(), (8,)],
    }
    model = small(early_stopping=False, max_epochs=10)
    search = GridSearchCV(model, grid, cv=2).fit(roll)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_["penalty"] is None
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_over_the_parameters_of_a_part(roll):
    grid = {"penalty__alpha": [1e-6, 10.0]}
    model = small(penalty=L1(), early_stopping=False, max_epochs=10)
    search = GridSearchCV(model, grid, cv=2).fit(roll)
    assert search.best_params_ == {"penalty__alpha": 1e-6}
    assert model.penalty.alpha == 1e-3  # the candidates were copies


def test_randomised_search_over_shares(X):
    search = RandomizedSearchCV(
        AutoencoderTransformer(), {"n_components": [0.5, 0.9, "auto"]}, n_iter=3, cv=2
    ).fit(X)
    assert search.best_params_["n_components"] == 0.9


@pytest.mark.slow
def test_search_in_a_pipeline_by_what_the_code_is_for():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(random_state=0), LogisticRegression()
    )
    grid = {"autoencodertransformer__n_components": [1, 5]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_ == {"autoencodertransformer__n_components": 5}
    assert search.best_score_ > 0.9


@pytest.mark.slow
def test_search_over_which_bottleneck_and_how_much_of_it():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), small(early_stopping=False), LogisticRegression()
    )
    step = "autoencodertransformer"
    grid = [
        {
            f"{step}__bottleneck": [Variational()],
            f"{step}__bottleneck__beta": [0.5, 1e6],
            f"{step}__loss": [None, Huber()],
        },
        {
            f"{step}__bottleneck": [TopK(1), FiniteScalar(3)],
            f"{step}__corruption": [None, Masking(0.2)],
            f"{step}__architecture": [MLP(()), Conv((1, 13), (3,))],
        },
        {f"{step}__penalty": [L1() + Contractive()], f"{step}__penalty__left": [L1(9)]},
    ]
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    results = search.cv_results_
    assert len(results["params"]) == 4 + 8 + 1
    assert search.best_score_ > 0.8
    scores = {
        params[f"{step}__bottleneck__beta"]: score
        for params, score in zip(
            results["params"], results["mean_test_score"], strict=True
        )
        if f"{step}__bottleneck__beta" in params
    }
    # What reached the model: at such a price the code says nothing.
    assert scores[1e6] < scores[0.5]
    assert search.best_estimator_.named_steps[step].transform(X).shape == (178, 2)


@pytest.mark.slow
def test_pca_and_autoencoder_as_candidates_of_one_step(roll):
    pipeline = Pipeline([("scale", StandardScaler()), ("encode", None)])
    grid = {
        "encode": [PCA(2), small(early_stopping=False, max_epochs=60)],
        "encode__n_components": [1, 2],
    }
    search = GridSearchCV(pipeline, grid, cv=2, scoring=reconstruction_scorer).fit(roll)
    scores = dict(
        zip(
            [
                (type(p["encode"]).__name__, p["encode__n_components"])
                for p in search.cv_results_["params"]
            ],
            search.cv_results_["mean_test_score"],
            strict=True,
        )
    )
    assert scores["AutoencoderTransformer", 2] > scores["PCA", 2] > scores["PCA", 1]
    assert isinstance(search.best_estimator_["encode"], AutoencoderTransformer)


def test_detectors_as_candidates_of_one_step(rng):
    normal = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5))
    X = np.r_[normal, rng.normal(scale=3.0, size=(20, 5))]
    y = np.r_[np.zeros(200, dtype=int), np.ones(20, dtype=int)]
    pipeline = Pipeline([("detect", IsolationForest())])
    grid = {
        "detect": [
            IsolationForest(n_estimators=10, random_state=0),
            small(AutoencoderOutlierDetector),
        ]
    }
    search = GridSearchCV(
        pipeline,
        grid,
        cv=KFold(2, shuffle=True, random_state=0),
        scoring=make_outlier_scorer(),
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert (scores > 0.8).all()


# Cross-validation


@pytest.mark.slow
@both
def test_cross_val_score_is_that_of_held_out_rows(X, estimator):
    folds = KFold(2)
    expected = []
    for train, test in folds.split(X):
        model = estimator(2).fit(X[train])
        left = np.square(X[test] - model.reconstruct(X[test])).sum()
        expected.append(1 - left / np.square(X[test] - X[train].mean(axis=0)).sum())
    np.testing.assert_allclose(cross_val_score(estimator(2), X, cv=folds), expected)


def test_cross_val_predict(X):
    detector = small(AutoencoderOutlierDetector)
    labels = cross_val_predict(detector, X, cv=3)
    assert set(labels.tolist()) <= {-1, 1}
    scores = cross_val_predict(detector, X, cv=3, method="decision_function")
    np.testing.assert_array_equal(labels == -1, scores < 0)


def test_cross_validate_returns_estimators(X):
    results = cross_validate(
        AutoencoderTransformer(2),
        X,
        cv=2,
        return_estimator=True,
        return_train_score=True,
    )
    for estimator, score, rows in zip(
        results["estimator"], results["train_score"], (X[75:], X[:75]), strict=True
    ):
        assert estimator.score(rows) == score
