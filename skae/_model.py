"""A trained network between the maps that lead to it and from it: rows in, rows out."""

from copy import deepcopy

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config

from ._scaling import as_tensor
from .anomaly_scores import View

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
    sparse_output : bool
        Whether users get codes as sparse matrices.

    Attributes
    ----------
    coordinates : Coordinates or None
        Between the network's code and the one users see; None until it is known.
    """

    def __init__(self, net, loss, scaling, sparse_output):
        self.net = net
        self.loss = loss
        self.scaling = scaling
        self.sparse_output = sparse_output
        self.coordinates = None

    def transform(self, X):
        """Return the code of rows, sparse where users want it so."""
        if not self.sparse_output:
            return self.code(X)
        # Chunk by chunk, so that it is never dense as a whole.
        chunks = (
            sparse.csr_array(c.cpu().numpy()) for c in self._chunks(self._encode, X)
        )
        code = sparse.vstack(list(chunks), format="csr")
        as_array = get_config().get("sparse_interface") == "sparray"
        return code if as_array else sparse.csr_matrix(code)

    def code(self, X):
        """Return the code of rows."""
        return self.run(self._encode, X)

    def _encode(self, module, x):
        return self._code(module.encode(self._in(x)))

    def symbols(self, X):
        """Return the integers that name the discrete code of rows."""
        return self.run(lambda module, x: module.symbols(self._in(x)), X)

    def dequantize(self, symbols):
        """Return the rows that symbols stand for, float64."""
        return self.run(
            lambda module, s: self._out(module.decoder(module.bottleneck.codes(s))),
            symbols,
            torch.float64,
        )

    def sample(self, n_samples, random_state, density):
        """Return new rows: of codes from the prior, or possible ones from a density."""
        module = self.net.module_in(torch.float64)
        bottleneck = module.bottleneck
        if hasattr(bottleneck, "prior"):
            seed = random_state.randint(np.iinfo(np.int32).max)
            generator = torch.Generator().manual_seed(int(seed))
            raw = bottleneck.prior(n_samples, generator).double()
        else:
            drawn = torch.from_numpy(density.sample(n_samples, random_state))
            raw = self.coordinates.invert(drawn)
        project = getattr(bottleneck, "project", lambda raw: raw)
        return self.run(
            lambda module, raw: self._out(module.decoder(project(raw))), raw.numpy()
        )

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

    def view(self, X):
        """Return what the model makes of rows, as anomaly scores see it, float64."""
        parts = zip(*self._chunks(self._view, X), strict=True)
        return View(*(torch.cat(part).cpu().double() for part in parts))

    def score(self, X, scorer):
        """Return what ``scorer(view)`` says of rows."""
        return self._judge(X, scorer, lambda scorer, view: scorer(view))

    def contributions(self, X, scorer):
        """Return the parts of features in the score of rows, then that of the code."""

        def parts(scorer, view):
            by_feature, by_code = scorer.contributions(view)
            return torch.cat([by_feature, by_code[:, None]], dim=1)

        return self._judge(X, scorer, parts)

    def _judge(self, X, scorer, function):
        # The double-precision original stays as it is, for whatever comes next.
        copies = {}

        def judge(module, x):
            if not copies:
                copies[0] = _like(scorer, x)
            return function(copies[0], self._view(module, x))

        return self.run(judge, X)

    def _view(self, module, x):
        x = self._in(x)
        raw, code, objective, _ = module(x)
        residual = x - self.loss.inverse_link(raw)
        return View(x, raw, residual, self._code(code), objective)

    def run(self, function, X, dtype=None):
        """Return ``function(module, x)`` over all rows, chunk by chunk.

        Parameters
        ----------
        function : callable
            From the module and a tensor on its device to a tensor with as many rows.
        X : ndarray of shape (n_samples, n_columns)
            Float64 or float32; the module has weights of the same type.
        dtype : torch.dtype or None
            That of the weights, where it is another one.

        Returns
        -------
        ndarray
        """
        return torch.cat([c.cpu() for c in self._chunks(function, X, dtype)]).numpy()

    def _chunks(self, function, X, dtype=None):
        if dtype is None:
            dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        module = self.net.module_in(dtype)
        device = next(module.parameters()).device
        step = max(1, min(_CHUNK_ROWS, _CHUNK_ENTRIES // X.shape[1]))
        for i in range(0, len(X), step):
            with torch.inference_mode():
                yield function(module, as_tensor(X[i : i + step]).to(device))

    def _in(self, x):
        return self.scaling.apply(x)

    def _out(self, raw):
        return self.scaling.invert(self.loss.inverse_link(raw))

    def _code(self, code):
        return self.coordinates.apply(code)


def _like(scorer, x):
    """Return a scorer in the dtype of rows and on their device."""
    buffers = list(scorer.buffers())
    if all(b.dtype == x.dtype and b.device == x.device for b in buffers):
        return scorer
    return deepcopy(scorer).to(x.device, x.dtype)
