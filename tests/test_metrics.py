"""Scorers and ``refit`` rules, also with estimators of scikit-learn."""

import pickle
import statistics

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.metrics import make_outlier_scorer, one_standard_error, reconstruction_scorer

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

# reconstruction_scorer


def _r2(X, reconstruction, mean):
    return 1 - np.square(X - reconstruction).sum() / np.square(X - mean).sum()


@pytest.fixture
def X_new(X, rng):
    return X[:50] + rng.normal(size=(50, 6)) + 1.0


@pytest.mark.parametrize("n_components", [1, 3])
def test_pca_and_a_model_at_pca_score_alike(n_components, X, X_new):
    pca = PCA(n_components).fit(X)
    # With so few rows there is no training: the weights stay at PCA.
    linear = AutoencoderTransformer(
        n_components, architecture=MLP(()), random_state=0
    ).fit(X)
    expected = _r2(X_new, pca.inverse_transform(pca.transform(X_new)), X.mean(axis=0))
    assert reconstruction_scorer(pca, X_new) == pytest.approx(expected, abs=1e-12)
    assert reconstruction_scorer(linear, X_new) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_the_scorer_agrees_with_the_method_score(estimator, X, X_new):
    model = estimator(2, early_stopping=False, max_epochs=2, random_state=0).fit(X)
    assert reconstruction_scorer(model, X_new) == pytest.approx(model.score(X_new))


def test_on_the_training_rows_of_pca_it_is_the_variance_explained(X):
    pca = PCA(2).fit(X)
    explained = pca.explained_variance_ratio_.sum()
    assert reconstruction_scorer(pca, X) == pytest.approx(explained)
    r2 = r2_score(
        X,
        pca.inverse_transform(pca.transform(X)),
        multioutput="variance_weighted",
    )
    assert reconstruction_scorer(pca, X) == pytest.approx(r2)


def test_a_pipeline_is_scored_in_the_units_of_its_input(X, X_new):
    X, X_new = X * [1, 10, 100, 1, 1, 1], X_new * [1, 10, 100, 1, 1, 1]
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    reconstruction = pipeline.inverse_transform(pipeline.transform(X_new))
    expected = _r2(X_new, reconstruction, X.mean(axis=0))
    assert reconstruction_scorer(pipeline, X_new) == pytest.approx(expected)
    standardized = StandardScaler().fit(X).transform(X_new)
    assert reconstruction_scorer(pipeline[-1], standardized) != pytest.approx(expected)


def test_a_pipeline_in_a_pipeline_is_its_steps(X, X_new):
    steps = StandardScaler(), MinMaxScaler(), PCA(2)
    flat = make_pipeline(*steps).fit(X)
    expected = reconstruction_scorer(flat, X_new)
    for nested in (
        make_pipeline(steps[0], make_pipeline(*steps[1:])),
        make_pipeline(make_pipeline(*steps[:2], "passthrough"), steps[2]),
        make_pipeline("passthrough", make_pipeline(make_pipeline(*steps))),
    ):
        found = reconstruction_scorer(nested.fit(X), X_new)
        assert found == pytest.approx(expected)


def test_a_pipeline_of_one_step_is_that_step(X):
    assert reconstruction_scorer(make_pipeline(PCA(2)).fit(X), X) == pytest.approx(
        reconstruction_scorer(PCA(2).fit(X), X)
    )


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_tables_score_as_arrays_do(output, X):
    table = pd.DataFrame(X).rename(columns=str)
    model = make_pipeline(StandardScaler(), PCA(2))
    expected = reconstruction_scorer(model.fit(X), X)
    model = make_pipeline(StandardScaler(), PCA(2)).set_output(transform=output)
    assert reconstruction_scorer(model.fit(table), table) == pytest.approx(expected)


def test_rows_at_the_mean_score_one_only_if_reconstructed():
    flat = np.full((10, 3), 2.0)
    pca = PCA(1).fit([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]])
    assert reconstruction_scorer(pca, flat) == 1.0
    pca.inverse_transform = lambda code: flat + 1
    assert reconstruction_scorer(pca, flat) == 0.0


class OneWay(StandardScaler):
    """A step without an inverse."""

    inverse_transform = property()


@pytest.mark.parametrize(
    "estimator",
    [
        KMeans(2, n_init=1),
        make_pipeline(StandardScaler(), KMeans(2, n_init=1)),
        KernelPCA(2, fit_inverse_transform=True),
        make_pipeline(OneWay(), PCA(2)),
    ],
    ids=["no inverse", "no inverse at the end", "no mean", "no inverse before the end"],
)
def test_estimators_without_an_inverse_or_a_mean_are_refused(estimator, X):
    last = str(estimator).partition("(")[0]
    message = rf"inverse_transform and mean_(.|\n)*Got {last}"
    with pytest.raises(TypeError, match=message):
        reconstruction_scorer(estimator.fit(X), X)


# one_standard_error


def _brute_force(sizes, splits):
    """Apply the definition of the rule in plain Python."""
    means = [statistics.fmean(scores) for scores in splits]
    best = max(range(len(sizes)), key=lambda i: means[i])
    error = statistics.stdev(splits[best]) / len(splits[best]) ** 0.5
    as_good = [i for i in range(len(sizes)) if means[i] >= means[best] - error]
    simplest = min(sizes[i] for i in as_good)
    return max((i for i in as_good if sizes[i] == simplest), key=lambda i: means[i])


def _results(sizes, splits, score="score"):
    splits = np.asarray(splits)
    return {
        "param_size": np.ma.array(sizes),
        f"mean_test_{score}": splits.mean(axis=1),
        **{f"split{i}_test_{score}": column for i, column in enumerate(splits.T)},
    }


@pytest.mark.parametrize("n_splits", [2, 5])
def test_the_choice_is_the_simplest_within_one_standard_error(n_splits, rng):
    refit = one_standard_error("size")
    for _ in range(100):
        sizes = rng.randint(1, 6, size=8)
        splits = rng.normal(size=(8, n_splits))
        chosen = refit(_results(sizes, splits))
        assert chosen == _brute_force(sizes.tolist(), splits.tolist())


def test_one_split_has_no_error():
    assert one_standard_error("size")(_results([1, 2, 3], [[0.1], [0.3], [0.2]])) == 1


def test_candidates_without_the_parameter_or_a_score_are_left_out():
    results = _results([1, 2, 3, 4], [[0.9, 0.7], [np.nan, np.nan], [0.8, 0.7], [1, 1]])
    results["param_size"] = np.ma.array([1, 2, 3, 4], mask=[1, 0, 0, 0])
    assert one_standard_error("size")(results) == 3
    results["param_size"].mask = [1, 0, 0, 1]
    assert one_standard_error("size")(results) == 2


def test_a_search_refits_its_choice(X):
    search = GridSearchCV(
        PCA(),
        {"n_components": [1, 2, 3, 4, 5]},
        scoring=reconstruction_scorer,
        refit=one_standard_error("n_components"),
        cv=4,
    ).fit(X)
    results = search.cv_results_
    splits = np.array([results[f"split{i}_test_score"] for i in range(4)]).T
    expected = _brute_force([1, 2, 3, 4, 5], splits.tolist())
    assert search.best_index_ == expected
    assert search.best_estimator_.n_components == expected + 1
    assert np.argmax(results["mean_test_score"]) == 4


def test_a_search_with_several_metrics_chooses_by_one(X):
    search = GridSearchCV(
        PCA(),
        {"n_components": [1, 2, 3]},
        scoring={
            "more": lambda estimator, X, y=None: estimator.n_components,
            "less": lambda estimator, X, y=None: -estimator.n_components,
        },
        cv=2,
    )
    for score, n_components in {"more": 3, "less": 1}.items():
        search.set_params(refit=one_standard_error("n_components", score)).fit(X)
        assert search.best_params_ == {"n_components": n_components}


def test_auto_among_numbers_is_never_chosen():
    # "auto" cannot be compared with numbers, and has no known complexity.
    results = _results([1, 2, 3], [[0.9, 0.7], [0.8, 0.8], [0.9, 0.7]])
    results["param_size"] = np.ma.array(["auto", 3, 2], dtype=object)
    assert one_standard_error("size")(results) == 2


@pytest.mark.parametrize(
    ("refit", "message"),
    [
        (one_standard_error("width"), r"no parameter 'width'. It has \['size'\]"),
        (one_standard_error("size", "auc"), r"no score 'auc'. It has \['score'\]"),
    ],
)
def test_a_missing_parameter_or_score_is_reported_with_those_present(refit, message):
    with pytest.raises(ValueError, match=message):
        refit(_results([1, 2], [[0.1, 0.2], [0.2, 0.3]]))


def test_a_search_without_a_scored_candidate_is_refused():
    with pytest.raises(ValueError, match="no scored candidate has a number for 'size'"):
        one_standard_error("size")(_results([1, 2], np.full((2, 2), np.nan)))


# make_outlier_scorer

DETECTORS = [
    IsolationForest(n_estimators=20, random_state=0),
    LocalOutlierFactor(novelty=True),
    OneClassSVM(),
    AutoencoderOutlierDetector(2, random_state=0),
    make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)),
    make_pipeline(StandardScaler(), AutoencoderOutlierDetector(2, random_state=0)),
]


@pytest.fixture
def outliers(X, rng):
    """Return rows, some of which are clear outliers, and a mask of the outliers."""
    is_outlier = np.arange(len(X)) % 15 == 0
    return np.where(is_outlier[:, np.newaxis], 3 * X + 9, X), is_outlier


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: str(d)[:40])
def test_outliers_rank_above_normal_rows(detector, X, outliers):
    rows, is_outlier = outliers
    detector.fit(X)
    score = make_outlier_scorer()(detector, rows, is_outlier)
    assert score == pytest.approx(
        roc_auc_score(is_outlier, -detector.decision_function(rows))
    )
    assert score > 0.8


LABELS = [
    lambda is_outlier: is_outlier,
    lambda is_outlier: is_outlier.astype(int),
    lambda is_outlier: is_outlier.astype(float),
    lambda is_outlier: np.where(is_outlier, -1, 1),
    lambda is_outlier: is_outlier.tolist(),
    lambda is_outlier: pd.Series(is_outlier),
]
LABEL_NAMES = ["bool", "0/1", "0./1.", "+-1", "list", "series"]


@pytest.mark.parametrize("label", LABELS, ids=LABEL_NAMES)
@pytest.mark.parametrize("score_func", [roc_auc_score, average_precision_score])
def test_all_codings_of_labels_are_equivalent(label, score_func, X, outliers):
    rows, is_outlier = outliers
    forest = DETECTORS[0].fit(X)
    expected = score_func(is_outlier, -forest.score_samples(rows))
    scorer = make_outlier_scorer(score_func)
    assert scorer(forest, rows, label(is_outlier)) == expected


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 0], [1, 1, 1], [-1, -1, -1], [0, 1, 2], [-1, 0, 1], ["in", "out", "in"]],
    ids=str,
)
def test_other_labels_are_refused(labels, X):
    forest = DETECTORS[0].fit(X)
    with pytest.raises(ValueError, match="labels of outliers must be"):
        make_outlier_scorer()(forest, X[:3], labels)


def test_a_detector_without_score_samples_is_scored_by_its_decision(outliers):
    class Decides:
        def decision_function(self, X):
            return -X[:, 0]

    rows, is_outlier = outliers
    expected = roc_auc_score(is_outlier, rows[:, 0])
    assert make_outlier_scorer()(Decides(), rows, is_outlier) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector", [DETECTORS[0], DETECTORS[-1]], ids=["one", "pipeline"]
)
def test_it_is_a_scorer_of_cross_validation(detector, outliers):
    rows, is_outlier = outliers
    scores = cross_val_score(
        detector, rows, is_outlier.astype(int), scoring=make_outlier_scorer(), cv=3
    )
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "scorer",
    [make_outlier_scorer(average_precision_score), one_standard_error("size")],
    ids=["outliers", "one standard error"],
)
def test_scorers_and_refits_can_be_pickled(scorer):
    copy = pickle.loads(pickle.dumps(scorer))
    assert (copy.func, copy.keywords) == (scorer.func, scorer.keywords)
