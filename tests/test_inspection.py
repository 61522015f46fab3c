"""Explanations through pipelines: columns, units and names of the rows that came in."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from skae import AutoencoderOutlierDetector
from skae.architectures import MLP
from skae.inspection import Explanation, explain

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

dense_one_hot = OneHotEncoder(sparse_output=False)


def label(value):
    """Return the id of a parameter: no addresses of functions in it."""
    return re.sub(r" at 0x\w+|\s+", "", repr(value))


def small(**params):
    return AutoencoderOutlierDetector(
        2,
        architecture=MLP((8,)),
        max_epochs=3,
        random_state=0,
        calibration_fraction=0.2,  # else it trains five more networks
        **params,
    )


def by_default(n_columns):
    return [f"x{j}" for j in range(n_columns)]


class Expecting(BaseEstimator):
    """A detector that expects given rows of its input, whatever it gets."""

    def __init__(self, rows):
        self.rows = rows

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def explain(self, X):
        rng = np.random.RandomState(0)
        shape = np.shape(X)
        parts = rng.dirichlet(np.ones(shape[1] + 1), size=shape[0])
        return Explanation(
            value=np.asarray(X),
            expected=np.asarray(self.rows),
            residual=rng.normal(size=shape),
            share=parts[:, :-1],
            code_share=parts[:, -1],
            feature_names=np.array(list(getattr(X, "columns", by_default(shape[1])))),
            index=X.index if hasattr(X, "iloc") else np.arange(shape[0]),
        )


def expecting(before, given, expected):
    """Return explanations, raw and of the detector, where other rows were expected."""
    last = Expecting(before.transform(expected))
    explanation = explain(make_pipeline(before, last), given)
    return explanation, last.explain(before.transform(given))


@pytest.fixture
def table(rng):
    """Columns of several kinds, the numbers positive."""
    n = 120
    return pd.DataFrame(
        {
            "machine": rng.choice(["lathe", "mill", "saw"], n, p=[0.5, 0.4, 0.1]),
            "temperature": rng.gamma(5, 8, n),
            "shift": rng.choice([1, 2, 3], n),
            "load": rng.uniform(1, 2, n),
            "guard": rng.choice(["on", "off"], n),
            "note": rng.choice(["oil low", "belt worn", "oil fine"], n),
        },
        index=[f"part {i}" for i in range(n)],
    )


def assert_complete(explanation, inner):
    """Check that nothing of the score is lost."""
    np.testing.assert_array_equal(explanation.code_share, inner.code_share)
    np.testing.assert_allclose(
        explanation.share.sum(axis=1), inner.share.sum(axis=1), rtol=1e-12
    )
    width = len(explanation.feature_names)
    for name in ("value", "expected", "residual", "share"):
        assert explanation[name].shape == (len(inner.share), width)


# Columns one by one


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        MinMaxScaler(),
        MaxAbsScaler(),
        RobustScaler(),
        PowerTransformer(),
        QuantileTransformer(n_quantiles=60),
        FunctionTransformer(np.log, np.exp),
        FunctionTransformer(
            lambda X: np.divide(X, 7), lambda X: X * 7, feature_names_out="one-to-one"
        ),
        "passthrough",
        FunctionTransformer(),
        VarianceThreshold(),
        SimpleImputer(),
        KNNImputer(),
        FrozenEstimator(StandardScaler()),
        make_pipeline(MinMaxScaler(), "passthrough", make_pipeline(StandardScaler())),
    ],
    ids=label,
)
@pytest.mark.parametrize("kind", ["frame", "array", "list"])
def test_rescaled_columns_come_back(table, scaler, kind):
    numbers = table[["temperature", "shift", "load"]]
    values = numbers.to_numpy()
    given, expected = numbers[:40], numbers[40:80]
    if isinstance(scaler, FrozenEstimator):
        scaler = FrozenEstimator(
            StandardScaler().fit(numbers if kind == "frame" else values)
        )
    before = make_pipeline(scaler)
    before.fit(numbers if kind == "frame" else values)
    if kind != "frame":
        given, expected = values[:40], values[40:80]
    if kind == "list":
        given = given.tolist()
    explanation, inner = expecting(before, given, expected)
    assert explanation.value.dtype == explanation.expected.dtype == np.float64
    np.testing.assert_array_equal(explanation.value, values[:40])
    np.testing.assert_allclose(explanation.expected, values[40:80], rtol=1e-8)
    for name in ("share", "residual", "code_share"):
        np.testing.assert_array_equal(explanation[name], inner[name])
    names = list(numbers) if kind == "frame" else ["x0", "x1", "x2"]
    assert explanation.feature_names.tolist() == names
    rows = list(table.index[:40]) if kind == "frame" else list(range(40))
    assert list(explanation.index) == rows


def test_a_scaler_in_front_makes_no_difference(X, rng):
    # The detector divides by the standard deviation itself.
    rows = X[:30] + rng.normal(size=(30, 6))
    alone = small().fit(X).explain(rows)
    found = explain(make_pipeline(StandardScaler(), small()).fit(X), rows)
    np.testing.assert_array_equal(found.value, rows)
    for name in ("expected", "residual", "share", "code_share"):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-4)
    assert found.feature_names.tolist() == alone.feature_names.tolist()


@pytest.mark.parametrize("wrap", [lambda m: m, make_pipeline, FrozenEstimator])
def test_a_detector_explains_itself(X, wrap):
    model = small().fit(X)
    found, expected = explain(wrap(model), X[:9]), model.explain(X[:9])
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


def test_expected_values_beyond_the_range_of_an_inverse(table):
    before = PowerTransformer("box-cox").fit(table[["temperature", "load"]])
    assert before.lambdas_[0] > 0
    rows = before.transform(table[["temperature", "load"]][:2])
    rows[0, 0] = -100
    pipeline = make_pipeline(before, Expecting(rows))
    found = explain(pipeline, table[["temperature", "load"]][:2])
    assert np.isnan(found.expected).tolist() == [[True, False], [False, False]]
    assert "unknown" in found._repr_html_()


def test_an_inverse_beyond_the_range_of_floats_is_silent(table):
    pipeline = make_pipeline(FunctionTransformer(np.log, np.exp), Expecting([[1e3]]))
    assert (
        explain(pipeline.fit(table[["load"]]), table[["load"]][:1]).expected == np.inf
    )


def test_dates_remain_dates():
    days = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=9)})
    origin = pd.Timestamp("2026-01-01")
    since = FunctionTransformer(
        lambda X: np.asarray((X - origin) / pd.Timedelta("1D")),
        lambda X: np.datetime64(origin, "s") + X.astype("timedelta64[D]"),
        check_inverse=False,
    )
    found, _ = expecting(since.fit(days), days[:3], days[4:7])
    assert [str(day)[:10] for day in found.value[:, 0]] == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]
    assert (found.expected[:, 0] == days["day"][4:7].to_numpy()).all()
    assert "<td>2026-01-01" in found._repr_html_()


# Categories


def by_hand(encoder, expected, names):
    """Return shares and categories from indicators that have all their categories."""
    starts = np.cumsum([0] + [len(c) for c in encoder.categories_])
    blocks = [slice(*ends) for ends in pairwise(starts)]
    found = {}
    for name, block, labels in zip(names, blocks, encoder.categories_, strict=True):
        found[name] = block, labels[expected[:, block].argmax(axis=1)]
    return found


def test_codes_of_a_category_are_one_column(table):
    names = ["machine", "shift", "guard"]
    pipeline = make_pipeline(
        ColumnTransformer(
            [("number", StandardScaler(), ["load"]), ("kind", dense_one_hot, names)]
        ),
        small(scaling="global"),
    ).fit(table)
    rows = table[:30]
    found = explain(pipeline, rows)
    inner = pipeline[-1].explain(pipeline[0].transform(rows))
    assert_complete(found, inner)
    assert found.feature_names.tolist() == ["machine", "shift", "load", "guard"]
    encoder = pipeline[0].named_transformers_["kind"]
    hand = by_hand(encoder, inner.expected[:, 1:], names)
    for name, (block, expected) in hand.items():
        j = found.feature_names.tolist().index(name)
        share = inner.share[:, 1:][:, block].sum(axis=1)
        np.testing.assert_allclose(found.share[:, j], share, rtol=1e-12)
        assert found.expected[:, j].tolist() == expected.tolist()
        assert found.value[:, j].tolist() == rows[name].tolist()
        residual = inner.residual[:, 1:][:, block]
        assert (np.abs(found.residual[:, j]) == np.abs(residual).max(axis=1)).all()
        assert (found.residual[:, [j]] == residual).any(axis=1).all()
    np.testing.assert_array_equal(found.share[:, 2], inner.share[:, 0])


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(),
        dense_one_hot,
        OneHotEncoder(drop="first"),
        OneHotEncoder(drop="if_binary"),
        OneHotEncoder(drop=["mill", 2, "on"]),
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(categories=[["saw", "mill", "lathe"], [1, 2, 3], ["on", "off"]]),
        OrdinalEncoder(),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler()),
        make_pipeline(OrdinalEncoder(), MinMaxScaler()),
        FrozenEstimator(OneHotEncoder()),
    ],
    ids=label,
)
def test_categories_come_back(table, encoder):
    names = ["machine", "shift", "guard"]
    if isinstance(encoder, FrozenEstimator):
        encoder = FrozenEstimator(OneHotEncoder().fit(table[names]))
    before = ColumnTransformer([("kind", encoder, names)], sparse_threshold=0)
    before.fit(table)
    found, inner = expecting(before, table[:40], table[40:80])
    assert_complete(found, inner)
    assert found.feature_names.tolist() == names
    assert found.value.tolist() == table[names][:40].to_numpy().tolist()
    assert found.expected.tolist() == table[names][40:80].to_numpy().tolist()


@pytest.mark.parametrize("drop", [None, "first", ["lathe"]])
def test_rare_categories_are_one(table, drop):
    encoder = OneHotEncoder(min_frequency=30, drop=drop, sparse_output=False)
    before = encoder.fit(table[["machine"]])
    assert encoder.infrequent_categories_[0].tolist() == ["saw"]
    found, _ = expecting(before, table[["machine"]], table[["machine"]])
    assert found.value[:, 0].tolist() == table["machine"].tolist()
    expected = table["machine"].replace("saw", "infrequent_sklearn")
    assert found.expected[:, 0].tolist() == expected.tolist()


def test_a_column_without_indicators_is_not_seen(table):
    encoder = OneHotEncoder(min_frequency=1000, drop="first", sparse_output=False)
    before = ColumnTransformer(
        [("kind", encoder, ["machine"]), ("number", "passthrough", ["load"])]
    ).fit(table)
    found, _ = expecting(before, table[:9], table[9:18])
    assert found.feature_names.tolist() == ["load"]


def test_rare_categories_have_one_ordinal_code(table):
    before = OrdinalEncoder(min_frequency=30).fit(table[["machine"]])
    found, _ = expecting(before, table[["machine"]], table[["machine"]])
    expected = table["machine"].replace("saw", "infrequent_sklearn")
    assert found.expected[:, 0].tolist() == expected.tolist()


def test_the_nearest_code_is_expected(table):
    before = OrdinalEncoder().fit(table[["machine"]])
    codes = np.array([[-3.0], [0.4], [0.6], [1.51], [9.0]])
    found = explain(make_pipeline(before, Expecting(codes)), table[["machine"]][:5])
    assert found.expected[:, 0].tolist() == ["lathe", "lathe", "mill", "saw", "saw"]


def test_the_category_without_an_indicator_is_expected_if_the_others_are_not(table):
    before = OneHotEncoder(drop="first", sparse_output=False).fit(table[["machine"]])
    codes = np.array([[0.1, 0.2], [0.3, 0.4], [0.6, 0.3]])
    found = explain(make_pipeline(before, Expecting(codes)), table[["machine"]][:3])
    assert found.expected[:, 0].tolist() == ["lathe", "saw", "mill"]


def test_a_missing_category_has_no_ordinal_code(table):
    words = table[["machine"]].astype(object)
    words.iloc[::4] = None
    encoder = OrdinalEncoder(encoded_missing_value=-1).fit(words)
    found = explain(make_pipeline(encoder, Expecting([[-1.0], [9.0]])), words[:2])
    assert found.value[:, 0].tolist() == words["machine"][:2].tolist()
    assert found.value[0, 0] is None
    assert found.expected[:, 0].tolist() == ["lathe", "saw"]


def test_missing_and_unknown_categories(table):
    words = table[["machine"]].astype(object)
    words.iloc[::4] = None
    before = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(words)
    rows = pd.DataFrame({"machine": ["press", None]}, dtype=object)
    expected = pd.DataFrame({"machine": [None, "mill"]}, dtype=object)
    found, _ = expecting(before, rows, expected)
    assert found.value[:, 0].tolist() == ["press", None]
    assert found.expected[:, 0].tolist() == [None, "mill"]
    page = found._repr_html_()
    assert "<td>press</td><td>missing</td>" in page
    assert "<td>missing</td><td>mill</td>" in page


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
def test_bins_are_named_by_their_centres(table, encode):
    numbers = table[["temperature", "load"]]
    bins = KBinsDiscretizer(4, encode=encode, strategy="uniform").fit(numbers)
    to_dense = FunctionTransformer(
        lambda X: X.toarray() if hasattr(X, "toarray") else X,
        lambda X: X,
        feature_names_out="one-to-one",
        check_inverse=False,
    )
    before = make_pipeline(bins, to_dense).fit(numbers)
    found, inner = expecting(before, numbers[:40], numbers[40:80])
    assert_complete(found, inner)
    np.testing.assert_array_equal(found.value, numbers[:40])
    np.testing.assert_allclose(
        found.expected, bins.inverse_transform(bins.transform(numbers[40:80]))
    )
    if encode == "ordinal":  # codes that the inverse of the step cannot look up
        pipeline = make_pipeline(bins, Expecting([[-0.7, 7.0]]))
        found = explain(pipeline, numbers[:1])
        ends = bins.bin_edges_[0][:2].mean(), bins.bin_edges_[1][-2:].mean()
        np.testing.assert_allclose(found.expected[0], ends)


# Missing cells


@pytest.mark.parametrize("add_indicator", [False, True])
@pytest.mark.parametrize("imputer", [SimpleImputer, KNNImputer])
def test_imputed_cells_are_missing(table, imputer, add_indicator):
    numbers = table[["temperature", "shift", "load"]].astype(float)
    numbers.iloc[::5, 0] = np.nan
    numbers.iloc[1::5, 2] = np.nan
    before = make_pipeline(imputer(add_indicator=add_indicator), StandardScaler())
    before.fit(numbers)
    found, inner = expecting(before, numbers[:40], numbers.fillna(1.5)[40:80])
    assert_complete(found, inner)
    assert found.feature_names.tolist() == list(numbers)
    np.testing.assert_array_equal(found.value, numbers[:40])
    np.testing.assert_allclose(found.expected, numbers.fillna(1.5)[40:80])
    share = inner.share[:, :3].copy()
    if add_indicator:
        share[:, [0, 2]] += inner.share[:, 3:]
    np.testing.assert_allclose(found.share, share, rtol=1e-12)
    assert "<td>temperature</td><td>missing</td>" in found._repr_html_()


def test_columns_that_an_imputer_drops_are_left_out(table):
    numbers = table[["temperature", "load"]].assign(empty=np.nan)
    numbers = numbers[["empty", "temperature", "load"]]
    before = SimpleImputer()
    with pytest.warns(UserWarning, match="without any observed values"):
        before.fit(numbers).transform(numbers)
    before = make_pipeline(SimpleImputer(keep_empty_features=False))
    with pytest.warns(UserWarning, match="without any observed values"):
        found, _ = expecting(before.fit(numbers), numbers[:9], numbers[9:18])
    assert found.feature_names.tolist() == ["temperature", "load"]
    np.testing.assert_allclose(found.expected, numbers.iloc[9:18, 1:])


def test_a_column_that_is_only_marked_has_no_expected_value(table):
    numbers = table[["temperature", "load"]].copy()
    numbers.iloc[::5, 0] = np.nan
    marks = ColumnTransformer([("marks", "passthrough", [1, 2])])
    before = make_pipeline(SimpleImputer(add_indicator=True), marks).fit(numbers)
    found, inner = expecting(before, numbers[:9], numbers[9:18])
    assert_complete(found, inner)
    # The marks of the temperature are seen, and the temperature itself is not.
    assert np.isnan(found.expected[:, 0]).all()
    np.testing.assert_allclose(found.expected[:, 1], numbers["load"][9:18])


# Columns in parts


def parts(by):
    """Return a transformer that puts columns in another order."""
    kinds = by(["guard", "machine"])
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder())
    return ColumnTransformer(
        [
            ("number", make_pipeline(MinMaxScaler(), StandardScaler()), by(["load"])),
            ("kind", words, kinds),
            ("nothing", StandardScaler(), []),
            ("dropped", "drop", by(["note"])),
        ],
        remainder="passthrough",
    )


def by_name(names):
    return names


def by_position(names):
    order = ["machine", "temperature", "shift", "load", "guard", "note"]
    return [order.index(name) for name in names]


def by_mask(names):
    order = ["machine", "temperature", "shift", "load", "guard", "note"]
    return [name in names for name in order]


SEEN = ["machine", "temperature", "shift", "load", "guard"]


def as_frame(table):
    return table


def as_polars(table):
    polars = pytest.importorskip("polars")
    # Not by `from_pandas`, which needs pyarrow for strings.
    return polars.DataFrame({name: column.tolist() for name, column in table.items()})


def as_array(table):
    return table.to_numpy(dtype=object)


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        (as_frame, by_name),
        (as_frame, by_position),
        (as_frame, by_mask),
        (as_frame, lambda names: make_column_selector("|".join(names))),
        (as_polars, by_name),
        (as_polars, by_position),
        (as_array, by_position),
        (as_array, by_mask),
    ],
)
def test_columns_find_their_way_back(table, kind, by):
    rows = kind(table)
    before = parts(by).fit(rows)
    found, inner = expecting(before, rows[:40], rows[40:80])
    assert_complete(found, inner)
    names = ["x0", "x1", "x2", "x3", "x4"] if kind is as_array else SEEN
    assert found.feature_names.tolist() == names
    np.testing.assert_array_equal(found.value, table[SEEN][:40].to_numpy(object))
    for j, name in enumerate(SEEN):
        expected = table[name][40:80].to_list()
        if name in ("machine", "guard"):
            assert found.expected[:, j].tolist() == expected
        else:
            np.testing.assert_allclose(found.expected[:, j].astype(float), expected)
    # load, guard, machine, then the remainder.
    order = [2, 3, 4, 0, 1] if by is not by_mask else [2, 3, 4, 1, 0]
    if kind is as_frame and callable(by(["guard"])):
        order = [2, 3, 4, 1, 0]
    machine, guard = (1, 2) if order[-1] == 0 else (2, 1)
    np.testing.assert_array_equal(
        found.share, inner.share[:, [machine, 3, 4, 0, guard]]
    )


def test_rows_may_be_lists(table):
    values = table.to_numpy(dtype=object)
    before = parts(by_position).fit(values)
    found, _ = expecting(before, values[:9].tolist(), values[9:18])
    same, _ = expecting(before, values[:9], values[9:18])
    for name in ("value", "expected", "share", "feature_names"):
        assert found[name].tolist() == same[name].tolist()


def test_columns_in_another_order_and_others_beside_them(table):
    before = parts(by_name).fit(table)
    shuffled = table[["note", "load", "guard", "shift", "temperature", "machine"]]
    shuffled = shuffled.assign(more=1.0)
    found, _ = expecting(before, shuffled[:9], table[9:18])
    same, _ = expecting(before, table[:9], table[9:18])
    for name in found:
        np.testing.assert_array_equal(found[name], same[name])


@pytest.mark.parametrize("kind", [as_frame, as_polars])
def test_output_as_frames_makes_no_difference(table, kind):
    rows = kind(table)
    library = "polars" if kind is as_polars else "pandas"
    before = parts(by_name).set_output(transform=library).fit(rows)
    found, _ = expecting(before, rows[:9], rows[9:18])
    same, _ = expecting(parts(by_name).fit(rows), rows[:9], rows[9:18])
    for name in ("value", "expected", "share", "feature_names"):
        assert found[name].tolist() == same[name].tolist()


def test_a_column_in_several_parts_is_one(table):
    before = ColumnTransformer(
        [
            ("log", FunctionTransformer(np.log, np.exp), ["temperature", "load"]),
            ("bin", KBinsDiscretizer(3, encode="ordinal"), ["temperature"]),
        ],
        transformer_weights={"log": 3.0},
    ).fit(table)
    found, inner = expecting(before, table[:40], table[40:80])
    assert_complete(found, inner)
    names = ["temperature", "load"]
    assert found.feature_names.tolist() == names
    np.testing.assert_allclose(found.expected, table[names][40:80], rtol=1e-8)
    share = inner.share[:, :2] + inner.share[:, [2, 2]] * [1, 0]
    np.testing.assert_allclose(found.share, share, rtol=1e-12)


def test_selected_columns_are_the_others(table):
    numbers = table[["shift", "temperature", "load"]].assign(shift=1)
    select = VarianceThreshold()
    union = FeatureUnion([("some", select), ("all", "passthrough")])
    for before in (select, union):
        found, inner = expecting(before.fit(numbers), numbers[:9], numbers[9:18])
        assert_complete(found, inner)
        n_seen = 2 if before is select else 3
        assert found.feature_names.tolist() == list(numbers)[-n_seen:]
        np.testing.assert_array_equal(found.value, numbers.iloc[:9, -n_seen:])
        np.testing.assert_allclose(found.expected, numbers.iloc[9:18, -n_seen:])
    share = inner.share[:, 2:] + np.insert(inner.share[:, :2], 0, 0, axis=1)
    np.testing.assert_allclose(found.share, share, rtol=1e-12)


def test_a_union(table):
    numbers = table[["temperature", "load"]]
    before = FeatureUnion(
        [
            ("scaled", StandardScaler()),
            ("off", "drop"),
            ("as they are", "passthrough"),
            ("pca", PCA(1)),
        ],
        transformer_weights={"scaled": 0.5, "pca": 4.0},
    ).fit(numbers)
    found, inner = expecting(before, numbers[:40], numbers[40:80])
    assert_complete(found, inner)
    assert found.feature_names.tolist() == ["temperature", "load", "pca__pca0"]
    np.testing.assert_array_equal(found.value[:, :2], numbers[:40])
    np.testing.assert_allclose(found.expected[:, :2], numbers[40:80])
    np.testing.assert_allclose(
        found.share[:, :2], inner.share[:, :2] + inner.share[:, 2:4], rtol=1e-12
    )
    pca = before.named_transformers["pca"]
    np.testing.assert_allclose(found.value[:, 2:], pca.transform(numbers[:40]))
    np.testing.assert_allclose(found.expected[:, 2:], pca.transform(numbers[40:80]))


# What cannot be undone


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (PCA(2), ["pca__pca0", "pca__pca1"]),
        (Normalizer(), ["normalizer__temperature", "normalizer__load"]),
        (
            FunctionTransformer(np.log),
            ["functiontransformer__temperature", "functiontransformer__load"],
        ),
        (
            FunctionTransformer(lambda X: X.to_numpy()[:, ::-1], lambda X: X[:, ::-1]),
            ["functiontransformer__x0", "functiontransformer__x1"],
        ),
        (
            SplineTransformer(2, degree=1, include_bias=False),
            ["splinetransformer__temperature_sp_0", "splinetransformer__load_sp_0"],
        ),
    ],
    ids=label,
)
def test_outputs_of_steps_that_cannot_be_undone_remain(table, step, names):
    numbers = table[["temperature", "load"]]
    before = make_pipeline(RobustScaler(), step, StandardScaler())
    if isinstance(step, FunctionTransformer):
        before = make_pipeline(step, StandardScaler())
    before.fit(numbers)
    found, inner = expecting(before, numbers[:40], numbers[40:80])
    assert_complete(found, inner)
    assert found.feature_names.tolist() == names
    so_far = before[:-1]
    # In the units of the step: the scaler behind it is undone.
    np.testing.assert_allclose(found.value, so_far.transform(numbers[:40]))
    np.testing.assert_allclose(found.expected, so_far.transform(numbers[40:80]))
    np.testing.assert_array_equal(found.share, inner.share)


def test_the_other_columns_are_undone(table):
    columns = ["temperature", "load"]
    before = ColumnTransformer(
        [
            ("first", Pipeline([("pca", PCA(1))]), columns),
            ("number", StandardScaler(), ["shift"]),
            ("second", make_pipeline(StandardScaler(), PCA(1)), columns),
            ("text", CountVectorizer(), "note"),
        ],
        sparse_threshold=0,
    ).fit(table)
    before = make_pipeline(before, StandardScaler()).fit(table)
    found, inner = expecting(before, table[:40], table[40:80])
    assert_complete(found, inner)
    words = [f"text__{word}" for word in ("belt", "fine", "low", "oil", "worn")]
    names = found.feature_names.tolist()
    assert names == [
        "shift",
        # Two of the same name have that of the part in front.
        "pipeline__columntransformer__first__pca__pca0",
        "pipeline__columntransformer__second__pca__pca0",
        *words,
    ]
    assert found.value[:, 0].tolist() == table["shift"][:40].tolist()
    np.testing.assert_allclose(found.expected[:, 0], table["shift"][40:80])
    oil = names.index("text__oil")
    contains = table["note"].str.contains("oil").astype(float)
    np.testing.assert_array_equal(found.value[:, oil], contains[:40])
    np.testing.assert_allclose(found.expected[:, oil], contains[40:80], atol=1e-12)


def test_text_in_front(table):
    to_dense = FunctionTransformer(lambda X: X.toarray(), accept_sparse=True)
    before = make_pipeline(CountVectorizer(), to_dense).fit(table["note"])
    texts = table["note"].tolist()
    found, inner = expecting(before, texts[:9], texts[9:18])
    assert_complete(found, inner)
    assert list(found.feature_names) == [f"functiontransformer__x{j}" for j in range(5)]


def test_indicators_beside_an_imputer_keep_their_names(table):
    numbers = table[["temperature", "load"]].copy()
    numbers.iloc[::5, 0] = np.nan
    union = FeatureUnion([("mean", SimpleImputer()), ("missing", MissingIndicator())])
    found, inner = expecting(union.fit(numbers), numbers[:9], numbers[9:18])
    assert_complete(found, inner)
    name = "missing__missingindicator_temperature"
    assert found.feature_names.tolist() == ["temperature", "load", name]
    assert found.value[:, 2].tolist() == numbers["temperature"][:9].isna().tolist()


def test_selected_outputs(table):
    # One indicator of a category, one scaled column: the rest is not seen.
    before = make_pipeline(
        ColumnTransformer(
            [
                ("kind", dense_one_hot, ["machine"]),
                ("number", StandardScaler(), ["temperature", "load"]),
            ]
        ),
        ColumnTransformer([("some", "passthrough", [4, 1])]),
    ).fit(table)
    found, inner = expecting(before, table[:40], table[40:80])
    assert_complete(found, inner)
    assert found.feature_names.tolist() == ["machine", "load"]
    np.testing.assert_array_equal(found.share, inner.share[:, ::-1])
    np.testing.assert_allclose(found.expected[:, 1].astype(float), table["load"][40:80])
    is_mill = table["machine"][40:80] == "mill"
    assert (found.expected[is_mill.to_numpy(), 0] == "mill").mean() > 0.5


@pytest.mark.parametrize("error", [ValueError, IndexError])
def test_an_inverse_may_fail(X, error):
    class Failing(StandardScaler):
        def inverse_transform(self, X, copy=None):
            raise error

    found, inner = expecting(Pipeline([("odd", Failing())]).fit(X), X[:9], X[9:18])
    np.testing.assert_array_equal(found.value, inner.value)
    assert found.feature_names.tolist() == [f"odd__x{j}" for j in range(6)]


def test_a_step_of_ones_own(table):
    class Fahrenheit(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return np.asarray(X) * 1.8 + 32

        def inverse_transform(self, X):
            return (X - 32) / 1.8

        def __sklearn_is_fitted__(self):
            return True

    class Named(Fahrenheit):
        def fit(self, X, y=None):
            self.feature_names_in_ = np.array(X.columns, dtype=object)
            return self

        def get_feature_names_out(self, input_features=None):
            return self.feature_names_in_

    one, two = table[["temperature"]], table[["temperature", "load"]]
    for step, rows in [(Fahrenheit(), one), (Named(), two)]:
        found, _ = expecting(make_pipeline(step).fit(rows), rows[:9], rows[9:18])
        np.testing.assert_allclose(found.expected, rows[9:18])
        assert found.feature_names.tolist() == list(rows)
    # Nothing says that it does not mix two columns.
    found, _ = expecting(make_pipeline(Fahrenheit()).fit(two), two[:9], two[9:18])
    assert found.feature_names.tolist() == ["fahrenheit__x0", "fahrenheit__x1"]


# Frames


@pytest.mark.parametrize("kind", ["nullable", "arrow", "polars", "categorical"])
def test_frames_of_all_kinds(table, kind):
    numbers, words = ["temperature", "shift"], ["machine"]
    rows = table[numbers + words].astype({"shift": "float64"})
    rows.iloc[::7, 1] = np.nan
    if kind == "nullable":
        frame = rows.astype({"shift": "Int64", "machine": "string"})
    elif kind == "categorical":
        frame = rows.astype({"machine": "category"})
    elif kind == "arrow":
        pytest.importorskip("pyarrow")
        frame = rows.convert_dtypes(dtype_backend="pyarrow")
    else:
        polars = pytest.importorskip("polars")
        frame = as_polars(rows).with_columns(
            shift=polars.col("shift").fill_nan(None),
            machine=polars.col("machine").cast(polars.Categorical),
        )
    before = ColumnTransformer(
        [
            ("number", SimpleImputer(add_indicator=True), numbers),
            ("kind", dense_one_hot, words),
        ]
    ).fit(frame)
    found, inner = expecting(before, frame[:40], frame[40:80])
    assert_complete(found, inner)
    filled = rows.fillna({"shift": rows["shift"].mean()})[40:80]
    assert found.feature_names.tolist() == numbers + words
    for j, name in enumerate(numbers):
        np.testing.assert_array_equal(found.value[:, j].astype(float), rows[name][:40])
        np.testing.assert_allclose(found.expected[:, j].astype(float), filled[name])
    assert found.value[:, 2].tolist() == rows["machine"][:40].tolist()
    assert found.expected[:, 2].tolist() == filled["machine"].tolist()


def test_missing_values_of_pandas():
    rows = pd.DataFrame({"word": ["a", pd.NA, "b"], "number": [1, pd.NA, 3]})
    rows["word"] = rows["word"].astype("string")
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=pd.NA), OrdinalEncoder()
    )
    to_float = FunctionTransformer(
        lambda X: X.astype("Float64").to_numpy(float, na_value=0.0), lambda X: X
    )
    to_float.set_params(check_inverse=False)
    before = ColumnTransformer(
        [("word", words, ["word"]), ("number", to_float, ["number"])]
    ).fit(rows)
    found, _ = expecting(before, rows, rows[::-1])
    assert found.value[:, 0].tolist() == ["a", None, "b"]
    np.testing.assert_array_equal(found.value[:, 1].astype(float), [1, np.nan, 3])
    assert found.expected[:, 1].tolist() == [3, 0, 1]
    before = ColumnTransformer([("number", to_float, ["number"])]).fit(rows)
    found, _ = expecting(before, rows, rows[::-1])
    assert found.value.dtype == np.float64
    np.testing.assert_array_equal(found.value, [[1], [np.nan], [3]])


# The detector and the displays


def test_a_wrong_machine_is_named(rng):
    usual = pd.Series({"lathe": 30.0, "mill": 60.0, "saw": 45.0})
    log = pd.DataFrame({"machine": rng.choice(usual.index, size=300)})
    log["temperature"] = usual[log["machine"]].to_numpy() + rng.normal(size=300)
    columns = ColumnTransformer(
        [
            ("number", StandardScaler(), ["temperature"]),
            ("kind", dense_one_hot, ["machine"]),
        ]
    )
    pipeline = make_pipeline(columns, small(scaling="global")).fit(log)
    rows = pd.DataFrame({"machine": ["lathe"], "temperature": [61.0]})
    found = explain(pipeline, rows)
    frame = found.to_frame()
    assert set(zip(frame["feature"], frame["value"], strict=True)) == {
        ("machine", "lathe"),
        ("temperature", 61.0),
    }
    np.testing.assert_allclose(found.share.sum() + found.code_share[0], 1)
    assert 25 < found.expected[0, 1] < 65
    texts = [text.get_text() for text in found.plot().texts_]
    assert any(text.startswith("lathe, expected ") for text in texts)
    assert any(text.startswith("61, expected ") for text in texts)


def test_what_cannot_be_explained(X):
    for estimator in (IsolationForest(), make_pipeline(StandardScaler(), PCA())):
        with pytest.raises(TypeError, match="explain needs a fitted detector"):
            explain(estimator, X)
    with pytest.raises(NotFittedError):
        explain(make_pipeline(StandardScaler(), small()), X)
    pipeline = make_pipeline(StandardScaler(), Expecting(X)).fit(X)
    with pytest.raises(ValueError, match="5 features"):
        explain(pipeline, X[:, :5])
