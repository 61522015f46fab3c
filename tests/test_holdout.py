"""Rows that are held out: at random, the last, whole groups, or by a splitter."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.holdout import Holdout, neighbours_are_alike
from skae._data.source import Dense
from skae.exceptions import DependentRowsWarning

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::skae.exceptions.InitialWeightsWarning",
)

BOTH = pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)


def groups_of(rng, n):
    return np.unique(rng.randint(12, size=n), return_inverse=True)[1]


@pytest.mark.parametrize("split", ["random", "last"])
@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_a_partition_in_whole_groups(split, grouped, rng):
    groups = groups_of(rng, 103) if grouped else None
    folds = Holdout(split, groups).folds(103, 5, np.random.RandomState(0))
    assert len(folds) == 5
    tests = np.concatenate([test for _, test in folds])
    np.testing.assert_array_equal(np.sort(tests), np.arange(103))
    for train, test in folds:
        np.testing.assert_array_equal(np.union1d(train, test), np.arange(103))
        assert not np.isin(train, test).any()
        if grouped:
            assert not np.isin(groups[train], groups[test]).any()
        else:
            assert len(test) in (20, 21)
        if split == "last" and not grouped:
            assert np.ptp(test) == len(test) - 1


@pytest.mark.parametrize("sizes", [(1, 99), (99, 1), (50, 50), (2, 96, 2), (30, 70)])
def test_no_fold_has_all_groups(sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for split in ("random", "last"):
        folds = Holdout(split, groups).folds(100, 5, np.random.RandomState(0))
        assert len(folds) >= 2
        assert all(len(train) and len(test) for train, test in folds)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_last_rows_are_held_out(grouped, rng):
    groups = np.arange(100) // 7 if grouped else None
    found = Holdout("last", groups).draw(100, 10, None)
    # 14 groups of seven and one of two: two and a part of a third do not exist.
    expected = np.arange(84 if grouped else 90, 100)
    np.testing.assert_array_equal(found, expected)


def test_a_draw_is_of_whole_groups_about_as_many_rows(rng):
    groups = groups_of(rng, 600)
    for seed in range(20):
        found = Holdout("random", groups).draw(600, 60, np.random.RandomState(seed))
        others = np.setdiff1d(np.arange(600), found)
        assert not np.isin(groups[others], groups[found]).any()
        assert 60 <= len(found) < 60 + np.bincount(groups).max()
    # A group that is most of the table is not held out, if others can be.
    groups = np.repeat([0, 1, 2], [90, 5, 5])
    for seed in range(5):
        found = Holdout("random", groups).draw(100, 10, np.random.RandomState(seed))
        np.testing.assert_array_equal(found, np.arange(90, 100))


def test_a_splitter_decides_itself():
    holdout = Holdout(TimeSeriesSplit(4, gap=3))
    np.testing.assert_array_equal(holdout.draw(100, 7, None), np.arange(80, 100))
    train, _ = holdout.folds(100, 5, None)[-1]
    np.testing.assert_array_equal(train, np.arange(77))
    assert holdout.n_folds(100, 5) == 4


@pytest.mark.slow
@BOTH
def test_validation_rows_are_those_of_the_split(estimator, rng):
    X = rng.normal(size=(400, 4))
    for split, n_rows in (("last", 50), (KFold(8), 50)):
        model = estimator(2, validation_split=split, max_epochs=2, random_state=0)
        model.fit(X)
        assert model.diagnostics_["n_held_out"] == n_rows
        # The last rows are not trained on: what they are does not show in the loss of
        # the first epoch, but for the scaling.
        held_out = model.set_params(scaling=None).fit(X).history_["train_loss"][0]
        X_other = X.copy()
        X_other[-50:] = X[-50:][::-1]
        other = model.fit(X_other).history_["train_loss"][0]
        assert other == pytest.approx(held_out, rel=1e-5)


@BOTH
def test_groups_of_rows_of_no_weight_are_dropped(estimator, rng):
    X, groups = rng.normal(size=(200, 4)), np.arange(200) // 10
    weight = np.ones(200)
    weight[:20] = 0
    model = estimator(2, max_epochs=2, random_state=0)
    a = model.fit(X, sample_weight=weight, groups=groups).transform(X)
    b = model.fit(X[20:], groups=groups[20:]).transform(X)
    np.testing.assert_array_equal(a, b)


@BOTH
@pytest.mark.parametrize(
    ("params", "groups", "message"),
    [
        ({}, np.zeros(100), "groups must have at least two"),
        ({}, np.zeros(99), "inconsistent numbers"),
        ({}, [None] * 50 + ["a"] * 50, "groups must be one label per row.* missing"),
        ({}, np.r_[np.nan, np.ones(99)], "groups must be one label per row.* missing"),
        ({}, [np.nan] + ["a", "b", "c"] * 33, "groups must be one label .* missing"),
        ({}, np.zeros((100, 2)), "groups must be one label per row"),
        ({"validation_split": "first"}, None, "validation_split"),
        ({"validation_split": 0.2}, None, "validation_split"),
        ({"validation_split": GroupKFold(3)}, None, "=GroupKFold.*groups"),
        ({"validation_split": StratifiedKFold(3)}, None, "stratified splitters need"),
        ({"validation_split": KFold(101)}, None, "=KFold.*100 rows"),
    ],
)
def test_what_cannot_be_held_out_is_refused(estimator, params, groups, message, rng):
    model = estimator(2, **params)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(rng.normal(size=(100, 4)), groups=groups)
    assert not hasattr(model, "_model")


@BOTH
def test_a_splitter_of_more_rows_than_those_of_positive_weight(estimator, rng):
    X, weight = rng.normal(size=(100, 4)), np.ones(100)
    split = PredefinedSplit(np.repeat([-1, 0], [60, 40]))
    model = estimator(2, validation_split=split, max_epochs=2, random_state=0)
    assert model.fit(X).diagnostics_["n_held_out"] == 40
    # Its row 60 would be another row of those that are left.
    weight[0] = 0
    with pytest.raises(ValueError, match=r"=PredefinedSplit.* positive weight"):
        clone(model).fit(X, sample_weight=weight)


def _calibrates(detector, X):
    """Return which rows have one of the calibration scores."""
    # Scores of a row differ by rounding between batches of another size.
    scores = detector.score_samples(X)[:, None]
    near = np.isclose(scores, detector.calibration_scores_, rtol=1e-6, atol=0)
    assert (near.sum(axis=0) == 1).all()
    return near.any(axis=1)


def test_calibration_groups_are_those_of_rows_with_weight(rng):
    groups = np.repeat(np.arange(6), 20)
    X = np.c_[rng.normal(size=(120, 3)), groups]
    weight = np.ones(120)
    weight[::7] = 0
    model = AutoencoderOutlierDetector(
        2, calibration_fraction=0.3, max_epochs=2, random_state=0
    ).fit(X, sample_weight=weight, groups=groups)
    held_out = _calibrates(model, X)
    assert not held_out[weight == 0].any()
    for group in range(6):
        # All rows of a group that count, or none.
        assert np.unique(held_out[(groups == group) & (weight > 0)]).size == 1


def test_calibration_rows_are_whole_groups_too(rng):
    groups = rng.permutation(np.arange(300) // 10)
    X = np.c_[rng.normal(size=(300, 3)), groups]
    model = AutoencoderOutlierDetector(
        2, calibration_fraction=0.2, max_epochs=2, random_state=0
    ).fit(X, groups=groups)
    assert len(model.calibration_scores_) == 60
    held_out = _calibrates(model, X)
    assert np.unique(groups[held_out]).size == 6
    model.set_params(validation_split="last").fit(X)
    np.testing.assert_allclose(model.score_samples(X[-60:]), model.calibration_scores_)
    model.set_params(validation_split=KFold(3))
    with pytest.raises(ValueError, match=r"calibration_fraction .* splitter"):
        model.fit(X)


@pytest.mark.slow
def test_groups_are_routed(rng):
    X, groups = rng.normal(size=(120, 4)), np.arange(120) // 10
    with config_context(enable_metadata_routing=True):
        detector = AutoencoderOutlierDetector(2, max_epochs=2, random_state=0)
        detector.set_fit_request(groups=True)
        pipe = make_pipeline(StandardScaler(), detector).fit(X, groups=groups)
        scaled = StandardScaler().fit_transform(X)
        expected = detector.fit(scaled, groups=groups).offset_
        assert pipe[-1].offset_ == expected != detector.fit(scaled).offset_
        found = cross_validate(
            detector,
            X,
            cv=GroupKFold(2),
            params={"groups": groups},
            error_score="raise",
        )
    assert np.isfinite(found["test_score"]).all()


def windows(n, rng):
    noise, x = rng.normal(size=n), np.zeros(n)
    for i in range(1, n):
        x[i] = 0.95 * x[i - 1] + noise[i]
    return np.lib.stride_tricks.sliding_window_view(x, 48).copy()


def machines(n, rng):
    level = np.repeat(3 * rng.normal(size=(n, 8)), 40, axis=0)
    return level + rng.normal(size=level.shape)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["windows", "machines"])
def test_dependent_rows_keep_the_promised_rate(kind):
    rng = np.random.RandomState(0)
    if kind == "windows":
        X, new = windows(1000, rng), windows(8000, rng)[::5]
        split, groups = "last", None
    else:
        X, new = machines(30, rng), machines(60, rng)
        split, groups = "random", np.repeat(np.arange(30), 40)
    model = AutoencoderOutlierDetector(max_epochs=20, random_state=0)
    with pytest.warns(DependentRowsWarning, match="validation_split='last'"):
        model.fit(X)
    assert np.mean(model.predict(new) == -1) > 0.1
    model.set_params(validation_split=split).fit(X, groups=groups)
    assert np.mean(model.predict(new) == -1) < 0.03


@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer, load_diabetes, load_digits]
)
def test_ordinary_tables_are_not_taken_for_series(load, rng):
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    for rows in (X, X[np.argsort(y, kind="stable")], X[rng.permutation(len(X))]):
        assert not neighbours_are_alike(Dense(rows))


def test_shuffled_or_equal_rows_are_not_alike(rng):
    X = windows(1000, rng)
    assert neighbours_are_alike(Dense(X))
    assert not neighbours_are_alike(Dense(rng.permutation(X)))
    assert not neighbours_are_alike(Dense(np.ones((500, 3))))
    assert not neighbours_are_alike(Dense((rng.uniform(size=(500, 4)) < 0.02) * 1.0))
