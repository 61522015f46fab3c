"""A trained network between the maps that lead to it and from it: rows in, rows out."""

from copy import deepcopy

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config

from .._data.arrays import like, tensor_of
from .._data.copies import Copies
from .._data.scaling import as_tensor
from ..anomaly_scores import View

__all__ = ["Model"]

# Rows that pass at once, and numbers in the widest layer that is known: enough to
# keep the processor busy, few enough that what lies between two layers stays near it.
# So many rows pass however wide they are: each pass reads all weights.
_CHUNK_ROWS = 8192
_CHUNK_ENTRIES = 2**18
_LEAST_ROWS = 256


class Model:
    """Inference, in the precision of the rows and with their library.

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
        self._copies = Copies()

    def transform(self, X):
        """Return the code of rows, sparse where users want it so."""
        if not self.sparse_output:
            return self.code(X)
        # Chunk by chunk, so that it is never dense as a whole.
        chunks = [
            sparse.csr_array(code.cpu().numpy())
            for _, (code,) in self._chunks(_alone(self._encode), X)
        ]
        code = sparse.vstack(chunks, format="csr")
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
        """Return the rows that codes, maybe sparse ones, stand for."""
        return self.run(
            lambda module, z: self._out(module.decoder(self.coordinates.invert(z))),
            code,
        )

    def reconstruct(self, X):
        """Return rows as they come back out of the model."""
        return self.run(
            lambda module, x: self.scaling.invert(module.reconstruct(self._in(x))), X
        )

    def squared_residuals(self, X, per_feature=False):
        """Return what is left of rows, squared; else the mean over the features."""

        def squares(module, x):
            squares = self._residual(module, x).square_()
            return squares if per_feature else squares.mean(dim=1)

        return self.run(squares, X)

    def sums_of_squares(self, X, weight, point):
        """Return the weighted squares of residuals and of distances to a point, summed.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Or an array of another library.
        weight : ndarray of shape (n_samples,)
        point : ndarray of shape (n_features,)
        """
        left = total = 0.0
        if not isinstance(X, np.ndarray):
            X = tensor_of(X, self.net.device)
            parts = self._chunks(self._squares_of_rows(point), X)
            for rows, (of_residual, of_distance) in parts:
                left += weight[rows] @ of_residual.cpu().numpy()
                total += weight[rows] @ of_distance.cpu().numpy()
            return left, total
        for rows, (residual,) in self._chunks(_alone(self._residual), X):
            squares = np.square(residual.cpu().numpy(), dtype=np.float64)
            left += (weight[rows] @ squares).sum()
            squares = np.square(X[rows] - point, dtype=np.float64)
            total += (weight[rows] @ squares).sum()
        return left, total

    def _squares_of_rows(self, point):
        def squares(module, x):
            distance = x - torch.as_tensor(point).to(x)
            parts = self._residual(module, x), distance
            return [part.square().sum(dim=1) for part in parts]

        return squares

    def _residual(self, module, x):
        return x - self.scaling.invert(module.reconstruct(self._in(x)))

    def view(self, X):
        """Return what the model makes of rows, as anomaly scores see it, float64."""
        parts = self._gather(self._view, X, result=np.float64)
        return View(*(torch.from_numpy(part) for part in parts))

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
        def judge(module, x):
            return function(self._like(scorer, x), self._view(module, x))

        return self.run(judge, X)

    def _like(self, scorer, x):
        """Return a scorer in the dtype of rows and on their device.

        The double-precision original stays as it is, for whatever comes next.
        """
        if all(b.dtype == x.dtype and b.device == x.device for b in scorer.buffers()):
            return scorer
        return self._copies.get(
            scorer, x.dtype, x.device, lambda: deepcopy(scorer).to(x.device, x.dtype)
        )

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
            Float64 or float32; the module has weights of the same type. Or an array of
            another library: the module is then where it is.
        dtype : torch.dtype or None
            That of the weights, where it is another one.

        Returns
        -------
        ndarray
            Or an array of the library and on the device of ``X``.
        """
        (whole,) = self._gather(_alone(function), X, dtype)
        return whole

    def _gather(self, function, X, dtype=None, result=None):
        """Return whole arrays of what a function returns of chunks, in one ``result``.

        They are made once, by NumPy, whose large arrays cost less to write to than
        those of torch, and of each chunk there is one copy.
        """
        if not (isinstance(X, np.ndarray) or sparse.issparse(X)):
            chunks = self._chunks(function, tensor_of(X, self.net.device), dtype)
            wholes = zip(*(parts for _, parts in chunks), strict=True)
            # Outside of inference mode, so that gradients can start from it.
            return [like(torch.cat(whole), X) for whole in wholes]
        wholes = []
        for rows, parts in self._chunks(function, X, dtype):
            parts = [part.cpu().numpy() for part in parts]
            if not wholes:
                shapes = [(X.shape[0], *part.shape[1:]) for part in parts]
                wholes = [
                    np.empty(shape, part.dtype if result is None else result)
                    for shape, part in zip(shapes, parts, strict=True)
                ]
            for whole, part in zip(wholes, parts, strict=True):
                whole[rows] = part
        return wholes

    def _chunks(self, function, X, dtype=None):
        """Yield slices of rows, and what a function returns of each."""
        if dtype is None:
            double = X.dtype in (np.float64, torch.float64)
            dtype = torch.float64 if double else torch.float32
        is_tensor = isinstance(X, torch.Tensor)
        module = self.net.module_in(dtype, X.device if is_tensor else None)
        device = next(module.parameters()).device
        step = self._rows_at_once(X.shape[1])
        for start in range(0, X.shape[0], step):
            rows = slice(start, start + step)
            part = X[rows].toarray() if sparse.issparse(X) else X[rows]
            with torch.inference_mode():
                x = part.clone() if is_tensor else as_tensor(part).to(device)
                parts = function(module, x)
            yield rows, parts

    def _rows_at_once(self, n_columns):
        widths = [n_columns, len(self.scaling.center)]
        if self.coordinates is not None:
            widths.append(len(self.coordinates.center))
        n_rows = max(_LEAST_ROWS, _CHUNK_ENTRIES // max(widths))
        return min(n_rows, _CHUNK_ROWS)

    def _in(self, x):
        return self.scaling.apply(x)

    def _out(self, raw):
        return self.scaling.invert(self.loss.inverse_link(raw))

    def _code(self, code):
        return self.coordinates.apply(code)


def _alone(function):
    """Return the function with its result in a tuple."""
    return lambda module, x: (function(module, x),)
