"""Sparse bottlenecks: only a few components of the code are not zero."""

from abc import abstractmethod
from numbers import Integral, Real

import torch
from torch import nn

from .._compat.sklearn import Interval
from .._component import Affine
from ._base import Bottleneck

__all__ = ["BatchTopK", "TopK"]

# Decay per step of the moving average of the threshold of BatchTopK: an average over
# about the last 100 steps. Bussmann et al. (2024) use the mean over batches. It needs
# no tuning: it has to be long enough to average out single batches and short enough to
# follow the training.
_DECAY = 0.99


class _Dictionary(Bottleneck):
    """Base class of `TopK` and `BatchTopK`: all but the selection of activations."""

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "revival": [Interval(Real, 0, None, closed="left")],
        "dead_window": [Interval(Real, 0, 1, closed="right")],
        "sparse_output": ["boolean"],
    }

    symmetry = "scaling"
    guards = True
    code_range = (0.0, float("inf"))

    # revival: from Gao et al. (2024). dead_window: a fiftieth of max_epochs, six epochs
    # of 300, so that every training row had several chances to use a component before
    # it counts as dead.
    def __init__(self, k, *, revival=1 / 32, dead_window=0.02, sparse_output=False):
        self.k = k
        self.revival = revival
        self.dead_window = dead_window
        self.sparse_output = sparse_output

    @abstractmethod
    def _module(self, *settings):
        """Return the module for the given arguments of its constructor."""

    def build(self, n_components, generator):
        """Return the module that selects activations; see `Bottleneck.build`."""
        if self.k > n_components:
            name = type(self).__name__
            raise ValueError(
                f"{name}(k={self.k}) keeps {self.k} components of the code, but "
                f"n_components={n_components}: decrease k or increase n_components."
            )
        seed = torch.randint(2**31, (), generator=generator).item()
        return self._module(n_components, self.k, self.revival, self.dead_window, seed)


class TopK(_Dictionary):
    r"""Keep the ``k`` largest activations of each row and set the others to zero.

    Sparse coding with a fixed number of active components per row [1]_, instead of a
    penalty whose strength determines it indirectly. Intended for codes that are wider
    than the data, with one component for each pattern that the data may contain
    (dictionary learning). With ``MLP(())`` the reconstruction is a constant plus a
    weighted sum of ``k`` rows of ``components_``.

    Encoder and decoder start with tied weights: the rows of the dictionary are drawn
    from a normal distribution with the covariance of the training rows, and the encoder
    is a multiple of the transpose of the decoder. The mean of the training rows is
    subtracted before the encoder and added after the decoder. Activations are never
    negative.

    Unlike [1]_, which normalises the columns of the decoder to length one in training,
    the code is rescaled after training so that they have length one in the scaled data,
    and its components are sorted by importance. If all features have the same scale,
    the rows of ``components_`` have this length too.

    Parameters
    ----------
    k : int
        Number of activations to keep per row, at most ``n_components``.

    revival : float, default=1/32
        Weight of an auxiliary loss in training that revives dead components; the
        default is that of [1]_. It is half the squared error with which the dead
        components predict the residual of the reconstruction. No gradient flows
        through the residual, so that only dead components are changed.

    dead_window : float, default=0.02
        Fraction of the planned training steps (``max_epochs`` times the steps of an
        epoch), in (0, 1], after which a component that was not used counts as dead.
        Unlike [1]_, which counts 10 million rows, it is relative to the length of the
        training, because fits on most tables see fewer rows than that.

    sparse_output : bool, default=False
        Whether `transform` returns the code as a sparse matrix in CSR format (as a
        sparse array if scikit-learn's ``sparse_interface`` is set to "sparray").

    Raises
    ------
    ValueError
        On ``fit``, if ``k`` is larger than ``n_components``.

    See Also
    --------
    BatchTopK : Keep ``k`` activations per row on average.
    skae.penalties.L1 : Sparse codes by a penalty.

    References
    ----------
    .. [1] Gao et al., "Scaling and Evaluating Sparse Autoencoders", 2024; after
       Makhzani & Frey, "k-Sparse Autoencoders", ICLR 2014.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import MLP
    >>> from skae.bottlenecks import TopK
    >>> X = load_digits().data
    >>> dictionary = AutoencoderTransformer(
    ...     128, architecture=MLP(()), bottleneck=TopK(8, sparse_output=True),
    ...     max_epochs=20, early_stopping=False, random_state=0,
    ... ).fit(X)
    >>> code = dictionary.transform(X)
    >>> code.shape, code.format, int(code.count_nonzero(axis=1).max())
    ((1797, 128), 'csr', 8)
    """

    def _module(self, *settings):
        return _TopK(*settings)


class BatchTopK(_Dictionary):
    r"""Keep ``k`` activations per row on average over a batch.

    As :class:`TopK`, but in training the ``k * n`` largest activations of a batch of
    ``n`` rows are kept, so that the number of active components differs between rows
    [1]_. In inference, where the code of a row must not depend on other rows, the
    activations above a threshold are kept. The threshold is a moving average of the
    smallest activation that was kept in training.

    Parameters
    ----------
    k : int
        Number of activations to keep per row, on average; at most ``n_components``.

    revival : float, default=1/32
        Weight of the auxiliary loss that revives dead components; see :class:`TopK`.

    dead_window : float, default=0.02
        Fraction of the planned training steps, in (0, 1], after which a component that
        was not used counts as dead; see :class:`TopK`.

    sparse_output : bool, default=False
        Whether `transform` returns a sparse matrix in CSR format; see :class:`TopK`.

    Raises
    ------
    ValueError
        On ``fit``, if ``k`` is larger than ``n_components``.

    See Also
    --------
    TopK : Keep exactly ``k`` activations of each row.

    References
    ----------
    .. [1] Bussmann, Leask & Nanda, "BatchTopK Sparse Autoencoders", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import MLP
    >>> from skae.bottlenecks import BatchTopK
    >>> X = load_digits().data
    >>> dictionary = AutoencoderTransformer(
    ...     128, architecture=MLP(()), bottleneck=BatchTopK(8),
    ...     max_epochs=20, early_stopping=False, random_state=0,
    ... ).fit(X)
    >>> used = (dictionary.transform(X) > 0).sum(axis=1)
    >>> bool(7 < used.mean() < 9), bool(used.min() < 8 < used.max())
    (True, True)
    """

    def _module(self, *settings):
        return _BatchTopK(*settings)


class _TopK(nn.Module):
    def __init__(self, n_components, k, revival, dead_window, seed):
        super().__init__()
        self.k = k
        self.revival = revival
        self.dead_window = dead_window
        self.seed = seed
        # Not part of the state dict: they are needed in training only.
        fired = torch.ones(n_components, dtype=torch.bool)
        self.register_buffer("fired", fired, persistent=False)
        self.register_buffer("idle", torch.zeros(n_components), persistent=False)
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def forward(self, h):
        return self.project(h), h.new_zeros(h.shape[0])

    def project(self, h):
        """Return the nearest codes that the bottleneck can return."""
        return self.select(h)

    def select(self, h):
        """Return the ``k`` largest activations of each row, clipped at zero."""
        values, index = h.topk(self.k, dim=1)
        return torch.zeros_like(h).scatter(1, index, values.relu())

    def start(self, statistics):
        """Return tied affine maps, with a dictionary drawn from the covariance.

        The atoms are not orthogonal, and a sum of ``k`` of them, each weighted by its
        scalar product with a row, is too large. The encoder is therefore multiplied by
        the factor that minimises the squared error over the rows.
        """
        axes, mean = statistics.axes, statistics.mean
        generator = torch.Generator().manual_seed(self.seed)
        rank = max(1, int((statistics.variances > 0).sum()))
        drawn = torch.randn(len(axes), rank, generator=generator).double()
        drawn = drawn * statistics.variances[:rank].sqrt()
        atoms = nn.functional.normalize(drawn @ axes[:rank], dim=1)
        x = statistics.rows.double() - mean
        x_hat = self.select(x @ atoms.T) @ atoms
        size = x_hat.square().sum()
        weight = atoms * ((x * x_hat).sum() / size if size > 0 else 1.0)
        self.settle(x @ weight.T)
        return Affine(weight, -(weight @ mean)), Affine(atoms.T, mean)

    def settle(self, h):
        """Update the state for inference from the codes at the start: no state here."""

    def auxiliary(self, x, reconstruction, h, code, decode):
        """Return the error with which dead components predict the residual."""
        dead = self.idle > self.dead_window
        if not self.training or self.revival == 0 or not dead.any():
            return h.new_zeros(h.shape[0])
        # About half of the features, as in Gao et al. (2024).
        n_kept = min(len(dead), max(self.k, x.shape[1] // 2))
        values, index = h.masked_fill(~dead, -torch.inf).topk(n_kept, dim=1)
        revived = torch.zeros_like(h).scatter(1, index, values.relu())
        # Without the bias of the decoder, which the reconstruction includes already.
        explained = decode(revived) - decode(torch.zeros_like(revived))
        residual = (x - reconstruction).detach()
        return self.revival * 0.5 * (residual - explained).square().sum(dim=1)

    def observe(self, h, code, draw, weight):
        """Record which components were used."""
        self.fired.copy_((code > 0).any(dim=0))

    def after_step(self, progress):
        """Count for how long each component was not used."""
        self.idle.add_(progress - self.progress).masked_fill_(self.fired, 0.0)
        self.progress.fill_(progress)

    def report(self, code, weight):
        """Return the fraction of components that no training row uses."""
        return {"dead_fraction_": float((~(code > 0).any(dim=0)).double().mean())}


class _BatchTopK(_TopK):
    def __init__(self, n_components, k, revival, dead_window, seed):
        super().__init__(n_components, k, revival, dead_window, seed)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("n_observed", torch.zeros(()), persistent=False)

    def project(self, h):
        if self.training:
            return self.select(h)
        return h * (h > self.threshold)

    def select(self, h):
        """Return the ``k * n_rows`` largest activations of the batch."""
        kept = h.relu().flatten()
        values, index = kept.topk(self.k * len(h))
        return torch.zeros_like(kept).scatter(0, index, values).view_as(h)

    def settle(self, h):
        self.threshold.copy_(_smallest(self.select(h)))

    def observe(self, h, code, draw, weight):
        super().observe(h, code, draw, weight)
        # The mean over the first steps, then an exponential moving average.
        self.n_observed.add_(1)
        share = (1 / self.n_observed).clamp(min=1 - _DECAY)
        self.threshold.lerp_(_smallest(code), share)


def _smallest(code):
    """Return the smallest activation that was kept; 0 if there is none."""
    smallest = torch.where(code > 0, code, torch.inf).amin()
    return torch.where(smallest.isfinite(), smallest, 0.0)
