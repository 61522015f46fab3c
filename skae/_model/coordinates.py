"""Coordinates of the code: the affine map from the trained code to the public one."""

import numpy as np

from .._data.affine import AffineMap
from .._data.source import chunk_rows

__all__ = ["LEAST_SPREAD", "N_PROBES", "fit_coordinates", "rotation", "slopes_of"]

# Rows on which the decoder's sensitivity is measured; a mean over more changes little.
N_PROBES = 256
# Standard deviation of a component, as a share of the largest, below which it is
# constant up to rounding.
LEAST_SPREAD = 1e-6
# Numbers that this measurement may look at.
_MAX_MOVES = 2**22


def fit_coordinates(symmetry, decode, code, probes, unit):
    """Find the coordinates of the code of a trained network.

    Which coordinates a network uses for its code is arbitrary: any invertible affine
    map after the encoder can be undone before the decoder. Users expect those of PCA:
    centred, uncorrelated, by falling importance, in the data's units, with the sign
    that makes the largest loading positive. The loadings of a component are the mean
    Jacobian of the decoder: for a linear network the axis of PCA.

    The decoder's mean metric, the average of ``J.T @ J`` over training rows with ``J``
    its Jacobian, says how far the reconstruction moves when the code does. In
    coordinates in which this metric is the identity the decoder keeps lengths on
    average, as that of PCA does exactly; there the principal axes of the code are
    taken. For a linear network the result is PCA of its reconstructions, whichever
    basis it was trained in. Where the code must not be rotated, a new order and a
    factor for each component are all there is. Where the components must keep their
    order, each is made uncorrelated with those before it.

    Parameters
    ----------
    symmetry : {"rotation", "triangular", "scaling", "permutation", None}
        Which affine maps of the code are allowed: all, those by which a component
        depends on those before it only, a positive factor for each component and a new
        order, a new order only, or none.
    decode : callable
        From the network's code to the decoder's output, float64 arrays.
    code : Moments
        Of the training rows' code, as the network has it: covariances where the code
        may be rotated or triangular maps are allowed, else variances.
    probes : ndarray of shape (n_probes, n_components)
        Codes of some training rows, at which the Jacobian is measured.
    unit : float
        Length of a scaled step in the data's units.

    Returns
    -------
    AffineMap
    """
    k = len(code.mean)
    if symmetry is None:
        return AffineMap.identity(k)
    second = code.second
    variance = np.diag(second) if second.ndim == 2 else second
    spread = np.sqrt(np.maximum(variance, 0.0))
    if symmetry == "triangular":
        return _uncorrelated_in_order(decode, code, probes, spread, unit)
    if symmetry != "rotation":
        squares, _ = slopes_of(decode, probes, spread, "ij,ij->i")
        order = np.argsort(-squares * variance, kind="stable")
        scale = np.ones(k)
        if symmetry == "scaling":
            # A step of one then moves the reconstruction by one, on average.
            lengths = unit * np.sqrt(squares)
            scale = 1 / np.where(lengths > 0, lengths, 1.0)
        # Zero stays zero: it means that a component is not used.
        return AffineMap(np.zeros(k), scale[order], order=order)
    return rotation(code, *slopes_of(decode, probes, spread), unit)


def rotation(code, metric, jacobian, unit):
    """Return the coordinates of a code that may be rotated; see `fit_coordinates`.

    Parameters
    ----------
    code : Moments
    metric : ndarray of shape (n_components, n_components)
    jacobian : ndarray of shape (n_components, n_outputs)
        Of the decoder, as `slopes_of` returns them.
    unit : float
    """
    second = code.second
    lengths, directions = np.linalg.eigh(metric)
    # Directions that the decoder ignores get a small length instead of none, so that
    # the map stays invertible.
    lengths = np.sqrt(np.maximum(lengths, 1e-10 * max(lengths[-1], 0.0)))
    lengths[lengths == 0] = 1.0
    stretch = directions * lengths
    _, axes = np.linalg.eigh(stretch.T @ second @ stretch)
    axes = axes[:, ::-1]
    loadings = axes.T @ (directions / lengths).T @ jacobian
    largest = np.argmax(np.abs(loadings), axis=1)
    axes = axes * np.where(loadings[np.arange(len(axes)), largest] < 0, -1.0, 1.0)
    return AffineMap(
        code.mean,
        matrix=unit * (stretch @ axes),
        inverse=axes.T @ (directions / lengths).T / unit,
    )


def _uncorrelated_in_order(decode, code, probes, spread, unit):
    """Return a triangular map to uncorrelated components; see `fit_coordinates`."""
    k = len(code.mean)
    matrix = np.eye(k)
    # In units of their spread, so that what is constant up to rounding counts as that.
    scale = np.where(spread > LEAST_SPREAD * spread.max(), spread, np.inf)
    correlation = code.second / np.outer(scale, scale)
    for j in range(1, k):
        slopes, *_ = np.linalg.lstsq(
            correlation[:j, :j], correlation[:j, j], rcond=LEAST_SPREAD
        )
        if np.isfinite(scale[j]):
            matrix[:j, j] = -slopes * scale[j] / scale[:j]
    inverse = np.linalg.inv(matrix)
    metric, jacobian = slopes_of(decode, probes, spread)
    squares = np.einsum("ij,jk,ik->i", inverse, metric, inverse)
    lengths = unit * np.sqrt(np.maximum(squares, 0.0))
    lengths[lengths == 0] = 1.0
    loadings = inverse @ jacobian
    largest = np.argmax(np.abs(loadings), axis=1)
    factors = lengths * np.where(loadings[np.arange(k), largest] < 0, -1.0, 1.0)
    return AffineMap(
        code.mean,
        matrix=np.triu(matrix * factors),
        inverse=np.triu(inverse / factors[:, None]),
    )


def slopes_of(decode, probes, spread, products="ij,kj->ik"):
    """Average ``J.T @ J`` of the decoder, or its diagonal, and ``J.T``.

    The Jacobian ``J`` is measured by central differences.

    Parameters
    ----------
    decode, probes
        As `fit_coordinates` takes them.
    spread : ndarray of shape (n_components,)
        Standard deviation of each component of the code.
    products : str, default="ij,kj->ik"
        Which scalar products of the rows of ``J.T``: of all pairs, or of each row with
        itself.

    Returns
    -------
    metric : ndarray of shape (n_components, n_components) or (n_components,)
    jacobian : ndarray of shape (n_components, n_outputs)
    """
    k = probes.shape[1]
    moves_per_probe = k * decode(probes[:1]).shape[1]
    n_probes = min(len(probes), max(16, _MAX_MOVES // moves_per_probe))
    probes = probes[np.linspace(0, len(probes) - 1, n_probes).astype(int)]
    # Far enough to rise above rounding, near enough to be a derivative.
    # A component that is constant but for rounding has a step, too, that does.
    steps = np.maximum(spread, LEAST_SPREAD * spread.max())
    steps = 1e-2 * np.where(steps > 0, steps, 1.0)
    metric = jacobian = 0.0
    n_held = chunk_rows(moves_per_probe)
    for start in range(0, n_probes, n_held):
        held = probes[start : start + n_held].astype(np.float64)
        # shape: (n_components, n_held, n_components), before and after each step
        ahead, behind = (
            decode((held + sign * np.diag(steps)[:, None]).reshape(-1, k))
            for sign in (1, -1)
        )
        moves = (ahead - behind).reshape(k, -1) / (2 * steps[:, None])
        metric = metric + np.einsum(products, moves, moves, optimize=True)
        jacobian = jacobian + moves.reshape(k, len(held), -1).sum(axis=1)
    return metric / n_probes, jacobian / n_probes
