"""Coordinates of the code: the affine map between what is trained and what is seen."""

import numpy as np

from .._data.copies import Constants
from .._data.moments import chunks, moments, products
from .._data.subsample import subsample

__all__ = ["Coordinates"]

# Rows on which the decoder's sensitivity is measured; a mean over more changes little.
_MAX_PROBES = 256
# Numbers that this measurement may look at, and hold at once.
_MAX_MOVES = 2**22
_MAX_HELD = 2**20


class Coordinates:
    """An affine map of the code and its inverse.

    Which coordinates a network uses for its code is arbitrary: any invertible
    affine map after the encoder can be undone before the decoder. Users expect
    those of PCA: centred, uncorrelated, by falling importance, in the data's units,
    with the sign that makes the largest loading positive. Where the code must not be
    turned, a new order and a factor for each component are all there is, and a code
    of thousands of components needs no matrix.

    Parameters
    ----------
    center : ndarray of shape (n_components,)
        What is subtracted first.
    order : ndarray of shape (n_components,)
        Which component of the network's code comes where.
    lengths : ndarray of shape (n_components,)
        What each is then multiplied by.
    turn, turn_back : ndarray of shape (n_components, n_components), default=None
        Matrices that codes are multiplied by instead, from the right.
    """

    def __init__(self, center, order, lengths, turn=None, turn_back=None):
        self.center = center
        self.order = order
        self.lengths = lengths
        self.turn = turn
        self.turn_back = turn_back
        if turn is None:
            self._constants = Constants(center, order, np.argsort(order), lengths)
        else:
            self._constants = Constants(center, turn, turn_back)

    @classmethod
    def fit(cls, symmetry, decode, code, x, weight, unit):
        """Find the coordinates for a trained network.

        The decoder's mean metric, the average of ``J.T @ J`` over training rows
        with ``J`` its Jacobian, says how far the reconstruction moves when the code
        does. In coordinates in which this metric is the identity the decoder keeps
        lengths on average, as that of PCA does exactly; there the principal axes of
        the code are taken. For a linear network the result is PCA of what it
        reconstructs, whichever basis it was trained in.

        Parameters
        ----------
        symmetry : {"rotation", "scaling", "permutation", None}
            What may be done to the code: everything, a positive factor for each
            component and a new order, a new order only, or nothing.
        decode : callable
            From the network's code to the decoder's output, float64 arrays.
        code : ndarray of shape (n_samples, n_components)
            Of the training rows, as the network has it.
        x : Tensor or Streamed, of shape (n_samples, n_features)
            The training rows, scaled.
        weight : ndarray of shape (n_samples,) or None
            Sample weights of mean one.
        unit : float
            Length of a scaled step in the data's units.
        """
        k = code.shape[1]
        if symmetry is None:
            return cls(np.zeros(k), np.arange(k), np.ones(k))
        if symmetry == "rotation":
            mean, covariance = moments(code, weight, second=products)
            variance = np.diag(covariance)
        else:
            mean, variance = moments(code, weight)
        spread = np.sqrt(np.maximum(variance, 0.0))
        if symmetry != "rotation":
            squares = _mean_metric(decode, code, spread, "ij,ij->i")
            order = np.argsort(-squares * variance, kind="stable")
            lengths = np.ones(k)
            if symmetry == "scaling":
                # A step of one then moves the reconstruction by one, on average.
                lengths = unit * np.sqrt(squares)
                lengths[lengths == 0] = 1.0
            # Zero stays zero: it means that a component is not used.
            return cls(np.zeros(k), order, lengths[order])
        metric = _mean_metric(decode, code, spread)
        lengths, directions = np.linalg.eigh(metric)
        # Directions that the decoder ignores get a small length instead of none, so
        # that the map stays invertible.
        lengths = np.sqrt(np.maximum(lengths, 1e-10 * max(lengths[-1], 0.0)))
        lengths[lengths == 0] = 1.0
        stretch = directions * lengths
        _, axes = np.linalg.eigh(stretch.T @ covariance @ stretch)
        axes = axes[:, ::-1]
        loadings = (stretch @ axes).T @ _shared(code, mean, spread, x, weight)
        largest = np.argmax(np.abs(loadings), axis=1)
        signs = np.where(loadings[np.arange(k), largest] < 0, -1.0, 1.0)
        axes = axes * signs
        return cls(
            mean,
            np.arange(k),
            np.ones(k),
            unit * (stretch @ axes),
            axes.T @ (directions / lengths).T / unit,
        )

    def apply(self, code):
        """Map the network's code to these coordinates."""
        if self.turn is not None:
            center, turn, _ = self._constants.like(code)
            return (code - center) @ turn
        center, order, _, lengths = self._constants.like(code)
        return (code - center)[:, order].mul_(lengths)

    def invert(self, code):
        """Map coordinates back to the network's code."""
        if self.turn is not None:
            center, _, turn_back = self._constants.like(code)
            return (code @ turn_back).add_(center)
        center, _, back, lengths = self._constants.like(code)
        return (code / lengths)[:, back].add_(center)


def _shared(code, mean, spread, x, weight):
    """Return the scalar products of centred components with features, up to a factor.

    It keeps what is very small or large within single precision.
    """
    shared, unit = 0.0, max(spread.max(), np.finfo(np.float32).tiny)
    for rows in chunks(*x.shape):
        centered = (code[rows] - mean.astype(code.dtype)) / code.dtype.type(unit)
        if weight is not None:
            centered *= weight[rows, np.newaxis].astype(code.dtype)
        shared = shared + (centered.T @ np.asarray(x[rows])).astype(np.float64)
    return shared


def _mean_metric(decode, code, spread, products="ij,kj->ik"):
    """Average ``J.T @ J`` of the decoder, or its diagonal, by central differences.

    Parameters
    ----------
    decode, code
        As in `Coordinates.fit`.
    spread : ndarray of shape (n_components,)
        Standard deviation of each component of the code.
    products : str, default="ij,kj->ik"
        What is made of the rows of ``J.T``: all scalar products, or those of each row
        with itself.
    """
    n_samples, k = code.shape
    moves_per_probe = k * decode(code[:1]).shape[1]
    n_probes = min(n_samples, _MAX_PROBES, max(16, _MAX_MOVES // moves_per_probe))
    probes = code[subsample(n_samples, n_probes)].astype(np.float64)
    # Far enough to rise above rounding, near enough to be a derivative.
    steps = 1e-2 * np.where(spread > 0, spread, 1.0)
    metric = 0.0
    n_held = max(1, _MAX_HELD // moves_per_probe)
    for start in range(0, n_probes, n_held):
        held = probes[start : start + n_held]
        # shape: (n_components, n_held, n_components), before and after each step
        ahead, behind = (
            decode((held + sign * np.diag(steps)[:, None]).reshape(-1, k))
            for sign in (1, -1)
        )
        moves = (ahead - behind).reshape(k, -1) / (2 * steps[:, None])
        metric = metric + np.einsum(products, moves, moves, optimize=True)
    return metric / n_probes
