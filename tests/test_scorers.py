"""Anomaly scores and copies, precision, cost and degenerate tables."""

from functools import partial

import numpy as np
import pytest
import torch
from _scores import Largest, Silent
from sklearn.ensemble import IsolationForest
from sklearn.metrics import f1_score, fbeta_score, roc_auc_score
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderOutlierDetector
from skae._data import source
from skae._data.subsample import subsample
from skae.anomaly_scores import (
    Combined,
    Mahalanobis,
    NegativeELBO,
    Neighbors,
    Reconstruction,
    _neighbors,
)
from skae.architectures import MLP
from skae.metrics import make_outlier_scorer

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

SCORES = [
    Combined(),
    Neighbors(3),
    Neighbors(space="data"),
    Mahalanobis(),
    Reconstruction(),
    NegativeELBO(),
    Combined([Reconstruction(), Mahalanobis()]),
]
all_scores = pytest.mark.parametrize("score", SCORES, ids=repr)


def small(**params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,), start="random"),
        "max_epochs": 3,
        "random_state": 0,
    }
    return AutoencoderOutlierDetector(**defaults | params)


@pytest.fixture
def held_out(X, rng):
    """Rows for the threshold; without them, five more models are trained."""
    return X[:60] + 0.1 * rng.normal(size=(60, 6))


# Copies


def test_a_row_is_not_its_own_neighbour(X, held_out):
    model = small(anomaly_score=Neighbors(1, space="data")).fit(X, X_val=held_out)
    known = model.score_samples(X[:5])
    assert (known < 0).all()
    # The same as if it were not stored.
    x = (X - model.mean_) / model.scale_
    squares = np.square(x[:5, None] - x[5:]).sum(axis=2)
    among_themselves = np.square(x[:5, None] - x[:5]).sum(axis=2) + 1e9 * np.eye(5)
    nearest = np.minimum(squares.min(axis=1), among_themselves.min(axis=1))
    np.testing.assert_allclose(-known, nearest, rtol=1e-9)


@pytest.mark.parametrize("space", ["data", "joint"])
def test_a_second_copy_is_a_neighbour(X, held_out, space):
    # Of a row that is there twice only one copy is the row itself.
    twice = np.r_[X, X[:3]]
    one, two = (
        small(anomaly_score=Neighbors(k, space=space)).fit(twice, X_val=held_out)
        for k in (1, 2)
    )
    assert (one.score_samples(X[3:]) < -1e-6).all()
    np.testing.assert_allclose(one.score_samples(X[:3]), 0, atol=1e-9)
    assert (two.score_samples(X[:3]) < -1e-6).all()


def test_parts_of_no_distance_are_not_negative(X):
    # Most neighbours have the same value in the first column: the rest is rounding.
    X = np.c_[X[:, 0] > 0, X]
    model = small(anomaly_score=Neighbors(5, space="data")).fit(X, X_val=X[:60])
    parts = model._ensemble.explain(X)[0]
    assert (parts >= 0).all()
    assert (parts[:, 0] < 1e-12).mean() > 0.5


@all_scores
def test_a_copy_of_a_training_row_is_scored_as_the_row(X, held_out, score):
    model = small(anomaly_score=score).fit(X, X_val=held_out)
    copies = np.repeat(X[:4], 3, axis=0)
    np.testing.assert_allclose(
        model.score_samples(copies),
        np.repeat(model.score_samples(X)[:4], 3),
        rtol=1e-9,
    )


# Precision


@all_scores
def test_single_precision_gives_the_same_scores(X, held_out, rng, score):
    X = X.astype(np.float32)
    fresh = np.r_[X, X + 0.3 * rng.normal(size=X.shape)].astype(np.float32)
    model = small(anomaly_score=score).fit(X, X_val=held_out)
    scores = model.score_samples(fresh)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(model.score_samples(fresh.astype(float)), scores, 2e-4)


def on_a_curve(t):
    return np.c_[t, t**2, np.sin(2 * t)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "score", [Neighbors(1, space="data"), Neighbors(1), Combined()], ids=repr
)
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_near_rows_have_the_same_scores_in_both_precisions(score, dtype, offset):
    # Neighbours are a thousandth of the length of the curve apart. Rounding the rows
    # themselves changes such distances by about 1e-4 of their size, and more if they
    # are nearer than most, or far from the origin.
    X = offset + on_a_curve(np.linspace(-2, 2, 900) + 1e-4 * np.sin(np.arange(900)))
    new = offset + on_a_curve(np.linspace(-1.999, 1.999, 170))
    model = small(n_components=1, anomaly_score=score, scaling="standard")
    model.fit(X.astype(dtype), X_val=X[::9].astype(dtype))
    for rows in (X, new):
        single = rows.astype(np.float32)
        scores = model.score_samples(rows)
        for same in (single, single.astype(np.float64)):
            ratio = model.score_samples(same) / scores
            assert np.abs(ratio - 1).max() < 0.05
            assert np.median(np.abs(ratio - 1)) < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_row_is_left_out_in_both_precisions(rng, dtype):
    X = on_a_curve(rng.uniform(-2, 2, size=800)).astype(dtype)
    model = small(n_components=1, anomaly_score=Neighbors(1, space="data"))
    model.fit(X, X_val=X[:60])
    x = (X.astype(np.float64) - model.mean_) / model.scale_
    squares = np.square(x[:, None] - x).sum(axis=2) + np.diag(np.full(800, np.inf))
    for rows in (X, X.astype(np.float32), X.astype(np.float64)):
        scores = -model.score_samples(rows)
        np.testing.assert_allclose(
            np.sqrt(scores), np.sqrt(squares.min(axis=1)), 0, 5e-7
        )


def test_a_near_row_is_no_copy(rng):
    # A thousandth of its length away: less than single precision leaves of squares.
    X = rng.normal(size=(200, 6))
    model = small(anomaly_score=Neighbors(1, space="data"), scaling=None)
    model.fit(X, X_val=X[:60])
    for size in (1e-2, 1e-3, 1e-4):
        near = (X + size * np.eye(6)[0]).astype(np.float32)
        scores = model.score_samples(near)
        np.testing.assert_allclose(scores, -(size**2), rtol=1e-2)


@all_scores
def test_a_row_has_its_score_alone_and_in_any_chunk(
    X, held_out, rng, score, monkeypatch
):
    rows = np.r_[X, X + 0.3 * rng.normal(size=X.shape)]
    model = small(anomaly_score=score).fit(X, X_val=held_out)
    together = model.score_samples(rows)
    alone = [model.score_samples(row[np.newaxis])[0] for row in rows]
    np.testing.assert_allclose(alone, together, rtol=1e-9)
    monkeypatch.setattr(_neighbors, "_MAX_DISTANCES", 7 * len(X))
    np.testing.assert_allclose(model.score_samples(rows), together, rtol=1e-9)
    parts = model._ensemble.explain(rows)[0]
    monkeypatch.setattr(source, "chunk_rows", lambda *args: 5)
    np.testing.assert_allclose(model.score_samples(rows), together, rtol=1e-9)
    np.testing.assert_allclose(
        model._ensemble.explain(rows)[0], parts, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("space", ["data", "joint"])
def test_rows_far_from_the_origin_keep_their_distances(X, space):
    score = Neighbors(1, space=space)
    scores = [
        small(anomaly_score=score, scaling=None, architecture=MLP(()))
        .fit(rows[:100], X_val=rows[:60])
        .score_samples(rows[100:])
        for rows in (X, X + 2.0**17)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-3)


# Cost


@pytest.fixture
def distances(monkeypatch):
    """Record the number of distances of each call, and of stored rows."""
    calls = []

    def recorded(self, u):
        calls.append((len(u), len(self.memory)))
        return original(self, u)

    original = _neighbors._Neighbors._distances
    monkeypatch.setattr(_neighbors._Neighbors, "_distances", recorded)
    return calls


def total(calls):
    return sum(rows * stored for rows, stored in calls)


def test_cost_grows_with_the_rows_not_with_their_square(rng, distances):
    costs = []
    for n in (2500, 5000):
        X = rng.normal(size=(n, 3))
        model = small(architecture=MLP(()), max_epochs=1).fit(X)
        of_fit = total(distances)
        distances.clear()
        model.score_samples(X)
        assert total(distances) == 2 * n * 1024  # two spaces
        assert max(rows * kept for rows, kept in distances) <= 2**22
        costs.append(of_fit)
        distances.clear()
    assert costs[1] <= 2 * costs[0]


@pytest.mark.parametrize("n_rows", [900, 1024, 1500])
def test_at_most_so_many_rows_are_stored(rng, n_rows):
    X = rng.normal(size=(n_rows, 3))
    score = Neighbors(1, space="data")
    model = small(anomaly_score=score, max_epochs=1).fit(X, X_val=X[:50])
    scores = model.score_samples(X)
    # A draw of each stratum of their order, and compared with new rows by brute force.
    kept = subsample(n_rows, 1024)
    x = (X - model.mean_) / model.scale_
    memory = x[kept]
    new = np.setdiff1d(np.arange(n_rows), kept)[:50]
    squares = np.square(x[new, None] - memory).sum(axis=2)
    np.testing.assert_allclose(-scores[new], squares.min(axis=1, initial=1e9), 1e-9)
    assert len(model._ensemble.members[0].scorer.memory) == min(n_rows, 1024)


@pytest.mark.parametrize("width", [1, 2, 100, 400, 1024])
def test_numpy_and_torch_select_the_same_distances(width, rng):
    values = torch.from_numpy(rng.normal(size=(30, width)))
    values[0] = 1.0
    values[1, 1:] = torch.inf
    for k in {1, min(3, width), (width + 1) // 2, width}:
        found = [_neighbors._smallest(values, k), _neighbors._nearest(values)]
        with torch.inference_mode():
            same = [_neighbors._smallest(values, k), _neighbors._nearest(values)]
        assert all(map(torch.equal, found, same))
        assert torch.equal(found[0], values.sort(dim=1).values[:, :k])


# Odd tables


def _constant(rng, n):
    return np.tile(rng.normal(size=4), (n, 1))


def _constant_columns(rng, n):
    return np.c_[rng.normal(size=(n, 2)), np.full((n, 2), 3.0)]


def _duplicates(rng, n):
    return np.repeat(rng.normal(size=(2, 4)), [1, n - 1], axis=0)


def _far(rng, n):
    return np.r_[rng.normal(size=(n - 1, 4)), np.full((1, 4), 1e6)]


TABLES = {
    "constant": _constant,
    "constant columns": _constant_columns,
    "duplicates": _duplicates,
    "far": _far,
}


# Every score and every table by default; together they are slow.
@pytest.mark.parametrize(
    ("score", "table", "n_rows"),
    [
        pytest.param(
            score,
            table,
            n_rows,
            marks=[] if (i - j) % 4 == 0 and i % 2 == m else pytest.mark.slow,
        )
        for i, score in enumerate(SCORES)
        for j, table in enumerate(TABLES)
        for m, n_rows in enumerate([40, 2])
    ],
    ids=repr,
)
def test_odd_tables_have_finite_scores(rng, score, table, n_rows):
    X = TABLES[table](rng, n_rows)
    model = small(anomaly_score=score).fit(X)
    rows = np.r_[X, X[:1] + 1, 1e3 * X[:1]]
    for query in (rows, rows.astype(np.float32)):
        assert np.isfinite(model.score_samples(query)).all()
        explanation = model.explain(query)
        for name in ("share", "code_share", "residual"):
            assert np.isfinite(explanation[name]).all()
    assert np.isfinite(model.offset_)


def test_equal_distances_give_equal_finite_scores():
    X = np.eye(40)
    model = small(anomaly_score=Neighbors(space="data")).fit(X, X_val=X)
    scores = model.score_samples(X)
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)
    farther = model.score_samples(np.r_[2 * X[:1], 3 * X[:1], 50 * X[:1]])
    assert np.isfinite(farther).all()
    assert (np.diff(np.r_[scores[0], farther]) < 0).all()


# One answer per row


def _rounded(rng):
    return np.round(rng.normal(20, 0.7, size=(700, 2))), [[26, 20], [20.5, 20]]


def _binary(rng):
    return 1.0 * (rng.uniform(size=(500, 6)) < 0.3), [[0.5] * 6, [2.0] * 6]


def _one_binary_column(rng):
    return np.array([[1.0], [-1.0]] * 25), [[0.0], [2.0], [-5.0]]


def _counts(rng):
    return 1.0 * rng.poisson(2, size=(500, 3)), [[40.0, 2, 2], [2.5, 2, 2]]


DISCRETE = [_rounded, _binary, _one_binary_column, _counts]


@pytest.mark.parametrize("table", DISCRETE)
def test_discrete_rows_have_one_score_and_one_label(rng, table):
    X, unseen = table(rng)
    model = small().fit(X)
    for threshold in ({}, {"quantile": 0.05}):
        model.calibrate(**threshold)
        labels, scores = model.predict(X), model.score_samples(X)
        rows, group = np.unique(X, axis=0, return_inverse=True)
        alone = [model.predict(row[np.newaxis])[0] for row in rows]
        np.testing.assert_array_equal(labels, np.array(alone)[group.ravel()])
        np.testing.assert_array_equal(model.predict(X.astype(np.float32)), labels)
        assert -1e6 < scores.min() <= scores.max() <= 0
    # What was often seen is more normal than what never was.
    often = rows[np.bincount(group.ravel()).argmax()][np.newaxis]
    assert model.score_samples(unseen).max() < model.score_samples(often)[0]


@pytest.mark.parametrize("unit", [1e-9, 1.0])
@pytest.mark.parametrize("scaling", ["auto", None])
def test_rows_that_come_back_exactly_are_normal(rng, scaling, unit):
    plane = rng.normal(size=(2, 4))
    X, new = unit * (3 + rng.normal(size=(2, 200, 2))) @ plane
    stays_pca = {"scaling": scaling, "architecture": None}
    model = small(anomaly_score=Reconstruction(), **stays_pca).fit(X, X_val=X)
    for rows in (new, new.astype(np.float32), new[:1]):
        np.testing.assert_array_equal(model.score_samples(rows), 0)
        np.testing.assert_array_equal(model.predict(rows), 1)
    new[:, 0] += 1e-2 * unit
    for rows in (new, new.astype(np.float32)):
        np.testing.assert_array_equal(model.predict(rows), -1)


@pytest.mark.parametrize("n_components", [3, 5])
def test_labels_of_exact_relations_do_not_depend_on_the_dtype(rng, n_components):
    relations = np.array([[1, 0, 0, 1, 1, 1], [0, 1, 0, 1, -1, 0], [0, 0, 1, 1, 0, 0]])
    X, new = 30 + rng.normal(size=(2, 600, 3)) @ relations
    stays_pca = {"anomaly_score": Mahalanobis(), "architecture": None}
    model = small(n_components=n_components, **stays_pca).fit(X)
    labels = model.predict(new)
    assert np.mean(labels == -1) < 0.05
    single = model.predict(new.astype(np.float32))
    assert np.count_nonzero(single != labels) <= 3
    new[:, 3] += 0.1  # no longer the sum
    for rows in (new, new.astype(np.float32)):
        np.testing.assert_array_equal(model.predict(rows), -1)


def test_the_order_of_the_training_rows_changes_rounding_only(rng):
    X, X_val, new = rng.normal(size=(3, 200, 4))
    order = rng.permutation(200)
    same = {"architecture": MLP(()), "lr": 1e-9}
    scores = [
        small(**same).fit(rows, X_val=X_val).score_samples(new)
        for rows in (X, X[order])
    ]
    np.testing.assert_allclose(*scores, rtol=1e-4)


@pytest.mark.parametrize("score", [None, Mahalanobis(), Reconstruction()], ids=repr)
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_finite_cells_of_any_size_make_an_outlier(X, score, contamination):
    model = small(anomaly_score=score, contamination=contamination).fit(X)
    for cell in (1.7e308, -1.7e308, 1e200, 1e20):
        rows = X[:3].copy()
        rows[0, 2], rows[1] = cell, cell
        scores = model.score_samples(rows)
        assert not np.isnan(scores).any()
        assert (scores[:2] < -10).all()
        np.testing.assert_array_equal(model.predict(rows[:2]), -1)


def test_farther_is_more_abnormal(X):
    model = small().fit(X)
    far = X[:1] + np.array([[1e1], [1e2], [1e4], [1e8], [1e12]]) * np.eye(6)[0]
    assert (np.diff(model.score_samples(far)) < 0).all()


# From ten rows on, the threshold comes from models of the others. Others are slow.
USUAL = [(2, 1), (5, 2), (9, 1), (10, 1)]


@pytest.mark.parametrize(
    ("n_rows", "n_estimators"),
    [
        pytest.param(
            n_rows,
            n_estimators,
            marks=[] if (n_rows, n_estimators) in USUAL else pytest.mark.slow,
        )
        for n_rows in [*range(2, 11), 12]
        for n_estimators in (1, 2)
    ],
)
def test_a_handful_of_rows(rng, n_rows, n_estimators):
    X = rng.normal(size=(n_rows, 3))
    model = AutoencoderOutlierDetector(n_estimators=n_estimators, random_state=0)
    assert np.isfinite(model.fit(X).decision_function(X)).all()
    far = model.decision_function(X + 50)
    assert (far < model.decision_function(X).min()).all()
    assert (far < 0).all()


@pytest.mark.slow
@all_scores
def test_more_columns_than_rows(rng, score):
    latent = rng.normal(size=(170, 3))
    X = latent @ rng.normal(size=(3, 600)) + 0.3 * rng.normal(size=(170, 600))
    model = small(n_components=3, anomaly_score=score, architecture=None)
    model.fit(X[:120], X_val=X[60:120])
    scores = model.score_samples(X)
    assert np.isfinite(scores).all()
    # Columns shuffled on their own: same margins, no structure.
    shuffled = np.column_stack([rng.permutation(column) for column in X.T])
    others = model.score_samples(shuffled)
    assert roc_auc_score(np.arange(340) < 170, np.r_[scores, others]) > 0.95


# From other packages


def test_a_score_from_another_package(X, rng):
    model = small(anomaly_score=Largest(), early_stopping=False).fit(X)
    x, y = ((rows - model.mean_) / model.scale_ for rows in (X, model.reconstruct(X)))
    residual = np.abs(x - y)
    usual = np.sqrt(np.square(residual).mean(axis=0))
    np.testing.assert_allclose(-model.score_samples(X), (residual / usual).max(axis=1))
    largest = (residual / usual).argmax(axis=1)
    share = model.explain(X).share
    np.testing.assert_array_equal(share.argmax(axis=1), largest)
    np.testing.assert_allclose(share.max(axis=1), 1)


@pytest.mark.slow
def test_scores_are_searched_like_any_parameter(X):
    def far(model, X, y=None):
        return -float(model.score_samples(X).min())

    search = GridSearchCV(
        small(anomaly_score=Largest()),
        {"anomaly_score__power": [1.0, 3.0]},
        scoring=far,
        cv=2,
    ).fit(X)
    assert search.best_params_ == {"anomaly_score__power": 3.0}
    low, high = search.cv_results_["mean_test_score"]
    assert low > 1
    assert high > low**2
    grid = {"anomaly_score": [Neighbors(1), Neighbors(2)]}
    assert GridSearchCV(small(), grid, scoring=far, cv=2).fit(X).best_score_ > 0
    model = small(anomaly_score=Neighbors()).set_params(anomaly_score__n_neighbors=4)
    assert model.anomaly_score.n_neighbors == 4


def test_a_score_need_not_know_of_features(X):
    model = small(anomaly_score=Silent()).fit(X)
    assert model.predict(X + 100).max() == -1
    with pytest.raises(NotImplementedError, match="define its method contributions"):
        model.explain(X)


@pytest.mark.parametrize("scores", [[], [Silent], ["Neighbors"], [None], [1.0]])
def test_only_scores_can_be_combined(X, scores):
    with pytest.raises(ValueError, match="'scores' parameter of Combined must be"):
        small(anomaly_score=Combined(scores)).fit(X)


def test_scores_inside_are_checked(X):
    with pytest.raises(ValueError, match="'n_neighbors' parameter of Neighbors must"):
        small(anomaly_score=Combined([Combined([Neighbors(0)])])).fit(X)
    with pytest.raises(ValueError, match="'space' parameter of Neighbors must"):
        small(anomaly_score=Neighbors(space="code")).fit(X)


@pytest.mark.parametrize("coding", [(0, 1), (False, True), (1, -1)])
def test_metrics_of_labels_get_labels(coding, rng):
    X = np.r_[rng.normal(size=(100, 2)), 4 + rng.normal(size=(20, 2))]
    outlier = np.arange(120) >= 100
    forest = IsolationForest(random_state=0, contamination=0.2).fit(X)
    expected = f1_score(outlier, forest.predict(X) == -1)
    y = np.where(outlier, coding[1], coding[0])
    for metric in (f1_score, partial(fbeta_score, beta=1)):
        assert make_outlier_scorer(metric)(forest, X, y) == expected
