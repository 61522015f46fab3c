"""Modules that are applied to arrays, chunk by chunk, in the precision of the rows."""

import numpy as np
import torch
from scipy import sparse

from .._compat.torch import InferenceMode, modules_of, tensors_of
from .._data.arrays import like, tensor_of
from .._data.source import Dense, Resident, Source, Sparse
from .portable import Portable

__all__ = ["RowModule"]

# Numbers of the widest layer in a chunk: few enough that what lies between two layers
# stays in a processor's cache.
_BUDGET = 2**18
# Rows in a chunk, however wide they are: each pass reads all weights.
_LEAST_ROWS = 256


class RowModule(Portable):
    """Base of modules that are applied to rows of any number, float64 or float32.

    Attributes
    ----------
    width : int
        Numbers per row in the widest of input, output and code.
    """

    width: int

    @property
    def device(self):
        """Where the module is, a torch.device."""
        return tensors_of(self)[0].device

    def in_precision(self, dtype, device=None):
        """Return the module in evaluation mode with weights of ``dtype``.

        Copies in double precision, or on another device, are made once and kept.
        Double precision is on the CPU where the device has none.
        """
        if device is None:
            device = self.device
            if dtype == torch.float64 and device.type == "mps":
                device = torch.device("cpu")
        if dtype == torch.float32 and device == self.device:
            if any(module.training for module in modules_of(self)):
                self.eval()
            return self
        return self.copy_in(dtype, device)

    def map(self, function, X, dtype=None):
        """Return ``function(module, x)`` over all rows.

        Parameters
        ----------
        function : callable
            From this module, in the precision of the rows, and a tensor on its device
            to a tensor with as many rows, or to a tuple of them.
        X : ndarray, sparse matrix or Source of shape (n_samples, n_columns)
            float64 or float32. Or an array of another library: the module then goes to
            its device.
        dtype : torch.dtype, default=None
            Of the weights, where it is not that of ``X``.

        Returns
        -------
        ndarray or tuple of ndarray
            Arrays of the library and on the device of ``X``.
        """
        if not (isinstance(X, np.ndarray | Source) or sparse.issparse(X)):
            parts = [part for _, part in self.chunks(function, X, dtype)]
            # Outside of inference mode, so that gradients can start from the result.
            if isinstance(parts[0], tuple):
                return tuple(like(torch.cat(p), X) for p in zip(*parts, strict=True))
            return like(torch.cat(parts), X)
        # Arrays are allocated once, by NumPy, whose large arrays cost less to write to
        # than those of torch.
        whole = None
        for rows, part in self.chunks(function, X, dtype):
            single = not isinstance(part, tuple)
            arrays = [p.cpu().numpy() for p in ((part,) if single else part)]
            if rows.stop >= X.shape[0] and whole is None:
                whole = arrays  # one chunk
                break
            if whole is None:
                n_rows = X.shape[0]
                whole = [np.empty((n_rows, *a.shape[1:]), a.dtype) for a in arrays]
            for array, chunk in zip(whole, arrays, strict=True):
                array[rows] = chunk
        return whole[0] if single else tuple(whole)

    def chunks(self, function, X, dtype=None):
        """Yield slices of rows, and what a function returns of each; see `map`."""
        device = None
        if isinstance(X, np.ndarray):
            rows = Dense(X)
        elif sparse.issparse(X):
            rows = Sparse(X)
        elif isinstance(X, Source):
            rows = X
        else:
            rows = Resident(tensor_of(X, self.device))
            device = rows.device
        module = self.in_precision(rows.dtype if dtype is None else dtype, device)
        device = module.device
        # The budget is for the widest layer, not for the rows that are read.
        n_columns = rows.shape[1]
        budget = _BUDGET * n_columns // max(self.width, n_columns)
        for chunk, x in rows.chunks(budget, _LEAST_ROWS):
            with InferenceMode(True):
                part = function(module, x.to(device))
            # Even in inference mode a view of a parameter requires a gradient.
            single = not isinstance(part, tuple)
            yield chunk, part.detach() if single else tuple(p.detach() for p in part)
