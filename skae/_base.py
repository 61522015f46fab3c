"""Base class of both estimators: parameter checks, fit and inference."""

from copy import copy, deepcopy
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from ._card import caption, fit_card, with_tooltips
from ._compat.sklearn import (
    HAS_ARRAY_API,
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    fit_context,
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
from ._data.categories import Categories
from ._data.sparse_table import joined
from ._data.stream import Stream
from ._data.validation import DTYPES, check_flat, checked_weights
from ._global_state import DefaultStateMixin
from ._input import InputMixin, warn_of_target
from ._model.autoencoder import Parts
from ._model.export import PARTS, exported
from ._model.model import Model
from ._nested import NestedMixin
from ._partial_fit import PartialFitMixin
from ._rollback import all_or_nothing
from ._shared_fit import SharedFitMixin
from ._slots import check_integers, check_slots, stand_in
from ._symbols import SymbolsMixin
from ._training.checkpoint import Checkpoints
from ._training.device import one_blas_thread
from ._training.diagnosis import diagnose
from ._training.fit import train
from ._training.increments import summary
from ._training.net import OPTIMIZERS
from ._training.plan import Settings, prepare
from ._training.progress import Progress
from ._training.together import run
from ._training.workers import current_workers
from .architectures import Architecture
from .bottlenecks import Bottleneck, Plain
from .corruptions import Corruption
from .losses import Loss
from .penalties import Penalty

__all__ = ["BaseAutoencoder"]

# What values are divided by where squares of them are too large: any are not, then.
_LARGE_UNIT = 2.0**560


class BaseAutoencoder(
    PartialFitMixin,
    SharedFitMixin,
    InputMixin,
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
        "max_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "validation_split": [
            StrOptions({"random", "last"}),
            HasMethods(["split", "get_n_splits"]),
        ],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
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

    def _finish(self, fit, progress, given=None):
        """Set estimator-specific state after training: a generator, part of a fit.

        Parameters
        ----------
        fit : Fit
            The trained network and its plan.
        progress : Progress or None
            Receives progress events of further networks. If None, no further network
            is trained.
        given : Source or None
            The rows, if those of the plan are not all as they were given.

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
            array with slices of rows, a :class:`pathlib.Path` of Parquet files, a
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
        with all_or_nothing(self):
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
        yield from self._complete(fit, progress, rows.given)
        if rows.settings.checkpoints is not None:
            rows.settings.checkpoints.remove()

    def _complete(self, fit, progress, given=None):
        """Set the fitted attributes: a generator, part of a fit; see `_finish`."""
        names = getattr(self, "feature_names_in_", None)
        vars(self).update(fit.attributes() | diagnose(fit, names))
        if self._categories is not None:
            self.categories_ = self._categories.values
        yield from self._finish(fit, progress, given)
        self._increments, self._seen = None, summary(fit)

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
        own |= {
            "checkpoints",
            "has_chosen_loss",
            "has_chosen_networks",
            "n_projection_steps",
            "max_encoder_steps",
        }
        others = {field.name for field in fields(Settings)} - own
        return Settings(
            parts=parts,
            scaling=scaling,
            marks_changes=self._marks_changes,
            blocks=None if self._categories is None else self._categories.blocks,
            checkpoints=None if checkpoint is None else Checkpoints(checkpoint),
            has_chosen_loss=self.loss is not None,
            has_chosen_networks=self.architecture is not None,
            **{name: _plain(getattr(self, name)) for name in others},
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
        if X_target is None:
            warn_of_target(X, y, "score")
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
        :func:`torch.export.export` and :func:`torch.onnx.export`; with
        ``n_projection_steps`` only the decoder can be exported or compiled. A
        categorical feature has a column for each of its categories, in the order of
        ``categories_``: 1 in rows of the category and 0 in others, and probabilities in
        reconstructions.

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


def _plain(value):
    """Return a number of NumPy as one of Python, which does not overflow."""
    return value.item() if isinstance(value, np.generic) else value
