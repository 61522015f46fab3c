"""Coordinates of the code, against PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae._data.moments import Moments, products, squares
from skae._model.coordinates import N_PROBES, fit_coordinates, slopes_of

N_COMPONENTS = 3


def _fit(symmetry, decode, code, weight, unit):
    """Return the coordinates for a code."""
    moments = Moments(products if symmetry == "rotation" else squares)
    moments.add(code, weight)
    return fit_coordinates(symmetry, decode, moments, code[:N_PROBES], unit)


def _apply(coordinates, code):
    return coordinates(torch.from_numpy(code)).numpy()


def _invert(coordinates, code):
    return coordinates.inverse(torch.from_numpy(code)).numpy()


@pytest.fixture
def linear(X, rng):
    """A code in an arbitrary basis, and the map that decodes it as PCA would."""
    pca = PCA(N_COMPONENTS).fit(X)
    basis, offset = rng.normal(size=(3, 3)), rng.normal(size=3)
    code = pca.transform(X) @ basis + offset

    def decode(code):
        return pca.inverse_transform((code - offset) @ np.linalg.inv(basis))

    return code, decode


def _matrix(function, k):
    """Return the matrix of an affine map of rows."""
    return function(np.eye(k)) - function(np.zeros((1, k)))


@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_a_linear_code_becomes_that_of_pca_signs_included(unit, X, linear):
    code, decode = linear
    coordinates = _fit("rotation", decode, code, None, unit)
    expected = PCA(N_COMPONENTS).fit_transform(X) * unit
    np.testing.assert_allclose(_apply(coordinates, code), expected, atol=1e-6)


def test_any_linear_decoder_gets_the_principal_axes_of_its_reconstruction(X, rng):
    code = X @ rng.normal(size=(6, N_COMPONENTS))
    decoder = rng.normal(size=(N_COMPONENTS, 6))
    coordinates = _fit("rotation", lambda z: z @ decoder, code, None, 1.0)
    pca = PCA(N_COMPONENTS).fit(code @ decoder)
    found, expected = _apply(coordinates, code), pca.transform(code @ decoder)
    np.testing.assert_allclose(found.var(axis=0), expected.var(axis=0))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)
    inverse = _matrix(lambda z: _invert(coordinates, z), N_COMPONENTS)
    axes = inverse @ decoder
    np.testing.assert_allclose(np.abs(axes), np.abs(pca.components_), atol=1e-7)


def test_integer_weights_are_repeated_rows(X, linear, rng):
    code, decode = linear
    weight = rng.randint(1, 5, size=len(X))
    coordinates = _fit("rotation", decode, code, weight / weight.mean(), 1.0)
    pca = PCA(N_COMPONENTS).fit(np.repeat(decode(code), weight, axis=0))
    found, expected = _apply(coordinates, code), pca.transform(decode(code))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)


def _curved(code):
    # Sensitive to every component, most to the first.
    return np.c_[np.sinh(code[:, 0]), np.tanh(code[:, 1:]), code.prod(axis=1)]


@pytest.mark.parametrize("symmetry", ["rotation", "scaling", "permutation", None])
def test_the_ways_there_and_back_undo_each_other(symmetry, rng):
    code = rng.normal(size=(100, 4)) + 1.0
    coordinates = _fit(symmetry, _curved, code, None, 3.0)
    there, back = (
        _matrix(lambda z, f=f: f(coordinates, z), 4) for f in (_apply, _invert)
    )
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(_invert(coordinates, _apply(coordinates, code)), code)


def test_a_curved_code_is_centred_uncorrelated_and_ordered(rng):
    code = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) + 5.0
    coordinates = _fit("rotation", lambda z: _curved(z / 10), code, None, 1.0)
    found = _apply(coordinates, code)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9 * found.std())
    covariance = np.cov(found.T)
    variances = np.diag(covariance)
    assert (np.diff(variances) < 0).all()
    np.testing.assert_allclose(
        covariance, np.diag(variances), atol=1e-7 * variances.max()
    )


def test_the_largest_loading_is_positive(rng):
    code = rng.normal(size=(200, 3)) * [3, 2, 1]
    decoder = -2 * rng.normal(size=(3, 5))

    def decode(code):
        return np.tanh(code @ decoder / 5)

    coordinates = _fit("rotation", decode, code, None, 1.0)
    # The loadings: the mean Jacobian, of the decoder from the coordinates.
    slopes = 1 - decode(code) ** 2
    inverse = _matrix(lambda z: _invert(coordinates, z), 3)
    loadings = inverse @ decoder * slopes.mean(axis=0)
    largest = np.abs(loadings).argmax(axis=1)
    assert (loadings[range(3), largest] > 0).all()


def test_a_permutation_only_permutes_by_importance(rng):
    code = rng.normal(size=(100, 4)) + 1.0
    # Importance is how far the reconstruction moves as the component varies.
    scales = np.array([0.5, 3.0, 0.1, 1.0]) / code.std(axis=0)
    coordinates = _fit("permutation", lambda z: z * scales, code, None, 7.0)
    assert np.array_equal(_apply(coordinates, code), code[:, [1, 3, 0, 2]])


@pytest.mark.parametrize("unit", [1.0, 7.0])
def test_a_scaling_gives_steps_of_length_one_by_importance_and_leaves_zero(unit, rng):
    code, decoder = rng.uniform(size=(100, 4)), rng.normal(size=(4, 6))
    coordinates = _fit("scaling", lambda z: z @ decoder, code, None, unit)
    found = _apply(coordinates, code)
    # By how far the rows move, in the data's units, as the component varies.
    moves = code.std(axis=0) * np.linalg.norm(decoder, axis=1) * unit
    np.testing.assert_allclose(found.std(axis=0), np.sort(moves)[::-1])
    steps = unit * _matrix(lambda z: _invert(coordinates, z), 4) @ decoder
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1)
    assert not _apply(coordinates, np.zeros((1, 4))).any()
    assert (found >= 0).all()


def test_nothing_is_done_where_nothing_is_allowed(rng):
    code = rng.normal(size=(20, 4))
    coordinates = _fit(None, None, code, None, 7.0)
    assert np.array_equal(_apply(coordinates, code), code)
    assert np.array_equal(_invert(coordinates, code), code)


@pytest.mark.parametrize("symmetry", ["rotation", "scaling", "permutation"])
@pytest.mark.parametrize("dead", ["code", "decoder", "both", "all"])
def test_dead_directions_stay_invertible(dead, symmetry, rng):
    code, decoder = rng.normal(size=(50, 3)), rng.normal(size=(3, 5))
    if dead in ("code", "both"):
        code[:, 1] = 0.25
    if dead in ("decoder", "both"):
        decoder[1] = 0.0
    if dead == "all":
        code[:], decoder[:] = 0.25, 0.0
    coordinates = _fit(symmetry, lambda z: z @ decoder, code, None, 1.0)
    elsewhere = rng.normal(size=(50, 3))
    found = _invert(coordinates, _apply(coordinates, elsewhere))
    np.testing.assert_allclose(found, elsewhere, atol=1e-6)


def test_a_decoder_of_lower_rank_leaves_a_well_conditioned_map(rng):
    # No basis vector of the code is dead here, but a direction between them is.
    for _ in range(20):
        code = rng.normal(size=(50, 3))
        decoder = rng.normal(size=(3, 2)) @ rng.normal(size=(2, 5))
        coordinates = _fit("rotation", lambda z, d=decoder: z @ d, code, None, 1.0)
        matrix = _matrix(lambda z, c=coordinates: _apply(c, z), 3)
        assert np.linalg.cond(matrix) < 1e6


@pytest.mark.parametrize("spread", [1e-3, 1.0])
def test_slopes_are_the_mean_jacobian_and_its_mean_square(spread, rng):
    code, weight = spread * rng.normal(size=(50, 3)), rng.normal(size=(3, 4)) / spread
    slopes = 1 - np.tanh(code @ weight) ** 2
    jacobians = slopes[:, np.newaxis] * weight
    expected = np.einsum("nif,njf->ij", jacobians, jacobians) / len(code)
    metric, jacobian = slopes_of(lambda z: np.tanh(z @ weight), code, code.std(axis=0))
    np.testing.assert_allclose(metric, expected, rtol=1e-2, atol=1e-3 / spread**2)
    expected = jacobians.mean(axis=0)
    np.testing.assert_allclose(jacobian, expected, rtol=1e-2, atol=1e-3 / spread)
    diagonal, _ = slopes_of(
        lambda z: np.tanh(z @ weight), code, code.std(axis=0), "ij,ij->i"
    )
    np.testing.assert_allclose(diagonal, np.diag(metric))


def test_a_component_of_rounding_noise_has_the_metric_of_the_others(rng):
    code = rng.normal(size=(50, 3)) * [2.0, 1.0, 1e-19]
    axes, _ = np.linalg.qr(rng.normal(size=(40, 3)))
    metric, jacobian = slopes_of(lambda code: code @ axes.T, code, code.std(axis=0))
    np.testing.assert_allclose(metric, np.eye(3), atol=1e-7)
    np.testing.assert_allclose(jacobian, axes.T, atol=1e-7)
