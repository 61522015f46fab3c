"""Training of one network: from a plan to a fitted model."""

import math
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch

from .._data.principal_axes import PrincipalAxes
from .._model.autoencoder import Autoencoder
from .._model.model import Model
from .._model.projection import check_projection
from .._warning import warn_user
from ..exceptions import OutOfMemoryWarning
from .encoder_stage import train_encoder
from .few_rows import has_few_rows, judged_by_folds, train_on_all_rows
from .final_pass import FinalPass, final_pass
from .initial import make_net
from .net import Net
from .plan import Plan, draw_seeds
from .prefixes import prefer_start
from .progress import Progress
from .together import Training, trained

__all__ = ["Fit", "train"]

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
    validated : Autoencoder
        The network that was not trained on the validation rows. That of the model,
        unless this was trained anew on all rows.
    """

    plan: Plan
    axes: PrincipalAxes
    net: Net
    model: Model
    final: FinalPass
    starts_at_pca: bool
    validated: Autoencoder

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
                if (key != "valid_loss" or self.plan.n_validation)
                and all(key in epoch for epoch in net.history)
            },
        }


def train(plan, n_components=None, previous=None, progress=None, attributes=None):
    """Train a network; a generator, to be completed by `run`.

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

    Yields
    ------
    list of Training
        To be trained before it goes on.

    Returns
    -------
    Fit
    """
    progress = Progress() if progress is None else progress
    axes, seeds = plan.axes, plan.seeds
    if n_components is not None:
        axes, seeds = axes.cut(n_components), draw_seeds(plan.random_state)
    at_pca = plan.parts.has_pca_start and previous is None
    net = make_net(plan, axes, seeds, previous)
    if plan.share is not None and net.module_.observes:
        raise ValueError(
            "Not supported with several processes: a part that keeps statistics of the "
            f"steps. Got bottleneck={plan.parts.bottleneck!r} and "
            f"architecture={plan.parts.architecture!r}."
        )
    if plan.settings.n_projection_steps > 0:
        check_projection(net.module_, axes.n_components, plan.rows.shape[1])
    network = progress.begin_network(
        plan, net.max_epochs, lambda net: attributes(_fit_of(plan, axes, net, at_pca))
    )

    def training(net):
        checkpoint = plan.checkpoint(axes.n_components, seeds, previous)
        return Training(net, plan.data(), plan.n_epochs, network, checkpoint)

    try:
        yield from trained(training(net))
    except torch.cuda.OutOfMemoryError:
        # Once: what still does not fit is too large by more than a batch.
        if plan.batch_size == 1 or plan.share is not None:
            raise
        # What the failed training holds is only let go of when this block is left.
        net = None
    if net is None:
        plan = _with_half_the_batch(plan)
        net = make_net(plan, axes, seeds, previous)
        yield from trained(training(net))
    if plan.parts.bottleneck.nested and previous is None and plan.n_validation:
        prefer_start(net, plan, axes, seeds)
    validated = None
    if previous is None and has_few_rows(plan):
        validated = deepcopy(net.module_)
        yield from train_on_all_rows(net, plan, axes, seeds)
    elif previous is None and plan.is_validated:
        yield from train_encoder(net, plan, network)
    if previous is None:
        net = yield from judged_by_folds(net, plan, axes, seeds)
    network.end(net)
    return _fit_of(plan, axes, net, at_pca, validated)


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


def _fit_of(plan, axes, net, at_pca, validated=None):
    model, final = final_pass(plan, net.module_, axes.n_components)
    validated = net.module_ if validated is None else validated
    return Fit(plan, axes, net, model, final, at_pca and net.starts_fitted, validated)
