"""Where a transformer may stand in scikit-learn, tried, with PCA beside it.

=============================  =======================================================
Tried                          What is asked
=============================  =======================================================
Pipeline                       `inverse_transform`, `score`, a detector as last step,
                               names, ``memory``: the second fit comes from the cache
FeatureUnion                   with PCA, in threads
ColumnTransformer              by name and by position, ``remainder``, a missing column
TransformedTargetRegressor     as ``transformer`` of several targets, and the warning
                               that a code is not the target
permutation_importance         of a pipeline, and of the score of the transformer
learning_curve                 of a pipeline, and of the transformer without labels
validation_curve               over ``n_components`` and ``whiten``
HalvingGridSearchCV            over ``n_components``; networks, with few rows first:
                               all candidates stay PCA there
StackingClassifier,            pipelines as members, on parts of rows and columns
VotingClassifier,
BaggingClassifier
set_output                     in each that returns rows
Oversampling                   rows of the smaller class from `sample`
=============================  =======================================================

The transformer is tried twice: with a linear network, which must give the numbers of
PCA, and with a trained one, which must give their shapes and names.
"""

import warnings

import numpy as np
import pytest
from _estimators import new
from joblib import parallel_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_digits, load_iris, load_wine, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import (
    HalvingGridSearchCV,
    cross_val_score,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.exceptions import InitialWeightsWarning
from skae.metrics import reconstruction_scorer

# Few epochs and few rows are what these warnings are for.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

both = pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
encoders = pytest.mark.parametrize("encoder", ["linear", "trained"])

FLOWERS, SPECIES = load_iris(return_X_y=True)


def encode(encoder, n_components=2, **params):
    """Return PCA or a transformer."""
    if encoder == "PCA":
        return PCA(n_components, **params)
    if encoder == "linear":
        # Its minimum is PCA, where it starts, so that it stays there.
        own = {"architecture": MLP(())}
    else:
        own = {"architecture": MLP((8,)), "early_stopping": False, "max_epochs": 5}
    return AutoencoderTransformer(n_components, random_state=0, **own | params)


def classify(encoder, n_components=2, **params):
    """Return a classifier on the code."""
    steps = {
        "scale": StandardScaler(),
        "encode": encode(encoder, n_components, **params),
        "classify": LogisticRegression(),
    }
    return Pipeline(list(steps.items()))


def named(names, encoder="trained"):
    """Return names of columns as PCA has them."""
    return [str(name).replace("autoencodertransformer", "pca") for name in names]


def assert_like(encoder, found, expected):
    """Compare numbers with those that PCA leads to."""
    assert np.shape(found) == np.shape(expected)
    assert np.isfinite(found).all()
    if encoder == "linear":
        np.testing.assert_allclose(found, expected, atol=1e-4)
    else:
        assert not np.allclose(found, expected, atol=1e-4)


@pytest.fixture
def frame():
    pd = pytest.importorskip("pandas")
    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    return pd.DataFrame(FLOWERS, columns=columns, index=np.arange(150) + 1000)


# Pipelines


@both
def test_pipeline_there_and_back(X, estimator):
    X = X[:79] * [1, 10, 100, 1, 10, 100]  # so few rows that the model stays PCA
    pipeline = make_pipeline(StandardScaler(), estimator(2, random_state=0)).fit(X)
    pca = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    code = pca.transform(X)
    np.testing.assert_allclose(pipeline.transform(X), code, atol=1e-5)
    np.testing.assert_allclose(
        pipeline.inverse_transform(code), pca.inverse_transform(code), atol=1e-3
    )


def test_pipeline_scores_what_the_last_step_sees(X):
    pipeline = make_pipeline(MinMaxScaler(), encode("trained")).fit(X)
    scaled = MinMaxScaler().fit_transform(X)
    expected = r2_score(
        scaled, pipeline[-1].reconstruct(scaled), multioutput="variance_weighted"
    )
    assert pipeline.score(X) == pytest.approx(expected)


def test_detector_at_the_end_of_a_pipeline(X):
    detector = new(AutoencoderOutlierDetector, 2)
    pipeline = make_pipeline(StandardScaler(), detector).fit(X)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(pipeline.predict(X), pipeline[-1].predict(scaled))
    np.testing.assert_array_equal(
        pipeline.score_samples(X), pipeline[-1].score_samples(scaled)
    )
    np.testing.assert_array_equal(pipeline.fit_predict(X), pipeline.predict(X))


@pytest.mark.slow
def test_detector_on_the_code_of_a_transformer(X):
    detector = AutoencoderOutlierDetector(1, contamination=0.1, random_state=0)
    pipeline = make_pipeline(encode("trained", 3), detector)
    assert (pipeline.fit_predict(X) == -1).sum() == pytest.approx(15, abs=1)


def test_code_is_worth_something_to_a_classifier():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    model = AutoencoderTransformer(8, max_epochs=10, random_state=0)
    pipeline = make_pipeline(model, LogisticRegression(max_iter=2000))
    assert pipeline.fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.75


@encoders
def test_names_and_frames_of_a_pipeline(encoder, frame):
    found, expected = (
        classify(which)[:-1].set_output(transform="pandas").fit(frame)
        for which in (encoder, "PCA")
    )
    out, as_pca = found.transform(frame), expected.transform(frame)
    assert named(out.columns) == list(as_pca.columns)
    assert named(found.get_feature_names_out()) == ["pca0", "pca1"]
    assert out.index.equals(as_pca.index)
    assert_like(encoder, out.to_numpy(), as_pca.to_numpy())


@encoders
def test_the_second_fit_of_a_pipeline_with_memory_is_from_the_cache(encoder, tmp_path):
    pipeline = classify(encoder).set_params(memory=str(tmp_path))
    first = clone(pipeline).fit(FLOWERS, SPECIES)
    second = clone(pipeline).fit(FLOWERS, SPECIES)
    np.testing.assert_array_equal(
        second["encode"].history_["seconds"], first["encode"].history_["seconds"]
    )
    np.testing.assert_array_equal(second.predict(FLOWERS), first.predict(FLOWERS))
    np.testing.assert_array_equal(
        second["encode"].reconstruct(FLOWERS), first["encode"].reconstruct(FLOWERS)
    )
    # Another parameter of a component is another transformer.
    sizes = {"encode__architecture__hidden_layer_sizes": (3,)}
    other = clone(pipeline).set_params(**sizes).fit(FLOWERS, SPECIES)
    assert not np.array_equal(
        other["encode"].history_["seconds"], first["encode"].history_["seconds"]
    )


@encoders
def test_errors_of_a_pipeline_are_those_with_pca(encoder, frame):
    for which in (encoder, "PCA"):
        pipeline = make_pipeline(encode(which))
        with pytest.raises(NotFittedError, match="not fitted yet"):
            pipeline.transform(FLOWERS)
        pipeline.fit(FLOWERS)
        with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
            pipeline.transform(FLOWERS[:, :3])
        pipeline.fit(frame)
        with pytest.raises(ValueError, match="feature names should match"):
            pipeline.transform(frame.rename(columns={"sepal width": "width"}))
        with pytest.raises(ValueError, match="contains infinity"):
            pipeline.fit(np.where(FLOWERS > 7, np.inf, FLOWERS))


# Unions and columns


@encoders
def test_union(encoder, frame):
    union = FeatureUnion([("pca", PCA(2)), ("ae", encode(encoder, 3))])
    union.set_output(transform="pandas")
    out = union.fit_transform(frame)
    assert list(out.columns) == [
        "pca__pca0",
        "pca__pca1",
        "ae__autoencodertransformer0",
        "ae__autoencodertransformer1",
        "ae__autoencodertransformer2",
    ]
    assert list(union.get_feature_names_out()) == list(out.columns)
    assert out.index.equals(frame.index)
    code = out.to_numpy()
    assert_like(encoder, code[:, 2:4], code[:, :2])
    with parallel_config(backend="threading", n_jobs=2):
        threads = clone(union).fit_transform(frame)
    np.testing.assert_array_equal(threads.to_numpy(), code)


@encoders
def test_columns(encoder, frame):
    sepal, petal = frame.columns[:2], frame.columns[2:]

    def transformer(which):
        parts = [
            ("sepal", encode(which, 1), list(sepal)),
            ("petal", encode(which, 2, whiten=True), [2, 3]),
        ]
        return ColumnTransformer(parts).set_output(transform="pandas")

    found, expected = (
        transformer(which).fit_transform(frame) for which in (encoder, "PCA")
    )
    assert named(found.columns) == list(expected.columns)
    assert named(found.columns) == ["sepal__pca0", "petal__pca0", "petal__pca1"]
    assert_like(encoder, found.to_numpy(), expected.to_numpy())
    alone = encode(encoder, 2, whiten=True).fit_transform(frame[petal])
    np.testing.assert_allclose(found.to_numpy()[:, 1:], alone, atol=1e-12)


@encoders
def test_the_other_columns(encoder, frame):
    for which in (encoder, "PCA"):
        parts = [("code", encode(which, 1), ["petal length", "petal width"])]
        transformer = ColumnTransformer(
            parts, remainder="passthrough", verbose_feature_names_out=False
        ).fit(frame)
        names = named(transformer.get_feature_names_out())
        assert names == ["pca0", "sepal length", "sepal width"]
        with pytest.raises(ValueError, match=r"are missing: \{'petal width'\}"):
            transformer.transform(frame.drop(columns="petal width"))


# Targets


@encoders
def test_code_of_several_targets(encoder):
    X, y = FLOWERS[:, :1], FLOWERS[:, 1:]

    def regress(which, n_components):
        return TransformedTargetRegressor(
            Ridge(), transformer=encode(which, n_components)
        )

    for which in (encoder, "PCA"):
        # The code is smaller than the targets, and says so.
        with pytest.warns(UserWarning, match="not strictly inverse of each other"):
            regress(which, 1).fit(X, y)
    found, expected = (
        regress(which, 1).set_params(check_inverse=False).fit(X, y).predict(X)
        for which in (encoder, "PCA")
    )
    assert_like(encoder, found, expected)
    assert r2_score(y, found) > 0.2
    if encoder == "linear":
        # All components of the targets are the targets.
        found = regress(encoder, None).fit(X, y).predict(X)
        np.testing.assert_allclose(found, Ridge().fit(X, y).predict(X), atol=1e-4)


@encoders
def test_code_of_one_target_keeps_its_shape(encoder):
    X, y = FLOWERS[:, 1:], FLOWERS[:, 0]
    regressor = TransformedTargetRegressor(
        Ridge(), transformer=encode(encoder, 1), check_inverse=False
    )
    assert regressor.fit(X, y).predict(X).shape == (150,)
    assert regressor.fit(X, y[:, np.newaxis]).predict(X).shape == (150, 1)


# Curves and importances


@encoders
def test_permutation_importance(encoder):
    def importances(which):
        classifier = classify(which).fit(FLOWERS, SPECIES)
        result = permutation_importance(
            classifier,
            FLOWERS,
            SPECIES,
            scoring="neg_log_loss",
            n_repeats=3,
            random_state=0,
        )
        return result.importances

    found, expected = importances(encoder), importances("PCA")
    assert_like(encoder, found, expected)
    assert (found.mean(axis=1) > 0).all()


@pytest.mark.slow
def test_permutation_importance_of_the_reconstruction():
    # A helix: every column is needed.
    t = make_swiss_roll(200, random_state=0)[1]
    X = np.c_[np.cos(t), np.sin(t), t / 5]
    for scoring in (None, reconstruction_scorer):
        model = AutoencoderTransformer(2, random_state=0).fit(X)
        result = permutation_importance(
            model, X, None, scoring=scoring, n_repeats=2, random_state=0
        )
        assert result.importances.shape == (3, 2)
        assert (result.importances > 0).all()


@encoders
def test_learning_curve(encoder):
    def scores(which, **params):
        _, train, test = learning_curve(
            classify(which),
            FLOWERS,
            SPECIES,
            train_sizes=[20, 60, 75],
            cv=2,
            shuffle=True,
            random_state=0,
            scoring="neg_log_loss",
            error_score="raise",
        )
        return np.stack([train, test])

    assert_like(encoder, scores(encoder), scores("PCA"))


@encoders
def test_learning_curve_without_labels(encoder):
    def scores(which):
        _, _, test = learning_curve(
            encode(which),
            FLOWERS,
            None,
            train_sizes=[20, 75],
            cv=2,
            scoring=reconstruction_scorer,
            error_score="raise",
        )
        return test

    assert_like(encoder, scores(encoder), scores("PCA"))


@encoders
@pytest.mark.parametrize(
    ("name", "values"),
    [("encode__n_components", [1, 2, 0.97, None]), ("encode__whiten", [False, True])],
)
def test_validation_curve(encoder, name, values):
    def scores(which):
        return np.stack(
            validation_curve(
                classify(which),
                FLOWERS,
                SPECIES,
                param_name=name,
                param_range=values,
                cv=2,
                scoring="neg_log_loss",
                error_score="raise",
            )
        )

    found = scores(encoder)
    assert_like(encoder, found, scores("PCA"))
    # All candidates differ: the parameter arrived.
    assert len(np.unique(found[1].mean(axis=1))) == len(values)


# Searches that begin with few rows


@encoders
def test_halving(encoder):
    def results(which):
        search = HalvingGridSearchCV(
            classify(which),
            {"encode__n_components": [1, 2, 3, None]},
            factor=2,
            min_resources=40,
            cv=2,
            random_state=0,
            scoring="neg_log_loss",
            error_score="raise",
        ).fit(FLOWERS, SPECIES)
        return search.cv_results_

    found, expected = results(encoder), results("PCA")
    assert found["n_resources"].tolist() == expected["n_resources"].tolist()
    if encoder == "linear":
        assert found["params"] == expected["params"]
        assert_like(encoder, found["mean_test_score"], expected["mean_test_score"])


@pytest.mark.slow
def test_halving_cannot_tell_networks_apart_by_few_rows():
    angle = np.random.RandomState(0).uniform(0, 4.5, size=400)
    X = np.c_[np.cos(angle), np.sin(angle)]
    grid = {"architecture__hidden_layer_sizes": [(1,), (16,)]}

    def search(min_resources):
        model = AutoencoderTransformer(
            1, architecture=MLP(), max_epochs=40, random_state=0
        )
        halving = HalvingGridSearchCV(
            model, grid, factor=2, min_resources=min_resources, cv=2, random_state=0
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            halving.fit(X)
        # Of the fits alone: 40 epochs are few, and so are the rows of a fold.
        kinds = (ConvergenceWarning, InitialWeightsWarning)
        assert all(issubclass(warning.category, kinds) for warning in caught)
        kept = [w for w in caught if "too few rows" in str(w.message)]
        results = halving.cv_results_
        return results["mean_test_score"][results["iter"] == 0], kept

    # Folds of fewer than 80 training rows: all candidates stay PCA there, and their
    # order decides which one is fitted to more rows.
    scores, kept = search(min_resources=100)
    # All fits say the same, at the line of the search.
    assert len(kept) >= 4
    assert len({(str(w.message), w.filename, w.lineno) for w in kept}) == 1
    assert kept[0].filename == __file__
    assert kept[0].category is InitialWeightsWarning
    assert "min_resources" in str(kept[0].message)
    pca = cross_val_score(
        PCA(1), X[:100], cv=2, scoring=reconstruction_scorer, error_score="raise"
    )
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] == pytest.approx(pca.mean(), abs=0.05)
    # The remedy is `min_resources`.
    scores, _ = search(min_resources=200)
    assert scores[1] > scores[0] + 0.05


# Ensembles


@encoders
def test_stacking(encoder, frame):
    def stack(which):
        members = [("code", classify(which)), ("all", LogisticRegression(max_iter=500))]
        model = StackingClassifier(members, cv=2)
        return model.fit(frame, SPECIES)

    found, expected = stack(encoder), stack("PCA")
    assert found.score(frame, SPECIES) > 0.9
    for model in found, expected:
        model.set_output(transform="pandas")
    out, as_pca = found.transform(frame), expected.transform(frame)
    assert list(out.columns) == list(as_pca.columns)
    assert_like(encoder, out.to_numpy(), as_pca.to_numpy())


@encoders
def test_voting_and_bagging(encoder):
    def vote(which):
        members = [("code", classify(which)), ("other", classify(which, 1))]
        return VotingClassifier(members, voting="soft")

    def bag(which):
        return BaggingClassifier(
            classify(which), n_estimators=2, max_features=3, random_state=0
        )

    for ensemble in vote, bag:
        found, expected = (
            ensemble(which).fit(FLOWERS, SPECIES).predict_proba(FLOWERS)
            for which in (encoder, "PCA")
        )
        assert_like(encoder, found, expected)


# Oversampling


class Oversampler:
    """Draw rows of the smaller classes, as the samplers of imbalanced-learn do.

    Parameters
    ----------
    transformer : AutoencoderTransformer
        Fitted to the rows of each class.
    """

    def __init__(self, transformer):
        self.transformer = transformer

    def fit_resample(self, X, y):
        """Return the rows and labels, and as many drawn ones as classes lack."""
        labels, counts = np.unique(y, return_counts=True)
        rows, targets = [X], [y]
        for label, count in zip(labels, counts, strict=True):
            if count < counts.max():
                model = clone(self.transformer).fit(X[y == label])
                n_missing = counts.max() - count
                rows.append(model.sample(n_missing, random_state=0))
                targets.append(np.full(n_missing, label))
        return np.concatenate(rows), np.concatenate(targets)


def test_oversampling_with_sample():
    X, y = load_wine(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y == 1).astype(int)
    rng = np.random.RandomState(0)
    order = rng.permutation(len(y))
    train, test = order[:110], order[110:]
    few = train[y[train] == 1][:12]
    train = np.r_[train[y[train] == 0], few]
    sampler = Oversampler(AutoencoderTransformer(3, random_state=0))
    more, labels = sampler.fit_resample(X[train], y[train])
    assert np.bincount(labels).tolist() == [np.sum(y[train] == 0)] * 2
    np.testing.assert_array_equal(more[: len(train)], X[train])
    # What is drawn resembles its class, and not the other one.
    drawn = more[len(train) :]
    distances = [
        np.linalg.norm(drawn - X[y == label].mean(axis=0), axis=1).mean()
        for label in (0, 1)
    ]
    assert distances[1] < distances[0]
    # The classifier is not drawn to the larger class any more.
    before, after = (
        balanced_accuracy_score(
            y[test], LogisticRegression(C=0.01).fit(*rows).predict(X[test])
        )
        for rows in ((X[train], y[train]), (more, labels))
    )
    assert after > before + 0.1
