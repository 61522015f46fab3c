"""The integers that a discrete code becomes, and back."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if

from ._data.arrays import check_namespace, like, on_host

__all__ = ["SymbolsMixin"]


def _has_discrete_code(estimator):
    """Return whether there are symbols, or say when there would be."""
    bottleneck = estimator.bottleneck
    if bottleneck is None or not bottleneck.discrete:
        raise AttributeError(
            "quantize and dequantize need a bottleneck with a discrete code, such as "
            f"VectorQuantized or FiniteScalar. Got bottleneck={bottleneck!r}."
        )
    return True


class SymbolsMixin:
    """What estimators offer where the code is discrete."""

    @available_if(_has_discrete_code)
    def quantize(self, X):
        """Return the symbols that rows become, as integers.

        Only there with a discrete bottleneck, such as
        :class:`~skae.bottlenecks.VectorQuantized`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples, n_symbols), int64
            Counted from zero: for each group of the code the row of its codebook, or
            for each component its level. They name the code in the order that the
            bottleneck has it, which `transform` keeps.
        """
        return self._model_of_fitted().symbols(self._check_X(X, "quantize"))

    @available_if(_has_discrete_code)
    def dequantize(self, X):
        """Return the rows that symbols stand for.

        Only there with a discrete bottleneck.

        Parameters
        ----------
        X : array-like of int of shape (n_samples, n_symbols)
            Symbols, as `quantize` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), float64
            Rows in the data's own units: what `reconstruct` makes of the rows that the
            symbols are of.

        Raises
        ------
        ValueError
            If ``X`` does not have integers of the right shape that are symbols.
        """
        model = self._model_of_fitted()
        check_namespace(X, self, "dequantize")
        given, X = X, check_array(on_host(X), dtype=None, estimator=self)
        if X.dtype.kind not in "iu":
            raise ValueError(
                f"dequantize takes integers, as quantize returns them. Got {X.dtype}."
            )
        n_symbols, n_values = model.net.module_.bottleneck.symbols_shape
        if X.shape[1] != n_symbols or X.min() < 0 or X.max() >= n_values:
            raise ValueError(
                f"dequantize takes {n_symbols} symbols per row, from 0 to "
                f"{n_values - 1}. Got {X.shape[1]}, from {X.min()} to {X.max()}."
            )
        return like(model.dequantize(X.astype(np.int64)), given)
