"""Copies of a module in another precision or on another device, made once."""

from copy import deepcopy

from .._compat.torch import tensors_of, version_of

__all__ = ["Copies"]


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
            copy = deepcopy(module).to(device, dtype).eval()
            # With the tensors themselves, whose ids no other ones can have meanwhile.
            kept = self._kept[dtype, device] = tensors, state, copy
        return kept[2]
