"""Discrete codes as integers, and back."""

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if

from ._data.arrays import check_namespace, like, on_host
from ._global_state import in_default_state
from ._model.model import Model

__all__ = ["SymbolsMixin"]


def _has_discrete_code(estimator):
    """Return whether the code is discrete: that of the model, or else to be fitted."""
    bottleneck = estimator.bottleneck
    if hasattr(estimator, "_model"):
        discrete = hasattr(estimator._model.autoencoder.bottleneck, "symbols")
    else:
        discrete = bottleneck is not None and bottleneck.discrete
    if not discrete:
        raise AttributeError(
            "quantize and dequantize need a bottleneck with a discrete code, such as "
            f"VectorQuantized or FiniteScalar. Got bottleneck={bottleneck!r}."
        )
    return True


class SymbolsMixin:
    """Methods of estimators whose code is discrete."""

    @available_if(_has_discrete_code)
    @in_default_state
    def quantize(self, X):
        """Return the discrete code of rows as integers, their symbols.

        Only available with a discrete bottleneck, such as
        :class:`~skae.bottlenecks.VectorQuantized`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray of shape (n_samples, n_symbols), int64
            Counted from zero: for each group of the code the index of its codebook
            row, or for each component its level, in the order of `transform`.
        """
        model = self._fitted_model()
        return model.map(Model.symbols, self._check_X(X, "quantize"))

    @available_if(_has_discrete_code)
    @in_default_state
    def dequantize(self, X):
        """Return the rows that symbols are decoded to.

        Only available with a discrete bottleneck.

        Parameters
        ----------
        X : array-like of int of shape (n_samples, n_symbols)
            Symbols, as `quantize` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), float64
            Rows in the units of the training data: what `reconstruct` returns for rows
            that have these symbols.

        Raises
        ------
        ValueError
            If ``X`` does not consist of integers of the right shape and range.
        """
        model = self._fitted_model()
        check_namespace(X, self, "dequantize")
        given, X = X, check_array(on_host(X), dtype=None, estimator=self)
        if X.dtype.kind not in "iu":
            raise ValueError(
                f"dequantize takes integers, as quantize returns them. Got {X.dtype}."
            )
        n_symbols, n_values = model.autoencoder.bottleneck.symbols_shape
        if X.shape[1] != n_symbols or X.min() < 0 or X.max() >= n_values:
            raise ValueError(
                f"dequantize takes {n_symbols} symbols per row, from 0 to "
                f"{n_values - 1}. Got {X.shape[1]}, from {X.min()} to {X.max()}."
            )
        X = X.astype(np.int64)
        return like(model.map(Model.decode_symbols, X, torch.float64), given)
