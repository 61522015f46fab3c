"""The density of the codes of the training rows, for sampling."""

from copy import copy

import numpy as np
from sklearn import config_context
from sklearn.mixture import GaussianMixture

from .._data.subsample import subsample

__all__ = ["CodeDensity"]

# Numbers and rows that are kept of the codes.
_MAX_KEPT = 2**18
_MAX_ROWS = 2000
# Normal distributions in the mixture, as in Ghosh et al. (2020).
_MAX_PARTS = 10
# Rows per component of the code and part of the mixture that a covariance takes.
_ROWS_PER_COMPONENT = 3
# Largest codes that are kept as they are.
_LEAST, _LARGEST = 1e-18, 1e18


class CodeDensity:
    """A mixture of normal distributions, fitted to codes when it is first sampled.

    Sampling from such a density after training, instead of shaping the code to a prior
    in training, is from Ghosh, Sajjadi, Vergari, Black & Schölkopf, "From Variational
    to Deterministic Autoencoders", ICLR 2020.

    Parameters
    ----------
    code : Source
        Codes of the training rows, of which at most two thousand are kept.
    coordinates : AffineMap
        In which the density is fitted.
    weight : ndarray of shape (n_samples,) or None
        Sample weights.
    """

    def __init__(self, code, coordinates, weight):
        n_samples, k = code.shape
        n_kept = min(n_samples, _MAX_ROWS, max(_MAX_KEPT // k, 2 * _MAX_PARTS))
        kept = code.take(subsample(n_samples, n_kept, weight))
        kept = coordinates(kept.to(coordinates.center.device))
        kept = kept.cpu().numpy().astype(np.float64)
        largest = np.abs(kept).max(initial=0.0)
        # So that single precision has the codes.
        usual = largest == 0 or _LEAST <= largest <= _LARGEST
        self._unit = 1.0 if usual else float(largest)
        self._code = (kept / self._unit).astype(np.float32)
        self._mixture = None

    def leading(self, k):
        """Return the density of the first ``k`` components."""
        density = copy(self)
        density._code, density._mixture = self._code[:, :k], None
        return density

    def sample(self, n_samples, random_state):
        """Draw codes.

        Parameters
        ----------
        n_samples : int
        random_state : RandomState

        Returns
        -------
        ndarray of shape (n_samples, n_components), float64
        """
        if self._mixture is None:
            self._mixture = _fit_mixture(self._code.astype(np.float64))
        scale, mixture = self._mixture
        mixture = copy(mixture)
        mixture.random_state = random_state
        with config_context(array_api_dispatch=False):
            drawn, _ = mixture.sample(n_samples)
        # They come part by part.
        return random_state.permutation(drawn) * scale * self._unit


def _fit_mixture(code):
    """Return the scale of each component, and a mixture fitted to scaled codes."""
    n_rows, k = code.shape
    scale = code.std(axis=0)
    scale[scale == 0] = 1.0
    n_parts = min(n_rows // (_ROWS_PER_COMPONENT * k), _MAX_PARTS)
    n_distinct = len(np.unique(code, axis=0))
    mixture = GaussianMixture(
        max(1, min(n_parts, n_distinct)),
        # Too few rows for even one full covariance have a variance each.
        covariance_type="full" if n_parts else "diag",
        # One density for one model, whatever is drawn from it.
        random_state=0,
        reg_covar=1e-4,
        tol=1e-2,
        max_iter=500,
    )
    # The codes are NumPy's, whatever the rows were; with dispatch on, mixtures do not
    # take the start that is best.
    with config_context(array_api_dispatch=False):
        return scale, mixture.fit(code / scale)
