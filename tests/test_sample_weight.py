"""How rows count."""

import numpy as np
import pytest
from _estimators import new
from sklearn import config_context
from sklearn.datasets import make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import Reconstruction
from skae.architectures import MLP
from skae.penalties import L1

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0]


def trained(estimator, X, sample_weight=None, **params):
    """Fit with held-out rows, so that they are weighted too."""
    model = estimator(
        2, architecture=MLP((8,)), max_epochs=4, lr=2e-2, random_state=0, **params
    )
    return model.fit(X, sample_weight=sample_weight)


def assert_equal_fits(a, b, X):
    """Bit for bit."""
    np.testing.assert_array_equal(a.transform(X), b.transform(X))
    np.testing.assert_array_equal(a.reconstruct(X), b.reconstruct(X))
    np.testing.assert_array_equal(a.mean_, b.mean_)
    np.testing.assert_array_equal(a.history_["valid_loss"], b.history_["valid_loss"])
    assert a.explained_variance_ratio_.tolist() == b.explained_variance_ratio_.tolist()
    assert getattr(a, "offset_", None) == getattr(b, "offset_", None)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_weights_are_none(roll, estimator):
    expected = trained(estimator, roll)
    # Any number but one alone makes sums of weights that are rounded.
    for value in (1, 0.1, 7e5):
        weighted = trained(estimator, roll, np.full(len(roll), value))
        assert_equal_fits(weighted, expected, roll)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_rows_of_weight_zero_are_not_there(roll, estimator, contamination, rng):
    params = (
        {} if estimator is AutoencoderTransformer else {"contamination": contamination}
    )
    weight = rng.uniform(0.5, 2, size=len(roll)) * (rng.uniform(size=len(roll)) > 0.2)
    counts = weight > 0
    X = np.where(counts[:, None], roll, 1e6)  # nobody may look at them
    weighted = trained(estimator, X, weight, **params)
    removed = trained(estimator, roll[counts], weight[counts], **params)
    assert_equal_fits(weighted, removed, roll)


def test_weight_of_every_row_matters(roll, rng):
    weight = rng.uniform(0.5, 2, size=len(roll))
    model = trained(AutoencoderTransformer, roll, weight)
    for row in (0, len(roll) - 1):
        changed = weight.copy()
        changed[row] *= 3
        other = trained(AutoencoderTransformer, roll, changed)
        assert not np.array_equal(model.transform(roll), other.transform(roll))


@pytest.mark.parametrize("scaling", ["global", "standard", None])
def test_integer_weights_start_like_repeated_rows(X, scaling, rng):
    X = X[:30]
    weight = rng.randint(1, 4, size=len(X))
    repeated = np.repeat(X, weight, axis=0)
    model = AutoencoderTransformer(3, scaling=scaling)
    expected = AutoencoderTransformer(3, scaling=scaling).fit(repeated)
    model.fit(X, sample_weight=weight)
    for name in ("mean_", "scale_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(model, name), getattr(expected, name), 1e-6)
    np.testing.assert_allclose(
        model.pca_reconstruction_error_, expected.pca_reconstruction_error_, rtol=1e-6
    )
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-5)
    np.testing.assert_allclose(model.transform(X), expected.transform(X), atol=1e-4)


def test_weighted_start_is_pca_of_repeated_rows(X, rng):
    X = X[:79]
    weight = rng.randint(1, 4, size=len(X))
    pca = PCA(3).fit(np.repeat(X, weight, axis=0))
    model = AutoencoderTransformer(3).fit(X, sample_weight=weight)
    np.testing.assert_allclose(model.mean_, pca.mean_)
    np.testing.assert_allclose(model.transform(X), pca.transform(X), atol=1e-4)


@pytest.mark.slow
def test_contamination_is_a_share_of_the_weight(X):
    scores = AutoencoderOutlierDetector(3).fit(X).score_samples(X)
    weight = np.where(scores < np.median(scores), 1, 10)
    model = AutoencoderOutlierDetector(3, contamination=0.2)
    labels = model.fit(X, sample_weight=weight).predict(X)
    outlying = weight[labels == -1].sum() / weight.sum()
    one_row = weight.max() / weight.sum()
    assert abs(outlying - 0.2) < 1.001 * one_row


@pytest.mark.parametrize("params", [{}, {"n_estimators": 2}])
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_equal_weights_are_none_where_rows_are_held_back(roll, params, contamination):
    params = params | {"calibration_fraction": 0.3, "contamination": contamination}
    weighted, plain = (
        trained(AutoencoderOutlierDetector, roll, weight, **params)
        for weight in (np.full(len(roll), 3.0), None)
    )
    np.testing.assert_array_equal(
        weighted.calibration_scores_, plain.calibration_scores_
    )
    np.testing.assert_array_equal(
        weighted.decision_function(roll), plain.decision_function(roll)
    )


def test_integer_weights_set_the_threshold_of_repeated_rows(X, rng):
    # A score that remembers no rows: of weighted ones as many are remembered as there
    # are rows, of repeated ones as many as their weights say.
    X = X[:30]
    weight = rng.randint(1, 4, size=len(X))
    repeated = np.repeat(X, weight, axis=0)
    params = {"contamination": 0.15, "anomaly_score": Reconstruction()}
    model, other = (AutoencoderOutlierDetector(3, **params) for _ in range(2))
    model.fit(X, sample_weight=weight)
    scores = np.sort(other.fit(repeated).score_samples(repeated))
    # Only without weights is a threshold interpolated, between neighbouring scores.
    expected = np.quantile(scores, 0.15, method="inverted_cdf")
    assert model.offset_ == pytest.approx(expected, rel=1e-4)
    bounds = (np.quantile(scores, 0.15, method=m) for m in ("lower", "higher"))
    lower, higher = bounds
    # Equal scores count as equal, to rounding.
    assert 1.0001 * lower <= other.offset_ <= 0.9999 * higher


def test_held_out_rows_are_weighted(roll):
    # Rows far out that count for next to nothing.
    far = np.arange(len(roll)) % 5 == 0
    X = np.where(far[:, np.newaxis], 1000 * roll, roll)
    model = trained(AutoencoderTransformer, X, np.where(far, 1e-9, 1.0))
    expected = trained(AutoencoderTransformer, roll)
    loss, as_without = (m.diagnostics_["initial_loss"] for m in (model, expected))
    assert loss == pytest.approx(as_without, rel=0.5)
    assert model.history_["valid_loss"].max() < 10 * as_without


@pytest.mark.parametrize("penalty", [None, L1(1e-6)], ids=["closed form", "autograd"])
def test_weights_draw_the_reconstruction_to_their_rows(penalty, rng):
    # Two groups along two axes, and a code with room for one of them.
    first = np.arange(300) < 100
    X = rng.normal(size=(300, 1)) * np.where(first[:, np.newaxis], [3, 0], [0, 3])
    X += rng.normal(scale=0.1, size=X.shape)
    params = {"early_stopping": False, "max_epochs": 40, "penalty": penalty}
    model = AutoencoderTransformer(
        1, architecture=MLP((), start="random"), random_state=0, **params
    )
    error = model.fit(X).reconstruction_error(X)
    assert error[~first].mean() < 0.5 < error[first].mean()
    error = model.fit(X, sample_weight=np.where(first, 20, 1)).reconstruction_error(X)
    assert error[first].mean() < 0.5 < error[~first].mean()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_score_is_weighted(X, estimator, rng):
    weight = rng.randint(0, 4, size=len(X))
    model = estimator(2).fit(X, sample_weight=weight)
    expected = r2_score(
        X, model.reconstruct(X), sample_weight=weight, multioutput="variance_weighted"
    )
    assert model.score(X, sample_weight=weight) == pytest.approx(expected)
    assert model.score(X, sample_weight=weight) != pytest.approx(model.score(X))
    assert model.explained_variance_ratio_.sum() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(150), "at least one non-zero|positive for 0 rows"),
        (np.eye(150)[3], "sample_weight.* positive for 1 rows"),
        (-np.eye(150)[3] + 1e-3, "[Nn]egative .*sample_weight"),
        (np.where(np.arange(150) == 3, np.nan, 1.0), "sample_weight contains NaN"),
        (np.where(np.arange(150) == 3, np.inf, 1.0), "sample_weight contains infinity"),
        (np.ones(149), "sample_weight.shape == .149,., expected .150,."),
        (np.ones((150, 2)), "1D|1-d"),
    ],
)
def test_weights_that_cannot_be(X, weight, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2).fit(X, sample_weight=weight)


def test_two_rows_that_count_are_enough(X):
    weight = np.zeros(len(X))
    weight[[3, 5]] = 1
    model = AutoencoderTransformer(1).fit(X, sample_weight=weight)
    np.testing.assert_allclose(model.reconstruct(X[[3, 5]]), X[[3, 5]], atol=1e-4)


# Routing


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_are_routed_through_a_pipeline(X, estimator, rng):
    weight = rng.uniform(size=len(X))
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            new(estimator, 2).set_fit_request(sample_weight=True),
        ).fit(X, sample_weight=weight)
    scaled = StandardScaler().fit(X, sample_weight=weight).transform(X)
    expected = new(estimator, 2).fit(scaled, sample_weight=weight).transform(scaled)
    np.testing.assert_array_equal(pipeline.transform(X), expected)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_are_routed_through_cross_validation(X, estimator, rng):
    weight = rng.uniform(size=len(X))
    with config_context(enable_metadata_routing=True):
        model = (
            new(estimator, 2)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        results = cross_validate(
            model, X, params={"sample_weight": weight}, cv=3, return_estimator=True
        )
    test = np.arange(50)  # the first fold
    train = np.arange(50, 150)
    expected = new(estimator, 2).fit(X[train], sample_weight=weight[train])
    np.testing.assert_array_equal(results["estimator"][0].mean_, expected.mean_)
    assert results["test_score"][0] == expected.score(
        X[test], sample_weight=weight[test]
    )


def test_validation_rows_are_routed_through_the_steps_before(X):
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                (
                    "encode",
                    AutoencoderTransformer(
                        2, architecture=MLP((8,)), max_epochs=3, random_state=0
                    ).set_fit_request(X_val=True),
                ),
            ],
            transform_input=["X_val"],
        ).fit(X[:100], X_val=X[100:])
    scaler = StandardScaler().fit(X[:100])
    expected = AutoencoderTransformer(
        2, architecture=MLP((8,)), max_epochs=3, random_state=0
    ).fit(scaler.transform(X[:100]), X_val=scaler.transform(X[100:]))
    assert expected.n_iter_ == 3
    np.testing.assert_array_equal(
        pipeline["encode"].history_["valid_loss"], expected.history_["valid_loss"]
    )
