"""Training of one network: from a plan to a fitted model."""

import math
from dataclasses import dataclass, replace
from inspect import signature

import numpy as np
import torch

from .._component import Statistics
from .._data.affine import AffineMap
from .._data.principal_axes import PrincipalAxes
from .._data.source import scaled_rows
from .._model.model import Model
from .._warning import warn_user
from ..exceptions import OutOfMemoryWarning
from .final_pass import FinalPass, final_pass
from .net import Net
from .plan import Plan, draw_seeds
from .progress import Progress

__all__ = ["Fit", "train"]

# Noise that is added to that of each row, as a share of the mean: rows without counts
# have none of their own, and would outweigh all others.
_LEAST_NOISE = 0.1
# Names of `history_`, and those that the net's history has for them.
_HISTORY = {"train_loss": "train_loss", "valid_loss": "valid_loss", "seconds": "dur"}


@dataclass(frozen=True)
class Fit:
    """A trained model, and what it was trained on.

    Attributes
    ----------
    plan : Plan
        With the batch size that the device had memory for.
    axes : PrincipalAxes
        Of the scaled rows, for the size of the code.
    net : Net
    model : Model
    final : FinalPass
        What one pass over the training rows found after training.
    starts_at_pca : bool
        Whether the initial weights were those of PCA.
    """

    plan: Plan
    axes: PrincipalAxes
    net: Net
    model: Model
    final: FinalPass
    starts_at_pca: bool

    def attributes(self):
        """Return the attributes that make an estimator a fitted one."""
        net = self.net
        return {
            "_model": self.model,
            "net_": net,
            "n_components_": self.axes.n_components,
            # Copies: writing to them does not change the model.
            "mean_": self.plan.mean.copy(),
            "scale_": self.model.scaling.scale.cpu().numpy().copy(),
            "n_iter_": len(net.history),
            "best_epoch_": net.best_epoch_,
            "history_": {
                name: np.array([epoch[key] for epoch in net.history])
                for name, key in _HISTORY.items()
                if key != "valid_loss" or self.plan.n_validation
            },
        }


def train(plan, n_components=None, previous=None, progress=None, attributes=None):
    """Train a network.

    Parameters
    ----------
    plan : Plan
    n_components : int, default=None
        Width of the code, at most that of the axes, of a further network with seeds of
        its own. None is the first network.
    previous : Model, default=None
        A fitted model to continue from.
    progress : Progress, default=None
        Receives progress events.
    attributes : callable, default=None
        From a `Fit` to the fitted attributes of an estimator, for callbacks that ask
        for them during training.

    Returns
    -------
    Fit
    """
    progress = Progress() if progress is None else progress
    axes, seeds = plan.axes, plan.seeds
    if n_components is not None:
        axes, seeds = axes.cut(n_components), draw_seeds(plan.random_state)
    at_pca = plan.parts.has_pca_start and previous is None
    net = _make_net(plan, axes, seeds, previous)
    progress.begin_network(
        plan, net.max_epochs, lambda net: attributes(_fit_of(plan, axes, net, at_pca))
    )
    try:
        net.partial_fit(plan.data(), progress=progress)
    except torch.cuda.OutOfMemoryError:
        # Once: what still does not fit is too large by more than a batch.
        if plan.batch_size == 1:
            raise
        # What the failed training holds is only let go of when this block is left.
        net = None
    if net is None:
        plan = _with_half_the_batch(plan)
        net = _make_net(plan, axes, seeds, previous)
        net.partial_fit(plan.data(), progress=progress)
    progress.end_network(net)
    return _fit_of(plan, axes, net, at_pca)


def _with_half_the_batch(plan):
    smaller = replace(plan, batch_size=math.ceil(plan.batch_size / 2))
    warn_user(
        f"Training with batch_size={plan.batch_size} ran out of the memory of "
        f"device={plan.device!r}, and began anew with "
        f"batch_size={smaller.batch_size}.",
        OutOfMemoryWarning,
    )
    torch.cuda.empty_cache()
    return smaller


def _fit_of(plan, axes, net, at_pca):
    model, final = final_pass(plan, net.module_, axes.n_components)
    return Fit(plan, axes, net, model, final, at_pca and net.starts_fitted)


def _make_net(plan, axes, seeds, previous):
    """Return an initialised net, with the weights that training starts from."""
    settings, parts = plan.settings, plan.parts
    build_seed, train_seed = seeds
    module = parts.build(plan.rows.shape[1], axes.n_components, build_seed)
    starts_fitted = module.start(*_statistics(plan, axes, build_seed))
    max_epochs = plan.max_epochs
    if (
        settings.early_stopping
        and starts_fitted
        and parts.is_plain
        and plan.n_validation == 0
    ):
        # Nothing could tell a gain from noise: the start is the best there is.
        max_epochs = 0
    if previous is not None:
        _continue_from(module, previous.autoencoder)
        starts_fitted = True
    own = {
        "module": module,
        "criterion__loss": parts.loss,
        "criterion__penalty": parts.penalty,
        "optimizer": settings.optimizer,
        "lr": settings.lr,
        "max_epochs": max_epochs,
        "batch_size": plan.batch_size,
        "early_stopping": settings.early_stopping,
        "n_iter_no_change": settings.n_iter_no_change,
        "tol": settings.tol,
        "gradient_clip": settings.gradient_clip,
        "precision": settings.precision,
        "starts_fitted": starts_fitted,
        "leaves_start": starts_fitted and previous is None,
        "seed": train_seed,
        "device": plan.device,
        "verbose": settings.verbose,
    }
    optimizer = settings.optimizer
    named = isinstance(optimizer, str)
    has_decay = named or "weight_decay" in signature(optimizer).parameters
    if has_decay or settings.weight_decay:
        # Where there is one, not torch's default, which is not zero everywhere.
        own["optimizer__weight_decay"] = settings.weight_decay
    net_params = settings.net_params or {}
    taken = sorted(
        name
        for name in net_params
        if name in own or name in _INTERNAL or name.startswith("module__")
    )
    if taken:
        raise ValueError(
            f"The 'net_params' parameter must not set {', '.join(taken)}: fit does, "
            "from the parameters of the estimator where it has one of that name. "
            "Accepted are 'averaging' and the other parameters of skorch.NeuralNet, "
            "such as 'callbacks' or 'optimizer__betas'."
        )
    return Net(**own, **net_params).initialize()


def _statistics(plan, axes, seed):
    """Return the statistics from which the weights are initialised, and their units.

    Where the variance of the noise depends on the mean, they are those of columns
    divided by the standard deviation of their noise. The axes are then found with rows
    weighted by the inverse of the variance of theirs: among rows with very different
    totals, the noise of the largest would otherwise outweigh all others.
    """
    loss = plan.parts.loss
    variance = loss.variance(torch.from_numpy(plan.mean))
    if variance is None:
        return axes.statistics(plan.x), None
    units = variance.sqrt()
    x = scaled_rows(plan.x, AffineMap(torch.zeros_like(units), units))
    noise = np.empty(len(x))
    for rows, chunk in plan.x.chunks():
        noise[rows] = loss.variance(chunk.cpu().double()).sum(dim=1).numpy()
    noise += _LEAST_NOISE * noise.mean()
    weight = (1.0 if plan.weight is None else plan.weight) / noise
    weighted = PrincipalAxes(
        x, weight / weight.mean(), axes.n_components, np.random.RandomState(seed)
    )
    found, own = weighted.statistics(x), axes.statistics(plan.x)
    # All else is of the rows as they count in training.
    mean, rows = own.mean / units, own.rows / units
    centered = rows - mean
    variances = (centered @ found.axes.T).square().mean(dim=0)
    variances[found.variances == 0] = 0.0  # not rounding noise
    left = centered.square().mean(dim=0).sum() - variances.sum()
    left_out = max(len(mean) - int(found.axes.any(dim=1).sum()), 1)
    noise_variance = max(float(left), 0.0) / left_out
    statistics = Statistics(mean, found.axes, variances, noise_variance, rows)
    return statistics, units


# Parameters of the net that only `fit` can know.
_INTERNAL = {
    "criterion",
    "dataset",
    "iterator_train",
    "iterator_valid",
    "predict_nonlinearity",
    "train_split",
    "warm_start",
}


def _continue_from(module, previous):
    try:
        module.load_state_dict(previous.state_dict())
    except RuntimeError as error:
        other_loss = _of_the_loss(module) != _of_the_loss(previous)
        changed = "loss was" if other_loss else "architecture or bottleneck were"
        raise ValueError(
            f"warm_start=True continues from the fitted network, but the {changed} "
            "changed since: pass warm_start=False to begin anew."
        ) from error


def _of_the_loss(module):
    """Return the names of the tensors that a model has because of its loss."""
    own = ("standardization.", "link.")
    return {name for name in module.state_dict() if name.startswith(own)}
