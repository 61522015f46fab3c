"""Nested codes: fitted models of every size from one fit."""

from copy import copy, deepcopy
from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.metaestimators import available_if

from ._model.coordinates import LEAST_SPREAD

__all__ = ["NestedMixin"]

_BY_COMPONENT = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
)


def _is_nested(estimator):
    """Return whether the first components of the code are a code, too."""
    if hasattr(estimator, "score_samples"):
        raise AttributeError(
            "A detector cannot be truncated: its scores and its threshold were learnt "
            "with all components. Fit one with fewer n_components."
        )
    nested = getattr(estimator.bottleneck, "nested", False)
    if hasattr(estimator, "_model"):
        nested = estimator._model.is_nested
    if not nested:
        raise AttributeError(
            "truncate needs a nested code: pass bottleneck=Nested() before fit. Got "
            f"bottleneck={estimator.bottleneck!r}."
        )
    return True


class NestedMixin:
    """Methods of estimators whose code is nested."""

    @available_if(_is_nested)
    def truncate(self, n_components):
        """Return the fitted model with the first components of its code only.

        Only available with :class:`~skae.bottlenecks.Nested`. Nothing is fitted again.

        Parameters
        ----------
        n_components : int
            Number of components to keep, at most ``n_components_``.

        Returns
        -------
        estimator : object
            A fitted estimator of its own: its code is the first ``n_components``
            columns of the code of this one. Attributes of the code are those of these
            columns, and attributes of the reconstruction, such as
            ``noise_variance_``, ``pca_reconstruction_error_`` and
            ``diagnostics_["r2"]``, those with as many components. Attributes of the
            training are those of the whole. Its parameter ``n_components`` is the
            argument, so that a clone of it is of this size; it cannot continue this
            training by ``warm_start``.

        Raises
        ------
        TypeError, ValueError
            If ``n_components`` is not an integer from 1 to ``n_components_``.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from skae import AutoencoderTransformer
        >>> from skae.bottlenecks import Nested
        >>> X = load_wine().data
        >>> model = AutoencoderTransformer(5, bottleneck=Nested(), random_state=0)
        >>> small = model.fit(X).truncate(2)
        >>> small.n_components_, small.transform(X).shape
        (2, (178, 2))
        """
        model = self._fitted_model()
        largest = self.n_components_
        check_scalar(n_components, "n_components", Integral, min_val=1, max_val=largest)
        k = int(n_components)
        truncated = copy(self)
        model = model.truncated(k)
        own = {
            "_model": model,
            "net_": self.net_.with_module(model.autoencoder),
            "_density": self._density.leading(k),
        }
        others = {n: deepcopy(v) for n, v in vars(self).items() if n not in own}
        vars(truncated).update(own | others)
        truncated.n_components = truncated.n_components_ = k
        truncated._keep_first(k)
        return truncated

    def _keep_first(self, k):
        """Cut the attributes that have an entry for each component."""
        for name in _BY_COMPONENT:
            if hasattr(self, name):
                setattr(self, name, getattr(self, name)[:k])
        curves = {"_by_size": self._by_size}
        if hasattr(self, "reconstruction_curve_"):
            curves["reconstruction_curve_"] = self.reconstruction_curve_
        for name, curve in curves.items():
            setattr(self, name, {key: values[:k] for key, values in curve.items()})
        last = {key: float(values[-1]) for key, values in self._by_size.items()}
        self.pca_reconstruction_error_ = last["pca_reconstruction_error_"]
        self.noise_variance_ = last["noise_variance_"]
        deviation = np.sqrt(self.explained_variance_)
        n_active = int(np.count_nonzero(deviation > LEAST_SPREAD * deviation.max()))
        self.diagnostics_ |= {"r2": last["r2"], "pca_r2": last["pca_r2"]}
        self.diagnostics_["n_active_components"] = n_active
