"""How a fit goes: from rows to a trained model, and what became of it."""

import math
from dataclasses import dataclass
from inspect import signature

import numpy as np
import torch

from .._data.principal_axes import PrincipalAxes
from .._model.coordinates import Coordinates
from .._model.inference import Model
from ..exceptions import OutOfMemoryWarning, warn_user
from .net import Net
from .plan import Training, draw_seeds, prepare

__all__ = ["Fit", "fit_model", "train"]

# Names of `history_`, and those that the net's history has for them.
_HISTORY = {"train_loss": "train_loss", "valid_loss": "valid_loss", "seconds": "dur"}


@dataclass
class Fit:
    """A trained model and the rows that made it.

    Attributes
    ----------
    model : Model
    training : Training
        What it was trained on, and how.
    axes : PrincipalAxes
        Of the scaled rows.
    raw_code : ndarray of shape (n_samples, n_components)
        Code of the rows as the network has it.
    """

    model: Model
    training: Training
    axes: PrincipalAxes
    raw_code: np.ndarray

    @property
    def parts(self):
        """The components that the model was made of."""
        return self.training.parts

    @property
    def mean(self):
        """Weighted mean of the rows."""
        return self.training.mean

    @property
    def X(self):
        """The rows."""
        return self.training.X

    @property
    def weight(self):
        """Weights of mean one, or None."""
        return self.training.weight

    @property
    def code(self):
        """The code of the rows as users see it."""
        return Codes(self.raw_code, self.model.coordinates)

    @property
    def n_held_out(self):
        """Number of rows that judged the training."""
        X_val, unseen = self.training.X_val, self.training.unseen
        held_out = unseen if X_val is None else X_val
        return 0 if held_out is None else len(held_out)

    def attributes(self):
        """Return the attributes that make an estimator a fitted one."""
        net = self.model.net
        return {
            "_model": self.model,
            "net_": net,
            "n_components_": self.axes.n_components,
            # Whoever changes these does not change the model.
            "mean_": self.mean.copy(),
            "scale_": self.model.scaling.scale.copy(),
            "n_iter_": len(net.history),
            "best_epoch_": net.best_epoch_,
            "history_": {
                name: np.array([epoch[key] for epoch in net.history])
                for name, key in _HISTORY.items()
                if key != "valid_loss" or self.n_held_out
            },
        }

    def judges(self):
        """Return the rows that judged the training, maybe none, and their weights."""
        X, X_val, unseen = self.X, self.training.X_val, self.training.unseen
        if X_val is not None:
            return X_val, None
        if unseen is None:
            return X[:0], None
        return X[unseen], None if self.weight is None else self.weight[unseen]


class Codes:
    """Codes in coordinates, into which rows are brought when they are looked at.

    Parameters
    ----------
    raw_code : ndarray of shape (n_samples, n_components)
        As the network has them.
    coordinates : Coordinates
    """

    def __init__(self, raw_code, coordinates):
        self._raw_code = raw_code
        self._coordinates = coordinates
        self.shape = raw_code.shape

    def __getitem__(self, rows):
        """Return rows, of a slice or an index, as an ndarray."""
        return self._coordinates.apply(torch.from_numpy(self._raw_code[rows])).numpy()


def fit_model(settings, X, sample_weight, X_val, previous, progress):
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
    progress : Progress
        Who hears of it.

    Returns
    -------
    Fit
    """
    model, known = None, {}
    if previous is not None:
        model, mean = previous
        if len(model.scaling.center) != X.shape[1]:
            raise ValueError(
                "warm_start=True continues from a network for "
                f"{len(model.scaling.center)} features, but X has {X.shape[1]} "
                "features."
            )
        known = {
            "scaling": (model.scaling, mean),
            "n_components": len(model.coordinates.center),
        }
    training = prepare(settings, X, sample_weight, X_val, **known)
    training.progress = progress
    progress.begin_fit(training, settings._n_networks(training))
    return train(training, previous=model)


def train(training, n_components=None, previous=None):
    """Train a network on rows that are ready.

    Parameters
    ----------
    training : Training
    n_components : int, default=None
        Width of the code, at most that of the axes, of a further network with
        seeds of its own. None is the first network.
    previous : Model, default=None
        A fitted model to continue from.

    Returns
    -------
    Fit
    """
    axes, seeds = training.axes, training.seeds
    if n_components is not None:
        axes, seeds = axes.cut(n_components), draw_seeds(training.random_state)

    def attributes(net):
        return training.settings._snapshot(_fit_of(training, axes, net))

    net = _trained_net(training, axes, seeds, previous, attributes)
    training.progress.end_network(net)
    return _fit_of(training, axes, net)


def _fit_of(training, axes, net):
    sparse_output = training.parts.bottleneck.sparse_output
    model = Model(net, training.parts.loss, training.scaling, sparse_output)
    raw_code = model.raw_code(training.X)
    model.coordinates = Coordinates.fit(
        training.parts.symmetry,
        lambda code: model.run(lambda module, z: module.decoder(z), code),
        raw_code,
        training.x,
        training.weight,
        training.scaling.unit,
    )
    return Fit(model, training, axes, raw_code)


def _trained_net(training, axes, seeds, previous, attributes=None):
    n_samples = len(training.X)
    batch_size = training.batch_size or _batch_size(
        training.settings.batch_size, n_samples
    )
    net = _started_net(training, axes, seeds, min(batch_size, n_samples), previous)
    net.progress_ = training.progress
    if attributes is not None:
        training.progress.begin_network(training, net.max_epochs, attributes)
    try:
        return net.partial_fit(training.data())
    except torch.cuda.OutOfMemoryError:
        # Once: what still does not fit is too large by more than a batch.
        if batch_size == 1 or training.batch_size is not None:
            raise
        # What the failed training holds is only let go of when this block is left.
        net = None
    # Further networks on these rows would fail, too.
    training.batch_size = math.ceil(batch_size / 2)
    warn_user(
        f"Training with batch_size={batch_size} ran out of the memory of "
        f"device={training.device!r}, and began anew with "
        f"batch_size={training.batch_size}.",
        OutOfMemoryWarning,
    )
    torch.cuda.empty_cache()
    return _trained_net(training, axes, seeds, previous)


def _started_net(training, axes, seeds, batch_size, previous):
    """Return a net whose weights are where training begins."""
    net = _make_net(training, axes.n_components, seeds, batch_size)
    net.initialize()
    at_pca = net.module_.start(axes.statistics(training.x))
    if previous is not None:
        _continue_from(net, previous.net)
    net.starts_fitted = at_pca or previous is not None
    judged = training.unseen is not None or training.X_val is not None
    at_best = at_pca and training.parts.plain and not judged
    if training.settings.early_stopping and at_best:
        # Nothing could tell a gain from noise: the start is the best there is.
        net.max_epochs = 0
    return net


def _make_net(training, n_components, seeds, batch_size):
    settings, parts = training.settings, training.parts
    build_seed, train_seed = seeds
    own = {
        "module": parts.build,
        "module__n_features": training.X.shape[1],
        "module__n_components": n_components,
        "module__seed": build_seed,
        "criterion__loss": parts.loss,
        "criterion__penalty": parts.penalty,
        "optimizer": settings.optimizer,
        "lr": settings.lr,
        "max_epochs": training.max_epochs,
        "batch_size": batch_size,
        "early_stopping": settings.early_stopping,
        "n_iter_no_change": settings.n_iter_no_change,
        "tol": settings.tol,
        "gradient_clip": settings.gradient_clip,
        "precision": settings.precision,
        "seed": train_seed,
        "device": training.device,
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


def _continue_from(net, previous):
    try:
        net.module_.load_state_dict(previous.module_.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True continues from the fitted network, but the architecture "
            "or bottleneck were changed since: pass warm_start=False to begin anew."
        ) from error
