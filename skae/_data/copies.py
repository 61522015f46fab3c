"""Copies of modules and arrays in another precision or place, made once."""

import pickle

import cloudpickle
import torch

from .._compat.torch import tensors_of, version_of

__all__ = ["Constants", "Copies", "portable"]


def portable(value):
    """Return a pickle that a process can load in which nothing was defined.

    Plain pickle takes no class of a script or a notebook there. It is the way out where
    such a class uses what cannot be pickled, as a lock.
    """
    try:
        return cloudpickle.dumps(value)
    except (TypeError, pickle.PicklingError):
        return pickle.dumps(value)


class Constants:
    """Arrays that do not change, as tensors beside others.

    Parameters
    ----------
    *arrays : ndarray
        Floating ones take the dtype of the other tensor, integers keep theirs.
    """

    def __init__(self, *arrays):
        self._arrays = arrays
        self._made = {}

    def like(self, x):
        """Return them in the dtype of a tensor and on its device: made once."""
        key = x.dtype, x.device
        made = self._made.get(key)
        if made is None:
            # Tensors that are good outside of inference, too. Several threads may come
            # here at once: what they make is the same.
            with torch.inference_mode(False):
                made = self._made[key] = [self._tensor(a, x) for a in self._arrays]
        return made

    @staticmethod
    def _tensor(array, x):
        dtype = x.dtype if array.dtype.kind == "f" else None
        return torch.tensor(array, dtype=dtype, device=x.device)

    def __getstate__(self):
        return {"_arrays": self._arrays, "_made": {}}


class Copies:
    """Copies of a module, one for each dtype and device, kept until it changes.

    What is written to ``p.data`` or through NumPy is not seen: torch does not count it.
    They are not pickled. Several threads may ask at once: each gets a copy that is up
    to date, though not always the same one.
    """

    def __init__(self):
        self._kept = {}

    def get(self, original, dtype, device, make):
        """Return the copy, which ``make()`` makes where there is none or an old one.

        Parameters
        ----------
        original : torch.nn.Module
        dtype : torch.dtype
        device : torch.device
        make : callable
        """
        tensors, state = _state(original)
        kept = self._kept.get((dtype, device))
        if kept is None or kept[0] is not original or kept[2] != state:
            # With the tensors themselves, whose ids no other ones can have meanwhile.
            kept = self._kept[dtype, device] = original, tensors, state, make()
        return kept[3]

    def __getstate__(self):
        return {"_kept": {}}


def _state(module):
    """Return the tensors of a module, and what tells whether they were written to."""
    tensors = tensors_of(module)
    return tensors, [(id(t), t.data_ptr(), version_of(t)) for t in tensors]
