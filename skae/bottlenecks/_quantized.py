"""Discrete bottlenecks: vector quantisation and finite scalar quantisation."""

from dataclasses import replace
from numbers import Integral, Real

import torch
from sklearn.cluster import kmeans_plusplus
from torch import nn

from .._compat.sklearn import Interval
from .._component import Affine
from ._base import Bottleneck

__all__ = ["FiniteScalar", "VectorQuantized"]

# Usage of a codebook row below which it is replaced, relative to equal usage of all
# rows. The choice is measured in tests/benchmarks/bench_constants.py.
_DEAD_SHARE = 0.03
# Standard deviation of the components before tanh and rounding at the start. All levels
# are then used about equally: for normal components and the default of 8 levels, the
# perplexity of the levels is 7.9 (5.9 with half of this value, 6.6 with twice of it; by
# the normal distribution function). It only sets where training starts.
_START_SPREAD = 1.0


class VectorQuantized(Bottleneck):
    r"""Replace the code by the nearest row of a learnt codebook (VQ-VAE).

    This is the bottleneck of the VQ-VAE [1]_. The output of the encoder is split into
    ``n_groups`` groups of equal size, each with its own codebook, and each group is
    replaced by the nearest row of its codebook. A row of the data becomes ``n_groups``
    symbols, in total ``n_groups * log2(n_codes)`` bits. `quantize` returns the symbols,
    `transform` the codebook rows that they stand for.

    In the backward pass, the gradient with respect to the quantised code is passed to
    the output of the encoder unchanged (straight-through estimator). The codebook is
    updated by an exponential moving average of the encoder outputs, which is online
    k-means [1]_; codebook rows that are no longer used are replaced by encoder outputs
    of the current batch [2]_. The initial codebook consists of the codes of training
    rows at the PCA start of the encoder, selected by k-means++.

    Parameters
    ----------
    n_codes : int, default=64
        Number of rows of each codebook.

    n_groups : int, default=1
        Number of symbols per row; ``n_components`` must be a multiple of it. With one
        group the model has ``n_codes`` different reconstructions and can hardly beat
        k-means; with several it has ``n_codes ** n_groups``.

    commitment : float, default=0.25
        Weight of the squared distance between the encoder output and its codebook row
        in the cost of a row. It keeps the encoder close to the codebook [1]_.

    decay : float, default=0.99
        Decay of the moving average per training step, in [0, 1) [1]_.

    Raises
    ------
    ValueError
        On ``fit``, if ``n_components`` is not a multiple of ``n_groups``.

    See Also
    --------
    FiniteScalar : Discrete codes without a codebook.

    References
    ----------
    .. [1] van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation
       Learning", NeurIPS 2017; the moving average is in its appendix A.1.
    .. [2] Williams et al., "Hierarchical Quantized Autoencoders", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.bottlenecks import VectorQuantized
    >>> X = load_digits().data
    >>> vq = AutoencoderTransformer(
    ...     8, bottleneck=VectorQuantized(16, n_groups=4), max_epochs=20,
    ...     early_stopping=False, random_state=0,
    ... ).fit(X)
    >>> symbols = vq.quantize(X)
    >>> symbols.shape, int(symbols.min()), int(symbols.max())
    ((1797, 4), 0, 15)
    """

    _parameter_constraints: dict = {
        "n_codes": [Interval(Integral, 2, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "commitment": [Interval(Real, 0, None, closed="left")],
        "decay": [Interval(Real, 0, 1, closed="left")],
    }

    guards = True
    discrete = True

    def __init__(self, n_codes=64, *, n_groups=1, commitment=0.25, decay=0.99):
        self.n_codes = n_codes
        self.n_groups = n_groups
        self.commitment = commitment
        self.decay = decay

    def build(self, n_components, generator):
        """Return the module with the codebooks; see `Bottleneck.build`."""
        if n_components % self.n_groups:
            raise ValueError(
                f"VectorQuantized(n_groups={self.n_groups}) splits the code into "
                f"groups of equal size, but n_components={n_components} is not a "
                f"multiple of {self.n_groups}."
            )
        size = n_components // self.n_groups
        codebook = torch.randn(self.n_groups, self.n_codes, size, generator=generator)
        seed = torch.randint(2**31, (), generator=generator).item()
        return _VectorQuantized(codebook, self.commitment, self.decay, seed)


class _VectorQuantized(nn.Module):
    def __init__(self, codebook, commitment, decay, seed):
        super().__init__()
        self.seed = seed
        self.commitment = commitment
        self.decay = decay
        # Shapes (n_groups, n_codes, size) and (n_groups, n_codes). The usage of a row
        # is 1 if all rows of its codebook are used equally.
        self.register_buffer("codebook", codebook)
        self.register_buffer("use", torch.ones(codebook.shape[:2]))

    @property
    def symbols_shape(self):
        """Number of symbols per row and number of values of each symbol."""
        return tuple(self.codebook.shape[:2])

    def draw(self, n_rows, generator):
        """Draw random keys, in whose order rows of the batch replace codebook rows."""
        return torch.rand(
            n_rows, generator=generator, device=generator.device, dtype=torch.float32
        )

    def forward(self, h, draw=None):
        code = self.project(h)
        cost = self.commitment * (h - code).square().sum(dim=1)
        return _straight_through(code, h), cost

    def project(self, h):
        """Return the nearest codebook rows."""
        return self.codes(self.symbols(h))

    def codes(self, symbols):
        """Return the codebook rows of symbols, concatenated over the groups."""
        groups = torch.arange(len(self.codebook), device=symbols.device)
        return self.codebook[groups, symbols].flatten(start_dim=1)

    def symbols(self, h):
        """Return the index of the nearest codebook row, shape (n_rows, n_groups)."""
        pieces = self._pieces(h)
        # Squared distances without ||h||^2, which is the same for all codebook rows.
        distance = self.codebook.square().sum(dim=2)[:, None] - 2 * torch.bmm(
            pieces, self.codebook.mT
        )
        return distance.argmin(dim=2).T

    def _pieces(self, h):
        # Shape (n_groups, n_rows, size).
        return h.unflatten(1, (len(self.codebook), -1)).transpose(0, 1)

    def start(self, statistics):
        """Return PCA, and set the codebook to training rows selected by k-means++.

        The principal axes are assigned to the groups in turn, so that each group gets
        axes of large and of small variance.
        """
        n_groups, n_codes, size = self.codebook.shape
        order = torch.arange(n_groups * size).view(size, n_groups).T.flatten()
        encoding, decoding = _varying(statistics).pca()
        encoding = Affine(encoding.weight[order], encoding.bias[order])
        decoding = Affine(decoding.weight[:, order], decoding.bias)
        h = statistics.rows.double() @ encoding.weight.T + encoding.bias
        for group, piece in enumerate(self._pieces(h)):
            n_picked = min(n_codes, len(piece))
            seed = (self.seed + group) % 2**32
            picked, _ = kmeans_plusplus(piece.numpy(), n_picked, random_state=seed)
            self.codebook[group, :n_picked].copy_(torch.from_numpy(picked))
            self.codebook[group, n_picked:].zero_()
        return encoding, decoding

    def observe(self, h, code, draw, weight):
        """Move each codebook row towards the mean of the outputs assigned to it.

        Rows whose usage falls below `_DEAD_SHARE` are replaced by encoder outputs.
        """
        pieces = self._pieces(h)
        n_codes = self.codebook.shape[1]
        chosen = nn.functional.one_hot(self.symbols(h).T, n_codes).to(h.dtype)
        if weight is not None:
            chosen = chosen * weight[:, None]
        chosen = chosen * (n_codes / len(h))
        # Shapes (n_groups, n_codes) and (n_groups, n_codes, size).
        count, total = chosen.sum(dim=1), torch.bmm(chosen.mT, pieces)
        use = self.use.lerp(count, 1 - self.decay)
        # A codebook row is the ratio of the moving averages of the sum and of the
        # number of the outputs assigned to it. The former average is not stored: it is
        # the latter, `use`, times the codebook row.
        kept = self.decay * self.use[..., None] * self.codebook
        moved = kept + (1 - self.decay) * total
        moved = torch.where(use[..., None] > 0, moved / use[..., None], self.codebook)
        dead = use < _DEAD_SHARE
        order = draw.argsort()[torch.arange(n_codes, device=h.device) % len(h)]
        self.codebook.copy_(torch.where(dead[..., None], pieces[:, order], moved))
        self.use.copy_(torch.where(dead, 1.0, use))

    def report(self, code, weight):
        """Return the perplexity of the symbols, averaged over the groups."""
        n_codes = self.codebook.shape[1]
        return {"perplexity_": _perplexity(self.symbols(code), weight, n_codes)}


class FiniteScalar(Bottleneck):
    r"""Round each component to one of a few levels (finite scalar quantisation).

    Discrete codes without a learnt codebook, whose rows could remain unused [1]_. The
    hyperbolic tangent is applied to each component, and the result is rounded to the
    nearest of ``levels`` evenly spaced values in [-1, 1]. A row of the data becomes
    ``n_components`` symbols of ``log2(levels)`` bits each, which `quantize` returns. In
    the backward pass, the gradient is passed through the rounding unchanged
    (straight-through estimator).

    With ``MLP(start="pca")`` the model starts as PCA with rounded components.

    Parameters
    ----------
    levels : int, default=8
        Number of values of each component, at least 2. Unlike [1]_, which shifts an
        even number of levels by half a step so that zero is one of them, the levels
        are always symmetric around zero.

    See Also
    --------
    VectorQuantized : Discrete codes from a learnt codebook.

    References
    ----------
    .. [1] Mentzer, Minnen, Agustsson & Tschannen, "Finite Scalar Quantization: VQ-VAE
       Made Simple", ICLR 2024.

    Examples
    --------
    >>> import torch
    >>> from skae.bottlenecks import FiniteScalar
    >>> code, _ = FiniteScalar(3).build(4, None)(torch.tensor([[-9.0, 0.1, 0.4, 9.0]]))
    >>> code
    tensor([[-1.,  0.,  0.,  1.]])
    """

    _parameter_constraints: dict = {
        "levels": [Interval(Integral, 2, None, closed="left")]
    }

    guards = True
    discrete = True
    code_range = (-1.0, 1.0)

    def __init__(self, levels=8):
        self.levels = levels

    def build(self, n_components, generator):
        """Return the module that rounds to the levels; see `Bottleneck.build`."""
        return _FiniteScalar(n_components, self.levels)


class _FiniteScalar(nn.Module):
    def __init__(self, n_components, levels):
        super().__init__()
        self.symbols_shape = (n_components, levels)
        self.register_buffer("values", torch.linspace(-1, 1, levels))

    def forward(self, h):
        bounded = h.tanh()
        code = self.project(bounded)
        return _straight_through(code, bounded), h.new_zeros(h.shape[0])

    def project(self, code):
        """Return the nearest levels."""
        return self.codes(self._index(code))

    def codes(self, symbols):
        """Return the values of levels given by their indices."""
        return self.values[symbols]

    def symbols(self, h):
        """Return the indices of the levels, counted from zero."""
        return self._index(h.tanh())

    def _index(self, code):
        # NaN where a row is so far out that the encoder leaves the range of numbers.
        share = (code.nan_to_num(0.0).clamp(-1, 1) + 1) / 2
        return (share * (len(self.values) - 1)).round().long()

    def start(self, statistics):
        """Return PCA at a scale at which all levels are used."""
        encoding, (weight, bias) = _varying(statistics).pca(_START_SPREAD)
        # The decoder maps rounded values by the least-squares slope over the rows.
        h = statistics.rows.double() @ encoding.weight.T + encoding.bias
        code = self.values.cpu().double()[self.symbols(h)]
        size = code.square().sum(dim=0)
        slope = (h * code).sum(dim=0) / torch.where(size > 0, size, 1.0)
        return encoding, Affine(weight * slope, bias)

    def report(self, code, weight):
        """Return the perplexity of the levels, averaged over the components."""
        n_values = len(self.values)
        return {"perplexity_": _perplexity(self._index(code), weight, n_values)}


def _varying(statistics):
    """Return statistics without the axes along which the rows do not vary.

    What the rows have there is rounding noise, from which symbols would be drawn.
    """
    varies = statistics.variances > 0
    return replace(statistics, axes=statistics.axes * varies[:, None])


def _straight_through(code, h):
    """Return the code with the gradient of ``h`` (straight-through estimator)."""
    # In this order of operations the code is returned bit for bit.
    return code.detach() + (h - h.detach())


def _perplexity(symbols, weight, n_values):
    """Return the exponential of the entropy of each column, averaged over columns."""
    entropies = [
        torch.special.entr(torch.bincount(column, weight, n_values)).sum()
        for column in symbols.T
    ]
    return float(torch.stack(entropies).exp().mean())
