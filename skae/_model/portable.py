"""Modules whose pickle opens on a machine without the device that they were on."""

from copy import deepcopy

import torch
from torch import nn

from .._compat.torch import tensors_of

__all__ = ["Portable", "is_available"]

_STORED = ("_parameters", "_buffers", "_modules")


def is_available(device):
    """Return whether torch finds a device, as a torch.device, on this machine."""
    if device.type == "cuda":
        return torch.cuda.is_available() and (
            (device.index or 0) < torch.cuda.device_count()
        )
    return device.type != "mps" or torch.backends.mps.is_available()


class Portable(nn.Module):
    """Base of modules that are pickled as if they were on the CPU.

    They come back on their device where there is one, else on the CPU. Copies in
    another precision (``_copies``) are not pickled.
    """

    def __getstate__(self):
        state = vars(self) | {"_device": torch.device("cpu")}
        state.pop("_copies", None)
        device = next((t.device for t in tensors_of(self)), torch.device("cpu"))
        if device.type != "cpu":
            on_cpu = nn.Module()
            vars(on_cpu).update({name: deepcopy(state[name]) for name in _STORED})
            state.update({name: vars(on_cpu.cpu())[name] for name in _STORED})
            state["_device"] = device
        return state

    def __setstate__(self, state):
        device = state.pop("_device")
        super().__setstate__(state)
        if device.type != "cpu" and is_available(device):
            self.to(device)
