"""Rows at the limits of numbers: outliers, without NaN and without warnings."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import (
    Mahalanobis,
    NegativeELBO,
    Neighbors,
    Reconstruction,
)
from skae.architectures import MLP, Conv
from skae.bottlenecks import FiniteScalar, Plain, TopK, Variational, VectorQuantized
from skae.losses import Huber, SquaredError, Trimmed

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

N_FEATURES = 6
# The fill value of netCDF, numbers whose squares are too large, the largest numbers.
CELLS = {
    np.float32: [9.97e36, 1e20, 3.4e38, -3.4e38],
    np.float64: [9.97e36, 1e200, 1.7e308, -1.7e308],
}
DETECTORS = {
    "default": {"calibration_fraction": 0.0},
    "reconstruction": {"anomaly_score": Reconstruction()},
    "mahalanobis": {"anomaly_score": Mahalanobis()},
    "elbo": {"anomaly_score": NegativeELBO(), "bottleneck": Variational()},
    "code": {"anomaly_score": Neighbors()},
    "data": {"anomaly_score": Neighbors(space="data")},
    "huber": {"loss": Huber()},
    "topk": {"n_components": 4, "bottleneck": TopK(2)},
    "codes": {"bottleneck": VectorQuantized(8)},
    "conv": {"architecture": Conv((1, N_FEATURES))},
    "minmax": {"scaling": "minmax"},
    "robust": {"scaling": "robust"},
    "not scaled": {"scaling": None},
    "ensemble": {"n_estimators": 2},
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.RandomState(0)
    # With standard deviations below one, which scaling divides by.
    return rng.normal(size=(300, 3)) @ rng.normal(size=(3, N_FEATURES)) / 20


def detector(**params):
    defaults = {"n_components": 2, "calibration_fraction": 0.2}
    defaults |= {"max_epochs": 3, "random_state": 0}
    return AutoencoderOutlierDetector(**defaults | params)


def extremes(rows, dtype):
    """Yield rows of which the second has an extreme value, and its column."""
    for cell in CELLS[dtype]:
        for column in (2, 5):
            X = rows[:3].astype(dtype)
            X[1, column] = cell
            yield X, column


# The precisions in turn; the others, and missing values, are slow.
CASES = [
    pytest.param(
        name,
        dtype,
        missing,
        id=f"{name}-{dtype.__name__}{'-missing' * missing}",
        marks=[] if not missing and (n + m) % 2 == 0 else pytest.mark.slow,
    )
    for n, name in enumerate(DETECTORS)
    for m, dtype in enumerate(CELLS)
    for missing in (False, True)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "missing"), CASES)
def test_detectors(name, dtype, missing, rows):
    X = rows.astype(dtype)
    if missing:
        X[::7, 2] = np.nan
    model = detector(**DETECTORS[name]).fit(X)
    usual = model.predict(X[:3])[[0, 2]]
    for X, column in extremes(rows, dtype):
        score = model.score_samples(X)
        assert not np.isnan(score).any()
        assert score[1] < min(score[0], score[2])
        assert model.decision_function(X)[1] < 0
        prediction = model.predict(X)
        assert prediction[1] == -1
        if not missing:
            np.testing.assert_array_equal(prediction[[0, 2]], usual)
        if hasattr(model, "calibration_scores_"):
            p_values = model.p_values(X)
            assert p_values[1] == 1 / (len(model.calibration_scores_) + 1)
        explanation = model.explain(X)
        assert np.isfinite(explanation.share).all()
        assert np.isfinite(explanation.expected).all()
        assert explanation.share[1].argmax() == column
        assert explanation.share[1, column] > 0.9
        # What the network makes of it is a number.
        assert np.isfinite(model.transform(X)).all()
        assert np.isfinite(model.reconstruct(X)).all()
        assert model.score(X) < 1
        # Its error is none that has a square; that of the others has.
        error = model.reconstruction_error(X)
        assert not np.isnan(error).any()
        assert np.isfinite(error[[0, 2]]).all()
        assert not np.isnan(model.reconstruction_error(X, per_feature=True)).any()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"quantile": 0.05},
        {"false_positive_rate": 0.05},
        {"n_alerts": 3},
        {"rule": lambda scores: np.median(scores) - 3 * np.std(scores)},
    ],
    ids=["default", "quantile", "rate", "alerts", "rule"],
)
def test_calibration_with_rows_that_cannot_be_scored(how, rows):
    X = rows[:100].copy()
    X[3, 2], X[7, 0] = 1.7e308, -1.7e308
    model = detector().fit(rows)
    model.calibrate(X, **how)
    assert np.isfinite(model.offset_)
    assert (model.predict(X)[[3, 7]] == -1).all()
    if "rule" not in how:  # the two rows are in its mean
        assert (model.predict(rows[:5] + 5.0) == -1).all()
    assert np.mean(model.predict(rows) == 1) > 0.8


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        *((np.float64, factor) for factor in (1e39, 1e150, 1e-39)),
        *((np.float32, factor) for factor in (1e20, 1e30, 1e-30)),
    ],
)
def test_other_units(dtype, factor, rows):
    usual = AutoencoderTransformer(
        2, architecture=MLP((4,)), max_epochs=3, random_state=0
    )
    model = clone(usual)
    usual.fit(rows.astype(dtype))
    X = (rows * factor).astype(dtype)
    model.fit(X)
    rtol = 1e-3  # rounding of rows in single precision
    np.testing.assert_allclose(model.score(X), usual.score(rows), rtol=rtol)
    for name, given in (("transform", rows), ("reconstruct", rows)):
        expected = getattr(usual, name)(given.astype(dtype))
        found = getattr(model, name)(X).astype(np.float64) / factor
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-3)
    drawn = model.sample(200, random_state=0) / factor
    expected = usual.sample(200, random_state=0)
    np.testing.assert_allclose(drawn.std(axis=0), expected.std(axis=0), rtol=0.2)


def test_score_of_rows_whose_squares_are_too_large(rows):
    model = AutoencoderTransformer(
        2, architecture=MLP(()), max_epochs=3, random_state=0
    ).fit(rows)
    # A linear model: far from the mean only ratios matter.
    expected = model.score(rows * 1e10)
    np.testing.assert_allclose(model.score(rows * 1e200), expected, rtol=1e-6)
    X = rows * 1e200
    X[::5, 1] = np.nan
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_norms(dtype, rows):
    architecture = MLP((5,), norm="layer", start="random", linear_path=False)
    model = AutoencoderTransformer(
        2, architecture=architecture, max_epochs=2, random_state=0
    ).fit(rows)
    for X, _ in extremes(rows, dtype):
        found = model.reconstruct(X)
        assert np.isfinite(found).all()
        usual = model.reconstruct(rows[:3].astype(dtype))
        np.testing.assert_allclose(found[[0, 2]], usual[[0, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_any_size(dtype, rows):
    model = AutoencoderTransformer(3, max_epochs=2, random_state=0).fit(rows)
    most = np.finfo(dtype).max
    codes = np.array([[most, -most, most], [-most, 1, 0], [1, 0, 1]], dtype)
    found = model.inverse_transform(codes)
    assert np.isfinite(found).all()
    alone = model.inverse_transform(codes[2:])
    np.testing.assert_allclose(found[2:], alone, rtol=1e-5, atol=1e-6)


def test_rows_that_cannot_be_fitted_are_named(rows):
    for cls in (AutoencoderTransformer, AutoencoderOutlierDetector):
        with pytest.raises(ValueError, match="squares are too large"):
            cls(2).fit(rows * 1e200)


@pytest.mark.parametrize("scaling", ["robust", None])
@pytest.mark.parametrize("name", ["X", "X_target"])
def test_values_that_scaling_does_not_bring_into_range_are_named(scaling, name, rows):
    X = rows.copy()
    X[3, 1] = 1e60
    given = {"X": X} if name == "X" else {"X": rows, "X_target": X}
    with pytest.raises(ValueError, match=r"column 1 ranges .* to 1e\+60.*scaling="):
        AutoencoderTransformer(2, scaling=scaling).fit(**given)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_of_any_size_in_any_units(dtype, rows):
    for factor in (1e-42, 1e-37, 1e30):
        model = AutoencoderTransformer(
            2, bottleneck=Plain("relu"), max_epochs=2, random_state=0
        ).fit((rows * factor).astype(dtype))
        for codes in ([[5e5, 6e5]], [[3e37, -3e37]], [[1e-30, 0.0]]):
            found = model.inverse_transform(np.array(codes, dtype))
            assert not np.isnan(found).any()


def test_shares_of_rows_of_which_all_columns_leave_the_range(rng):
    # The code of such rows is infinitely far from the only one known. Each part is cut
    # to the same number, and their sum must stay in range.
    model = AutoencoderOutlierDetector(
        10,
        architecture=MLP((4,), start="random", dropout=0.2),
        bottleneck=Plain("sigmoid"),
        scaling="minmax",
        early_stopping=False,
        max_epochs=1,
        random_state=9,
    ).fit(np.ones((90, 8), bool))
    found = model.explain(rng.normal(size=(5, 8)).astype(np.float32))
    total = found.share.sum(axis=1) + found.code_share
    np.testing.assert_allclose(total, 1.0)


def test_losses_that_are_too_large_to_be_compared(rows):
    model = AutoencoderTransformer(
        2, loss=Trimmed(SquaredError()), max_epochs=2, warm_start=True, random_state=0
    ).fit(1e-25 * rows)
    model.fit(rows)
    assert np.isfinite(model.transform(rows)).all()


def test_pairs_in_units_that_do_not_fit_together_are_named(rows):
    with pytest.raises(ValueError, match="scaling, which is that of X_target"):
        AutoencoderTransformer(2).fit(1e15 * rows, X_target=1e-37 * rows)


@pytest.mark.parametrize("name", ["X_val", "X_target"])
def test_values_too_large_for_the_precision_of_x_are_named(name, rows):
    other = rows.copy()
    other[0, 0] = 1.7e308
    with pytest.raises(ValueError, match=f"{name} contains .* too large for .*float32"):
        AutoencoderTransformer(2).fit(rows.astype(np.float32), **{name: other})


def test_scores_of_incomplete_rows_with_discrete_codes(rows):
    X = rows.copy()
    X[::5, 1] = np.nan
    model = AutoencoderOutlierDetector(
        2, bottleneck=FiniteScalar(5), max_epochs=1, random_state=0
    ).fit(X)
    X[::5, 0] = 1.7e308
    scores = model.score_samples(X)
    assert not np.isnan(scores).any()
    assert scores[::5].max() < scores[1::5].min()


def test_discrete_codes_of_what_leaves_the_range(rows):
    model = AutoencoderTransformer(
        2, bottleneck=FiniteScalar(5), max_epochs=1, random_state=0
    ).fit(rows)
    module = model.to_torch("autoencoder")
    found = module(torch.full((1, N_FEATURES), torch.nan))
    assert found.shape == (1, N_FEATURES)
    bottleneck = model.net_.module_.bottleneck
    code, _ = bottleneck(torch.tensor([[torch.nan, 0.3], [torch.inf, -torch.inf]]))
    assert code[1].tolist() == [1.0, -1.0]
    assert bottleneck.symbols(torch.full((1, 2), torch.nan)).tolist() == [[2, 2]]


def test_rows_in_other_units_than_those_of_the_weights(rng):
    # Not scaled: the weights are as large as the rows are small.
    X = 1e-30 * rng.normal(size=(12, 1)) @ rng.normal(size=(1, 8))
    model = AutoencoderTransformer(
        1, bottleneck=FiniteScalar(2), scaling=None, max_epochs=1, random_state=0
    ).fit(X)
    far = 1e12 * rng.normal(size=(20, 8)).astype(np.float32)
    for found in (model.transform(far), model.reconstruct(far)):
        assert not np.isnan(found).any()
    expected = np.square(far).mean(axis=1)  # nothing of it is reconstructed
    np.testing.assert_allclose(model.reconstruction_error(far), expected, rtol=1e-5)
