"""A trained network between the maps that lead to it and from it: rows in, rows out."""

import numpy as np
import torch

from ._scaling import as_tensor

__all__ = ["Model"]

# Rows that pass at once: enough to keep the processor busy, few enough that what lies
# between two layers stays in its cache; fewer where rows are wide.
_CHUNK_ROWS = 8192
_CHUNK_ENTRIES = 2**22


class Model:
    """Inference, in the precision of the rows.

    Parameters
    ----------
    net : Net
        Initialised; it may be trained later.
    loss : Loss
        Has the link between the decoder and the data.
    scaling : Scaling
        Between the data's units and the network's.

    Attributes
    ----------
    coordinates : Coordinates or None
        Between the network's code and the one users see; None until it is known.
    """

    def __init__(self, net, loss, scaling):
        self.net = net
        self.loss = loss
        self.scaling = scaling
        self.coordinates = None

    def code(self, X):
        """Return the code of rows."""
        return self.run(lambda module, x: self._code(module.encode(self._in(x))), X)

    def raw_code(self, X):
        """Return the code of rows as the network has it."""
        return self.run(lambda module, x: module.encode(self._in(x)), X)

    def decode(self, code):
        """Return the rows that codes stand for."""
        return self.run(
            lambda module, z: self._out(module.decoder(self.coordinates.invert(z))),
            code,
        )

    def reconstruct(self, X):
        """Return rows as they come back out of the model."""
        return self.run(
            lambda module, x: self.scaling.invert(module.reconstruct(self._in(x))), X
        )

    def score(self, X, scorer):
        """Return what ``scorer(x, raw, code)`` says of rows, in scaled units."""

        def function(module, x):
            x = self._in(x)
            raw, code, _, _ = module(x)
            return scorer(x, raw, self._code(code))

        return self.run(function, X)

    def run(self, function, X):
        """Return ``function(module, x)`` over all rows, chunk by chunk.

        Parameters
        ----------
        function : callable
            From the module and a tensor on its device to a tensor with as many rows.
        X : ndarray of shape (n_samples, n_columns)
            Float64 or float32; the module has weights of the same type.

        Returns
        -------
        ndarray
        """
        module = self.net.module_in(
            torch.float64 if X.dtype == np.float64 else torch.float32
        )
        device = next(module.parameters()).device
        step = max(1, min(_CHUNK_ROWS, _CHUNK_ENTRIES // X.shape[1]))
        with torch.inference_mode():
            outputs = [
                function(module, as_tensor(X[i : i + step]).to(device)).cpu()
                for i in range(0, len(X), step)
            ]
        return torch.cat(outputs).numpy()

    def _in(self, x):
        return self.scaling.apply(x)

    def _out(self, raw):
        return self.scaling.invert(self.loss.inverse_link(raw))

    def _code(self, code):
        return self.coordinates.apply(code)
