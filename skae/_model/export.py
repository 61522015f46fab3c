"""Fitted models as plain modules of PyTorch."""

from copy import deepcopy

import torch
from torch import nn
from torch.func import functional_call

from .._data.affine import DoubleConstants
from ..architectures._networks import Tanh

__all__ = ["PARTS", "exported", "exported_score"]


class Exported(DoubleConstants):
    """A view of a fitted model: a copy of it, of which one method is ``forward``.

    Constants (scaling, coordinates, what scorers remember) stay in double precision and
    are cast to the dtype of the rows; weights have the precision of the module.

    Parameters
    ----------
    module : Model or Member
    function : callable
        From the module and a tensor to a tensor.
    """

    def __init__(self, module, function):
        super().__init__()
        self.module = deepcopy(module)
        for part in self.module.modules():
            if type(part) is Tanh:
                part.__class__ = nn.Tanh  # which is PyTorch in inference mode, too
            for name, constant in part.named_buffers(recurse=False):
                # Not views of something larger, which torch.export would warn of.
                copy = constant.clone(memory_format=torch.contiguous_format)
                setattr(part, name, copy)
        self._function = function

    def forward(self, x):
        return self._function(self.module, x)


def _encode(model, x):
    return model.encode(x)


def _decode(model, code):
    return model.decode(code)


def _reconstruct(model, x):
    return model(x)


def _score(member, x):
    # Scorers compute in the dtype of their buffers.
    constants = {
        name: buffer.to(x.dtype)
        for name, buffer in member.named_buffers()
        if buffer.dtype == torch.float64
    }
    return functional_call(member, constants, (x,))


# Of each part: its function, and the children of the autoencoder that it needs.
PARTS = {
    "encoder": (_encode, {"encoder", "bottleneck"}),
    "decoder": (_decode, {"decoder"}),
    "autoencoder": (_reconstruct, {"encoder", "bottleneck", "decoder"}),
}


def exported(model, part):
    """Return a part of a model as a module of its own.

    Parameters
    ----------
    model : Model
    part : {"encoder", "decoder", "autoencoder"}
    """
    function, needed = PARTS[part]
    module = Exported(model, function)
    autoencoder = module.module.autoencoder
    for name in ("encoder", "bottleneck", "decoder"):
        if name not in needed:
            setattr(autoencoder, name, None)
    return _ready(module, autoencoder)


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
    exports = [Exported(member, _score) for member in members]
    for export in exports:
        _ready(export, export.module.model.autoencoder)
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


def _ready(module, autoencoder):
    # They are there for training only.
    autoencoder.corruption = autoencoder.penalty = None
    return module.eval()
