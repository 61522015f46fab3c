"""Scaling inside the model, against scikit-learn's scalers."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from skae import AutoencoderTransformer
from skae._data.scaling import fit_scaling, unit_of
from skae._data.source import Dense
from skae.architectures import MLP

KINDS = ["global", "standard", "minmax", "robust", None]


def _fit(kind, X, weight=None):
    return fit_scaling(kind, Dense(X), weight)


def _apply(scaling, X):
    return scaling(torch.from_numpy(X)).numpy()


def test_standard_is_the_standard_scaler(X):
    scaling, _ = _fit("standard", X)
    expected = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(_apply(scaling, X), expected, atol=1e-12)


def test_minmax_is_the_min_max_scaler_to_plus_minus_one(X):
    scaling, _ = _fit("minmax", X)
    expected = MinMaxScaler((-1, 1)).fit_transform(X)
    np.testing.assert_allclose(_apply(scaling, X), expected, atol=1e-12)


def test_robust_is_the_robust_scaler_of_unit_variance(X):
    scaling, _ = _fit("robust", X)
    expected = RobustScaler(unit_variance=True).fit_transform(X)
    np.testing.assert_allclose(_apply(scaling, X), expected, atol=1e-12)


def test_robust_falls_back_where_half_of_the_rows_are_equal(X):
    X[: len(X) * 4 // 5, 1] = 3.0
    scaling, _ = _fit("robust", X)
    expected = StandardScaler().fit_transform(X)[:, 1]
    np.testing.assert_allclose(_apply(scaling, X)[:, 1], expected, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("constant", [0.0, 0.101, -3.0])
@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_a_change_of_a_constant_column_has_no_unit(kind, constant, unit, X):
    X[:, 2] = constant * unit
    scaling, _ = fit_scaling(kind, Dense(X), marks_changes=True)
    changed = X[:4].copy()
    changed[:3, 2] += np.array([0.1, -0.1, 50]) * unit
    changed[3, 2] *= 1 + 1e-8
    found = _apply(scaling, changed)[:, 2]
    np.testing.assert_allclose(found[:3], np.sqrt(len(X)) * np.array([1, -1, 1]))
    assert abs(found[3]) < 0.1
    # What the network returns for it, a little noise, is the constant.
    back = scaling.inverse(torch.full((1, 6), 1e-3)).numpy()[0, 2]
    assert back == pytest.approx(constant * unit, rel=1e-5, abs=1e-14)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_noise_in_a_constant_column_is_small_in_any_unit(kind, unit, X):
    X = np.c_[X, np.full(len(X), 2.0)]
    # From a random start the network returns a little noise for it.
    model = AutoencoderTransformer(
        2,
        scaling=kind,
        architecture=MLP((8,), start="random"),
        max_epochs=60,
        early_stopping=False,
        random_state=0,
    )
    score = model.fit(X).score(X)
    assert (model.reconstruct(X)[:, 6] != 2).all()
    assert model.fit(unit * X).score(unit * X) == pytest.approx(score, abs=0.02)
    largest = model.scale_[:6].max()
    assert model.scale_[6] == (largest if unit < 1 else 1.0)


def test_global_centres_and_divides_by_one_number(X):
    scaling, _ = _fit("global", X)
    centered = X - X.mean(axis=0)
    expected = centered / np.sqrt(X.var(axis=0).mean())
    np.testing.assert_allclose(_apply(scaling, X), expected, atol=1e-12)
    assert np.square(_apply(scaling, X)).mean() == pytest.approx(1)


def test_none_leaves_rows_as_they_are(X):
    scaling, _ = _fit(None, X)
    assert np.array_equal(_apply(scaling, X), X)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_returned_whatever_the_kind(kind, X, rng):
    weight = rng.uniform(size=len(X))
    _, mean = _fit(kind, X, weight)
    np.testing.assert_allclose(mean, np.average(X, axis=0, weights=weight))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_invert_undoes_apply_in_the_dtype_of_the_rows(kind, dtype, X):
    x = torch.from_numpy(X.astype(dtype))
    scaling, _ = _fit(kind, x.numpy())
    assert scaling(x).dtype == x.dtype
    torch.testing.assert_close(scaling.inverse(scaling(x)), x)


@pytest.mark.parametrize("weighted", [False, True])
def test_long_tables_are_read_to_their_end(weighted, rng):
    X = rng.normal(size=(20_000, 2)) + np.linspace(0, 9, 20_000)[:, np.newaxis]
    weight = rng.uniform(size=len(X)) if weighted else None
    scaling, _ = _fit("standard", X, weight)
    expected = StandardScaler().fit(X, sample_weight=weight)
    np.testing.assert_allclose(scaling.center, expected.mean_)
    np.testing.assert_allclose(scaling.scale, expected.scale_)


@pytest.mark.parametrize("kind", ["global", "standard"])
def test_integer_weights_are_repeated_rows(kind, X, rng):
    weight = rng.randint(1, 5, size=len(X))
    weighted, _ = _fit(kind, X, weight.astype(float))
    repeated, _ = _fit(kind, np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.center, repeated.center)
    np.testing.assert_allclose(weighted.scale, repeated.scale)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e9])
@pytest.mark.parametrize("kind", ["global", "standard", "minmax", "robust"])
def test_a_constant_column_is_only_centred(kind, constant, weighted, X, rng):
    X[:, 2] = constant
    weight = rng.uniform(size=len(X)) if weighted else None
    scaling, _ = _fit(kind, X, weight)
    np.testing.assert_allclose(_apply(scaling, X)[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(scaling.inverse(torch.zeros(6)).numpy()[2], constant)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e9])
@pytest.mark.parametrize("kind", ["global", "standard", "minmax", "robust"])
def test_rows_that_do_not_vary_are_only_centred(kind, constant, weighted, rng):
    # What is left of a mean's rounding error must not be blown up to unit variance.
    X = np.full((30, 4), constant)
    weight = rng.uniform(size=30) if weighted else None
    scaling, _ = _fit(kind, X, weight)
    np.testing.assert_allclose(_apply(scaling, X), 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["global", "standard", "minmax", "robust"])
def test_timestamps_keep_their_precision(kind, rng):
    offsets = rng.uniform(0, 3600, size=(200, 1))
    near, _ = _fit(kind, offsets)
    far, _ = _fit(kind, offsets + 1.7e9)
    np.testing.assert_allclose(
        _apply(far, offsets + 1.7e9), _apply(near, offsets), atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unit_is_the_length_of_a_scaled_step_where_there_is_one(kind, X):
    scaling, _ = _fit(kind, X)
    steps = scaling.inverse(torch.eye(6)) - scaling.inverse(torch.zeros(6, 6))
    lengths = steps.diagonal().double().numpy()
    shared = kind in ("global", None)
    np.testing.assert_allclose(unit_of(scaling), lengths if shared else 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_values_beyond_double_precision_are_refused(kind, rng):
    with pytest.raises(ValueError, match="X has values whose squares are too large"):
        _fit(kind, 1e200 * rng.normal(size=(10, 2)))


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_spreads_below_the_smallest_number_of_the_rows(rng):
    # The steps of single precision near zero are 1.4e-45; deviations are half of one.
    steps = rng.randint(2, size=(44, 2))
    X = np.float32(1e-41) + (steps * 1.4e-45).astype(np.float32)
    model = AutoencoderTransformer(1, random_state=0, max_epochs=2).fit(X)
    assert np.isfinite(model.transform(X)).all()
    assert (model.scale_ > 0).all()
