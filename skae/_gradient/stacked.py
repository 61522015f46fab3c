"""Networks of one shape as a stack: all their layers in the same operations.

The weights of a layer lie one behind the other in one tensor, whose first axis counts
the networks. On a small table most of a step is the time that operations take to start,
which a stack takes once for all its networks.
"""

from copy import deepcopy

import torch
from torch import nn

from .._compat.torch import modules_of
from ..architectures._networks import Anchored, BatchNorm
from ..bottlenecks._nested import Prefixes
from .closed_form import ClosedForm

__all__ = ["StackedForm", "parts_of", "shape_of", "stacked"]


def shape_of(module):
    """Return what models that can be stacked have in common; None if it cannot be.

    Codes may differ in size: layers next to the code get zeros in the place of the
    components that a network lacks. They stay zero, since no gradient reaches them.

    Parameters
    ----------
    module : Autoencoder
        Its parameters have gradients.

    Returns
    -------
    tuple or None
        Hashable.
    """
    if not ClosedForm.suits(module):
        return None
    width = module.bottleneck.n_trained if _is_nested(module) else None
    corruption = None if module.corruption is None else type(module.corruption)
    return width, corruption, _layout(module.encoder), _layout(module.decoder)


def _is_nested(module):
    return type(module.bottleneck) is Prefixes


def _layout(network):
    """Return the classes of the layers, and the widths of those that are hidden."""
    branch, parts = network.branch, []
    hidden = [] if branch is None else branch.hidden
    for stage in hidden:
        kinds = type(stage.norm), type(stage.activation)
        parts.append((stage.layer.out_features, *kinds))
    dropout = branch is not None and branch.dropout > 0
    pace = network.linear.pace.item() if type(network.linear) is Anchored else None
    return type(network), type(network.linear), pace, dropout, tuple(parts)


def stacked(modules):
    """Return one module with the weights of several models of the same shape.

    Parameters
    ----------
    modules : list of Autoencoder
        Models with the same `shape_of`.

    Returns
    -------
    torch.nn.Module
        With the layers of the first model, but parameters and buffers of the shape
        ``(n_models, *shape)``. It holds weights only: it cannot be called.
    """
    whole = deepcopy(modules[0])
    for parts in zip(*map(modules_of, [whole, *modules]), strict=True):
        joint, *each = parts
        for name in list(joint._parameters):
            if joint._parameters[name] is not None:
                values = [part._parameters[name] for part in each]
                is_trained = values[0].requires_grad
                joined = _joined([value.detach() for value in values])
                joint._parameters[name] = nn.Parameter(joined, is_trained)
        if type(joint) in (Anchored, BatchNorm):
            for name in joint._buffers:
                joint._buffers[name] = _joined([part._buffers[name] for part in each])
    return whole


def _joined(values):
    """Return a stack of tensors, with zeros up to the largest size of each axis."""
    shape = [max(sizes) for sizes in zip(*(v.shape for v in values), strict=True)]
    joined = values[0].new_zeros(len(values), *shape)
    for whole, part in zip(parts_of(joined, values), values, strict=True):
        whole.copy_(part)
    return joined


def parts_of(joint, values):
    """Return the part of a stack of tensors that each one has, as views."""
    return [joint[i][tuple(map(slice, value.shape))] for i, value in enumerate(values)]


class StackedForm(ClosedForm):
    """Objective and gradient of a stack of models, in closed form.

    Parameters
    ----------
    modules : list of Autoencoder
        Models with the same `shape_of`.
    whole : torch.nn.Module
        What `stacked` made of them. The gradients of its parameters are overwritten.
    """

    def __init__(self, modules, whole):
        super().__init__(whole)
        self._modules = modules
        self._corrupts = modules[0].corruption is not None

    @torch.no_grad()
    def __call__(self, batch, draws):
        """Compute the gradients of the objectives of a batch of each model.

        Parameters
        ----------
        batch : Batch
            Of tensors whose first axis counts the models.
        draws : list of dict
            As `Autoencoder.draw` returns them.

        Returns
        -------
        Tensor of shape (n_models,)
            The objectives.
        """
        seen, kept = batch.seen, None
        if self._corrupts:
            each = zip(self._modules, seen, draws, strict=True)
            seen = torch.stack([m.corrupted(x, drawn) for m, x, drawn in each])
        if "bottleneck" in draws[0]:
            kept = torch.stack([drawn["bottleneck"] for drawn in draws])
        dropped = zip(*(drawn.get("encoder", ()) for drawn in draws), strict=True)
        masks = [torch.stack(of_stage) for of_stage in dropped]
        step = self._pass(batch.x.shape[1])
        return step(batch.x, seen, batch.weight, masks, batch.mask, kept)
