"""Modules that are copied to another precision or device, and pickled without one."""

from copy import deepcopy

import torch
from torch import nn

from .._compat.torch import storage_of, tensors_of, version_of

__all__ = ["Copies", "Portable", "is_available"]


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

    # Attributes that are in no file.
    _transient = ("_copies",)

    def copy_in(self, dtype, device):
        """Return a copy in evaluation mode, made once; see `Copies.get`."""
        if "_copies" not in vars(self):
            self._copies = Copies()
        return self._copies.get(self, dtype, device)

    def __getstate__(self):
        state = vars(self) | {"_device": torch.device("cpu")}
        for name in self._transient:
            state.pop(name, None)
        device = next((t.device for t in tensors_of(self)), torch.device("cpu"))
        if device.type != "cpu":
            on_cpu = nn.Module()
            vars(on_cpu).update(deepcopy(storage_of(self)))
            state.update(storage_of(on_cpu.cpu()))
            state["_device"] = device
        return state

    def __setstate__(self, state):
        device = state.pop("_device")
        super().__setstate__(state)
        if device.type != "cpu" and is_available(device):
            self.to(device)


class Copies:
    """Copies of a module, one for each dtype and device, kept until it changes.

    Writes to ``p.data`` or through NumPy are not seen: torch does not count them.
    Several threads may ask at once: each gets a copy that is up to date, though not
    always the same one.
    """

    def __init__(self):
        self._kept = {}

    def get(self, module, dtype, device):
        """Return the module in evaluation mode, in a dtype and on a device.

        Parameters
        ----------
        module : torch.nn.Module
        dtype : torch.dtype
        device : torch.device
        """
        tensors = tensors_of(module)
        state = [(id(t), t.data_ptr(), version_of(t)) for t in tensors]
        kept = self._kept.get((dtype, device))
        if kept is None or kept[1] != state:
            # Parts that keep copies themselves are not copied again.
            memo = {
                id(part): part.copy_in(dtype, device)
                for part in module.children()
                if isinstance(part, Portable)
            }
            copy = deepcopy(module, memo).to(device, dtype).eval()
            # With the tensors themselves, whose ids no other ones can have meanwhile.
            kept = self._kept[dtype, device] = tensors, state, copy
        return kept[2]
