"""Scaling inside the model: from the data's units to the network's, and back."""

import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler

__all__ = ["Scaling"]


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
        standard = StandardScaler().fit(X, sample_weight=sample_weight)
        mean = standard.mean_.astype(np.float64)
        ones = np.ones_like(mean)
        if kind == "standard":
            return cls(mean, standard.scale_.astype(np.float64)), mean
        if kind == "global":
            unit = np.sqrt(standard.var_.astype(np.float64).mean())
            return cls(mean, ones * (unit if unit > 0 else 1.0)), mean
        if kind == "minmax":
            low_high = MinMaxScaler().fit(X)
            low, high = (
                bound.astype(np.float64)
                for bound in (low_high.data_min_, low_high.data_max_)
            )
            half_range = (high - low) / 2
            scale = np.where(half_range > 0, half_range, 1.0)
            return cls((low + high) / 2, scale), mean
        return cls(np.zeros_like(mean), ones), mean

    def apply(self, x):
        """Map rows to the scaled space, in their own dtype and on their device."""
        return (x - self._like(self.center, x)) / self._like(self.scale, x)

    def invert(self, x):
        """Map scaled rows back to the data's units."""
        return x * self._like(self.scale, x) + self._like(self.center, x)

    @staticmethod
    def _like(values, x):
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)
