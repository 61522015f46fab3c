"""Principal axes of weighted rows: where training starts, and what it must beat."""

from copy import copy
from numbers import Integral

import numpy as np
import torch
from scipy import linalg
from sklearn.utils.extmath import randomized_svd, svd_flip

from ._component import Statistics
from ._subsample import subsample

__all__ = ["PrincipalAxes"]

# Below this many rows or columns the whole spectrum is computed, above it only the
# axes asked for, where their number is known (as scikit-learn's PCA does).
_MAX_EXACT = 1000
# Rows that the parts may look at before training.
_MAX_ROWS = 4096


class PrincipalAxes:
    """Principal axes of the scaled training rows.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_features)
        Scaled rows.
    weight : ndarray of shape (n_samples,) or None
        Sample weights of mean one.
    n_components : int, float or "auto"
        Which part of the spectrum is needed, as the estimators understand it.
    random_state : RandomState
        For the randomised decomposition of data that are large both ways.

    Attributes
    ----------
    n_components : int
        Number of components that ``n_components`` stands for.
    rank : int
        Number of directions in which the rows vary, as far as they were computed.
    total_variance : float
        Sum of the variances of the features.
    """

    def __init__(self, x, weight, n_components, random_state):
        n_samples, n_features = x.shape
        self._weight = weight
        x = np.array(x[:], dtype=np.float64)
        self._mean = np.average(x, axis=0, weights=weight)
        x -= self._mean
        if weight is not None:
            x *= np.sqrt(weight)[:, np.newaxis]
        self.total_variance = float(np.einsum("ij,ij->", x, x) / n_samples)

        smaller = min(n_samples, n_features)
        if smaller > _MAX_EXACT and isinstance(n_components, Integral):
            _, singular, axes = randomized_svd(
                x, min(n_components, smaller), random_state=random_state
            )
            variances = singular**2 / n_samples
        elif n_features <= n_samples:
            variances, vectors = linalg.eigh(x.T @ x / n_samples)
            variances, axes = variances[::-1], vectors.T[::-1]
        else:
            _, singular, axes = linalg.svd(x, full_matrices=False)
            variances = singular**2 / n_samples
        # Variances are squares: what is below the rounding error of the largest
        # one says nothing of the data.
        noise = max(x.shape) * np.finfo(np.float64).eps
        self.rank = int(np.count_nonzero(variances > noise * max(variances[0], 0.0)))
        self._variances = variances[: self.rank]
        _, self._axes = svd_flip(None, axes[: self.rank], u_based_decision=False)
        self.n_components = self._resolve(n_components, smaller)

    def _resolve(self, n_components, smaller):
        if isinstance(n_components, Integral):
            return int(n_components)
        share = 0.9 if n_components == "auto" else n_components
        if self.rank == 0:
            return 1
        explained = np.cumsum(self._variances) / self.total_variance
        # As PCA: the first component at which the share is exceeded.
        needed = min(
            int(np.searchsorted(explained, share, side="right")) + 1, self.rank
        )
        return min(needed, max(1, smaller // 2)) if n_components == "auto" else needed

    def cut(self, n_components):
        """Return the same axes for another, not larger, number of components."""
        axes = copy(self)
        axes.n_components = n_components
        return axes

    def statistics(self, x):
        """Return what the parts may know, for the resolved number of components.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            The rows that the axes are of.
        """
        k = self.n_components
        n_features = len(self._mean)
        axes = np.zeros((k, n_features))
        variances = np.zeros(k)
        kept = min(k, self.rank)
        axes[:kept] = self._axes[:kept]
        variances[:kept] = self._variances[:kept]
        left_out = max(n_features - kept, 1)
        return Statistics(
            mean=torch.from_numpy(self._mean),
            axes=torch.from_numpy(axes),
            variances=torch.from_numpy(variances),
            noise_variance=max(self.total_variance - variances.sum(), 0.0) / left_out,
            rows=x[subsample(len(x), _MAX_ROWS, self._weight)],
        )

    def project(self, x):
        """Return the rows as PCA of the resolved size would reconstruct them."""
        axes = self._axes[: self.n_components]
        return self._mean + (x - self._mean) @ axes.T @ axes
