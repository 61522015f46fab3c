"""Affine models of sparse rows: what is found without reading the rows as dense ones.

The code is a product of the stored entries, and the error of the reconstruction follows
from the covariances of rows and code.
"""

from dataclasses import dataclass

import numpy as np

from .._component import Affine
from .._data.centered import SparseProducts
from .._data.moments import Moments, products
from .._model.coordinates import rotation
from ..bottlenecks._plain import Identity
from ..losses import SquaredError

__all__ = ["AffinePass", "affine_maps", "is_linear"]


def is_linear(autoencoder):
    """Return whether both networks are linear maps, whatever their weights are."""
    networks = (autoencoder.encoder, autoencoder.decoder)
    return all(getattr(network, "branch", network) is None for network in networks)


def affine_maps(autoencoder):
    """Return what encoder and decoder are, in double precision.

    Returns
    -------
    tuple of (Affine, Affine) or None
        None if the model is not affine.
    """
    networks = (autoencoder.encoder, autoencoder.decoder)
    maps = [getattr(network, "affine", None) for network in networks]
    plain = (
        autoencoder.standardization is None
        and autoencoder.link is None
        and isinstance(autoencoder.bottleneck, Identity)
        and isinstance(autoencoder.loss, SquaredError)
    )
    if not plain or None in maps:
        return None
    return tuple(Affine(*(part.detach().cpu().double() for part in m)) for m in maps)


@dataclass(frozen=True)
class AffinePass:
    """The rows of a sparse table, passed through an affine model.

    Attributes
    ----------
    code : ndarray of shape (n_samples, n_components)
    moments : Moments
        Of the code.
    error : ndarray of shape (n_features,)
        Weighted mean squared residual of each feature, scaled.
    """

    code: np.ndarray
    moments: Moments
    error: np.ndarray
    _variance: np.ndarray
    _shared: np.ndarray  # covariances of code and rows, (n_components, n_features)
    _decoder: np.ndarray

    @classmethod
    def of(cls, table, weight, maps):
        """Pass rows through a model.

        Parameters
        ----------
        table : SparseTable
            Scaled rows.
        weight : ndarray of shape (n_samples,) or None
            Sample weights of mean one.
        maps : tuple of (Affine, Affine)
            As `affine_maps` returns them.
        """
        (encoder, offset), (decoder, origin) = (
            (weight.numpy(), bias.numpy()) for weight, bias in maps
        )
        code = table.times(encoder.T) + offset
        moments = Moments(products)
        moments.add(code, weight)
        rows = SparseProducts(table, weight)
        mean, variance = rows.moments()
        share = np.ones(len(code)) if weight is None else np.sqrt(weight)
        shared = rows.combined(share[:, np.newaxis] * (code - moments.mean)) / len(code)
        explained = decoder * (2 * shared.T - decoder @ moments.second)
        shift = mean - origin - decoder @ moments.mean
        error = variance - explained.sum(axis=1) + np.square(shift)
        return cls(code, moments, np.maximum(error, 0.0), variance, shared, decoder)

    def coordinates(self, unit):
        """Return the coordinates of the code; see `fit_coordinates`."""
        slopes = self._decoder.T
        return rotation(self.moments, slopes @ slopes.T, slopes, unit)

    def gains(self, coordinates, units):
        """Return the gain in R² from each further component.

        Parameters
        ----------
        coordinates : AffineMap
            Of the code.
        units : ndarray of shape (n_features,)
            Squares of the scales of the features.

        Returns
        -------
        ndarray of shape (n_components,)
        """
        to, back = (
            coordinates.matrix.cpu().numpy(),
            coordinates.inverse_matrix.cpu().numpy(),
        )
        decoder = self._decoder @ back.T
        second = to.T @ self.moments.second @ to
        shared = np.einsum("ij,ji,j->i", to.T @ self._shared, decoder, units)
        squares = second * (decoder.T @ (units[:, np.newaxis] * decoder))
        k = len(shared)
        total = self._variance @ units
        if total == 0:
            return np.zeros(k)
        # The error with the first components is a quadratic form of them.
        forms = np.cumsum(np.cumsum(squares, axis=0), axis=1).diagonal()
        left = total - 2 * np.cumsum(shared) + forms
        left[-1] = self.error @ units
        return -np.diff(left, prepend=total) / total
