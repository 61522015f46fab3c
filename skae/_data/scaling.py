"""Scaling inside the model: from the data's units to the network's, and back."""

import numpy as np
import torch

from .copies import Constants
from .moments import moments

__all__ = ["Scaling", "as_tensor"]

# Variance from which its squares are far from the least number of single precision.
_LEAST_SQUARE = 1e-30


class Scaling:
    """The affine map ``(x - center) / scale`` of each feature, and its inverse.

    Parameters
    ----------
    center, scale : ndarray of shape (n_features,)
        In the data's units, float64.

    Attributes
    ----------
    unit : float
        Length, in the data's units, of a step of length one in the scaled space
        where all features share it; 1.0 where they do not.
    """

    def __init__(self, center, scale):
        self.center = center
        self.scale = scale
        self._constants = Constants(center, scale)
        self.unit = float(scale[0]) if np.ptp(scale) == 0 else 1.0

    @classmethod
    def fit(cls, kind, X, sample_weight=None):
        """Learn the map from rows.

        Parameters
        ----------
        kind : {"global", "standard", "minmax", None}
            Centre, then divide by one number for all features (the root of their
            mean variance), by each feature's standard deviation, or map each
            feature's range to [-1, 1]; None leaves the data as they are. A feature
            that does not vary is only centred.
        X : ndarray of shape (n_samples, n_features)
        sample_weight : ndarray of shape (n_samples,), default=None

        Returns
        -------
        scaling : Scaling
        mean : ndarray of shape (n_features,)
            The weighted mean of the rows, whatever ``kind`` is.
        """
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        constant = low == high
        with np.errstate(over="ignore", invalid="ignore"):
            mean, variance = moments(X, sample_weight, X.dtype)
            normal = (variance > _LEAST_SQUARE) & np.isfinite(variance)
            if X.dtype != np.float64 and not (normal | constant).all():
                mean, variance = moments(X, sample_weight)
        # Rounding leaves the mean of equal numbers a little beside them; divided by
        # the deviation that this makes it would be as large as any signal.
        mean, variance = np.where(constant, [low, 0 * low], [mean, variance])
        if not (np.isfinite(variance).all() and np.isfinite(high - low).all()):
            raise ValueError(
                "X has values whose squares are too large for double precision: "
                f"it ranges from {low.min():.6g} to {high.max():.6g}."
            )
        ones = np.ones_like(mean)
        if kind == "standard":
            return cls(mean, _or_one(np.sqrt(variance))), mean
        if kind == "global":
            return cls(mean, ones * _or_one(np.sqrt(variance.mean()))), mean
        if kind == "minmax":
            return cls((low + high) / 2, _or_one((high - low) / 2)), mean
        return cls(np.zeros_like(mean), ones), mean

    def apply(self, x, out=None):
        """Map rows to the scaled space, in their own dtype and on their device.

        ``out`` takes the result, and may be the rows themselves.
        """
        center, scale = self._constants.like(x)
        return torch.sub(x, center, out=out).div_(scale)

    def invert(self, x):
        """Map scaled rows back to the data's units."""
        center, scale = self._constants.like(x)
        return (x * scale).add_(center)


def as_tensor(X):
    """Return a copy of rows as a tensor.

    torch shares memory only with arrays that can be written to and have no negative
    strides; the rows of a user may be a view, or a map of a file.
    """
    return torch.from_numpy(np.array(X, order="C"))


def _or_one(scale):
    return np.where(scale > 0, scale, 1.0)
