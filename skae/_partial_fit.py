"""`partial_fit` of both estimators."""

from numbers import Real

import numpy as np
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import validate_data

from ._compat.sklearn import fit_context, has_callbacks
from ._data.arrays import on_host, unwrapped
from ._data.categories import categorical_columns
from ._data.readers import reader_of
from ._data.validation import DTYPES, check_flat, has_missing
from ._global_state import DefaultStateMixin
from ._input import named_columns
from ._rollback import all_or_nothing
from ._training.device import one_blas_thread
from ._training.diagnosis import measure
from ._training.increments import MOST_COLUMNS, Increments, advance
from ._training.together import run
from ._warning import warn_user
from .exceptions import DivergenceWarning

__all__ = ["PartialFitMixin"]


class PartialFitMixin(DefaultStateMixin):
    """Fitting to rows that come in parts."""

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, *, half_life=None):
        """Train on further rows, in one pass over them.

        The first call begins a model; a fitted one goes on, whether by `fit`, by
        `partial_fit` or from a file. Mean, variances and principal axes are those of
        all rows so far, whatever calls they came in.

        While all rows so far are kept, which are about 4,500 of up to 1,000 columns,
        scaling and number of components are learnt anew in each call, and training
        begins anew at PCA, with one pass over all of them. From then on both stay, and
        each call trains on its rows once, with the state of the optimiser and the
        running average of the weights. Rows that are less than a batch wait for the
        next call.

        A share of ``validation_fraction`` of the rows of each call is held out. The
        model is the network if it is better on these than PCA of all rows so far,
        beyond noise; else it is PCA. With a bottleneck or loss that does not start at
        PCA, its own start takes the place of PCA. Codes of different calls need not
        agree: components may change their order and sign.

        After `fit` the model changes once 1,000 rows have come, and of the earlier rows
        only mean, variances and the axes of the code are known.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Further rows, dense and without missing values; at least two in the first
            call. Calls of thousands of rows are the most efficient.
        y : object
            Ignored.
        half_life : float, default=None
            For data that drift: the number of rows after which earlier rows count half
            in mean, variances and axes, and are half as likely to be among those that
            are kept. It does not depend on how rows are cut into calls. None: all rows
            count the same.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If rows have missing values or categories, or another number of columns than
            before; if there are more than 4,096 columns; if parameters are not
            supported (see the user guide), or were changed so that the network cannot
            go on. The estimator is then unchanged.

        Warns
        -----
        skae.exceptions.DivergenceWarning
            If the loss was not finite: the rows were not trained on.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderTransformer
        >>> rng = np.random.RandomState(0)
        >>> model = AutoencoderTransformer(2, random_state=0)
        >>> for _ in range(5):
        ...     t = rng.uniform(-2, 2, size=(2000, 2))
        ...     model = model.partial_fit(np.hstack([t, t**2, np.sin(t)]))
        >>> model.n_samples_seen_
        10000
        """
        with all_or_nothing(self):
            with one_blas_thread():
                self._partial_fit(X, half_life)
            self._follow(X)
        return self

    def _partial_fit(self, X, half_life):
        if half_life is not None:
            check_scalar(
                half_life, "half_life", Real, min_val=0, include_boundaries="neither"
            )
        settings = self._settings()
        self._check_incremental(settings)
        before = getattr(self, "_increments", None)
        is_first = before is None and not hasattr(self, "_model")
        X = self._checked_increment(X, is_first)
        settings.parts.loss.check_domain(X, "X")
        if before is None:
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            before = self._begun(X.shape[1], int(seed))
        seen, fit = advance(
            before,
            settings,
            self._cleaned(X),
            getattr(self, "calibration_fraction", None) or 0.0,
            half_life,
        )
        self._increments, self._seen = seen, None
        self.n_samples_seen_ = seen.n_seen
        if fit is None:
            return
        for name in [name for name in vars(self) if name.endswith("_")]:
            if name not in ("n_features_in_", "feature_names_in_", "n_samples_seen_"):
                delattr(self, name)
        self._withheld = None
        if len(seen.calibration):
            self._withheld = seen.calibration.rows, None, None
        counted = seen.attributes(fit.starts_at_pca)
        vars(self).update(fit.attributes() | measure(fit) | counted)
        run(self._finish(fit, None))
        if fit.net.diverged_:
            warn_user(
                "The loss was not finite: the rows of this call were not trained on. "
                "Lower lr or gradient_clip.",
                DivergenceWarning,
            )

    def _begun(self, width, seed):
        """Return what is known before the first call of `partial_fit`."""
        if not hasattr(self, "_model"):
            return Increments(seed, width)
        if getattr(self, "_seen", None) is None or self._categories is not None:
            raise ValueError(
                "partial_fit cannot go on from a fit with missing values, categories "
                "or X_target: begin with partial_fit, or call fit with all rows."
            )
        if getattr(self._model.autoencoder.bottleneck, "is_truncated", False):
            raise ValueError(
                "partial_fit cannot go on from a truncated model: go on with the whole "
                "one."
            )
        return Increments.after(self._model, self._seen, seed)

    def _check_incremental(self, settings):
        """Check that parameters are supported by `partial_fit`."""
        unsupported = {
            f"n_estimators={getattr(self, 'n_estimators', 1)}": (
                getattr(self, "n_estimators", 1) > 1
            ),
            f"validation_split={self.validation_split!r}": (
                not isinstance(self.validation_split, str)
                or self.validation_split != "random"
            ),
            "callbacks": (
                has_callbacks(self) or "callbacks" in (settings.net_params or {})
            ),
        }
        named = [name for name, there in unsupported.items() if there]
        if named:
            raise ValueError(f"partial_fit does not support {', '.join(named)}.")

    def _checked_increment(self, X, is_first):
        """Return rows of `partial_fit` as an ndarray."""
        check_flat(X, "X", self)
        reader = None if isinstance(X, np.memmap) else reader_of(X)
        if reader is not None:
            raise ValueError(
                "partial_fit takes rows that are in memory: pass the whole table to "
                "fit, or its chunks to partial_fit, one by one."
            )
        if categorical_columns(X, self.categorical_features) is not None:
            raise ValueError(
                "partial_fit does not support categories: encode them, and pass "
                "categorical_features=None."
            )
        with named_columns(X, None):
            X = validate_data(
                self,
                unwrapped(on_host(X)),
                dtype=DTYPES,
                reset=is_first,
                ensure_all_finite="allow-nan",
                ensure_min_samples=2 if is_first else 1,
            )
        if has_missing(X):
            raise ValueError(
                "partial_fit does not support missing values (NaN) in X: impute them, "
                "or call fit."
            )
        if X.shape[1] > MOST_COLUMNS:
            raise ValueError(
                f"partial_fit keeps the covariances of all columns, of which X has "
                f"{X.shape[1]}: at most {MOST_COLUMNS} are supported."
            )
        if is_first:
            self._categories = None
        return X
