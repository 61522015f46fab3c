"""Base class of both estimators: parameter checks, fit and inference."""

from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
    check_scalar,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from ._card import caption, fit_card, with_tooltips
from ._compat.sklearn import (
    HAS_ARRAY_API,
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    callback_state,
    check_feature_names,
    fit_context,
    has_callbacks,
    html_block,
    set_output_frame,
)
from ._data.arrays import (
    ArraysMixin,
    as_double,
    check_namespace,
    float_dtypes,
    on_host,
    unwrapped,
)
from ._data.categories import (
    Categories,
    categorical_columns,
    explain_refusal,
    refuse_dates,
)
from ._data.holdout import Holdout, HoldoutOfMany, group_codes
from ._data.readers import reader_of
from ._data.source import Source, source_of
from ._data.sparse_table import canonical, joined
from ._data.stream import Stream
from ._data.validation import (
    DTYPES,
    are_missing,
    check_flat,
    checked_rows,
    checked_weights,
    has_missing,
    weighted_rows,
)
from ._global_state import DefaultStateMixin
from ._model.autoencoder import Parts
from ._model.export import PARTS, exported
from ._model.model import Model
from ._nested import NestedMixin
from ._slots import check_integers, check_slots, stand_in
from ._symbols import SymbolsMixin
from ._training.checkpoint import Checkpoints
from ._training.device import one_blas_thread
from ._training.diagnosis import diagnose, measure
from ._training.fit import train
from ._training.increments import MOST_COLUMNS, Increments, advance, summary
from ._training.net import OPTIMIZERS
from ._training.plan import FEW_ROWS, Settings, prepare
from ._training.progress import Progress
from ._training.shared import prepare_shared
from ._training.together import run
from ._training.workers import current_workers
from ._warning import warn_user
from .architectures import Architecture
from .bottlenecks import Bottleneck, Plain
from .corruptions import Corruption
from .exceptions import DivergenceWarning, IgnoredTargetWarning
from .losses import Loss
from .penalties import Penalty

__all__ = ["BaseAutoencoder"]

# Rows that are held out of a table that is read in chunks: the largest number, numbers
# in them, and how many may be held out in any case.
_MOST_HELD, _MAX_HELD, _LEAST_HELD = 2**17, 2**24, 2**12
# What values are divided by where squares of them are too large: any are not, then.
_LARGE_UNIT = 2.0**560


class _Rows(NamedTuple):
    """The rows of a fit, checked, and the settings that follow from them.

    Sources, or None where there are none; see `prepare`.
    """

    settings: Settings
    X: Source
    weight: np.ndarray | None
    X_val: Source | None
    target: Source | None
    X_val_target: Source | None
    holdout: Holdout


class BaseAutoencoder(
    DefaultStateMixin,
    ArraysMixin,
    CallbackSupportMixin,
    NestedMixin,
    SymbolsMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base class of the two estimators.

    Parameters and fitted attributes are documented in the estimators.
    """

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
            None,
        ],
        "architecture": [Architecture, None],
        "bottleneck": [Bottleneck, None],
        "corruption": [Corruption, None],
        "penalty": [Penalty, None],
        "loss": [Loss, None],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "scaling": [
            StrOptions({"auto", "global", "standard", "minmax", "robust"}),
            None,
        ],
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
        "validation_split": [
            StrOptions({"random", "last"}),
            HasMethods(["split", "get_n_splits"]),
        ],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "checkpoint": [str, PathLike, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bf16"})],
        "net_params": [dict, None],
    }

    # Meaning of scaling="auto", for a loss that is defined on the whole real line.
    _auto_scaling: str
    # The categories of the rows that it was fitted to; None where all are numbers.
    _categories: Categories | None = None
    # Left out of files: a folder of this machine.
    _transient = ("checkpoint",)
    # Whether a change of a column that was constant counts, whatever its unit.
    _marks_changes = False
    # Accepted values of the parameter `part` of `to_torch`.
    _torch_parts = tuple(PARTS)

    def _withhold(self, n_samples, holdout):
        """Return which rows to hold back for calibration; by default None, for none.

        They are removed before anything is learnt. ``_withheld`` then has the rows,
        their weights and their groups.
        """

    def _cleaned(self, rows):
        """Return rows as they are learnt from; by default as they are."""
        return rows

    def _n_networks(self, plan):
        """Return the number of networks that a fit trains."""
        return 1

    def _finish(self, fit, progress):
        """Set estimator-specific state after training: a generator, part of a fit.

        Parameters
        ----------
        fit : Fit
            The trained network and its plan.
        progress : Progress or None
            Receives progress events of further networks. If None, no further network
            is trained.

        Yields
        ------
        list of Training
        """
        yield from ()

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        X_val=None,
        *,
        X_target=None,
        X_val_target=None,
        groups=None,
    ):
        """Fit the scaling and the principal axes, then train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix}, data frame, or table that is read in chunks
            Training rows, at least two, of shape (n_samples, n_features). float32 and
            float64 are kept; other types are converted to float64. Values that are NaN
            are missing, here and in all methods: they have no part in the fit.
            Categories are taken as ``categorical_features`` says. Sparse matrices and
            arrays are converted to CSR, and read in batches.

            What does not fit into memory is read in chunks, here and in all methods: an
            array with slices of rows, a path of Parquet files, a
            :class:`pyarrow.dataset.Dataset`, or an iterable of chunks. See the user
            guide.
        y : object
            Ignored, as by PCA. A table of the shape of ``X`` raises a warning: pass it
            as ``X_target``.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each row in every mean: centre, scale, principal
            axes, training and validation objective. Equal weights are the same as none.
            Rows of weight zero are dropped before anything is learnt.
        X_val : {array-like, sparse matrix}, default=None
            Validation set of shape (n_validation, n_features), to be used instead of
            rows that are held out of ``X``. Its rows are not weighted. In a pipeline
            they must have been transformed by the steps before the estimator.
        X_target : {array-like, sparse matrix}, default=None
            What to reconstruct from each row of ``X``, of the same shape, instead of
            the row itself: its clean version, for example. It has the same features in
            the same units.
            `transform` and `reconstruct` take rows like those of ``X``; `reconstruct`
            and `inverse_transform` return rows like those of ``X_target``. Centre,
            scale and principal axes are those of ``X_target``: training starts at their
            PCA, applied to ``X``. A corruption acts on ``X``. Pairs share their weight,
            and are held out together.
        X_val_target : {array-like, sparse matrix}, default=None
            What to reconstruct from each row of ``X_val``; required with ``X_val`` and
            ``X_target``.
        groups : array-like of shape (n_samples,), default=None
            Label of the machine, patient or day that each row is from. Rows with the
            same label are held out together, so that those that are held out are as new
            to the model as rows of another machine. At least two labels. None: rows do
            not depend on each other.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter of the estimator or of a component is not accepted; if rows
            contain infinity or, where they are to be reconstructed, values outside the
            domain of the loss; if a column has no value, or strings or dates and is not
            among the categories; if rows have a wrong shape; if
            the device does not exist; if weights are negative, or positive for fewer
            than two rows. The estimator is then unchanged.

        Warns
        -----
        skae.exceptions.IgnoredTargetWarning
            If ``y`` has the shape of ``X`` and other values, and there is no
            ``X_target``. Other warnings are listed in the estimator.
        """
        rows = X, sample_weight, X_val, X_target, X_val_target, groups, y
        return run(self._fitting(*rows))

    def _fitting(
        self,
        X,
        sample_weight=None,
        X_val=None,
        X_target=None,
        X_val_target=None,
        groups=None,
        y=None,
        listener=None,
    ):
        """Fit: a generator that asks for networks to be trained; see `run`."""
        workers = current_workers()
        silent = workers is not None and not workers.is_first
        with _all_or_nothing(self):
            with (
                one_blas_thread(),
                Progress(None if silent else self, listener) as progress,
            ):
                rows = X, sample_weight, X_val, X_target, X_val_target, groups, y
                rows = map(on_host, rows)
                if workers is None:
                    yield from self._fit(*rows, progress)
                else:
                    yield from self._fit_shared(workers, *rows, progress)
            # At the end: callbacks during training get NumPy arrays.
            self._follow(X)
        return self

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
        beyond noise; else it is PCA. Codes of different calls need not agree:
        components may change their order and sign.

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
        with _all_or_nothing(self):
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
        vars(self).update(fit.attributes() | measure(fit) | seen.attributes())
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
        with _named_columns(X, None):
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

    def set_params(self, **params):
        """Set parameters of the estimator and of its components.

        Parameters
        ----------
        **params : dict
            Values by name. ``architecture__activation`` is the parameter ``activation``
            of ``architecture``. A component that is None is replaced by the one that it
            stands for first: ``MLP()``, ``Plain()`` and ``SquaredError()``, for
            example, for ``architecture``, ``bottleneck`` and ``loss``.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter. ``corruption=None`` and ``penalty=None``
            stand for no component: set one first.
        """
        bottleneck = params.get("bottleneck", self.bottleneck)
        for name, plain in self._meaning_of_none(bottleneck).items():
            nested = [k.partition("__")[2] for k in params if k.startswith(f"{name}__")]
            if nested and params.get(name, getattr(self, name)) is None:
                constraints = self._parameter_constraints
                params[name] = stand_in(name, plain, nested, constraints)
        return super().set_params(**params)

    @staticmethod
    def _meaning_of_none(bottleneck=None):
        """Return the components that None stands for, by parameter; None for none."""
        return vars(Parts.of(bottleneck=bottleneck)) | {"bottleneck": Plain()}

    def _validate_params(self):
        parameters = self.get_params(deep=False)
        check_slots(self._parameter_constraints, parameters, type(self).__name__)
        check_integers(parameters, type(self).__name__)
        super()._validate_params()
        if self.checkpoint is not None and self.random_state is None:
            raise ValueError(
                "checkpoint needs a seed as random_state, an integer for example: with "
                "None a fit draws other numbers each time, and could not go on where "
                "another one ended. Got random_state=None."
            )

    def _fit(
        self, X, sample_weight, X_val, X_target, X_val_target, groups, y, progress
    ):
        previous, known = None, {}
        if self.warm_start and hasattr(self, "_model"):
            # Its scaling and size stay.
            previous = self._model
            scaling = deepcopy(previous.scaling).cpu()
            known["scaling"] = scaling, on_host(self.mean_)
            known["n_components"] = len(previous.coordinates)
        # Some attributes of an earlier fit may not be set by this one.
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        check_flat(X, "X", self)
        others = {
            "sample_weight": sample_weight,
            "X_target": X_target,
            "X_val_target": X_val_target,
            "groups": groups,
        }
        stream = self._training_stream(X, others)
        if isinstance(stream, Stream):
            rows = self._rows_of(stream, X_val)
        else:
            rows = self._rows_in_memory(X, stream, X_val, y, previous, **others)
        width = rows.X.shape[1]
        if previous is not None and len(previous.scaling) != width:
            raise ValueError(
                f"warm_start=True continues from a network for {len(previous.scaling)} "
                f"features, but X has {width} features."
            )
        plan = prepare(
            rows.settings,
            rows.X,
            rows.weight,
            rows.X_val,
            target=rows.target,
            X_val_target=rows.X_val_target,
            holdout=rows.holdout,
            random_state=check_random_state(self.random_state),
            **known,
        )
        progress.begin_fit(plan, self._n_networks(plan))
        fit = yield from train(
            plan,
            previous=previous,
            progress=progress,
            attributes=self._attributes_of,
        )
        yield from self._complete(fit, progress)
        if rows.settings.checkpoints is not None:
            rows.settings.checkpoints.remove()

    def _complete(self, fit, progress):
        """Set the fitted attributes: a generator, part of a fit."""
        names = getattr(self, "feature_names_in_", None)
        vars(self).update(fit.attributes() | diagnose(fit, names))
        if self._categories is not None:
            self.categories_ = self._categories.values
        yield from self._finish(fit, progress)
        self._increments, self._seen = None, summary(fit)

    def _fit_shared(
        self,
        workers,
        X,
        sample_weight,
        X_val,
        X_target,
        X_val_target,
        groups,
        y,
        progress,
    ):
        """Fit as one of several processes: a generator; see `skae.distributed`."""
        others = {"X_target": X_target, "X_val_target": X_val_target, "groups": groups}
        with workers.agreed():
            self._check_shared(others)
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            settings, rows, weight, X_val = self._rows_of_worker(
                X, sample_weight, X_val
            )
        n_all, weight = self._agreed_rows(workers, rows, weight, X_val)
        names = vars(self).get("feature_names_in_")
        if n_all < FEW_ROWS:
            # Nothing is gained by several processes.
            tables = [
                None if table is None else np.concatenate(workers.of_all(table))
                for table in (_in_memory(rows), weight, X_val)
            ]
            fitting = self._fit(*tables, None, None, None, None, progress)
        else:
            rows = self._cleaned(rows)
            rows = source_of(rows) if isinstance(rows, np.ndarray) else rows
            X_val = None if X_val is None else source_of(self._cleaned(X_val))
            self._withheld = None
            plan = prepare_shared(
                workers,
                settings,
                rows,
                weight,
                X_val,
                check_random_state(self.random_state),
            )
            progress.begin_fit(plan, self._n_networks(plan))
            fit = yield from train(
                plan, progress=progress, attributes=self._attributes_of
            )
            fitting = self._complete(fit, progress)
        with workers.agreed():
            if workers.is_first:
                yield from fitting
        if names is not None:
            self.feature_names_in_ = names
        parameters = self.get_params(deep=False)
        fitted = {n: v for n, v in vars(self).items() if n not in parameters}
        vars(self).update(workers.of_first(fitted))

    def _agreed_rows(self, workers, rows, weight, X_val):
        """Return the number of rows of all processes, and the weights of these rows.

        They are on one scale; None if all are equal.
        """
        plain = int, float, str, bool, type(None)
        parameters = {
            name: value if isinstance(value, plain) else type(value).__name__
            for name, value in self.get_params(deep=False).items()
        }
        names = getattr(self, "feature_names_in_", None)
        what = {
            "estimator": type(self).__name__,
            "parameters": parameters,
            "number of columns": rows.shape[1],
            "names of the columns": None if names is None else names.tolist(),
            "use of sample_weight": weight is not None,
            "use of X_val": X_val is not None,
        }
        n_val = 0 if X_val is None else len(X_val)
        bounds = np.inf, -np.inf
        if weight is not None and len(weight):
            bounds = weight.min(), weight.max()
        agreed, sizes, n_vals, lows, highs = zip(
            *workers.of_all((what, len(rows), n_val, *bounds)), strict=True
        )
        for name in what:
            values = [each[name] for each in agreed]
            different = [value for value in values if value != values[0]]
            if different:
                raise ValueError(
                    f"All processes must have the same {name}. Got {values[0]} and "
                    f"{different[0]}."
                )
        if sum(sizes) < 2:
            raise ValueError(
                f"X has {sum(sizes)} rows with a positive weight in all processes "
                "together: at least 2 are required."
            )
        if X_val is not None and not any(n_vals):
            raise ValueError("X_val has no rows in any process.")
        if weight is not None:
            weight = None if min(lows) == max(highs) else weight / max(highs)
        return sum(sizes), weight

    def _check_shared(self, others):
        """Check that parameters are supported by fits of several processes."""
        unsupported = [name for name, value in others.items() if value is not None]
        for name, supported in {
            "n_estimators": (1,),
            "validation_split": ("random",),
            "checkpoint": (None,),
            "calibration_fraction": (0, 0.0),
        }.items():
            value = getattr(self, name, supported[0])
            if not isinstance(value, str | Real | None) or value not in supported:
                unsupported.append(f"{name}={value!r}")
        if self.warm_start and hasattr(self, "_model"):
            unsupported.append("warm_start=True with a fitted model")
        if not isinstance(self.optimizer, str):
            unsupported.append("a class as optimizer")
        if has_callbacks(self) or "callbacks" in (self.net_params or {}):
            unsupported.append("callbacks")
        if unsupported:
            raise ValueError(
                f"Not supported with several processes: {', '.join(unsupported)}."
            )

    def _rows_of_worker(self, X, sample_weight, X_val):
        """Return settings, and the rows of one of several processes, checked.

        Returns
        -------
        settings : Settings
        rows : ndarray or Stream
        weight : ndarray or None
        X_val : ndarray or None
        """
        check_flat(X, "X", self)
        self._categories = None
        settings = self._settings()
        domain = partial(settings.parts.loss.check_domain, name="X")
        stream = self._stream_of(X, reset=True)
        if stream is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Not supported for rows that are read in chunks: sample_weight."
                )
            stream = stream.checked_by(domain)
            stream.survey()
            missing, rows = stream.missing.any(), stream
        else:
            if categorical_columns(X, self.categorical_features) is not None:
                raise ValueError(
                    "Not supported with several processes: categories. Encode them, "
                    "and pass categorical_features=None."
                )
            how = {"dtype": DTYPES, "ensure_all_finite": "allow-nan"}
            with _named_columns(X, None):
                X = validate_data(self, unwrapped(X), ensure_min_samples=0, **how)
            missing = X.size and has_missing(X)
            if X.size:
                domain(X)
            if sample_weight is not None:
                sample_weight = checked_weights(sample_weight, X)
                kept = sample_weight > 0
                X, sample_weight = X[kept], sample_weight[kept]
            rows = X
        if X_val is not None and not len(X_val):
            X_val = np.empty((0, self.n_features_in_))  # others may have some
        elif X_val is not None:
            X_val = self._check_width(X_val, "X_val", DTYPES)
            settings.parts.loss.check_domain(X_val, "X_val")
            missing = missing or has_missing(X_val)
        if missing:
            raise ValueError(
                "Not supported with several processes: missing values (NaN). Impute "
                "them first."
            )
        return settings, rows, sample_weight, X_val

    def _rows_in_memory(
        self,
        X,
        read,
        X_val,
        y,
        previous,
        sample_weight,
        X_target,
        X_val_target,
        groups,
    ):
        """Return the rows of a fit, checked and without those held back.

        Parameters
        ----------
        X, X_val, y, sample_weight, X_target, X_val_target, groups
            As `fit` takes them.
        read : ndarray or None
            The rows of ``X``, where they were read in chunks.
        previous : Model or None
            The model to continue from.
        """
        table = X
        if read is None:
            X = self._checked_training_rows(X, X_target, previous)
        else:
            X = read
            self._categories = None
        if X_val is not None:
            X_val = self._check_width(X_val, "X_val", X.dtype)
        if X_target is None:
            _warn_of_target(X if self._categories is None else table, y)
        X_target = self._check_target(X_target, "X_target", X, "X")
        X_val_target = self._check_target(X_val_target, "X_val_target", X_val, "X_val")
        if X_val is not None and (X_target is None) != (X_val_target is None):
            raise ValueError(
                "X_target and X_val_target go together: pass both, or neither."
            )
        holdout = Holdout(self.validation_split, group_codes(groups, X))
        kept, sample_weight = weighted_rows(X, sample_weight)
        X, X_target, holdout = _selected(kept, X, X_target, holdout)
        # Rows for calibration are drawn among those with weight.
        kept, sample_weight = self._withhold_of(X, sample_weight, holdout)
        X, X_target, holdout = _selected(kept, X, X_target, holdout)
        if self._categories is not None:
            if previous is None:
                self._categories.keep(X if X_target is None else X_target)
            X, X_val, X_target, X_val_target = (
                None if rows is None else self._categories.encode(rows)
                for rows in (X, X_val, X_target, X_val_target)
            )
        settings = self._settings()
        learnt = "X" if X_target is None else "X_target"
        for name, rows in (
            (learnt, X if X_target is None else X_target),
            ("X_val", X_val if X_target is None else None),
            ("X_val_target", X_val_target),
        ):
            if rows is not None:
                settings.parts.loss.check_domain(rows, name)
        given = X, X_target, X_val, X_val_target
        if any(has_missing(rows) for rows in given if rows is not None):
            settings = replace(settings, has_missing=True)
            whole = X if X_target is None else X_target
            self._check_columns(are_missing(whole), learnt)
        X, X_val, X_target, X_val_target = (
            None if rows is None else source_of(self._cleaned(rows))
            for rows in (X, X_val, X_target, X_val_target)
        )
        return _Rows(settings, X, sample_weight, X_val, X_target, X_val_target, holdout)

    def _withhold_of(self, X, sample_weight, holdout):
        """Hold rows back for calibration; return which are kept, and their weights."""
        out = self._withhold(X.shape[0], holdout)
        if out is None:
            return slice(None), sample_weight
        kept, weight = np.setdiff1d(np.arange(X.shape[0]), out), None
        if sample_weight is not None:
            # `fit` divides the weights by their mean over the rows that it is given.
            weight = sample_weight[out] / sample_weight[kept].mean()
            sample_weight = sample_weight[kept]
        self._withheld = X[out], weight, holdout.of(out).groups
        return kept, sample_weight

    def _training_stream(self, X, others):
        """Return training rows that are not in memory, checked.

        Parameters
        ----------
        X : object
            As `fit` takes it.
        others : dict
            Further arguments of `fit`, by name, which need rows in memory.

        Returns
        -------
        Stream, ndarray or None
            An ndarray of few rows; None where the rows are in memory already.
        """
        unsupported = [name for name, value in others.items() if value is not None]
        if not isinstance(self.validation_split, str):
            unsupported.append("a splitter as validation_split")
        if not isinstance(self.categorical_features, str | None):
            unsupported.append("a list of categorical_features")
        if has_callbacks(self):
            unsupported.append("callbacks of scikit-learn")
        is_map = isinstance(X, np.memmap)
        if is_map and unsupported:
            return None
        stream = self._stream_of(X, reset=True)
        if stream is None:
            return None
        stream.survey()
        array = stream.array()
        if array is not None:
            check_array(array, ensure_all_finite="allow-nan", ensure_min_samples=2)
            return array
        if not unsupported:
            return stream
        if is_map:
            return None
        raise ValueError(
            f"Not supported for rows that are read in chunks: {', '.join(unsupported)}."
            " Pass rows that are in memory, or do without."
        )

    def _rows_of(self, stream, X_val):
        """Return the rows of a fit that are read in chunks."""
        self._categories = None
        settings = self._settings()
        stream = stream.checked_by(partial(settings.parts.loss.check_domain, name="X"))
        if X_val is not None:
            double = stream.dtype == torch.float64
            dtype = np.float64 if double else np.float32
            X_val = self._check_width(X_val, "X_val", dtype)
            settings.parts.loss.check_domain(X_val, "X_val")
            if has_missing(X_val):
                settings = replace(settings, has_missing=True)
            X_val = source_of(self._cleaned(X_val))
        if stream.missing.any():
            settings = replace(settings, has_missing=True)
            self._check_columns(stream.missing == len(stream), "X")
        most = max(_LEAST_HELD, min(_MOST_HELD, _MAX_HELD // stream.shape[1]))
        holdout = HoldoutOfMany(self.validation_split, most=most)
        out = self._withhold(len(stream), holdout)
        if out is not None:
            self._withheld = stream.take(out).numpy(), None, None
            stream = stream.without(out)
        rows = self._cleaned(stream)
        return _Rows(settings, rows, None, X_val, None, None, holdout)

    def _stream_of(self, X, reset=False):
        """Return rows that are read in chunks; None where they are in memory.

        Parameters
        ----------
        X : object
            As `fit` takes it.
        reset : bool, default=False
            Whether names and number of the columns are learnt, not checked.
        """
        reader = reader_of(X)
        if reader is None:
            return None
        validate_data(self, reader.head, reset=reset, skip_check_array=True)
        return Stream(reader, partial(self._checked_chunk, named=reader.named))

    def _checked_chunk(self, chunk, named):
        """Return a chunk of rows as an ndarray of numbers.

        Parameters
        ----------
        chunk : array-like or data frame
        named : bool
            Whether the names of the columns are known to be right.
        """
        chunk = unwrapped(chunk)
        if categorical_columns(chunk, self.categorical_features) is not None:
            raise ValueError(
                "Not supported for rows that are read in chunks: categories. Pass "
                "categorical_features=None and encode them, or rows that are in memory."
            )
        how = {"dtype": DTYPES, "ensure_all_finite": "allow-nan"}
        with _named_columns(chunk, None):
            if named:
                return check_array(chunk, input_name="X", estimator=self, **how)
            return validate_data(self, chunk, reset=False, **how)

    def _settings(self):
        """Return the `Settings` of a fit: checked parameters, copied."""
        plain = self._meaning_of_none(self.bottleneck)
        given = {slot.name: getattr(self, slot.name) for slot in fields(Parts)}
        given = {n: plain[n] if part is None else part for n, part in given.items()}
        Parts.of(**given).check()
        # Copies: the fitted model must not change with the user's components.
        parts = Parts.of(**{n: clone(part) for n, part in given.items() if part})
        scaling = self.scaling
        if scaling == "auto":
            scaling = None if parts.has_bounded_loss else self._auto_scaling
        elif parts.has_bounded_loss and scaling is not None:
            raise ValueError(
                f"{type(parts.loss).__name__} is a loss for unscaled data: scaling "
                f"must be None or 'auto'. Got {scaling!r} instead."
            )
        checkpoint = self.checkpoint
        own = {"parts", "scaling", "marks_changes", "has_missing", "blocks"}
        own |= {"checkpoints", "has_chosen_networks"}
        others = {field.name for field in fields(Settings)} - own
        return Settings(
            parts=parts,
            scaling=scaling,
            marks_changes=self._marks_changes,
            blocks=None if self._categories is None else self._categories.blocks,
            checkpoints=None if checkpoint is None else Checkpoints(checkpoint),
            has_chosen_networks=self.architecture is not None,
            **{name: getattr(self, name) for name in others},
        )

    def _attributes_of(self, fit):
        """Return the fitted attributes for a `Fit`, for callbacks during training."""
        reached = copy(self)
        vars(reached).update(fit.attributes())
        run(reached._finish(fit, None))
        return vars(reached)

    def __sklearn_is_fitted__(self):
        """Return whether `fit` has completed without an error."""
        return hasattr(self, "_model")

    def _sk_visual_block_(self):
        return html_block(self, caption(self))

    def _html_repr(self):
        # Of an estimator alone, since scikit-learn 1.7; of a step there is the block.
        return with_tooltips(super()._html_repr(), self) + fit_card(self)

    @property
    def device_(self):
        """Device of the network."""
        return str(self.net_.device)

    @property
    def loss_curve_(self):
        """Training loss of each epoch: ``history_["train_loss"]``."""
        return self._history("train_loss")

    @property
    def validation_loss_curve_(self):
        """Validation loss of each epoch: ``history_["valid_loss"]``."""
        return self._history("valid_loss")

    def _history(self, name):
        if name not in getattr(self, "history_", {}):
            raise AttributeError(
                f"history_[{name!r}] is there after fit only, and that of validation "
                "rows only if there were any."
            )
        return self.history_[name]

    @property
    def _n_features_out(self):
        return self.n_components_

    def transform(self, X):
        """Return the latent code of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray or sparse matrix of shape (n_samples, n_components_)
            Latent codes. float32 if ``X`` is float32, else float64. A sparse matrix in
            CSR format if the bottleneck has ``sparse_output=True``.
        """
        return self._fitted_model().transform(self._check_X(X, "transform"))

    def inverse_transform(self, X):
        """Return the rows that are decoded from latent codes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_components_)
            Latent codes, as returned by `transform`. With
            :class:`~skae.bottlenecks.Nested` also the first columns of them.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features_in_)
            Rows in the units of the training data. float32 if ``X`` is float32, else
            float64. With categorical features rows as they were given to `fit`: a data
            frame with the same dtypes, if it was one. Categories are the most probable
            ones; integers are rounded. Without them a data frame with the names of the
            features, if `set_output` asks for one.

        Raises
        ------
        ValueError
            If ``X`` does not have ``n_components_`` columns; with
            :class:`~skae.bottlenecks.Nested`, if it has more.
        """
        model = self._fitted_model()
        X = unwrapped(X)
        if not issparse(X):
            check_namespace(X, self, "inverse_transform")
        dtype = float_dtypes(X, DTYPES)
        with np.errstate(invalid="ignore"):  # as in _named_columns
            X = check_array(X, accept_sparse="csr", dtype=dtype, estimator=self)
        is_prefix = model.is_nested and X.shape[1] < self.n_components_
        if X.shape[1] != self.n_components_ and not is_prefix:
            raise ValueError(
                f"X has {X.shape[1]} columns, but {type(self).__name__} has "
                f"n_components_={self.n_components_}: inverse_transform needs codes "
                "as returned by transform."
            )
        return self._restored(model.map(Model.decode, X))

    def reconstruct(self, X):
        """Return the reconstruction of rows: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features)
            Rows in the units of the training data. float32 if ``X`` is float32, else
            float64. With categorical features a data frame, if ``X`` is one, else one
            if `set_output` asks for it; see `inverse_transform`.
        """
        model = self._fitted_model()
        rows = model.map(Model.forward, self._check_X(X, "reconstruct"))
        return self._restored(rows, X)

    def impute(self, X):
        """Return rows with their missing values filled in.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data, NaN where a value is missing.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features)
            The rows as they are, with the values of `reconstruct` in the place of NaN.
            float32 if ``X`` is float32, else float64. With categorical features a data
            frame with the dtypes of ``X``, if that is one, else one if `set_output`
            asks for it.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderTransformer
        >>> t = np.linspace(0, 3, 400)
        >>> X = np.c_[t, np.sin(t), np.cos(t)]
        >>> model = AutoencoderTransformer(1, random_state=0).fit(X)
        >>> model.impute([[1.5, np.nan, np.nan]]).round(1)
        array([[1.5, 1. , 0.1]])
        """
        model = self._fitted_model()
        rows = model.map(Model.impute, self._check_X(X, "impute"))
        if self._categories is None:
            return self._framed(rows, X)
        return self._categories.filled(X, self._categories.probable(rows))

    def reconstruction_error(self, X, per_feature=False):
        """Return the squared reconstruction error of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.
        per_feature : bool, default=False
            Whether to return the error of each feature instead of the mean over the
            features.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_features)
            Squared residuals in squared units of the training data, averaged over the
            features unless ``per_feature=True``. float32 if ``X`` is float32, else
            float64. Missing values have no part in the mean; it is NaN for a row
            without any value. With categorical features errors are in squared units of
            the *scaled* data, in which all features weigh the same: that of a category
            is the sum over its indicators, and 1 on average for a model that knows
            nothing but their shares.
        """
        model = self._fitted_model()
        X = self._check_X(X, "reconstruction_error")
        if per_feature:
            return model.map(Model.squared_residuals, X)
        return model.map(Model.mean_squared_residual, X)

    def score(self, X, y=None, sample_weight=None, *, X_target=None):
        """Return R², the share of the variance explained by the reconstruction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.
        y : object
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each row. None weights all rows equally.
        X_target : {array-like, sparse matrix}, default=None
            What the reconstruction is compared with, of the shape of ``X``; clean
            versions of noisy rows, for example. None is ``X``.

        Returns
        -------
        float
            One minus the ratio of two sums over all rows and features: the squared
            residuals, and the squared distances to ``mean_``, the mean of the training
            rows. It is at most 1, and 0 for a model that always returns that mean. It
            is computed in the units of the data, so that features with a larger
            variance have more weight, whatever the scaling and the training loss. With
            categorical features it is computed in scaled units instead. If all rows
            equal the mean, it is 1 for a perfect reconstruction and 0 otherwise.
        """
        model = self._fitted_model()
        X = self._check_X(X, "score")
        width = X.shape[1]
        if X_target is not None:
            X_target = self._check_X(X_target, "score")
            check_consistent_length(X, X_target)
            X = joined(on_host(X), on_host(X_target))
        weight = checked_weights(on_host(sample_weight), np.empty(X.shape[0]))
        mean = torch.from_numpy(on_host(self.mean_))

        def sums_of_squares(model, x, unit=1.0):
            double = x.dtype if x.device.type == "mps" else torch.float64
            x, target = x[:, :width], x[:, -width:]
            residual = (target - model(x)).to(double)
            distance = target.to(double) - mean.to(target)
            if target.sum().isnan():
                # What is missing has no part in either.
                missing = target.isnan()
                residual, distance = (
                    part.masked_fill(missing, 0.0) for part in (residual, distance)
                )
            if model.loss.blocks is not None:
                scale = model.scaling.scale.to(residual)
                residual, distance = residual / scale, distance / scale
            if unit != 1:
                # The network may leave the range of numbers, too.
                residual = (residual / unit).nan_to_num(torch.inf, torch.inf, torch.inf)
                distance = distance / unit
            return residual.square().sum(dim=1), distance.square().sum(dim=1)

        with np.errstate(over="ignore", invalid="ignore"):
            for unit in (1.0, _LARGE_UNIT):
                sums = model.map(partial(sums_of_squares, unit=unit), X)
                left, total = (weight @ on_host(as_double(part)) for part in sums)
                if np.isfinite(left) and np.isfinite(total):
                    break
        if total == 0:
            return 1.0 if left == 0 else 0.0
        return float(1 - left / total)

    def to_torch(self, part="encoder"):
        """Return a part of the fitted model as a plain PyTorch module.

        The module includes scaling, inverse link of the loss and coordinates of the
        code, and maps tensors in the units of the training data. It does not need the
        estimator. It can be trained further, used in other modules, or exported with
        :func:`torch.export.export` and :func:`torch.onnx.export`. A categorical feature
        has a column for each of its categories, in the order of ``categories_``: 1 in
        rows of the category and 0 in others, and probabilities in reconstructions.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder", "score"}, default="encoder"
            Method that the module computes.

            - "encoder": `transform`; the code is always dense.
            - "decoder": `inverse_transform`.
            - "autoencoder": `reconstruct`.
            - "score": `score_samples`, for the detector only. Rows outside the domain
              of the loss do not raise an error; their score is meaningless. With
              :class:`~skae.anomaly_scores.Neighbors`, as by default, all distances
              between the rows and the up to 1,024 stored training rows are in memory at
              once.

        Returns
        -------
        torch.nn.Module
            Module that maps tensors of shape (n_samples, n_columns) to tensors of shape
            (n_samples, n_outputs), or (n_samples,) for "score". It is a copy in
            evaluation mode, on the device of the network, with weights in single
            precision. A later `fit` does not change it, and training it does not change
            the estimator. Only the weights of the networks are parameters; everything
            else is in buffers, which training does not change. Scaling and coordinates
            are stored in double precision and cast to the dtype of the rows.
            ``module.double()`` has the precision of the estimator for float64 rows.

        Raises
        ------
        ValueError
            If the estimator has no such part, or if a custom score does not compute
            with PyTorch alone.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> X = load_digits().data
        >>> model = AutoencoderTransformer(8, random_state=0).fit(X[:200])
        >>> module = model.to_torch("encoder").double()
        >>> with torch.no_grad():
        ...     code = module(torch.from_numpy(X)).numpy()
        >>> bool(np.allclose(code, model.transform(X)))
        True
        """
        model = self._fitted_model()
        if not isinstance(part, str) or part not in self._torch_parts:
            accepted = ", ".join(map(repr, self._torch_parts))
            raise ValueError(
                f"The 'part' parameter of {type(self).__name__}.to_torch must be one "
                f"of {accepted}. Got {part!r} instead."
            )
        return self._exported(model, part)

    def _exported(self, model, part):
        return exported(model, part)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        # Sparse codes are always SciPy matrices.
        sparse = getattr(self.bottleneck, "sparse_output", False)
        tags.array_api_support = HAS_ARRAY_API and not sparse
        return tags

    def _fitted_model(self):
        check_is_fitted(self)
        return self._model

    def _checked_training_rows(self, X, X_target, previous):
        """Return rows for `fit`: categories as their positions among all of them."""
        checks = {"ensure_min_samples": 2, "ensure_all_finite": "allow-nan"}
        is_categorical = categorical_columns(X, self.categorical_features)
        before = self._categories if previous is not None else None
        if previous is not None:
            same = np.array_equal(
                [] if before is None else before.is_categorical,
                [] if is_categorical is None else is_categorical,
            )
            if not same:
                raise ValueError(
                    "warm_start=True continues from a network for other categorical "
                    "features: pass warm_start=False to begin anew."
                )
        refuse_dates(X, is_categorical)
        with _named_columns(X, is_categorical):
            if is_categorical is None:
                self._categories = None
                checks |= {"accept_sparse": "csr", "dtype": DTYPES}
                return canonical(validate_data(self, X, **checks))
            validate_data(self, X, skip_check_array=True)
            if before is None:
                tables = [X] if X_target is None else [X, X_target]
                self._categories = Categories(tables, is_categorical)
            return self._categories.codes(X, self, **checks)

    def _check_X(self, X, method):
        categories = self._categories
        # A map of a file is an array, where categories need one.
        is_array = categories is not None and isinstance(X, np.memmap)
        stream = None if is_array else self._stream_of(X)
        if stream is not None:
            array = stream.array()
            return stream if array is None else array
        with _named_columns(X, categories and categories.is_categorical):
            if categories is None:
                return checked_rows(self, X, method)
            validate_data(self, X, reset=False, skip_check_array=True)
            return categories.encode(categories.codes(X, self))

    def _restored(self, encoded, like=None):
        """Return encoded rows as they were given to `fit`; see `Categories.restore`."""
        if self._categories is None:
            return self._framed(encoded, like)
        return self._categories.restore(self._categories.probable(encoded), like)

    def _framed(self, rows, like=None):
        """Return rows as the frame that `set_output` asks for, else as they are."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{j}" for j in range(self.n_features_in_)]
        return set_output_frame(self, rows, names, like)

    def _check_width(self, X, name, dtype):
        check_flat(X, name, self)
        stream = self._stream_of(X)
        if stream is not None:
            X = stream.array()
            if X is None:
                raise ValueError(
                    f"{name} has {len(stream)} rows, too many to be read into memory: "
                    "pass some of them."
                )
        check_feature_names(self, X, reset=False)
        categories = self._categories
        with _named_columns(X, categories and categories.is_categorical):
            if categories is not None:
                return categories.codes(X, self, name).astype(dtype, copy=False)
            # What is too large for the precision of X is refused by name.
            with np.errstate(over="ignore"):
                X = check_array(
                    X,
                    accept_sparse="csr",
                    dtype=dtype,
                    input_name=name,
                    estimator=self,
                    ensure_all_finite="allow-nan",
                )
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{name} has {X.shape[1]} features, but X has {self.n_features_in_}: "
                "both must have the same features."
            )
        return canonical(X)

    def _check_columns(self, empty, name):
        """Check that each column has a value, that is, that none is empty."""
        if self._categories is not None:
            empty = empty[self._categories.blocks.first]
        if empty.any():
            names = getattr(self, "feature_names_in_", None)
            columns = np.flatnonzero(empty)
            columns = columns.tolist() if names is None else names[columns].tolist()
            raise ValueError(
                f"{name} has columns without any value: {columns}. Nothing can be "
                "learnt of them: drop them, or fill them with a constant."
            )

    def _check_target(self, target, name, X, of):
        if target is None:
            return None
        if X is None:
            raise ValueError(f"{name} was given without {of}.")
        target = self._check_width(target, name, X.dtype)
        if target.shape[0] != X.shape[0]:
            raise ValueError(
                f"{name} has {target.shape[0]} rows, but {of} has {X.shape[0]}: both "
                "must have one row per sample."
            )
        return target


def _selected(kept, X, X_target, holdout):
    """Return some of the rows, of their targets, and how these may be held out."""
    return X[kept], None if X_target is None else X_target[kept], holdout.of(kept)


def _warn_of_target(X, y):
    """Warn of a table in the place of ``y`` that may be meant as target."""
    if getattr(y, "shape", None) != np.shape(X) or np.shape(X)[1] == 1:
        return
    if issparse(X):
        same = (X != csr_array(y)).nnz == 0
    else:
        same = not issparse(y) and np.array_equal(np.asarray(y), np.asarray(X))
    if not same:
        warn_user(
            "y has the shape of X, but is ignored, as by PCA: to reconstruct y from X, "
            "call fit(X, X_target=y).",
            IgnoredTargetWarning,
        )


def _in_memory(rows):
    return rows.take(slice(None)).numpy() if isinstance(rows, Stream) else rows


class _named_columns:
    """Name the columns of rows that are refused because they are not numbers.

    A class: a generator that an interrupt has left half way would restore the errors of
    NumPy when it is collected.
    """

    def __init__(self, X, is_categorical):
        self._given = X, is_categorical

    def __enter__(self):
        # scikit-learn looks at the sum of all values first: infinity less infinity, of
        # large ones.
        self._errors = np.seterr(invalid="ignore")

    def __exit__(self, kind, error, traceback):
        np.seterr(**self._errors)
        if isinstance(error, (TypeError, ValueError)):
            explain_refusal(*self._given, error)


@contextmanager
def _all_or_nothing(estimator):
    """Restore the attributes of an estimator if its fit fails."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        before |= callback_state(estimator)
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
