"""How a fit goes: from rows to a trained model, and what became of it."""

from dataclasses import dataclass
from functools import cached_property
from inspect import signature

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

from ._coordinates import Coordinates
from ._device import resolve_device
from ._model import Model
from ._module import Parts
from ._net import Net
from ._pca import PrincipalAxes
from ._rows import Data, Rows
from ._scaling import Scaling, as_tensor
from ._selection import MIN_HELD_OUT
from .architectures import MLP
from .bottlenecks import Plain
from .losses import SquaredError

__all__ = ["Fit", "fit_model", "plain_parts"]


@dataclass
class Fit:
    """A trained model and the rows that made it.

    Attributes
    ----------
    model : Model
    parts : Parts
        The components that it was made of.
    axes : PrincipalAxes
        Of the scaled rows.
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    X : ndarray of shape (n_samples, n_features)
    raw_code : ndarray of shape (n_samples, n_components)
        Code of the rows as the network has it.
    weight : ndarray of shape (n_samples,) or None
        Of mean one.
    unseen : ndarray or None
        Indices of the rows of ``X`` that the weights did not see.
    X_val : ndarray or None
        Rows that were given to judge the training.
    """

    model: Model
    parts: Parts
    axes: PrincipalAxes
    mean: np.ndarray
    X: np.ndarray
    raw_code: np.ndarray
    weight: np.ndarray | None
    unseen: np.ndarray | None
    X_val: np.ndarray | None

    @cached_property
    def code(self):
        """The code of the rows as users see it."""
        return self.model.coordinates.apply(torch.from_numpy(self.raw_code)).numpy()

    def judges(self):
        """Return the rows that judged the training, maybe none, and their weights."""
        if self.X_val is not None:
            return self.X_val, None
        if self.unseen is None:
            return self.X[:0], None
        weight = None if self.weight is None else self.weight[self.unseen]
        return self.X[self.unseen], weight

    def pca_reconstruct(self):
        """Return the training rows as PCA of the same size gives them back."""
        scaling = self.model.scaling
        x = self.axes.project((self.X - scaling.center) / scaling.scale)
        return x * scaling.scale + scaling.center


def fit_model(settings, X, sample_weight=None, X_val=None, previous=None):
    """Fit a model to rows.

    Parameters
    ----------
    settings : BaseAutoencoder
        Has the parameters.
    X : ndarray of shape (n_samples, n_features)
        Training rows, float64 or float32.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive.
    X_val : ndarray of shape (n_validation, n_features) or None
        Rows that judge the training.
    previous : tuple of (Model, ndarray) or None
        A fitted model to continue from and the mean of its rows; its scaling and
        size stay.

    Returns
    -------
    Fit
    """
    parts = _parts(settings)
    parts.loss.check_domain(X, "X")
    if X_val is not None:
        parts.loss.check_domain(X_val, "X_val")
    device = resolve_device(settings.device)
    random_state = check_random_state(settings.random_state)
    weight = None if sample_weight is None else sample_weight / sample_weight.mean()

    if previous is None:
        scaling, mean = Scaling.fit(_scaling_kind(settings, parts.loss), X, weight)
        n_components = settings.n_components
    else:
        model, mean = previous
        scaling, n_components = model.scaling, len(model.coordinates.center)
        if len(scaling.center) != X.shape[1]:
            raise ValueError(
                f"warm_start=True continues from a network for {len(scaling.center)} "
                f"features, but X has {X.shape[1]} features."
            )
    x = _scaled(scaling, X)
    axes = PrincipalAxes(x.numpy(), weight, n_components, random_state)

    net = _make_net(settings, parts, axes.n_components, X.shape, device, random_state)
    net.initialize()
    at_pca = net.module_.start(axes.statistics(x))
    if previous is not None:
        _continue_from(net, previous[0].net)
    net.starts_fitted = at_pca or previous is not None

    unseen = None
    if X_val is None and settings.early_stopping:
        unseen = _hold_out(len(X), settings.validation_fraction, random_state)
        if unseen is None and at_pca and parts.plain:
            # Nothing could tell a gain from noise: the start is the best there is.
            net.max_epochs = 0
    rows = Rows(x, _weight_tensor(weight)).to(device)
    if X_val is not None:
        data = Data(rows, Rows(_scaled(scaling, X_val)).to(device))
    elif unseen is not None:
        seen = np.setdiff1d(np.arange(len(X)), unseen)
        data = Data(rows.take(seen), rows.take(unseen))
    else:
        data = Data(rows)
    net.partial_fit(data)

    model = Model(net, parts.loss, scaling, parts.bottleneck.sparse_output)
    raw_code = model.raw_code(X)
    model.coordinates = Coordinates.fit(
        parts.symmetry,
        lambda code: model.run(lambda module, z: module.decoder(z), code),
        raw_code.astype(np.float64),
        x.numpy(),
        weight,
        scaling.unit,
    )
    return Fit(model, parts, axes, mean, X, raw_code, weight, unseen, X_val)


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


def _scaled(scaling, X):
    """Return rows as the network sees them, single precision, chunk by chunk.

    The centre is taken off in the precision of X: a column of timestamps would lose
    all it says if it were rounded first.
    """
    x = torch.empty(X.shape, dtype=torch.float32)
    for i in range(0, len(X), 8192):
        x[i : i + 8192] = scaling.apply(as_tensor(X[i : i + 8192]))
    return x


def _make_net(settings, parts, n_components, shape, device, random_state):
    n_samples, n_features = shape
    build_seed, train_seed = random_state.randint(np.iinfo(np.int32).max, size=2)
    own = {
        "module": parts.build,
        "module__n_features": n_features,
        "module__n_components": n_components,
        "module__seed": int(build_seed),
        "criterion__loss": parts.loss,
        "criterion__penalty": parts.penalty,
        "optimizer": settings.optimizer,
        "lr": settings.lr,
        "max_epochs": settings.max_epochs,
        "batch_size": _batch_size(settings.batch_size, n_samples),
        "early_stopping": settings.early_stopping,
        "n_iter_no_change": settings.n_iter_no_change,
        "tol": settings.tol,
        "gradient_clip": settings.gradient_clip,
        "seed": int(train_seed),
        "device": device,
        "verbose": settings.verbose,
    }
    named = isinstance(settings.optimizer, str)
    has_decay = named or "weight_decay" in signature(settings.optimizer).parameters
    if has_decay or settings.weight_decay:
        # Where there is one, not torch's default, which is not zero everywhere.
        own["optimizer__weight_decay"] = settings.weight_decay
    net_params = settings.net_params or {}
    taken = sorted(set(net_params) & (set(own) | _INTERNAL))
    if taken:
        raise ValueError(
            f"The 'net_params' parameter must not set {', '.join(taken)}: fit does, "
            "from the parameters of the estimator where it has one of that name. "
            "Accepted are 'averaging' and the other parameters of skorch.NeuralNet, "
            "such as 'callbacks' or 'optimizer__betas'."
        )
    return Net(**own, **net_params)


# Parameters of the net that only `fit` can know.
_INTERNAL = {
    "criterion",
    "dataset",
    "iterator_train",
    "iterator_valid",
    "predict_nonlinearity",
    "starts_fitted",
    "train_split",
    "warm_start",
}


def _batch_size(batch_size, n_samples):
    if batch_size != "auto":
        return min(batch_size, n_samples)
    # About 32 steps an epoch, in powers of two: more noise than that only slows small
    # tables down, larger batches bring large ones no further per epoch.
    wanted = 2 ** round(np.log2(max(n_samples / 32, 1)))
    return int(min(max(wanted, 32), 256, n_samples))


def _hold_out(n_samples, fraction, random_state):
    """Return the rows to hold out, or None where there are too few to judge by."""
    n_held_out = max(round(fraction * n_samples), min(MIN_HELD_OUT, n_samples // 4))
    if n_held_out < MIN_HELD_OUT or n_held_out >= n_samples:
        return None
    return np.sort(random_state.permutation(n_samples)[:n_held_out])


def _weight_tensor(weight):
    return None if weight is None else torch.from_numpy(weight.astype(np.float32))


def _continue_from(net, previous):
    try:
        net.module_.load_state_dict(previous.module_.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True continues from the fitted network, but the architecture "
            "or bottleneck were changed since: pass warm_start=False to begin anew."
        ) from error
