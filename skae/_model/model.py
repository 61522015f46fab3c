"""The fitted model: one module from rows, in the data's units, to rows and back."""

from copy import deepcopy

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config

from ..anomaly_scores import View
from .inference import RowModule
from .projection import projected

__all__ = ["Model"]

# Largest scaled value in a `View`: what is farther out is no nearer to any other row.
_FARTHEST = 1e15
# Power of the largest number that scaled values may have: 7e28 and 3e231.
_RANGE = 0.75


class Model(RowModule):
    """Scaling, autoencoder and coordinates of the code; complete without a trainer.

    Its methods map tensors; `map` applies them to arrays: ``model.map(Model.encode,
    X)``.

    Parameters
    ----------
    scaling : AffineMap
        From the data's units to those of the network.
    autoencoder : Autoencoder
    coordinates : AffineMap
        From the network's code to the code that users see.
    completion : Completion
        What missing entries of scaled rows are taken as. None leaves NaN as it is.
    n_passes : int, default=0
        How many times missing entries are replaced by their reconstruction first.
    sparse_output : bool, default=False
        Whether users get codes as sparse matrices.
    n_projection_steps : int, default=0
        By how many steps the codes of complete rows are improved; see `projected`.
    """

    def __init__(
        self,
        scaling,
        autoencoder,
        coordinates,
        completion,
        n_passes=0,
        sparse_output=False,
        n_projection_steps=0,
    ):
        super().__init__()
        self.scaling = scaling
        self.completion = completion
        self.n_passes = n_passes
        self.autoencoder = autoencoder
        self.coordinates = coordinates
        self.sparse_output = sparse_output
        self.n_projection_steps = n_projection_steps
        self.width = max(len(scaling), len(coordinates))

    def truncated(self, k):
        """Return a copy with the first ``k`` components of a nested code."""
        model = deepcopy(self)
        model.autoencoder.bottleneck.truncate(k)
        model.coordinates = self.coordinates.leading(k)
        return model

    @property
    def is_nested(self):
        """Whether the first components of a code are a code, too."""
        return self.autoencoder.is_nested

    @property
    def loss(self):
        """The loss, which has the inverse link."""
        return self.autoencoder.loss

    def scaled(self, x):
        """Return rows as the network sees them: scaled, without missing entries.

        They are small enough that the network does not leave the range of numbers.
        """
        return self.completed(_within_range(self.scaling(x)))

    def completed(self, x):
        """Return scaled rows without missing entries: the same ones if there is none.

        A network that was trained on complete rows has not learnt to make more of them
        than the linear completion does: its reconstruction takes the place of that a
        few times before.
        """
        if self.completion is None:
            return x
        filled = self.completion(x)
        if filled is not x:
            missing = x.isnan()
            for _ in range(self.n_passes):
                expected = self.autoencoder.reconstruct(filled)
                filled = torch.where(missing, expected, filled)
        return filled

    def coded(self, x):
        """Return rows, scaled and completed, and their code, as the network has it."""
        given = _within_range(self.scaling(x))
        x = self.completed(given)
        code = self.autoencoder.encode(x)
        if self.n_projection_steps > 0:
            if x is given:
                return x, projected(self.autoencoder, code, x, self.n_projection_steps)
            # Few known entries do not determine a code.
            rows = ~given.isnan().any(dim=1)
            known = code[rows], x[rows]
            code = code.clone()
            code[rows] = projected(self.autoencoder, *known, self.n_projection_steps)
        return x, code

    def encode(self, x):
        """Return the code of rows."""
        _, code = self.coded(x)
        return self.coordinates(_numbers(code))

    def decode(self, code):
        """Return the rows that codes stand for."""
        coordinates = self.coordinates
        code = _within_range(code)
        if code.shape[1] < len(coordinates):
            coordinates = coordinates.leading(code.shape[1])
        # In tiny units a code of usual size leaves the range; a sum may be inf - inf.
        code = _numbers(coordinates.inverse(code))
        return self.decode_raw(_within_range(code))

    def decode_raw(self, code):
        """Return the rows that codes in the network's coordinates stand for."""
        return self.scaling.inverse(self.decode_scaled(code))

    def decode_scaled(self, code):
        """Return the same rows, scaled."""
        return self.autoencoder.decode(code)

    def forward(self, x):
        """Return the reconstruction of rows."""
        _, code = self.coded(x)
        return self.scaling.inverse(_numbers(self.decode_scaled(code)))

    def impute(self, x):
        """Return rows, with their reconstruction in the place of missing entries."""
        return torch.where(x.isnan(), self(x), x)

    @property
    def units(self):
        """Units of residuals, by column: those of the data.

        Categories have none: where there are some, all residuals are in scaled units.
        """
        scale = self.scaling.scale
        return scale if self.loss.blocks is None else torch.ones_like(scale)

    def squared_residuals(self, x):
        """Return the squared residual of each feature, NaN of missing ones."""
        residual = x - self(x)
        blocks = self.loss.blocks
        if blocks is None:
            return residual.square_()
        return blocks.sums(residual.div_(self.scaling.scale.to(x.dtype)).square_())

    def mean_squared_residual(self, x):
        """Return the mean of the squared residuals of each row, of known entries."""
        squares = self.squared_residuals(x)
        mean = squares.mean(dim=1)
        return squares.nanmean(dim=1) if mean.isnan().any() else mean

    def view(self, x):
        """Return what anomaly scores see of rows, a `View`.

        Values are finite: in single precision, too, squares of them can be added up.
        Missing entries are as the model expects them.
        """
        given = _within_range(self.scaling(x))
        x = self.completed(given)
        known = None if x is given else ~given.isnan()
        x = x.clamp(-_FARTHEST, _FARTHEST)
        raw, code, objective, _ = self.autoencoder(x, mask=known)
        expected = self.loss.inverse_link(raw)
        if known is not None:
            x = torch.where(known, x, expected)
        residual = x - expected
        return View(x, raw, residual, self.coordinates(code), objective)

    def symbols(self, x):
        """Return the integers that name the discrete code of rows."""
        return self.autoencoder.symbols(self.scaled(x))

    def decode_symbols(self, symbols):
        """Return the rows that symbols stand for."""
        return self.decode_raw(self.autoencoder.bottleneck.codes(symbols))

    def transform(self, X):
        """Return the code of an array of rows, sparse where users want it so."""
        if not self.sparse_output:
            return self.map(Model.encode, X)
        # Chunk by chunk, so that it is never dense as a whole.
        chunks = self.chunks(Model.encode, X)
        codes = [sparse.csr_array(code.cpu().numpy()) for _, code in chunks]
        code = sparse.vstack(codes, format="csr")
        as_array = get_config().get("sparse_interface") == "sparray"
        return code if as_array else sparse.csr_matrix(code)

    def sample(self, n_samples, random_state, density):
        """Return new rows: of codes from the prior, or possible ones from a density.

        Parameters
        ----------
        n_samples : int
        random_state : RandomState
        density : CodeDensity or None
            None where the bottleneck has a prior.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64
        """
        bottleneck = self.in_precision(torch.float64).autoencoder.bottleneck
        if density is None:
            seed = random_state.randint(np.iinfo(np.int32).max)
            generator = torch.Generator().manual_seed(int(seed))
            code = bottleneck.prior(n_samples, generator).double().numpy()
            return self.map(_decode_possible, code)
        drawn = density.sample(n_samples, random_state)
        return self.map(_decode_nearest, drawn)


def _within_range(x):
    """Return numbers that are small enough for a network: sums of them are finite."""
    limit = torch.finfo(x.dtype).max ** _RANGE
    return x.clamp(-limit, limit)


def _numbers(x):
    """Return what a network returns with zero, the centre, in the place of NaN.

    Of rows that are very far out the sums in a network may be inf - inf.
    """
    return x.nan_to_num(0.0, torch.inf, -torch.inf)


def _decode_possible(model, code):
    project = getattr(model.autoencoder.bottleneck, "project", lambda code: code)
    return model.decode_raw(project(code))


def _decode_nearest(model, code):
    return _decode_possible(model, model.coordinates.inverse(code))
