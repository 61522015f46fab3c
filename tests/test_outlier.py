"""The detector in the place of IsolationForest."""

import warnings

import numpy as np
import pytest
from sklearn.base import is_outlier_detector
from sklearn.datasets import make_swiss_roll
from sklearn.metrics import roc_auc_score
from sklearn.utils import get_tags

from skae import AutoencoderOutlierDetector
from skae._outlier._thresholds import automatic
from skae.anomaly_scores import Combined, Neighbors
from skae.architectures import MLP
from skae.corruptions import Gaussian
from skae.exceptions import ContaminatedRowsWarning
from skae.losses import Bernoulli

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def small(**params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "max_epochs": 10,
        "random_state": 0,
    }
    return AutoencoderOutlierDetector(**defaults | params)


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0]


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"contamination": 0.2},
        {"early_stopping": False},
        {"architecture": MLP((8,), start="random"), "corruption": Gaussian()},
    ],
    ids=["default", "contamination", "no early stopping", "denoising"],
)
def detector(request, roll):
    return small(**request.param).fit(roll)


# The contract of outlier detectors


def test_decision_function_is_the_score_minus_the_offset(detector, roll):
    np.testing.assert_array_equal(
        detector.decision_function(roll),
        detector.score_samples(roll) - detector.offset_,
    )


def test_predict_is_the_sign_of_the_decision(detector, roll):
    rows = np.r_[roll, 100 * roll[:1]]
    labels = detector.predict(rows)
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(labels == -1, detector.decision_function(rows) < 0)
    assert set(labels.tolist()) == {-1, 1}


def test_fit_predict_is_fit_then_predict(roll):
    model = small()
    np.testing.assert_array_equal(
        small().fit_predict(roll), model.fit(roll).predict(roll)
    )


def test_fit_predict_takes_what_fit_takes(roll, rng):
    weight = rng.uniform(size=len(roll))
    model = small().fit(roll, sample_weight=weight)
    labels = small().fit_predict(roll, sample_weight=weight)
    np.testing.assert_array_equal(labels, model.predict(roll))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_double_precision(roll, dtype):
    model = small(calibration_fraction=0.2).fit(roll.astype(dtype))
    assert model.score_samples(roll.astype(dtype)).dtype == np.float64
    assert model.score_samples(roll.astype(dtype)).shape == (len(roll),)


def test_the_default_score_is_what_the_manual_says(detector, roll):
    params = detector.get_params(deep=False)
    share = 0.0 if params["contamination"] == "auto" else params["contamination"]
    params["anomaly_score"] = Combined(contamination=share)
    explicit = AutoencoderOutlierDetector(**params).fit(roll)
    np.testing.assert_array_equal(
        explicit.decision_function(roll), detector.decision_function(roll)
    )


def test_tags():
    assert is_outlier_detector(AutoencoderOutlierDetector())
    tags = get_tags(AutoencoderOutlierDetector())
    assert tags.estimator_type == "outlier_detector"
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert not tags.non_deterministic
    assert tags.input_tags.sparse
    assert tags.input_tags.allow_nan


# The threshold


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5])
def test_contamination_is_the_share_of_outliers(roll, share):
    labels = small(contamination=share).fit_predict(roll)
    assert np.count_nonzero(labels == -1) == pytest.approx(share * len(roll), abs=1)


@pytest.mark.parametrize("n_rows", [2, 3, 4])
def test_few_rows_have_finite_scores_with_any_contamination(rng, n_rows):
    X = rng.normal(size=(n_rows, 3))
    for share in (0.1, 0.3, 0.5):
        model = small(contamination=share).fit(X)
        assert np.isfinite(model.score_samples(X)).all()
        assert (model.predict(X) == 1).any()
        np.testing.assert_array_equal(model.predict(X[:1] + 50.0), [-1])


def test_contamination_does_not_change_scores_that_are_given(roll):
    scores = [
        small(contamination=c, anomaly_score=Combined()).fit(roll).score_samples(roll)
        for c in ("auto", 0.01, 0.5)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_offset_falls_with_less_contamination(roll):
    offsets = [small(contamination=c).fit(roll).offset_ for c in (0.01, 0.1, 0.3)]
    assert offsets == sorted(offsets)


def test_auto_threshold_comes_from_rows_that_judged(roll):
    judges, _ = make_swiss_roll(200, random_state=1)
    model = small().fit(roll, X_val=judges)
    assert model.offset_ == automatic(model.score_samples(judges))
    # Too many rows to be scored by models of each other, and none that judge.
    many, _ = make_swiss_roll(600, random_state=0)
    model.set_params(early_stopping=False).fit(many)
    assert model.offset_ == automatic(model.score_samples(many))


@pytest.mark.slow
def test_auto_raises_few_false_alarms_on_new_rows():
    # With 100 rows that judge, the 1 % quantile itself varies a lot: take the mean.
    rates = []
    for seed in range(8):
        rng = np.random.RandomState(seed)
        mixing = rng.normal(size=(3, 8))
        train, fresh = (
            rng.normal(size=(n, 3)) @ mixing + 0.3 * rng.normal(size=(n, 8))
            for n in (1000, 5000)
        )
        model = small(n_components=3, max_epochs=3, random_state=seed).fit(train)
        rates.append(np.mean(model.predict(fresh) == -1))
    assert 0.005 < np.mean(rates) < 0.03


@pytest.mark.parametrize("n_outliers", [0, 10, 50, 100])
def test_labels_bear_outliers_among_the_training_rows(rng, n_outliers):
    X, wide = rng.normal(size=(2, 1000, 5))
    X[:n_outliers] = 5 * wide[:n_outliers]
    model = small(max_epochs=3).fit(X)
    normal, outliers = rng.normal(size=(2, 1000, 5))
    assert np.mean(model.predict(normal) == -1) < 0.03
    found = np.mean(model.predict(5 * outliers) == -1)
    assert found > (0.9 if n_outliers <= 50 else 0.7)


def test_many_outliers_among_the_training_rows_are_noticed(rng):
    X, wide = rng.normal(size=(2, 2000, 5))
    contaminated = X.copy()
    contaminated[::10] = 6 * wide[::10]
    with pytest.warns(ContaminatedRowsWarning, match=r"contamination=0\.") as caught:
        small(max_epochs=3).fit(contaminated)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", ContaminatedRowsWarning)
        small(max_epochs=3).fit(X)
        told = small(max_epochs=3, contamination=0.1).fit(contaminated)
    new = 6 * rng.normal(size=(1000, 5))
    assert np.mean(told.predict(new) == -1) > 0.9


# The scores


def test_scores_tell_rows_apart(detector, roll):
    scores = detector.score_samples(roll)
    assert len(np.unique(scores)) > len(roll) / 2
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("contaminated", [False, True])
@pytest.mark.parametrize("kind", ["far along an axis", "off the structure"])
def test_planted_outlier_comes_first(kind, contaminated, rng):
    latent = rng.normal(size=(300, 2))
    mixing = rng.normal(size=(2, 8))
    X = latent @ mixing + 0.1 * rng.normal(size=(300, 8))
    outlier = X[0].copy()
    if kind == "far along an axis":
        outlier[3] += 20 * X[:, 3].std()
    else:
        # Every column is as usual, but they do not belong together.
        outlier = X.std(axis=0) * np.where(np.arange(8) % 2, 1, -1)
    fitted = np.r_[X, [outlier]] if contaminated else X
    model = small().fit(fitted)
    scores = model.score_samples(np.r_[X, [outlier]])
    assert scores.argmin() == 300
    assert model.predict([outlier]) == -1


def test_rows_without_the_structure_stand_out(rng):
    normal = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8))
    # Columns shuffled on their own: same margins, no structure.
    shuffled = np.column_stack([rng.permutation(column) for column in normal.T])
    scores = small().fit(normal).score_samples(np.r_[normal, shuffled])
    assert roc_auc_score(np.arange(600) >= 300, -scores) > 0.95


@pytest.mark.parametrize("scaling", ["auto", "minmax"])
def test_any_change_of_a_constant_column_counts_the_same(roll, scaling):
    constant = np.full((300, 1), 5.0)
    model = small(scaling=scaling).fit(np.c_[roll, constant])
    fresh = make_swiss_roll(300, random_state=1)[0]
    before, small_change, large_change = (
        model.score_samples(np.c_[fresh, constant + change])
        for change in (0, 1e-3, 1e6)
    )
    assert small_change.max() < before.min()
    np.testing.assert_allclose(small_change, large_change, rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_rows_of_a_constant_table_have_one_score_in_any_batch(constant):
    X = np.full((11, 2), constant)
    # Corruption moves the reconstruction: residuals are equal, and not zero.
    model = AutoencoderOutlierDetector(
        1, corruption=Gaussian(0.1), max_epochs=1, random_state=0
    ).fit(X)
    scores = np.concatenate([model.score_samples(X[:n]) for n in range(1, 12)])
    np.testing.assert_allclose(scores, scores[0], rtol=1e-9)
    scores = model.score_samples(X.astype(np.float32))
    np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
    changed = model.score_samples(X + np.array([0.0, 1.0]))
    assert (changed < scores.min() - 1.0).all()


@pytest.mark.parametrize(
    "score", [None, Neighbors(space="data"), Neighbors(3), Neighbors(20)]
)
def test_rows_with_many_copies_have_one_score_in_any_batch(rng, score):
    # Which of the copies is the nearest is a matter of rounding.
    X, new = (1.0 * (rng.uniform(size=(n, 6)) < 0.3) for n in (800, 100))
    model = small(anomaly_score=score, max_epochs=3).fit(X)
    single = [model.score_samples(row)[0] for row in new[:, np.newaxis]]
    np.testing.assert_allclose(model.score_samples(new), single, rtol=1e-9)
    scores = model.score_samples(new.astype(np.float32))
    np.testing.assert_allclose(scores, single, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("scaling", ["global"])
def test_drift_of_a_constant_column_does_not_explode(roll, scaling):
    constant = np.full((300, 1), 5.0)
    model = small(scaling=scaling, calibration_fraction=0.2)
    model.fit(np.c_[roll, constant])
    # Rows that are no copies of training rows: a copy that drifts is one no longer.
    fresh = make_swiss_roll(300, random_state=1)[0]
    before = model.score_samples(np.c_[fresh, constant])
    after = model.score_samples(np.c_[fresh, constant + 1e-3])
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    # A change that is large beside the other columns is seen, none the less.
    assert model.score_samples(np.c_[fresh, constant + 1e3]).max() < before.min()


@pytest.mark.parametrize("query", ["score_samples", "predict", "p_values", "explain"])
def test_rows_outside_the_domain_of_the_loss_have_no_score(rng, query):
    X = rng.uniform(size=(60, 3))
    model = small(loss=Bernoulli(), calibration_fraction=0.2).fit(X)
    with pytest.raises(ValueError, match=r"Bernoulli is a loss for data in \[0.0, 1.0"):
        getattr(model, query)(X + 0.5)
    getattr(model, query)(X)


def test_scale_of_columns_does_not_matter(X):
    model, other = small(), small()
    scales = np.array([1e-3, 1.0, 1e3, 1.0, 10.0, 0.1])
    scores = model.fit(X).score_samples(X)
    np.testing.assert_allclose(
        other.fit(X * scales).score_samples(X * scales), scores, rtol=1e-4, atol=1e-6
    )


def test_the_order_of_a_periodic_table_does_not_matter(rng):
    # Rows of four phases; outliers have the values of one phase in another place.
    angle = np.pi / 2 * (np.arange(4096) % 4)
    X = np.c_[3 * np.cos(angle), 3 * np.sin(angle)] + 0.1 * rng.normal(size=(4096, 2))
    normal, outliers = X[:400], rng.normal(size=(200, 2))
    scores = {}
    for name, rows in ("in order", X), ("shuffled", rng.permutation(X)):
        model = small(architecture=MLP(()), max_epochs=1, random_state=0).fit(rows)
        found = model.score_samples(np.r_[normal, outliers])
        scores[name] = roc_auc_score(np.arange(600) < 400, found)
    assert scores["in order"] == pytest.approx(scores["shuffled"], abs=0.02)
    assert scores["in order"] > 0.95
