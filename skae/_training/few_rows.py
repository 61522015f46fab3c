"""Few rows: validation by all of them in turn, training on all of them.

Where a validation set takes a large share of the rows, networks lose more by the rows
that they are not trained on than they gain by the choice of the epoch, and the few
validation rows often cannot tell a gain from noise. Where there are too few rows for a
validation set, each fold of a cross-validation serves as one.
"""

import numpy as np

from .encoder_stage import train_encoder
from .initial import make_net
from .outcome import Unchanged, why_unchanged
from .plan import FEW_ROWS, LEAST_JUDGES
from .selection import is_clear_gain
from .together import Training, trained

__all__ = ["has_few_rows", "judged_by_folds", "train_on_all_rows"]

# Standard errors by which gains must exceed zero: more than elsewhere, because those
# of so few rows are far from normally distributed, and each fold is judged at its own
# best epoch, so that they are too large on average.
_CLEAR = 3.0
# The same where there are too few rows for a validation set, and neither corruption,
# penalty nor bottleneck keeps networks from learning them by heart.
_CLEAR_OF_FEWER = 4.0


def has_few_rows(plan):
    """Return whether a network is trained on all rows, after validation on some.

    Callbacks of skorch belong to one training: with them there is no other.
    """
    few = plan.validation is not None and len(plan.rows) < FEW_ROWS
    return few and not plan.has_callbacks


def train_on_all_rows(net, plan, axes, seeds):
    """Train anew, on all rows, for the number of epochs that validation has chosen.

    A generator, as a part of a fit; see `train`.

    If the validation set cannot tell whether its best epoch is better than the initial
    weights, cross-validation decides, with gains of all rows: each is found by a
    network and principal axes that have not seen the row. The net then may return to
    the initial weights.

    Parameters
    ----------
    net : Net
        Trained with the validation set of the plan. It receives the new weights. If
        these are worse on the validation rows, which they have been trained on,
        training has failed, and the net keeps those it has.
    plan : Plan
    axes : PrincipalAxes
    seeds : tuple of int
    """
    if net.diverged_ or net.trial_ is None:
        return
    validation = plan.data().validation
    weight = validation.weight_array()
    n_epochs = net.best_epoch_
    if net.starts_fitted and not is_clear_gain(net.trial_.gains, weight, _CLEAR):
        n_epochs, _ = yield from _cross_validated(plan, axes, _CLEAR)
        n_epochs = min(n_epochs, len(net.history))
    if n_epochs == 0:
        start = make_net(plan, axes, seeds).module_
        net.module_.load_state_dict(start.state_dict())
        net.best_epoch_, net.best_loss_ = 0, net.initial_loss_
        return
    whole = plan.on_all_rows(n_epochs, net.leaves_start)
    training = _training(whole, axes, seeds)
    yield from trained(training)
    every = training.net
    loss, before = (
        np.average(n.evaluate(validation), weights=weight) for n in (every, net)
    )
    if loss < before:
        net.module_.load_state_dict(every.module_.state_dict())
        net.best_epoch_ = n_epochs
        net.best_loss_ = net.history[n_epochs - 1, "valid_loss"]
        yield from train_encoder(net, whole)


def judged_by_folds(net, plan, axes, seeds):
    """Train on all rows if cross-validation finds a gain; else return the net itself.

    A generator, as a part of a fit; see `train`. It is for rows of which too few would
    be left to validate. A model that differs from PCA by its networks only stays PCA:
    on curved tables it would gain much, but on some it was worse than PCA.

    Parameters
    ----------
    net : Net
        Untrained, as `make_net` makes it where nothing tells a gain from noise.
    plan : Plan
        Without validation rows.
    axes : PrincipalAxes
    seeds : tuple of int

    Returns
    -------
    Net
    """
    if (
        net.max_epochs > 0
        or plan.parts.is_plain
        or plan.n_validation
        or plan.share is not None
        or plan.has_callbacks
        or len(plan.rows) < LEAST_JUDGES
        or plan.n_folds < 2
        or axes.rank == 0
        or not any(p.requires_grad for p in net.module_.parameters())
    ):
        return net
    clear = _CLEAR if plan.parts.is_regularized else _CLEAR_OF_FEWER
    n_epochs, judges = yield from _cross_validated(plan, axes, clear)
    unfinished = bool(np.median([judge.unfinished_ for judge in judges]) > 0.5)
    if n_epochs == 0:
        net.unfinished_ = unfinished
        why, *others = {why_unchanged(judge) for judge in judges}
        if others or why not in (Unchanged.DIVERGED, Unchanged.LOW_RATE):
            why = Unchanged.NO_CLEAR_GAIN
        # Else nothing that could gain was trained. As text, for files.
        net.judged_by_folds_ = why.value
        return net
    # As the networks of the folds, which are validated.
    whole = plan.on_all_rows(n_epochs, leaves_start=True)
    training = _training(whole, axes, seeds)
    yield from trained(training)
    if training.net.diverged_:
        net.judged_by_folds_ = Unchanged.DIVERGED.value
        return net
    training.net.unfinished_ = unfinished
    return training.net


def _training(plan, axes, seeds):
    """Return the training of a net that is made for it."""
    return Training(
        make_net(plan, axes, seeds),
        plan.data(),
        plan.n_epochs,
        checkpoint=plan.checkpoint(axes.n_components, seeds),
    )


def _cross_validated(plan, axes, clear):
    """Return the number of epochs that gains, clear of noise.

    Parameters
    ----------
    plan : Plan
    axes : PrincipalAxes
    clear : float
        Standard errors by which the mean gain must exceed zero.

    Returns
    -------
    n_epochs : int
        0 if none gains.
    nets : list of Net
        The networks of the folds.
    """
    folds = plan.folds()
    trainings = []
    for kept, rows in folds:
        fold = plan.validated_on(kept, rows)
        fold_axes = fold.axes.cut(axes.n_components)
        trainings.append(_training(fold, fold_axes, fold.seeds))
    yield from trained(*trainings)
    gains, epochs = [], []
    for (_, rows), training in zip(folds, trainings, strict=True):
        trial = training.net.trial_
        gains.append(np.zeros(len(rows)) if trial is None else trial.gains)
        epochs.append(0 if trial is None else trial.epoch)
    rows = np.concatenate([rows for _, rows in folds])
    weight = None if plan.weight is None else plan.weight[rows]
    gained = is_clear_gain(np.concatenate(gains), weight, clear)
    nets = [training.net for training in trainings]
    return int(np.median(epochs)) if gained else 0, nets
