"""Fingerprints: whether two trainings are the same one."""

import hashlib
import sys
from dataclasses import fields
from functools import partial

import numpy as np
import torch
from torch import nn

__all__ = ["Fingerprints"]

# Settings that do not change a training, or only by the rows that are held out.
_WITHOUT_EFFECT = {"checkpoints", "device", "validation_split", "verbose"}
_PLAIN = bool | int | float | str | bytes | np.generic | torch.dtype | torch.device
# The package itself imports this module: it is found by its name.
_ROOT = __name__.partition(".")[0]


class Fingerprints:
    """Computes fingerprints of the trainings of a fit; it reads rows once.

    What is in a fingerprint is as the user gave it, or an integer that was drawn:
    another processor rounds in another way what is computed from rows.
    """

    def __init__(self):
        self._of_rows = {}

    def __call__(self, plan, n_components, seeds, previous=None):
        """Return the fingerprint of a training.

        Parameters
        ----------
        plan : Plan
        n_components : int
        seeds : tuple of int
        previous : Model, default=None
            A fitted model to continue from.

        Returns
        -------
        str
            In hexadecimal digits.
        """
        settings = {
            field.name: getattr(plan.settings, field.name)
            for field in fields(plan.settings)
            if field.name not in _WITHOUT_EFFECT
        }
        found = hashlib.sha256()
        _add(found, [sys.modules[_ROOT].__version__, str(torch.__version__)])
        _add(found, settings)
        _add(found, [torch.device(plan.device).type, plan.batch_size, plan.n_epochs])
        _add(found, [n_components, seeds, plan.validation, plan.weight])
        for source in (plan.rows, plan.target, plan.X_val, plan.X_val_target):
            found.update(b"none" if source is None else self._rows(source))
        if previous is not None:
            _add(found, previous.autoencoder.state_dict())
        return found.hexdigest()

    def _rows(self, source):
        """Return the digest of the rows of a source."""
        if id(source) not in self._of_rows:
            found = hashlib.sha256()
            if (table := source.stored()) is not None:
                matrix = table.matrix
                _add(found, [matrix.shape, matrix.data, matrix.indices, matrix.indptr])
            else:
                _add(found, source.shape)
                for _, chunk in source.chunks():
                    _add(found, chunk)
            # With the source, so that no other one gets its id.
            self._of_rows[id(source)] = source, found.digest()
        return self._of_rows[id(source)][1]


def _add(digest, value, within=()):
    """Add a value to a digest: what it is, not where it is.

    Objects count by their class and parameters, or else attributes; functions and
    classes by their name.

    Parameters
    ----------
    digest : hashlib object
    value : object
    within : tuple of int, default=()
        What the value is part of, in which it may be again.
    """

    def add_all(values):
        if id(value) not in within:
            for item in values:
                _add(digest, item, (*within, id(value)))

    kind = type(value)
    digest.update(f"{kind.__module__}.{kind.__qualname__}:".encode())
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        add_all([str(tensor.dtype), *tensor.shape])
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        add_all([value.dtype.str, *value.shape])
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, _PLAIN):
        digest.update(f"{value!r};".encode())
    elif isinstance(value, np.ndarray | list | tuple):
        add_all([len(value), *value])
    elif isinstance(value, dict):
        add_all([len(value), *(item for pair in value.items() for item in pair)])
    elif isinstance(value, np.random.RandomState):
        add_all(value.get_state())
    elif isinstance(value, partial):
        add_all([value.func, value.args, value.keywords])
    elif hasattr(value, "__qualname__"):
        digest.update(f"{value.__module__}.{value.__qualname__};".encode())
    elif isinstance(value, nn.Module):
        add_all([str(value), value.state_dict()])
    elif hasattr(value, "get_params"):
        add_all([value.get_params(deep=False)])
    elif hasattr(value, "__dict__"):
        add_all([vars(value)])
