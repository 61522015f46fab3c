"""What comes before training: components, scaling, principal axes, held-out rows."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

from .._data.principal_axes import PrincipalAxes
from .._data.scaling import Scaling
from .._data.source import Data, Rows, Streamed, scaled_rows
from .._model.autoencoder import Parts
from ..architectures import MLP
from ..bottlenecks import Plain
from ..losses import SquaredError
from .device import resolve_device
from .progress import Progress
from .selection import MIN_HELD_OUT

__all__ = ["Training", "draw_seeds", "plain_parts", "prepare"]


@dataclass
class Training:
    """Rows that are ready to train on: scaled, with axes, some of them held out.

    Attributes
    ----------
    settings : BaseAutoencoder
        Has the parameters.
    parts : Parts
    scaling : Scaling
    mean : ndarray of shape (n_features,)
    axes : PrincipalAxes
    X : ndarray of shape (n_samples, n_features)
    x : Tensor or Streamed, of shape (n_samples, n_features)
        The rows, scaled.
    weight : ndarray of shape (n_samples,) or None
        Of mean one.
    unseen : ndarray or None
        Indices of the rows that no step of the training sees.
    X_val : ndarray or None
        Rows that were given to judge the training.
    device : str
    max_epochs : int
        Most passes over the rows.
    seeds : tuple of int
        Of the first network and its training.
    random_state : RandomState
        Source of the others.
    batch_size : int or None
        Rows per step, where memory has room for no more.
    progress : Progress
        Who hears of it.
    """

    settings: object
    parts: Parts
    scaling: Scaling
    mean: np.ndarray
    axes: PrincipalAxes
    X: np.ndarray
    x: torch.Tensor | Streamed
    weight: np.ndarray | None
    unseen: np.ndarray | None
    X_val: np.ndarray | None
    device: str
    max_epochs: int
    seeds: tuple
    random_state: np.random.RandomState
    batch_size: int | None = None
    progress: Progress = field(default_factory=Progress)

    def without(self, rows, max_epochs):
        """Return the same for all but these rows: scaling and axes are learnt anew."""
        kept = np.setdiff1d(np.arange(len(self.X)), rows)
        weight = None if self.weight is None else self.weight[kept]
        training = prepare(
            self.settings,
            self.X[kept],
            weight,
            n_components=self.axes.n_components,
            random_state=self.random_state,
        )
        if self.unseen is not None and training.unseen is None:
            # Trained in the same way, if judged by fewer rows than would be held out.
            order = self.random_state.permutation(len(kept))
            training = replace(training, unseen=np.sort(order[: len(kept) // 4]))
        return replace(
            training,
            max_epochs=max_epochs,
            batch_size=self.batch_size,
            progress=self.progress,
        )

    def data(self):
        """Return the rows as the net takes them, on its device."""
        rows = Rows(self.x, _weight_tensor(self.weight)).to(self.device)
        if self.X_val is not None:
            return Data(
                rows, Rows(scaled_rows(self.X_val, self.scaling)).to(self.device)
            )
        if self.unseen is None:
            return Data(rows)
        seen = np.setdiff1d(np.arange(len(self.X)), self.unseen)
        return Data(rows.take(seen), rows.take(self.unseen))


def prepare(
    settings,
    X,
    sample_weight=None,
    X_val=None,
    *,
    scaling=None,
    n_components=None,
    random_state=None,
):
    """Make rows ready to train on.

    Parameters
    ----------
    settings, X, sample_weight, X_val
        As `fit_model` takes them.
    scaling : tuple of (Scaling, ndarray), default=None
        What to scale by, and the mean that came with it, instead of learning them.
    n_components : int, default=None
        Instead of what the settings say.
    random_state : RandomState, default=None
        Likewise.

    Returns
    -------
    Training
    """
    parts = _parts(settings)
    parts.loss.check_domain(X, "X")
    if X_val is not None:
        parts.loss.check_domain(X_val, "X_val")
    device = resolve_device(settings.device)
    if random_state is None:
        random_state = check_random_state(settings.random_state)
    weight = None if sample_weight is None else sample_weight / sample_weight.mean()
    if scaling is None:
        scaling = Scaling.fit(_scaling_kind(settings, parts.loss), X, weight)
    scaling, mean = scaling
    x = scaled_rows(X, scaling)
    if n_components is None:
        n_components = settings.n_components
    axes = PrincipalAxes(x, weight, n_components, random_state)
    seeds = draw_seeds(random_state)
    unseen = None
    if X_val is None and settings.early_stopping:
        unseen = _hold_out(len(X), settings.validation_fraction, random_state)
    return Training(
        settings=settings,
        parts=parts,
        scaling=scaling,
        mean=mean,
        axes=axes,
        X=X,
        x=x,
        weight=weight,
        unseen=unseen,
        X_val=X_val,
        device=device,
        max_epochs=settings.max_epochs,
        seeds=seeds,
        random_state=random_state,
    )


def plain_parts(architecture=None, bottleneck=None, loss=None, **others):
    """Return the components of a model, with the plain ones where none is given."""
    return Parts(
        architecture=MLP() if architecture is None else architecture,
        bottleneck=Plain() if bottleneck is None else bottleneck,
        loss=SquaredError() if loss is None else loss,
        **others,
    )


def _parts(settings):
    """Return the components: checked, and copies that nobody else can change."""
    names = ("architecture", "bottleneck", "loss", "corruption", "penalty")
    given = {name: getattr(settings, name) for name in names}
    plain_parts(**given).check()
    return plain_parts(**{n: clone(part) for n, part in given.items() if part})


def _scaling_kind(settings, loss):
    bounded = np.isfinite(loss.domain).any()
    if settings.scaling == "auto":
        return None if bounded else settings._auto_scaling
    if bounded and settings.scaling is not None:
        raise ValueError(
            f"{type(loss).__name__} is a loss for data as they are: scaling must be "
            f"None or 'auto'. Got {settings.scaling!r} instead."
        )
    return settings.scaling


def draw_seeds(random_state):
    """Draw the seeds of the weights and of the training."""
    return tuple(map(int, random_state.randint(np.iinfo(np.int32).max, size=2)))


def _hold_out(n_samples, fraction, random_state):
    """Return the rows to hold out, or None where there are too few to judge by."""
    n_held_out = max(round(fraction * n_samples), min(MIN_HELD_OUT, n_samples // 4))
    if n_held_out < MIN_HELD_OUT or n_held_out >= n_samples:
        return None
    return np.sort(random_state.permutation(n_samples)[:n_held_out])


def _weight_tensor(weight):
    return None if weight is None else torch.from_numpy(weight.astype(np.float32))
