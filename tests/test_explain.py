"""Why a row is an outlier: shares, units, names."""

import pickle
import re
import sys
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from skae import AutoencoderOutlierDetector
from skae._model.model import Model
from skae.anomaly_scores import Mahalanobis, Neighbors, Reconstruction
from skae.architectures import MLP
from skae.displays import ExplanationDisplay
from skae.inspection import Explanation

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
        "normal_rows",
    }
    copy = pickle.loads(pickle.dumps(explanation))
    pd.testing.assert_frame_equal(copy.to_frame(), explanation.to_frame())


def test_rows_to_explain_are_checked(table):
    model = small().fit(table)
    with pytest.raises(ValueError, match="feature names"):
        model.explain(table[NAMES[::-1]])
    with pytest.raises(ValueError, match=r"5 features|feature names"):
        model.explain(table[NAMES[1:]])


# Groups


def test_groups_have_the_sums_of_their_features(table):
    explanation = small().fit(table).explain(table.iloc[:9] + 1)
    groups = {"water": ["flow", "pressure"], "noise": ["noise"]}
    frame = explanation.to_frame(groups=groups)
    by_feature = explanation.to_frame().pivot(index="row", columns="feature")
    found = frame.pivot(index="row", columns="feature")
    rest = ["temperature", "level", "current"]
    assert set(frame["feature"]) == {"water", "noise", *rest}
    share, residual = by_feature["share"], by_feature["residual"]
    np.testing.assert_allclose(
        found["share", "water"], share["flow"] + share["pressure"], rtol=1e-12
    )
    furthest = np.where(
        residual["flow"].abs() > residual["pressure"].abs(),
        residual["flow"],
        residual["pressure"],
    )
    np.testing.assert_array_equal(found["residual", "water"], furthest)
    np.testing.assert_array_equal(found["share", "noise"], share["noise"])
    for name in ("value", "expected"):
        assert found[name][["water", "noise"]].isna().all(axis=None)
        np.testing.assert_array_equal(found[name][rest], by_feature[name][rest])
    for _, lines in frame.groupby("row", sort=False):
        assert lines["share"].is_monotonic_decreasing
        np.testing.assert_allclose(
            lines["share"].sum() + lines["code_share"].iloc[0], 1
        )
    assert frame["row"].unique().tolist() == list(table.index[:9])
    top = explanation.to_frame(2, groups=groups)
    pd.testing.assert_frame_equal(
        top, frame.groupby("row", sort=False).head(2).reset_index(drop=True)
    )


def test_all_features_may_be_in_groups(table):
    explanation = small().fit(table).explain(table.iloc[:3])
    frame = explanation.to_frame(groups={"all": NAMES})
    assert frame["feature"].tolist() == ["all"] * 3
    np.testing.assert_allclose(frame["share"] + frame["code_share"], 1)
    pd.testing.assert_frame_equal(
        explanation.to_frame(groups={}), explanation.to_frame()
    )


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (["flow"], ValueError, "'groups' parameter of to_frame must be"),
        ({"a": "flow"}, TypeError, "a list of features for each group. Got 'flow'"),
        ({"a": []}, TypeError, r"Got \[\] for 'a'"),
        ({"a": ["flow", "wind"]}, ValueError, "'wind' in 'a', .* pressure, temp"),
        ({"a": ["flow"], "b": ["flow"]}, ValueError, "'flow' in both 'a' and 'b'"),
        ({"a": ["flow", "flow"]}, ValueError, "'flow' in both 'a' and 'a'"),
        ({"level": ["flow"]}, ValueError, "a group 'level', but there is a feature"),
    ],
)
def test_groups_are_checked(table, groups, error, message):
    explanation = small().fit(table).explain(table.iloc[:3])
    with pytest.raises(error, match=message):
        explanation.to_frame(groups=groups)


# What a notebook shows


def explained(**params):
    """Return an explanation of two rows and two columns."""
    given = {
        "value": np.array([[1.0, 2.0], [12345.6, np.nan]]),
        "expected": np.array([[0.5, 2.0], [-1.0, 3.0]]),
        "residual": np.zeros((2, 2)),
        "share": np.array([[0.2, 0.7], [0.6, 0.397]]),
        "code_share": np.array([0.1, 0.003]),
        "feature_names": np.array(["a", "b"], dtype=object),
        "index": np.array(["first", "second"]),
    }
    return Explanation(**given | params)


def cells(page):
    """Return the cells of each line of a table."""
    lines = re.findall("<tr>(.*?)</tr>", page)
    return [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", line) for line in lines]


def test_a_notebook_shows_the_largest_shares():
    page = explained()._repr_html_()
    assert cells(page) == [
        ["row", "feature", "value", "expected", "share of the score"],
        ["first", "b", "2", "2", "70%"],
        ["a", "1", "0.5", "20%"],
        ["code", "", "", "10%"],
        ["second", "a", "12,346", "-1", "60%"],
        ["b", "missing", "3", "40%"],
    ]
    assert re.findall(r'rowspan="(\d)"', page) == ["3", "2"]
    # Bars behind the shares, as long as these.
    assert re.findall(r",transparent (\d+%)", page) == [
        "70%",
        "20%",
        "10%",
        "60%",
        "40%",
    ]
    ElementTree.fromstring(page)  # well-formed


def test_a_notebook_shows_no_more_than_a_page(X):
    page = small().fit(X).explain(X)._repr_html_()
    assert "10 of 150 rows, 5 of 6 features" in page
    assert [len(line) for line in cells(page)].count(7) == 1 + 10
    assert len(page) < 50_000
    assert "http" not in page


def compared():
    """Return an explanation with forty normal rows of a number and a word."""
    t = np.linspace(0.0, 4.0, 40)
    words = np.where(t < 1, "saw", "mill")
    normal = np.array([[a, b] for a, b in zip(t.tolist(), words, strict=True)], object)
    value = np.array([[7.0, "saw"], [-1e9, "press"], [None, "saw"]], dtype=object)
    explanation = explained(
        value=value,
        expected=np.array([[2.0, "mill"], [np.nan, "saw"], [0.0, "saw"]], object),
        residual=np.zeros((3, 2)),
        share=np.tile([0.7, 0.3], (3, 1)),
        code_share=np.zeros(3),
        index=np.arange(3),
        normal_rows=normal,
    )
    return explanation, t


def test_a_value_is_drawn_on_the_distribution_of_its_column():
    explanation, t = compared()
    page = ElementTree.fromstring(explanation._repr_html_())
    drawings = page.findall(".//svg")
    assert [svg.find("title").text for svg in drawings] == ["0 to 4"] * 3
    marks = [
        {line.find("title").text: float(line.get("x1")) for line in svg.iter("line")}
        for svg in drawings
    ]
    assert [list(lines) for lines in marks] == [
        ["expected: 2", "value: 7"],
        ["value: -1e+09"],
        ["expected: 0"],
    ]
    # From the smallest normal value, 0, to the value, 7, in 118 pixels.
    assert marks[0]["expected: 2"] == pytest.approx(1 + 118 * 2 / 7, abs=0.1)
    assert marks[0]["value: 7"] == 119
    # A wild value is at the margin, and the normal ones take half of the width.
    assert marks[1]["value: -1e+09"] == 1
    for svg, (low, high) in zip(drawings, [(0, 7), (-4, 4), (0, 4)], strict=True):
        counts, _ = np.histogram(t, bins=24, range=(low, high))
        tops = re.findall(r"V(\d+)h5", svg.find("path").get("d"))
        expected = np.where(counts, 1 + 21 * counts / counts.max(), 0)
        np.testing.assert_array_equal(np.int64(tops), np.rint(26 - expected))


def test_categories_have_their_shares():
    lines = cells(compared()[0]._repr_html_())
    assert [line[-3] for line in lines[2::2]] == [
        "25% saw, 75% mill",
        "0% press, 25% saw",
        "25% saw",
    ]


def test_the_nearest_normal_rows_are_those_of_the_standardised_table(X):
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    model = small(anomaly_score=Neighbors(space="data")).fit(X[:100])
    explanation = model.explain(X[100:])
    normal = explanation.normal_rows
    scaler = StandardScaler().fit(normal)
    search = NearestNeighbors(n_neighbors=3).fit(scaler.transform(normal))
    near = search.kneighbors(scaler.transform(X[100:110]), return_distance=False)
    shown = [line[-2] for line in cells(explanation._repr_html_()) if len(line) == 7]
    for i, texts in enumerate(shown[1:]):
        column = normal[near[i], explanation.share[i].argmax()]
        assert [float(t.replace(",", "")) for t in texts.split(", ")] == pytest.approx(
            column, rel=0.006
        )


def test_categories_that_differ_and_missing_values_in_distances():
    from skae.inspection._card import nearest

    explanation, t = compared()
    assert nearest(np.array([0.9, "mill"], dtype=object), explanation.normal_rows)[
        0
    ] == (np.argmin(np.abs(t - 0.9) / t.std() + (t < 1) * 1.0))
    order = nearest(np.array([None, "mill"], dtype=object), explanation.normal_rows)
    np.testing.assert_array_equal(order, np.argsort(t < 1, kind="stable"))


@pytest.mark.parametrize(
    "score", [None, Neighbors(), Neighbors(space="data"), Neighbors(space="quantile")]
)
def test_normal_rows_are_training_rows(X, score):
    model = small(anomaly_score=score, calibration_fraction=0.0).fit(100 + 7 * X)
    normal = model.explain(X[:2]).normal_rows
    assert normal.shape == X.shape
    np.testing.assert_allclose(normal, 100 + 7 * X, rtol=1e-9)


def test_normal_rows_of_a_table_with_categories(X):
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    frame["side"] = pd.Categorical(np.where(X[:, 0] > 0, "right", "left"))
    model = small(calibration_fraction=0.0).fit(frame)
    normal = model.explain(frame[:2]).normal_rows
    np.testing.assert_allclose(normal[:, :2].astype(float), X[:, :2], rtol=1e-9)
    assert normal[:, 2].tolist() == frame["side"].tolist()


def test_scores_that_store_no_rows_have_no_normal_rows(X):
    explanation = small(anomaly_score=Mahalanobis()).fit(X).explain(X[:2])
    assert explanation.normal_rows is None
    assert "svg" not in explanation._repr_html_()


def test_names_and_values_are_text():
    evil = "<script>alert('&')</script>"
    values = np.array([[evil, 1.0], ["b", None]], dtype=object)
    page = explained(
        value=values,
        expected=values[::-1],
        feature_names=np.array([evil, "b"], dtype=object),
        index=np.array([evil, "b"]),
    )._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") == 5
    ElementTree.fromstring(page)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "missing"),
        (np.nan, "missing"),
        (pd.NA, "missing"),
        (pd.NaT, "missing"),
        ("lathe", "lathe"),
        (np.True_, "True"),
        (True, "True"),
        (np.int64(3), "3"),
        (0.00123456, "0.00123"),
        (-1234.5, "-1,234"),
        (1e9, "1e+09"),
        (np.datetime64("2026-01-01"), "2026-01-01"),
    ],
)
def test_values_as_text(value, text):
    values = np.array([[value, 0], [0, 0]], dtype=object)
    page = explained(value=values, expected=values)._repr_html_()
    expected = text if value is None or text != "missing" else "unknown"
    assert cells(page)[2] == ["a", text, expected, "20%"]


def test_plot_is_the_display():
    explanation = explained()
    for row, top_k in [(0, 2), (1, 1)]:
        display = explanation.plot(row=row, top_k=top_k, bar_kw={"height": 0.5})
        same = ExplanationDisplay.from_explanation(explanation, row=row, top_k=top_k)
        texts = [text.get_text() for text in display.texts_]
        assert texts == [text.get_text() for text in same.texts_]
        assert display.bars_[0].get_height() == 0.5
    assert texts == ["12,346, expected -1"]
    _, ax = plt.subplots()
    assert explanation.plot(ax=ax).ax_ is ax
    plt.close("all")
