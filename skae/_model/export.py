"""Fitted models as plain modules of PyTorch."""

from copy import deepcopy

import torch
from torch import nn
from torch.func import functional_call

from .._data.affine import DoubleConstants
from ..architectures._networks import Tanh
from .autoencoder import Autoencoder
from .model import Model

__all__ = ["PARTS", "exported", "exported_score"]


class Exported(nn.Module):
    """A view of a fitted model: a copy of it, of which one method is ``forward``.

    Parameters
    ----------
    module : Model or Member
    method : callable
        A method of its class, which maps a tensor to a tensor.
    """

    def __init__(self, module, method):
        super().__init__()
        self.module = deepcopy(module)
        self._method = method
        for part in self.module.modules():
            if isinstance(part, Model):
                part.completion = None  # it looks at the numbers to decide what to do
            if type(part) is Tanh:
                part.__class__ = nn.Tanh  # which is PyTorch in inference mode, too
            if isinstance(part, Autoencoder):
                # They are there for training only.
                part.corruption = part.penalty = None
            for name, constant in part.named_buffers(recurse=False):
                # Not views of something larger, which torch.export would warn of.
                copy = constant.clone(memory_format=torch.contiguous_format)
                setattr(part, name, copy)

    def forward(self, x):
        return self._method(self.module, x)


class _DoubleScorer(DoubleConstants):
    """A scorer whose constants stay in double precision, and are cast to the rows'."""

    def __init__(self, scorer):
        super().__init__()
        self.scorer = scorer

    def forward(self, view):
        # Scorers compute in the dtype of their buffers.
        constants = {
            name: buffer.to(view.x.dtype)
            for name, buffer in self.scorer.named_buffers()
            if buffer.dtype == torch.float64
        }
        return functional_call(self.scorer, constants, (view,))


# Of each part: the method, and the children of the autoencoder that it needs.
PARTS = {
    "encoder": (Model.encode, {"encoder", "bottleneck"}),
    "decoder": (Model.decode, {"decoder", "link"}),
    "autoencoder": (Model.forward, {"encoder", "bottleneck", "decoder", "link"}),
}


def exported(model, part):
    """Return a part of a model as a module of its own.

    Parameters
    ----------
    model : Model
    part : {"encoder", "decoder", "autoencoder"}
    """
    method, needed = PARTS[part]
    export = Exported(model, method)
    if hasattr(model.autoencoder.bottleneck, "expand"):
        needed = needed | {"bottleneck"}
    if part == "encoder" and model.n_projection_steps > 0:
        needed = needed | {"decoder", "link"}
    for name in {"encoder", "bottleneck", "decoder", "link"} - needed:
        setattr(export.module.autoencoder, name, None)
    return export.eval()


class _Normality(nn.Module):
    """Minus the mean score of the members of an ensemble."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):
        return -torch.stack([member(x) for member in self.members]).mean(dim=0)


def exported_score(members):
    """Return minus the score of an ensemble as a module.

    Parameters
    ----------
    members : list of Member

    Raises
    ------
    ValueError
        If a scorer or a network computes with something else than PyTorch.
    """
    exports = [Exported(member, type(member).forward) for member in members]
    for export in exports:
        export.module.absence = None
        export.module.scorer = _DoubleScorer(export.module.scorer)
    module = _Normality(exports).to(members[0].device).eval()
    try:
        # Tensors without data: only PyTorch can compute with them.
        x = torch.empty(2, len(members[0].model.scaling), device="meta")
        deepcopy(module).to("meta")(x)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            "to_torch(part='score') takes networks and anomaly scores that compute "
            "with PyTorch alone, do not look at the numbers to decide how, and keep "
            "tensors as parameters or buffers. That did not work for the scorer "
            f"{type(members[0].scorer).__name__}, or for the networks: {error}"
        ) from error
    return module
