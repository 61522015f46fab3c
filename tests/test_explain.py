"""Why a row is an outlier: shares, units, names."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest

from skae import AutoencoderOutlierDetector
from skae._model.model import Model
from skae.anomaly_scores import Mahalanobis, Neighbors, Reconstruction
from skae.architectures import MLP

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

NAMES = ["pressure", "temperature", "flow", "level", "current", "noise"]


def small(**params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "max_epochs": 3,
        "random_state": 0,
        "calibration_fraction": 0.2,  # else it trains five more networks
    }
    return AutoencoderOutlierDetector(**defaults | params)


@pytest.fixture
def table(X):
    return pd.DataFrame(X, columns=NAMES, index=[f"day {i}" for i in range(len(X))])


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values), axis=0))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_estimators": 3},
        {"anomaly_score": Mahalanobis()},
        {"anomaly_score": Reconstruction()},
        {"anomaly_score": Neighbors(2, space="data")},
    ],
    ids=str,
)
def test_shares_add_up_to_one(X, rng, params):
    model = small(**params).fit(X)
    rows = X[:40] + rng.normal(size=(40, 6))
    explanation = model.explain(rows)
    assert explanation.share.shape == rows.shape
    assert explanation.code_share.shape == (40,)
    assert (explanation.share >= 0).all()
    assert (explanation.code_share >= 0).all()
    total = explanation.share.sum(axis=1) + explanation.code_share
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_a_share_is_a_part_of_the_score(X, rng):
    # A distance in the data themselves: none of it is the code's.
    model = small(anomaly_score=Neighbors(1, space="data"), calibration_fraction=0.0)
    model.fit(X)
    rows = X[:40] + rng.normal(size=(40, 6))
    explanation = model.explain(rows)
    assert not explanation.code_share.any()
    x, memory = ((r - model.mean_) / model.scale_ for r in (rows, X))
    squares = np.square(x[:, None] - memory)
    nearest = squares.sum(axis=2).argmin(axis=1)
    parts = explanation.share * -model.score_samples(rows)[:, None]
    expected = squares[np.arange(40), nearest]
    np.testing.assert_allclose(parts, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_everything_is_in_the_units_of_the_data(X, rng, n_estimators):
    judges, rows = X[100:] * 1.1, X[:40] + rng.normal(size=(40, 6))
    model = small(n_estimators=n_estimators).fit(X[:100], X_val=judges)
    explanation = model.explain(rows)
    np.testing.assert_array_equal(explanation.value, rows)
    members = [member.model for member in model._ensemble.members]
    expected = np.mean([m.map(Model.forward, rows) for m in members], axis=0)
    np.testing.assert_allclose(explanation.expected, expected, rtol=1e-12)
    if n_estimators == 1:
        np.testing.assert_array_equal(explanation.expected, model.reconstruct(rows))
    usual = np.mean(
        [
            root_mean_square((judges - m.map(Model.forward, judges)) / model.scale_)
            for m in members
        ],
        axis=0,
    )
    assert (usual > 0.01 * usual.max()).all()
    np.testing.assert_allclose(
        explanation.residual, (rows - expected) / (usual * model.scale_), rtol=1e-8
    )


def test_rescaled_columns_are_explained_the_same(X, rng):
    scales = 2.0 ** np.array([-8, -3, 0, 1, 5, 20])
    rows = X[:40] + rng.normal(size=(40, 6))
    one = small().fit(X).explain(rows)
    other = small().fit(X * scales).explain(rows * scales)
    # Powers of two: not a bit is lost.
    np.testing.assert_array_equal(other.value, one.value * scales)
    np.testing.assert_allclose(other.expected, one.expected * scales, rtol=1e-9)
    np.testing.assert_allclose(other.residual, one.residual, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.share, one.share, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "score", [None, Mahalanobis(), Reconstruction(), Neighbors(space="data")], ids=repr
)
def test_a_planted_fault_is_found(rng, score):
    def draw(n):
        latent = rng.normal(size=(n, 3))
        return latent @ mixing + 0.3 * rng.normal(size=(n, 10))

    mixing = rng.normal(size=(3, 10))
    X, rows = draw(400), draw(200)
    model = small(n_components=3, anomaly_score=score).fit(X)
    column = rng.randint(10, size=200)
    before = model.explain(rows).share[np.arange(200), column]
    rows[np.arange(200), column] += 6 * X.std(axis=0)[column]
    assert np.mean(model.predict(rows) == -1) > 0.95
    explanation = model.explain(rows)
    found = explanation.share.argmax(axis=1) == column
    assert found.mean() >= 0.9
    assert (np.abs(explanation.residual).argmax(axis=1) == column).mean() >= 0.9
    after = explanation.share[np.arange(200), column]
    assert (after > before).mean() > 0.95


def test_a_row_far_out_on_the_structure_is_the_codes(rng):
    X = rng.normal(size=(150, 1)) @ [[1.0, 2, -1]] + 0.1 * rng.normal(size=(150, 3))
    model = small(n_components=1, anomaly_score=Mahalanobis()).fit(X)
    far = model.inverse_transform([[50 * np.abs(model.transform(X)).max()]])
    assert model.explain(far).code_share[0] > 0.9
    # One wrong column is not.
    fault = X[:1].copy()
    fault[0, 2] += 50
    assert model.explain(fault).code_share[0] < 0.5


def test_rows_that_do_not_vary_have_no_reason(rng):
    X = np.ones((30, 4))
    explanation = small(n_components=1).fit(X).explain(X)
    # No score, nothing to divide: all have the same part.
    np.testing.assert_allclose(explanation.share, explanation.share[0, 0])
    total = explanation.share.sum(axis=1) + explanation.code_share
    np.testing.assert_allclose(total, 1)
    for name in ("value", "expected", "residual"):
        assert np.isfinite(explanation[name]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_rows_and_precisions(X, dtype):
    model = small().fit(X.astype(dtype))
    rows = (X[:10] + 1).astype(dtype)
    together, alone = model.explain(rows), model.explain(rows[3:4])
    tolerance = 1e-3 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(alone.share, together.share[3:4], tolerance, tolerance)
    assert together.value.dtype == together.expected.dtype == dtype


# Names


def test_a_table_gives_names_and_index(table):
    explanation = small().fit(table).explain(table.iloc[7:12])
    assert explanation.feature_names.tolist() == NAMES
    assert list(explanation.index) == [f"day {i}" for i in range(7, 12)]
    frame = explanation.to_frame()
    assert frame["row"].unique().tolist() == [f"day {i}" for i in range(7, 12)]


def test_an_array_gives_numbers(X):
    explanation = small().fit(X).explain(X[5:8])
    assert explanation.feature_names.tolist() == [f"x{j}" for j in range(6)]
    assert list(explanation.index) == [0, 1, 2]


@pytest.mark.parametrize("top_k", [None, 1, 3, 100])
def test_the_frame_has_the_worst_first(table, top_k):
    explanation = small().fit(table).explain(table.iloc[:9] + 1)
    frame = explanation.to_frame(top_k)
    numbers = ["value", "expected", "residual", "share"]
    assert frame.columns.tolist() == ["row", "feature", *numbers, "code_share"]
    n_lines = min(6, top_k or 6)
    assert frame["row"].tolist() == np.repeat(table.index[:9], n_lines).tolist()
    for i, (_, lines) in enumerate(frame.groupby("row", sort=False)):
        worst = sorted(range(6), key=lambda j: -explanation.share[i, j])[:n_lines]
        assert lines["feature"].tolist() == [NAMES[j] for j in worst]
        for name in numbers:
            assert lines[name].tolist() == explanation[name][i, worst].tolist()
        assert lines["code_share"].tolist() == [explanation.code_share[i]] * n_lines


@pytest.mark.parametrize("top_k", [0, -1, 1.0, "all"])
def test_so_many_features_cannot_be(X, top_k):
    explanation = small().fit(X).explain(X[:3])
    with pytest.raises(ValueError, match="'top_k' parameter of to_frame must be"):
        explanation.to_frame(top_k)


def test_the_frame_needs_pandas(X, monkeypatch):
    explanation = small().fit(X).explain(X[:3])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        explanation.to_frame()


def test_an_explanation_is_a_bunch_that_can_be_pickled(X):
    explanation = small().fit(X).explain(X[:3])
    assert set(explanation) == {
        "value",
        "expected",
        "residual",
        "share",
        "code_share",
        "feature_names",
        "index",
    }
    copy = pickle.loads(pickle.dumps(explanation))
    pd.testing.assert_frame_equal(copy.to_frame(), explanation.to_frame())


def test_rows_to_explain_are_checked(table):
    model = small().fit(table)
    with pytest.raises(ValueError, match="feature names"):
        model.explain(table[NAMES[::-1]])
    with pytest.raises(ValueError, match=r"5 features|feature names"):
        model.explain(table[NAMES[1:]])
