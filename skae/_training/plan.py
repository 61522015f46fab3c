"""The plan of a fit: settings by value, and all that is known before training."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isqrt
from numbers import Integral

import numpy as np
import torch

from .._data.affine import AffineMap
from .._data.blocks import Blocks
from .._data.holdout import Holdout
from .._data.missing import Completion, completed_rows, fit_completion
from .._data.principal_axes import PrincipalAxes
from .._data.scaling import fit_scaling
from .._data.source import Source, scaled_rows
from .._model.autoencoder import Parts
from .._model.mixed_loss import MixedLoss
from .batches import Data, Rows, Share, hides_entries
from .checkpoint import Checkpoints
from .device import resolve_device

__all__ = [
    "FEW_ROWS",
    "LEAST_JUDGES",
    "Plan",
    "Settings",
    "batch_rows",
    "draw_seeds",
    "n_held_out",
    "prepare",
]

# Validation rows that are held out whatever `validation_fraction` is: the largest of
# these numbers that is no more than a quarter of the rows. Fewer than the smallest
# cannot tell a gain from noise: tests/benchmarks/bench_constants.py.
LEAST_JUDGES = 20
_AT_LEAST = (LEAST_JUDGES, 50)
# Number of rows below which a validation set is a large share of them. Networks are
# then trained again on all rows, and detectors take residuals of all of them for
# residuals of validation rows; see tests/benchmarks/bench_constants.py.
FEW_ROWS = 500
# Parts into which rows are split, of which each is held out once.
_N_FOLDS = 5
# The number of epochs, and of those without an improvement, that are "auto". Epochs of
# fewer steps than an automatic batch size leaves in larger tables need more of them, at
# most so many times as many: the weights that are judged are averages over some 200
# steps. On 14 tables and three seeds that lowered held-out errors by 6 % with 120 rows
# and by 10 % with 300, and on tables of a thousand it changed nothing:
# tests/benchmarks/search_default.py --rows.
_AUTO_EPOCHS, _AUTO_PATIENCE = 300, 15
_STEPS = 23
_MOST_TIMES = 3
# Numbers in the largest matrix of a code that is wider than the rows: 8 GiB.
_MAX_CODE = 2**30


@dataclass(frozen=True)
class Settings:
    """The parameters of an estimator that training needs, by value.

    The fields are those that the estimators document, but for:

    Attributes
    ----------
    parts : Parts
        The components: checked, and copies that nobody else can change.
    scaling : {"global", "standard", "minmax", "robust", None}
        With "auto" resolved.
    marks_changes : bool
        As `fit_scaling` takes it.
    has_missing : bool
        Whether entries of the rows of a fit are missing.
    blocks : Blocks or None
        Which columns of the rows are indicators of categories. None: no column is.
    has_chosen_loss, has_chosen_networks : bool
        Whether loss and architecture are the user's choice, and not the default.
    checkpoints : Checkpoints or None
        Where trainings save their state. None: they do not.
    n_projection_steps : int
    max_encoder_steps : int
        As `AutoencoderTransformer` takes them.
    """

    parts: Parts
    scaling: str | None
    marks_changes: bool
    n_components: object
    optimizer: object
    lr: float
    weight_decay: float
    gradient_clip: float | None
    batch_size: object
    max_epochs: int | str
    early_stopping: bool
    validation_fraction: float
    validation_split: object
    n_iter_no_change: int | str
    tol: float
    warm_start: bool
    verbose: int
    device: object
    precision: str
    net_params: dict | None
    has_missing: bool = False
    blocks: Blocks | None = None
    has_chosen_loss: bool = False
    has_chosen_networks: bool = False
    checkpoints: Checkpoints | None = None
    n_projection_steps: int = 0
    max_encoder_steps: int = 0

    def for_rows(self, n_samples):
        """Return settings whose numbers of epochs are those for so many rows.

        The folds of these rows, and smaller batches, have the same.
        """
        n_steps = ceil(n_samples / batch_rows(self.batch_size, n_samples))
        times = min(max(_STEPS / n_steps, 1), _MOST_TIMES)
        auto = {
            "max_epochs": round(_AUTO_EPOCHS * times),
            "n_iter_no_change": round(_AUTO_PATIENCE * times),
        }
        known = {name: n for name, n in auto.items() if getattr(self, name) == "auto"}
        return replace(self, **known)


@dataclass(frozen=True)
class Plan:
    """Training rows with their scaling and axes, and how to train on them.

    Attributes
    ----------
    settings : Settings
    parts : Parts
        The components of the model, the loss with cross-entropy for categories.
    scaling : AffineMap
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    axes : PrincipalAxes
        Of the scaled rows.
    rows : Source
        The training rows, in the data's units.
    target : Source
        What to reconstruct from them; the same rows, unless pairs were given. Mean,
        scaling and axes are of these.
    x : Source
        The target, scaled; where entries were missing, completed.
    known : Tensor of bool of shape (n_samples, n_features), Known or None
        Which entries of the target are known. None where no entry is missing, neither
        there nor in the rows.
    completion : Completion
        What missing entries of scaled rows are taken as.
    weight : ndarray of shape (n_samples,) or None
        Of mean one.
    validation : ndarray or None
        Indices of the validation rows among the training rows.
    holdout : Holdout
        Which rows are held out together.
    X_val : Source or None
        Validation rows given by the user, instead.
    X_val_target : Source or None
        What to reconstruct from those, where pairs were given.
    device : str
    batch_size : int
        Largest number of rows per step.
    n_epochs : int or None
        Number of epochs, where it is known before training. None: training stops by
        itself, after at most ``max_epochs`` of the settings.
    leaves_start : bool
        Whether networks with a known number of epochs leave their start, as the network
        did that the number is known from.
    seeds : tuple of int
        Of the weights and of the training of the first network.
    random_state : RandomState
        Source of further seeds.
    share : Share or None
        What this process trains on, where several train together. The training rows
        are a sample of all, then.
    """

    settings: Settings
    parts: Parts
    scaling: AffineMap
    mean: np.ndarray
    axes: PrincipalAxes
    rows: Source
    target: Source
    x: Source
    known: torch.Tensor | None
    completion: Completion
    weight: np.ndarray | None
    validation: np.ndarray | None
    holdout: Holdout
    X_val: Source | None
    X_val_target: Source | None
    device: str
    batch_size: int
    n_epochs: int | None
    seeds: tuple
    random_state: np.random.RandomState
    share: Share | None = None
    leaves_start: bool = False

    @property
    def has_pairs(self):
        """Whether something else than the rows is to be reconstructed."""
        return self.target is not self.rows

    @property
    def hides_entries(self):
        """Whether known entries are hidden in training."""
        return hides_entries(self.known, len(self.rows))

    @property
    def n_known(self):
        """Number of known entries of each column of the target, by their weight."""
        if self.known is None:
            return len(self.rows)
        if isinstance(self.known, torch.Tensor):
            known = self.known.numpy()
            count = known.sum(axis=0) if self.weight is None else self.weight @ known
        elif self.rows.streamed:
            count = self.known.count
        else:
            share = np.ones(len(self.rows)) if self.weight is None else self.weight
            count = share.sum() - share @ self.target.stored().missing()
        return np.maximum(count, 1e-300)

    @property
    def n_rows(self):
        """Number of rows, those that validate included, of all processes."""
        if self.share is None:
            return len(self.rows)
        return sum(self.share.sizes) + (
            0 if self.validation is None else len(self.validation)
        )

    @property
    def n_validation(self):
        """Number of validation rows."""
        if self.X_val is not None:
            return len(self.X_val)
        return 0 if self.validation is None else len(self.validation)

    @property
    def has_callbacks(self):
        """Whether the user has callbacks of skorch, which belong to one training."""
        return "callbacks" in (self.settings.net_params or {})

    @property
    def is_short_of_memory(self):
        """Whether batches are smaller than those that suit the rows."""
        return self.batch_size < batch_rows(self.settings.batch_size, len(self.rows))

    @property
    def is_validated(self):
        """Whether a validation set judges the training."""
        return self.settings.early_stopping and self.n_validation > 0

    def validation_rows(self):
        """Return the validation rows, a source or None, and their weights or None."""
        if self.X_val is not None:
            return self.X_val, None
        if self.validation is None:
            return None, None
        weight = None if self.weight is None else self.weight[self.validation]
        return self._held_out, weight

    @cached_property
    def _held_out(self):
        return self.rows.subset(self.validation)

    def data(self):
        """Return training and validation set for the net, on its device."""
        weight = self.weight
        if weight is not None:
            weight = torch.from_numpy(weight.astype(np.float32))
        given = scaled_rows(self.rows, self.scaling) if self.has_pairs else None
        completion = None if self.known is None else self.completion
        blocks = self.settings.blocks
        # What is read in chunks is completed batch by batch.
        x = scaled_rows(self.rows, self.scaling) if self.x.streamed else self.x
        if self.x.streamed:
            self.hides_entries  # noqa: B018 - counted once, for all that follows
        rows = Rows(x, weight, None, given, self.known, completion, blocks)
        rows = rows.to(self.device)
        if self.X_val is not None:
            x, given = scaled_rows(self.X_val, self.scaling), None
            if self.has_pairs:
                x, given = scaled_rows(self.X_val_target, self.scaling), x
            return Data(rows, self._validation_set(x, given), self.share)
        if self.validation is None:
            return Data(rows, None, self.share)
        if self.x.streamed:
            # They are in memory already.
            held_out = scaled_rows(self._held_out, self.scaling)
            train = rows.without(self.validation)
            return Data(train, self._validation_set(held_out))
        train, held_out = rows.without(self.validation), rows.take(self.validation)
        return Data(train, held_out, self.share)

    def _validation_set(self, x, given=None):
        """Return scaled rows of their own, as a validation set."""
        completion = known = None
        if self.known is not None:
            completion = self.completion
            x, known = completed_rows(x, completion)
        blocks = self.settings.blocks
        rows = Rows(x, None, None, given, known, completion, blocks)
        return rows.to(self.device)

    def checkpoint(self, n_components, seeds, previous=None):
        """Return the `Checkpoint` of a training as `make_net` prepares it, or None."""
        checkpoints = self.settings.checkpoints
        if checkpoints is None:
            return None
        return checkpoints.of(self, n_components, seeds, previous)

    def on_all_rows(self, n_epochs=None, leaves_start=False):
        """Return a plan with a known number of epochs and without validation rows."""
        known = {"n_epochs": n_epochs, "leaves_start": leaves_start}
        return replace(self, validation=None, **known)

    @property
    def n_folds(self):
        """Number of folds, at most."""
        return self.holdout.n_folds(len(self.rows), _N_FOLDS)

    def folds(self):
        """Return training and test rows of each fold, as splitters do."""
        return self.holdout.folds(len(self.rows), _N_FOLDS, self.random_state)

    def fold(self, kept, n_epochs, leaves_start):
        """Return a plan for some of the rows: scaling and axes are learnt anew.

        Parameters
        ----------
        kept : ndarray of int
        n_epochs : int or None
            None: validation rows are drawn again.
        leaves_start : bool
            If the number is known, whether networks leave their start.
        """
        plan = self._of(kept)
        if n_epochs is not None:
            # Of the fewer rows none may be held out.
            return plan.on_all_rows(n_epochs, leaves_start)
        validation = plan.validation
        if self.validation is not None and validation is None:
            # Trained in the same way, if with fewer validation rows than usual.
            n_rows = len(kept)
            validation = plan.holdout.draw(n_rows, n_rows // 4, self.random_state)
        return replace(plan, validation=validation)

    def validated_on(self, kept, rows):
        """Return a plan for some of the rows, with others as validation rows."""
        target = self.target.subset(rows) if self.has_pairs else None
        return self._of(kept, self.rows.subset(rows), X_val_target=target)

    def _of(self, kept, X_val=None, **others):
        plan = prepare(
            self.settings,
            self.rows.subset(kept),
            None if self.weight is None else self.weight[kept],
            X_val,
            target=self.target.subset(kept) if self.has_pairs else None,
            holdout=self.holdout.within.of(kept),
            random_state=self.random_state,
            n_components=self.axes.n_components,
            **others,
        )
        return replace(plan, batch_size=min(plan.batch_size, self.batch_size))


def _check_code_size(n_components, n_features, symmetry):
    """Check that a code that is wider than the rows fits into memory."""
    if not isinstance(n_components, Integral) or n_components <= n_features:
        return
    # Where the code may be rotated, its covariances are needed.
    per_component = n_components if symmetry == "rotation" else n_features
    if n_components * per_component > _MAX_CODE:
        most = isqrt(_MAX_CODE) if symmetry == "rotation" else _MAX_CODE // n_features
        raise ValueError(
            f"n_components={n_components} is too many for {n_features} features: with "
            f"this bottleneck and penalty a code may have at most {most}."
        )


def prepare(
    settings,
    rows,
    sample_weight=None,
    X_val=None,
    *,
    target=None,
    X_val_target=None,
    holdout=None,
    random_state,
    scaling=None,
    n_components=None,
    axes=None,
):
    """Make the plan of a fit.

    Parameters
    ----------
    settings : Settings
    rows : Source
        Training rows.
    sample_weight : ndarray of shape (n_samples,), default=None
        Positive.
    X_val : Source, default=None
        Validation rows.
    target, X_val_target : Source, default=None
        What to reconstruct from both. None is the rows themselves.
    holdout : Holdout, default=None
        Which rows may be held out; at random if None.
    random_state : RandomState
    scaling : tuple of (AffineMap, ndarray), default=None
        A scaling and the mean that came with it, instead of learning them.
    n_components : int, default=None
        Instead of that of the settings.
    axes : PrincipalAxes, default=None
        Instead of those of the rows.

    Returns
    -------
    Plan
    """
    settings = settings.for_rows(len(rows))
    device = resolve_device(settings.device)
    if target is not None and settings.n_projection_steps > 0:
        raise ValueError(
            f"n_projection_steps={settings.n_projection_steps} moves codes to those "
            "from which X is decoded, and not X_target: pass n_projection_steps=0."
        )
    target = rows if target is None else target
    weight = None if sample_weight is None else sample_weight / sample_weight.mean()
    is_known = scaling is not None
    if not is_known:
        scaling = fit_scaling(
            settings.scaling,
            target,
            weight,
            marks_changes=settings.marks_changes,
            blocks=settings.blocks,
        )
    scaling, mean = scaling
    parts = settings.parts
    if settings.blocks is not None:
        loss = MixedLoss(parts.loss, settings.blocks, scaling.center, scaling.scale)
        parts = replace(parts, loss=loss)
    x = scaled_rows(target, scaling)
    if is_known and _leaves_range(x):
        raise ValueError(
            "warm_start=True keeps the scaling of the fitted model, by which values "
            "of X leave the range of single precision: pass warm_start=False to begin "
            "anew."
        )
    if target is not rows and _leaves_range(scaled_rows(rows, scaling)):
        raise ValueError(
            "X has values that leave the range of single precision in the scaling, "
            "which is that of X_target: correct them, or bring both to one unit."
        )
    if n_components is None:
        n_components = settings.n_components
    known = completion = None
    if settings.has_missing:
        completion = fit_completion(x, weight)
        x, known = completed_rows(x, completion)
    _check_code_size(n_components, x.shape[1], settings.parts.symmetry)
    most = None
    if settings.blocks is not None:
        # A category tells more than a number: half of the features, rounded up.
        most = -(-settings.blocks.n_features // 2)
    if axes is None:
        axes = PrincipalAxes(x, weight, n_components, random_state, most)
    if completion is None:
        completion = Completion.of_axes(axes, x)
    seeds = draw_seeds(random_state)
    holdout = Holdout() if holdout is None else holdout
    validation = None
    if X_val is None and settings.early_stopping:
        fraction = settings.validation_fraction
        n_rows = n_held_out(len(rows), fraction)
        if holdout.is_splitter or n_rows:
            validation = holdout.draw(len(rows), n_rows, random_state)
    return Plan(
        settings=settings,
        parts=parts,
        scaling=scaling,
        mean=mean,
        axes=axes,
        rows=rows,
        target=target,
        x=x,
        known=known,
        completion=completion,
        weight=weight,
        validation=validation,
        holdout=holdout,
        X_val=X_val,
        X_val_target=X_val_target,
        device=device,
        batch_size=batch_rows(settings.batch_size, len(rows)),
        n_epochs=None,
        seeds=seeds,
        random_state=random_state,
    )


def _leaves_range(rows):
    """Return whether some scaled rows are infinite in single precision."""
    return any(chunk.isinf().any() for _, chunk in rows.chunks())


def draw_seeds(random_state):
    """Draw the seeds of the weights and of the training."""
    return tuple(map(int, random_state.randint(np.iinfo(np.int32).max, size=2)))


def n_held_out(n_samples, fraction):
    """Return how many rows to hold out; none where there are too few."""
    at_least = [n_rows for n_rows in _AT_LEAST if n_rows <= n_samples // 4]
    n_rows = max([round(fraction * n_samples), *at_least])
    if n_rows < min(_AT_LEAST) or n_rows >= n_samples:
        return 0
    return n_rows


def batch_rows(batch_size, n_samples):
    """Return the largest number of rows of a step."""
    if batch_size != "auto":
        return min(batch_size, n_samples)
    # About 32 steps an epoch, in powers of two: more noise than that only slows small
    # tables down, larger batches bring large ones no further per epoch.
    wanted = 2 ** round(np.log2(max(n_samples / 32, 1)))
    return int(min(max(wanted, 32), 256, n_samples))
