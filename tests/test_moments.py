"""Means and products chunk by chunk, against NumPy on all rows at once."""

import numpy as np
import pytest

from skae._data import source
from skae._data.moments import Moments, products, squares
from skae._data.moments import moments as moments_of
from skae._data.source import Dense, chunk_rows

PRECISIONS = {np.float32: 1e-5, np.float64: 1e-12}
in_both_precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), PRECISIONS.items(), ids=["single", "double"]
)


@pytest.fixture(params=[1, 64, 2**20])
def chunk_entries(request, monkeypatch):
    monkeypatch.setattr(source, "_BUDGET", request.param)


def moments(X, *args):
    return moments_of(Dense(X), *args)


def _expected(X, weight=None):
    X = X.astype(np.float64)
    mean = np.average(X, axis=0, weights=weight)
    return mean, np.atleast_2d(np.cov(X.T, aweights=weight, ddof=0))


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (7, 3), (64, 8), (65, 100)])
def test_chunks_are_all_rows_in_their_order(n_rows, n_columns, chunk_entries):
    X = np.zeros((n_rows, n_columns))
    rows = [np.arange(n_rows)[rows] for rows, _ in Dense(X).chunks()]
    assert np.array_equal(np.concatenate(rows), np.arange(n_rows))
    sizes = {len(r) for r in rows[:-1]}
    assert len(sizes) <= 1


def test_chunks_have_the_least_number_of_rows():
    assert chunk_rows(2**20) == 1
    assert chunk_rows(2**20, least=256) == 256


@pytest.mark.parametrize("weighted", [False, True])
@in_both_precisions
def test_moments_are_mean_and_covariance(
    dtype, tolerance, weighted, chunk_entries, rng
):
    X = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3.0).astype(dtype)
    weight = rng.uniform(0.1, 2, size=200) if weighted else None
    mean, covariance = _expected(X, weight)
    found = moments(X, weight, dtype, products)
    scale = covariance.max()
    np.testing.assert_allclose(found[0], mean, rtol=tolerance)
    np.testing.assert_allclose(found[1], covariance, atol=tolerance * scale)
    found = moments(X, weight, dtype, squares)
    np.testing.assert_allclose(found[1], np.diag(covariance), rtol=tolerance)


# Timestamps in seconds, and what single precision still holds of something like them.
FAR = {np.float32: 2.0**16, np.float64: 1.7e9}


@in_both_precisions
def test_nothing_cancels_far_from_zero(dtype, tolerance, chunk_entries, rng):
    X = (rng.normal(size=(500, 3)) + FAR[dtype]).astype(dtype)
    _, covariance = _expected(X - X[0])
    found = moments(X, None, dtype, products)[1]
    np.testing.assert_allclose(found, covariance, atol=10 * tolerance)


def test_rounding_is_that_of_a_chunk_however_rows_drift(chunk_entries, rng):
    X = rng.normal(size=(5000, 3)) + np.linspace(0, 1e4, 5000)[:, np.newaxis]
    X = X.astype(np.float32)
    mean, covariance = _expected(X)
    found = moments(X, None, np.float32, products)
    np.testing.assert_allclose(found[0], mean, rtol=1e-6)
    np.testing.assert_allclose(found[1], covariance, rtol=1e-5)


def test_sums_of_single_precision_have_few_terms(rng):
    X = rng.exponential(size=(2**20, 2)).astype(np.float32)
    variance = moments(X, None, np.float32)[1]
    np.testing.assert_allclose(variance, X.var(axis=0, dtype=np.float64), rtol=1e-6)


def test_the_order_in_memory_does_not_matter(chunk_entries, rng):
    X = rng.normal(size=(100, 7))
    for a, b in zip(moments(X), moments(np.asfortranarray(X)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("second", [squares, products])
@in_both_precisions
def test_merged_moments_are_those_of_all_rows(dtype, tolerance, second, weighted, rng):
    X = (rng.normal(size=(300, 4)) + np.linspace(0, 50, 300)[:, None]).astype(dtype)
    weight = rng.uniform(0.1, 2, size=300) if weighted else None
    parts = []
    for rows in (slice(0, 7), slice(7, 7), slice(7, 200), slice(200, 300)):
        part = Moments(second, dtype)
        if len(X[rows]):
            part.add(X[rows], None if weight is None else weight[rows])
        parts.append(part)
    merged = Moments(second, dtype)
    for part in parts[::-1]:  # in any order
        merged.merge(part)
    mean, covariance = _expected(X, weight)
    np.testing.assert_allclose(merged.mean, mean, rtol=tolerance)
    expected = covariance if second is products else np.diag(covariance)
    scale = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(merged.second, expected, atol=scale)
    assert merged.total == pytest.approx(300 if weight is None else weight.sum())
