"""The net of a fit, with the weights that training starts from."""

from inspect import signature
from numbers import Real

import numpy as np
import torch

from .._component import Statistics
from .._data.affine import AffineMap
from .._data.principal_axes import PrincipalAxes
from .._data.source import scaled_rows
from ..losses import SquaredError
from .affine_pass import is_linear
from .net import Net

__all__ = ["load_state", "make_net", "statistics"]

# Noise that is added to that of each row, as a share of the mean: rows without counts
# have none of their own, and would outweigh all others.
_LEAST_NOISE = 0.1


def make_net(plan, axes, seeds, previous=None):
    """Return an initialised net, with the weights that training starts from.

    Parameters
    ----------
    plan : Plan
    axes : PrincipalAxes
        Of the scaled rows, for the size of the code.
    seeds : tuple of int
        Of the weights and of the training.
    previous : Model, default=None
        A fitted model to continue from.
    """
    settings, parts = plan.settings, plan.parts
    build_seed, train_seed = seeds
    module = parts.build(plan.rows.shape[1], axes.n_components, build_seed)
    starts_fitted = module.start(*statistics(plan, axes, build_seed))
    max_epochs = settings.max_epochs
    if (
        plan.n_epochs is None
        and settings.early_stopping
        and starts_fitted
        and (parts.is_plain or (parts.has_dense_code and previous is None))
        and not plan.is_validated
    ):
        # Nothing tells a gain from noise, unless `judged_by_folds` does: the start is
        # the best there is. (Sparse codes and symbols are of little use untrained, and
        # a warm start goes on.)
        max_epochs = 0
    if (
        starts_fitted
        and settings.early_stopping
        and parts.is_plain
        and plan.x.stored() is not None
        and not plan.has_pairs
        and is_linear(module)
        and isinstance(parts.loss, SquaredError)
    ):
        # No linear network is better than PCA. For dense rows, too, but they leave it
        # to training, whose epochs are fast.
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
        "early_stopping": settings.early_stopping and plan.n_epochs is None,
        "n_iter_no_change": (
            settings.n_iter_no_change if plan.n_epochs is None else np.inf
        ),
        "tol": settings.tol,
        "gradient_clip": settings.gradient_clip,
        "precision": settings.precision,
        "starts_fitted": starts_fitted,
        # A network of known epochs begins as the one that they were found with.
        "leaves_start": starts_fitted
        and previous is None
        and plan.n_epochs != 0
        and (plan.is_validated or plan.leaves_start),
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
    _check_net_params(net_params)
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


def _check_net_params(net_params):
    """Check what skorch would find wrong later, in words that do not name it."""

    def refuse(what, got):
        raise ValueError(f"The 'net_params' parameter must have {what}. Got {got!r}.")

    for name in net_params:
        if not isinstance(name, str):
            refuse("names as keys", name)
    averaging = net_params.get("averaging", 0.0)
    number = isinstance(averaging, Real) and not isinstance(averaging, bool)
    if not number or not 0 <= averaging < 1:
        refuse("'averaging' in [0, 1)", averaging)
    callbacks = net_params.get("callbacks")
    if callbacks is None:
        return
    if not isinstance(callbacks, list | tuple):
        refuse("a list of callbacks as 'callbacks'", callbacks)
    for callback in callbacks:
        if isinstance(callback, tuple) and len(callback) == 2:
            callback = callback[1]
        if not hasattr(callback, "on_epoch_end"):
            refuse("callbacks of skorch in 'callbacks'", callback)


def statistics(plan, axes, seed):
    """Return the statistics from which weights are initialised, and their units.

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
    of_noise = Statistics(mean, found.axes, variances, noise_variance, lambda: rows)
    return of_noise, units


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
    if getattr(previous.bottleneck, "is_truncated", False):
        raise ValueError(
            "warm_start=True cannot continue from a truncated model: go on with the "
            "whole one, or pass warm_start=False to begin anew."
        )
    load_state(
        module, previous.state_dict(), "warm_start=True", "pass warm_start=False"
    )


def load_state(module, state, what, remedy):
    """Give a module the weights of another one.

    Raises
    ------
    ValueError
        If it has other weights. The message says what continues, and how not to.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        other_loss = _of_the_loss(module.state_dict()) != _of_the_loss(state)
        changed = "loss was" if other_loss else "architecture or bottleneck were"
        raise ValueError(
            f"{what} continues from the fitted network, but the {changed} changed "
            f"since: {remedy} to begin anew."
        ) from error


def _of_the_loss(state):
    """Return the names of the tensors that a model has because of its loss."""
    own = ("standardization.", "link.")
    return {name for name in state if name.startswith(own)}
