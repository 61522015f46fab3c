"""Outcome of training: which weights were kept, and why."""

import math
from enum import Enum

__all__ = ["Unchanged", "describe", "why_unchanged"]

# Without a validation set the last epoch is kept, unless it diverged.
_LOSSES = ("train_loss", "valid_loss")


class Unchanged(Enum):
    """Why the initial weights were kept; the values complete a sentence for users."""

    NO_WEIGHTS = "no network has weights to train"
    FEW_ROWS = "too few rows to validate"
    LINEAR = "no linear network is better"
    DIVERGED = "loss not finite"
    LOW_RATE = "lr too low"
    NO_GAIN = "no epoch was better"
    WORSE_SIZE = "with some number of components PCA was better"
    NO_CLEAR_GAIN = "no gain clear of noise"


def why_unchanged(net):
    """Return why a net kept its initial weights.

    Parameters
    ----------
    net : Net
        After training.

    Returns
    -------
    Unchanged or None
        None if it has the weights of an epoch.
    """
    if net.best_epoch_ > 0:
        return None
    if not any(p.requires_grad for p in net.module_.parameters()):
        return Unchanged.NO_WEIGHTS
    if getattr(net, "judged_by_folds_", None) is not None:
        return Unchanged(net.judged_by_folds_)
    if len(net.history) == 0:
        validated = math.isfinite(net.initial_loss_)
        return Unchanged.LINEAR if validated else Unchanged.FEW_ROWS
    if net.diverged_:
        return Unchanged.DIVERGED
    if getattr(net, "worse_size_", None) is not None:
        return Unchanged.WORSE_SIZE
    # Either would do without random draws, and without a gain in training only.
    curves = [[epoch[name] for epoch in net.history] for name in _LOSSES]
    if all(_is_flat(curve, net) for curve in curves):
        return Unchanged.LOW_RATE
    if min(curves[1]) >= net.initial_loss_:
        return Unchanged.NO_GAIN
    return Unchanged.NO_CLEAR_GAIN


def describe(net):
    """Return which weights a net kept, and why: a line for users."""
    why = why_unchanged(net)
    if why is None:
        steps = net.encoder_steps_
        then = f", then {steps} steps of the encoder" if steps else ""
        return f"epoch {net.best_epoch_} of {len(net.history)}{then}"
    return f"initial weights: {why.value}"


def _is_flat(losses, net):
    if len(losses) == 1:
        losses = [net.initial_loss_, *losses]
    return max(losses) - min(losses) < net.tol * abs(losses[0])
