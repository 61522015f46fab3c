"""Codes of which only a few components are not zero."""

from abc import abstractmethod
from numbers import Integral, Real

import torch
from torch import nn

from .._compat.sklearn import Interval
from .._component import Affine
from ._base import Bottleneck

__all__ = ["BatchTopK", "TopK"]

# Decay per step of the threshold that BatchTopK learns for inference.
_DECAY = 0.99


class _Dictionary(Bottleneck):
    """What `TopK` and `BatchTopK` share: all but which activations are kept."""

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "revival": [Interval(Real, 0, None, closed="left")],
        "dead_window": [Interval(Real, 0, 1, closed="right")],
        "sparse_output": ["boolean"],
    }

    symmetry = "scaling"
    guards = True
    code_range = (0.0, float("inf"))

    def __init__(self, k, *, revival=1 / 32, dead_window=0.02, sparse_output=False):
        self.k = k
        self.revival = revival
        self.dead_window = dead_window
        self.sparse_output = sparse_output

    @abstractmethod
    def _module(self, *settings):
        """Return the module that keeps the largest."""

    def build(self, n_components, generator):
        """Return the module that keeps the largest; see `Bottleneck.build`."""
        if self.k > n_components:
            name = type(self).__name__
            raise ValueError(
                f"{name}(k={self.k}) keeps {self.k} components of the code, but "
                f"n_components={n_components}: lower k or raise n_components."
            )
        seed = torch.randint(2**31, (), generator=generator).item()
        return self._module(n_components, self.k, self.revival, self.dead_window, seed)


class TopK(_Dictionary):
    r"""Keep the ``k`` largest activations of each row, set the others to zero [1]_.

    A sparse code whose sparsity is a number that you choose, not the side effect of a
    penalty. Made for codes that are wider than the data, one component per feature that
    the data may have (a dictionary); with ``MLP(())`` the reconstruction is then a
    constant plus a weighted sum of ``k`` rows of ``components_``.

    Encoder and decoder start tied: the dictionary is drawn from the covariance of the
    training rows, the encoder is its transpose, and the mean of the rows is taken off
    before and added after. Activations are never negative. NOTE[DIFF]: the paper keeps
    the columns of the decoder at length one in training; here the code comes back
    scaled so that they have length one in the scaled data, in the order of importance.
    With one scale for all features that is the length of the rows of ``components_``.

    Parameters
    ----------
    k : int
        Activations to keep, at most ``n_components``.

    revival : float, default=1/32
        Weight of an auxiliary loss [1]_ that lets dead components, which no recent row
        had among its ``k`` largest, explain what the others leave over. The residual is
        held fixed in it, so that it moves dead components only.

    dead_window : float, default=0.02
        A component is dead if it was not used for this share of the planned training
        steps (``max_epochs`` times those of an epoch). NOTE[DIFF]: the paper counts
        rows, 10 million of them, which most tables never reach.

    sparse_output : bool, default=False
        Whether `transform` returns the code as a sparse matrix in CSR format (an array
        where scikit-learn's ``sparse_interface`` says so).

    See Also
    --------
    BatchTopK : As many on average, more for rows that need more.
    skae.penalties.L1 : Sparsity by a price.

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
    r"""Keep the ``k`` largest activations per row *on average* [1]_.

    As :class:`TopK`, but in training the ``k n`` largest activations of a batch of
    ``n`` rows are kept, so that a row that needs more components has more. In
    inference, where a row must not depend on others, those above a threshold are: a
    running average of the smallest one that was kept in training.

    Parameters
    ----------
    k : int
        Activations to keep per row, on average; at most ``n_components``.

    revival : float, default=1/32
        Weight of the auxiliary loss that revives dead components; see :class:`TopK`.

    dead_window : float, default=0.02
        Share of the planned training steps without use that makes a component dead.

    sparse_output : bool, default=False
        Whether `transform` returns a sparse matrix in CSR format.

    See Also
    --------
    TopK : Exactly as many for each row.

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
        # Not part of the state: they are where training is, not what was learnt.
        fired = torch.ones(n_components, dtype=torch.bool)
        self.register_buffer("fired", fired, persistent=False)
        self.register_buffer("idle", torch.zeros(n_components), persistent=False)
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def forward(self, h):
        return self.project(h), h.new_zeros(h.shape[0])

    def project(self, h):
        """Return the nearest possible codes."""
        return self.select(h)

    def select(self, h):
        """Return the ``k`` largest activations of each row, none negative."""
        values, index = h.topk(self.k, dim=1)
        return torch.zeros_like(h).scatter(1, index, values.relu())

    def start(self, statistics):
        """Return a dictionary drawn from the covariance of the rows, tied both ways.

        Atoms overlap, and the sum of what ``k`` of them see in a row is too much: one
        factor for the whole encoder makes the reconstruction the best of its direction.
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
        """Learn what inference needs to know of the start: nothing."""

    def auxiliary(self, x, reconstruction, h, code, decode):
        """Return how badly dead components would explain what is left over."""
        dead = self.idle > self.dead_window
        if not self.training or self.revival == 0 or not dead.any():
            return h.new_zeros(h.shape[0])
        n_kept = min(len(dead), max(self.k, x.shape[1] // 2))
        values, index = h.masked_fill(~dead, -torch.inf).topk(n_kept, dim=1)
        revived = torch.zeros_like(h).scatter(1, index, values.relu())
        # Without the decoder's constant, which the reconstruction has already.
        explained = decode(revived) - decode(torch.zeros_like(revived))
        residual = (x - reconstruction).detach()
        return self.revival * 0.5 * (residual - explained).square().sum(dim=1)

    def observe(self, h, code, draw, weight):
        """Note which components were used."""
        self.fired.copy_((code > 0).any(dim=0))

    def after_step(self, progress):
        self.idle.add_(progress - self.progress).masked_fill_(self.fired, 0.0)
        self.progress.fill_(progress)

    def report(self, code, weight):
        """Return the share of components that no row uses."""
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
        """Return the largest activations of the batch."""
        kept = h.relu().flatten()
        values, index = kept.topk(self.k * len(h))
        return torch.zeros_like(kept).scatter(0, index, values).view_as(h)

    def settle(self, h):
        self.threshold.copy_(_smallest(self.select(h)))

    def observe(self, h, code, draw, weight):
        super().observe(h, code, draw, weight)
        # The average of the first steps, then a running one.
        self.n_observed.add_(1)
        share = (1 / self.n_observed).clamp(min=1 - _DECAY)
        self.threshold.lerp_(_smallest(code), share)


def _smallest(code):
    """Return the smallest activation that was kept."""
    smallest = torch.where(code > 0, code, torch.inf).amin()
    return torch.where(smallest.isfinite(), smallest, 0.0)
