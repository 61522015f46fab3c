"""Next to scikit-learn's own: searches, pipelines, unions."""

import numpy as np
import pytest
from _estimators import new
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_wine, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

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


# Pipelines, unions, columns


@both
def test_pipeline_there_and_back(X, estimator):
    X = X * [1, 10, 100, 1, 10, 100]
    pipeline = make_pipeline(StandardScaler(), estimator(2)).fit(X)
    pca = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    code = pca.transform(X)
    np.testing.assert_allclose(pipeline.transform(X), code, atol=1e-5)
    np.testing.assert_allclose(
        pipeline.inverse_transform(code), pca.inverse_transform(code), atol=1e-3
    )


def test_pipeline_scores_what_the_last_step_sees(X):
    pipeline = make_pipeline(MinMaxScaler(), AutoencoderTransformer(2)).fit(X)
    scaled = MinMaxScaler().fit_transform(X)
    expected = r2_score(
        scaled, pipeline[-1].reconstruct(scaled), multioutput="variance_weighted"
    )
    assert pipeline.score(X) == pytest.approx(expected)


def test_detector_at_the_end_of_a_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), AutoencoderOutlierDetector(2)).fit(X)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(pipeline.predict(X), pipeline[-1].predict(scaled))
    np.testing.assert_array_equal(
        pipeline.score_samples(X), pipeline[-1].score_samples(scaled)
    )
    np.testing.assert_array_equal(pipeline.fit_predict(X), pipeline.predict(X))


def test_detector_on_the_code_of_a_transformer(X):
    pipeline = make_pipeline(
        AutoencoderTransformer(3), AutoencoderOutlierDetector(1, contamination=0.1)
    )
    assert (pipeline.fit_predict(X) == -1).sum() == pytest.approx(15, abs=1)


def test_code_is_worth_something_to_a_classifier():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    model = AutoencoderTransformer(8, max_epochs=10, random_state=0)
    pipeline = make_pipeline(model, LogisticRegression(max_iter=2000))
    assert pipeline.fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.75


def test_union_with_pca(X):
    union = FeatureUnion([("pca", PCA(2)), ("ae", AutoencoderTransformer(3))])
    code = union.fit_transform(X)
    assert code.shape == (len(X), 5)
    np.testing.assert_allclose(code[:, :2], code[:, 2:4], atol=1e-5)
    assert union.get_feature_names_out().tolist() == [
        "pca__pca0",
        "pca__pca1",
        "ae__autoencodertransformer0",
        "ae__autoencodertransformer1",
        "ae__autoencodertransformer2",
    ]


def test_columns_of_a_frame(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    transformer = ColumnTransformer(
        [
            ("left", AutoencoderTransformer(1), ["a", "b", "c"]),
            ("right", AutoencoderTransformer(2), ["d", "e", "f"]),
        ],
        verbose_feature_names_out=True,
    ).set_output(transform="pandas")
    out = transformer.fit_transform(frame)
    assert list(out.columns) == [
        "left__autoencodertransformer0",
        "right__autoencodertransformer0",
        "right__autoencodertransformer1",
    ]
    expected = AutoencoderTransformer(2).fit_transform(X[:, 3:])
    np.testing.assert_allclose(out.to_numpy()[:, 1:], expected, atol=1e-9)
