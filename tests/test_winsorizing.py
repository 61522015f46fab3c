"""Wild values: which ones are, and what they do to a detector."""

import numpy as np
import pytest
from scipy import sparse

from skae import AutoencoderOutlierDetector
from skae._data.winsorizing import winsorized


@pytest.mark.parametrize("wild", [-9999.0, 1e6, 1e150, 1.7e308])
@pytest.mark.parametrize(("n", "n_wild"), [(20, 1), (700, 1), (700, 7), (5000, 50)])
def test_a_few_wild_values_become_the_extreme_of_the_others(rng, wild, n, n_wild):
    X = 20 + rng.normal(size=(n, 3))
    expected = X.copy()
    X[:n_wild, 1] = wild
    others = X[n_wild:, 1]
    expected[:n_wild, 1] = others.max() if wild > 0 else others.min()
    before = X.copy()
    np.testing.assert_array_equal(winsorized(X), expected)
    np.testing.assert_array_equal(X, before)


def test_wild_values_of_both_signs_and_in_several_columns(rng):
    X = rng.normal(size=(700, 3))
    X[0, 0], X[1, 0], X[2, 2] = -9999, 5000, 1e6
    found = winsorized(X.astype(np.float32))
    assert found.dtype == np.float32
    assert found[0, 0] == X[3:, 0].min().astype(np.float32)
    assert found[1, 0] == X[3:, 0].max().astype(np.float32)
    assert np.abs(found).max() < 6


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.exponential(size=n),
        lambda rng, n: rng.lognormal(sigma=1.0, size=n),
        lambda rng, n: rng.standard_t(3, size=n),
        lambda rng, n: rng.poisson(0.05, size=n).astype(float),
        lambda rng, n: np.zeros(n),
        # A flag, a rare category, a second mode: no gross errors.
        lambda rng, n: (np.arange(n) == 0).astype(float),
        lambda rng, n: np.where(np.arange(n) < 8, 99.0, rng.randint(2, size=n)),
        lambda rng, n: np.where(np.arange(n) < n // 20, 1e4, rng.normal(size=n)),
    ],
)
def test_heavy_tails_and_categories_are_not_wild(rng, draw):
    X = np.stack([draw(rng, 1000) for _ in range(20)], axis=1)
    assert winsorized(X) is X


def test_values_that_do_not_dominate_the_variance_stay(rng):
    # One at forty deviations among 100,000 adds less than two per cent.
    X = rng.normal(size=(100_000, 1))
    X[0] = 50
    assert winsorized(X) is X


@pytest.mark.slow
@pytest.mark.parametrize("wild", [-9999.0, 1e6])
@pytest.mark.parametrize("scaling", ["auto", "global", "minmax", "robust", None])
def test_a_detector_bears_a_wild_value(scaling, wild):
    rng = np.random.RandomState(0)
    X = 20 + rng.normal(size=(700, 3))
    X[0, 0] = wild
    detector = AutoencoderOutlierDetector(scaling=scaling, random_state=0).fit(X)
    assert detector.predict([[40, 20, 20]]) == -1
    assert detector.predict([[wild, 20, 20]]) == -1
    assert np.mean(detector.predict(20 + rng.normal(size=(1000, 3))) == -1) < 0.04
    if scaling != "minmax" and scaling is not None:
        np.testing.assert_allclose(detector.scale_, 1, atol=0.1)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("calibration_fraction", [0.0, 0.2])
def test_the_share_of_rows_that_are_flagged_counts_wild_ones(
    rng, convert, calibration_fraction
):
    # As many rows have a wild value as columns and their wild values allow.
    X = rng.normal(size=(300, 8))
    X[np.arange(24), np.arange(24) % 8] = -9999
    detector = AutoencoderOutlierDetector(
        contamination=0.05,
        calibration_fraction=calibration_fraction,
        max_epochs=2,
        early_stopping=False,
        random_state=0,
    )
    found = detector.fit_predict(convert(X)) == -1
    assert found.sum() == 15
    assert found[:24].sum() == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("usual", "other"), [(101000, 101001), (0.101, 0.11), (0.101, 0.101001), (1, 2)]
)
def test_a_drift_of_a_constant_column_is_found_in_any_unit(usual, other):
    rng = np.random.RandomState(0)
    X = np.c_[rng.normal(size=(300, 4)), np.full(300, usual)]
    new = np.c_[rng.normal(size=(50, 4)), np.full(50, other)]
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    assert (detector.predict(new) == -1).all()
    reasons = detector.explain(new)
    assert (reasons.share.argmax(axis=1) == 4).all()
    np.testing.assert_allclose(reasons.expected[:, 4], usual, rtol=1e-4)
    new[:, 4] = usual
    assert np.mean(detector.predict(new)) > 0.8
