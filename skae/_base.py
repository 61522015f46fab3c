"""What both estimators share: parameters, fit, inference."""

from contextlib import contextmanager
from copy import copy
from numbers import Integral, Real

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_array
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,
)

from ._compat.sklearn import (
    HAS_ARRAY_API,
    CallbackSupportMixin,
    Interval,
    RealNotInt,
    StrOptions,
    check_feature_names,
    check_sample_weight,
    fit_context,
)
from ._data.arrays import ArraysMixin, check_namespace, float_dtypes, on_host
from ._data.validation import DTYPES, checked_rows, weighted_rows
from ._model.export import ExportMixin
from ._symbols import SymbolsMixin
from ._training.device import one_blas_thread
from ._training.diagnosis import diagnose, explained_variance_ratio, linear_components
from ._training.fit import fit_model
from ._training.net import OPTIMIZERS
from ._training.progress import Progress, callback_state
from .architectures import Architecture
from .bottlenecks import Bottleneck
from .corruptions import Corruption
from .losses import Loss
from .penalties import Penalty

__all__ = ["BaseAutoencoder"]


class BaseAutoencoder(
    ArraysMixin,
    CallbackSupportMixin,
    ExportMixin,
    SymbolsMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of the two estimators, which document the parameters and attributes."""

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "architecture": [Architecture, None],
        "bottleneck": [Bottleneck, None],
        "corruption": [Corruption, None],
        "penalty": [Penalty, None],
        "loss": [Loss, None],
        "scaling": [StrOptions({"auto", "global", "standard", "minmax"}), None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bf16"})],
        "net_params": [dict, None],
    }

    # What scaling="auto" means for a loss on the whole real line.
    _auto_scaling: str

    def _withhold(self, X, sample_weight):
        """Return the rows and weights to learn from: all of them."""
        return X, sample_weight

    def _n_networks(self, training):
        """Return how many networks a fit takes."""
        return 1

    def _finish(self, fit, alone=False):
        """Learn what an estimator needs beyond the model, from a `Fit`: nothing.

        With ``alone`` no further network is trained for it.
        """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, X_val=None):
        """Learn the scaling, the principal axes, and from there the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least two.
        y : object
            Ignored, whatever it is.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts in every mean that is taken: centre, scale,
            principal axes, training and held-out objective. Equal weights are the
            same as none; rows of weight zero are dropped before anything is learnt.
        X_val : array-like of shape (n_validation, n_features), default=None
            Rows that judge the training, instead of some that are held out of ``X``.
            In a pipeline they must have been through the steps before.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, or one of a component, is not accepted; if ``X`` or
            ``X_val`` are not finite numbers of the right shape, or outside the
            domain of the loss; if the device is not there; if weights are negative,
            or positive for fewer than two rows.
        """
        with _all_or_nothing(self):
            with one_blas_thread(), Progress(self) as progress:
                self._fit(*map(on_host, (X, sample_weight, X_val)), progress)
            # Callbacks, too, got NumPy's arrays beside a model with those.
            self._follow(X)
        return self

    def _fit(self, X, sample_weight, X_val, progress):
        warm = self.warm_start and hasattr(self, "_model")
        before = (self._model, on_host(self.mean_)) if warm else None
        # What an earlier fit learnt may have no place beside this one.
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        X = validate_data(self, X, dtype=DTYPES, ensure_min_samples=2)
        if X_val is not None:
            X_val = self._check_width(X_val, "X_val", X.dtype)
        if sample_weight is not None:
            X, sample_weight = weighted_rows(X, sample_weight)
        X, sample_weight = self._withhold(X, sample_weight)
        fit = fit_model(self, X, sample_weight, X_val, before, progress)
        pca_error, diagnostics, reported = diagnose(fit)
        components = linear_components(fit)
        vars(self).update(fit.attributes())
        self.explained_variance_ratio_ = explained_variance_ratio(fit)
        self.pca_reconstruction_error_ = pca_error
        self.diagnostics_ = diagnostics
        if components is not None:
            reported["components_"] = components
        vars(self).update(reported)
        self._finish(fit)

    def _snapshot(self, fit):
        """Return the attributes to use it with had training come to this `Fit`."""
        reached = copy(self)
        vars(reached).update(fit.attributes())
        reached._finish(fit, alone=True)
        return vars(reached)

    def __sklearn_is_fitted__(self):
        """Return whether `fit` came to its end."""
        return hasattr(self, "_model")

    @property
    def device_(self):
        """Where the network is."""
        return str(self.net_.device)

    @property
    def _n_features_out(self):
        return self.n_components_

    def transform(self, X):
        """Return the code of rows: what PCA would call their scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray or sparse matrix of shape (n_samples, n_components_)
            Of the floating type of ``X``, float64 if it has none. Sparse, in CSR
            format, where the bottleneck has ``sparse_output=True``.
        """
        return self._model_of_fitted().transform(self._check_X(X, "transform"))

    def inverse_transform(self, X):
        """Return the rows that codes stand for.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_components_)
            Codes, as `transform` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Rows in the data's own units.
        """
        model = self._model_of_fitted()
        if not issparse(X):
            check_namespace(X, self, "inverse_transform")
        dtype = float_dtypes(X, DTYPES)
        X = check_array(X, accept_sparse="csr", dtype=dtype, estimator=self)
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {X.shape[1]} columns, but {type(self).__name__} has "
                f"n_components_={self.n_components_}: inverse_transform takes what "
                "transform returns."
            )
        return model.decode(X)

    def reconstruct(self, X):
        """Return rows as they come back: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the data's own units.
        """
        return self._model_of_fitted().reconstruct(self._check_X(X, "reconstruct"))

    def reconstruction_error(self, X, per_feature=False):
        """Return how far rows are from their reconstruction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.
        per_feature : bool, default=False
            Whether to leave the features apart.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_features)
            Squared residuals in squared units of the data; their mean over the
            features unless ``per_feature``.
        """
        model = self._model_of_fitted()
        X = self._check_X(X, "reconstruction_error")
        return model.squared_residuals(X, per_feature)

    def score(self, X, y=None, sample_weight=None):
        """Return the share of the variance that the reconstruction explains, R².

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.
        y : object
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        float
            One minus the squared residuals over the squared distances to the mean of
            the training rows, each summed over rows and features: at most 1, 0 for
            reconstructing everything as that mean. Columns count by their variance;
            the loss of the training does not matter.
        """
        model = self._model_of_fitted()
        X = self._check_X(X, "score")
        weight = check_sample_weight(
            on_host(sample_weight), np.empty(X.shape[0]), dtype=np.float64
        )
        left, total = model.sums_of_squares(X, weight, on_host(self.mean_))
        if total == 0:
            return 1.0 if left == 0 else 0.0
        return float(1 - left / total)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        # Sparse codes are SciPy's.
        sparse = getattr(self.bottleneck, "sparse_output", False)
        tags.array_api_support = HAS_ARRAY_API and not sparse
        return tags

    def _model_of_fitted(self):
        check_is_fitted(self)
        return self._model

    def _check_X(self, X, method):
        return checked_rows(self, X, method)

    def _check_width(self, X, name, dtype):
        check_feature_names(self, X, reset=False)
        X = check_array(X, dtype=dtype, input_name=name, estimator=self)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{name} has {X.shape[1]} features, but X has {self.n_features_in_}: "
                "both must have the same."
            )
        return X


@contextmanager
def _all_or_nothing(estimator):
    """Give an estimator back the attributes that it had if a fit does not end well."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        before |= callback_state(estimator)
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
