"""Codes with finitely many values."""

from numbers import Integral, Real

import torch
from sklearn.cluster import kmeans_plusplus
from torch import nn

from .._compat.sklearn import Interval
from .._component import Affine
from ._base import Bottleneck

__all__ = ["FiniteScalar", "VectorQuantized"]

# Use of a codebook row, as a share of that of equal use, below which it is replaced.
_DEAD_SHARE = 0.03
# Standard deviation at which components enter the rounding at the start: the outer
# levels then have rows, and few lie far beyond them.
_START_SPREAD = 1.0


class VectorQuantized(Bottleneck):
    r"""Replace the code by the nearest row of a learnt codebook: the VQ-VAE [1]_.

    The code is cut into ``n_groups`` equal pieces, each with a codebook of its own, so
    that a row of the data becomes ``n_groups`` symbols, of
    ``n_groups * log2(n_codes)`` bits together. `quantize` returns the symbols,
    `transform` the codebook rows that they stand for.

    Gradients pass the replacement as if it were none (straight through). The codebook
    follows the encoder's output as a running average, which is online k-means [1]_;
    rows that come out of use are replaced by codes of the batch at hand [2]_. It
    starts at training rows that k-means++ picks after the PCA start of the encoder.

    Parameters
    ----------
    n_codes : int, default=64
        Rows of each codebook.

    n_groups : int, default=1
        Symbols per row; ``n_components`` must be a multiple. With one, the model has
        ``n_codes`` different reconstructions and can hardly beat k-means; with several
        it has ``n_codes ** n_groups``.

    commitment : float, default=0.25
        Weight of the squared distance from the encoder's output to its codebook row,
        which keeps the encoder close to the codebook [1]_.

    decay : float, default=0.99
        Memory of the running average, per step [1]_.

    Raises
    ------
    ValueError
        On ``fit``, if ``n_components`` is no multiple of ``n_groups``.

    References
    ----------
    .. [1] van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation
       Learning", NeurIPS 2017; the running average is in its appendix A.1.
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
                f"VectorQuantized(n_groups={self.n_groups}) cuts the code into equal "
                f"pieces, but n_components={n_components} is no multiple of it."
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
        # shapes: (n_groups, n_codes, size), (n_groups, n_codes). If all rows are used
        # alike, each has a use of one.
        self.register_buffer("codebook", codebook)
        self.register_buffer("use", torch.ones(codebook.shape[:2]))

    @property
    def symbols_shape(self):
        """How many symbols a row has, and how many values each of them."""
        return tuple(self.codebook.shape[:2])

    def draw(self, n_rows, generator):
        """Draw an order of the rows, in which they may replace codebook rows."""
        return torch.rand(
            n_rows, generator=generator, device=generator.device, dtype=torch.float32
        )

    def forward(self, h, draw=None):
        code = self.project(h)
        cost = self.commitment * (h - code).square().sum(dim=1)
        return _straight_through(code, h), cost

    def project(self, h):
        """Return the nearest codes."""
        return self.codes(self.symbols(h))

    def codes(self, symbols):
        """Return the codebook rows that symbols stand for, side by side."""
        groups = torch.arange(len(self.codebook), device=symbols.device)
        return self.codebook[groups, symbols].flatten(start_dim=1)

    def symbols(self, h):
        """Return which codebook rows are nearest, shape ``(n_samples, n_groups)``."""
        pieces = self._pieces(h)
        # Squared distances without the part that is the same for all rows.
        distance = self.codebook.square().sum(dim=2)[:, None] - 2 * torch.bmm(
            pieces, self.codebook.mT
        )
        return distance.argmin(dim=2).T

    def _pieces(self, h):
        # shape: (n_groups, n_samples, size)
        return h.unflatten(1, (len(self.codebook), -1)).transpose(0, 1)

    def start(self, statistics):
        """Return PCA, with a codebook of training rows that k-means++ picks.

        The axes are dealt out to the groups in turn: each has large and small ones.
        """
        n_groups, n_codes, size = self.codebook.shape
        order = torch.arange(n_groups * size).view(size, n_groups).T.flatten()
        encoding, decoding = statistics.pca()
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
        """Move each codebook row towards the mean of what it stands for."""
        pieces = self._pieces(h)
        n_codes = self.codebook.shape[1]
        chosen = nn.functional.one_hot(self.symbols(h).T, n_codes).to(h.dtype)
        if weight is not None:
            chosen = chosen * weight[:, None]
        chosen = chosen * (n_codes / len(h))
        # shapes: (n_groups, n_codes), (n_groups, n_codes, size)
        count, total = chosen.sum(dim=1), torch.bmm(chosen.mT, pieces)
        use = self.use.lerp(count, 1 - self.decay)
        # The average keeps, of what it was, the share that old rows have in its use.
        kept = self.decay * self.use[..., None] * self.codebook
        moved = kept + (1 - self.decay) * total
        moved = torch.where(use[..., None] > 0, moved / use[..., None], self.codebook)
        dead = use < _DEAD_SHARE
        order = draw.argsort()[torch.arange(n_codes, device=h.device) % len(h)]
        self.codebook.copy_(torch.where(dead[..., None], pieces[:, order], moved))
        self.use.copy_(torch.where(dead, 1.0, use))

    def report(self, code, weight):
        """Return the perplexity of the symbols, the mean over groups."""
        n_codes = self.codebook.shape[1]
        return {"perplexity_": _perplexity(self.symbols(code), weight, n_codes)}


class FiniteScalar(Bottleneck):
    r"""Round each component to one of a few levels: finite scalar quantisation [1]_.

    Discrete codes without a codebook that could go out of use. Each component passes a
    hyperbolic tangent and is rounded to ``levels`` evenly spaced values in [-1, 1]; a
    row becomes ``n_components`` symbols of ``log2(levels)`` bits, which `quantize`
    returns. Gradients pass the rounding as if it were none.

    With ``MLP(start="pca")`` the model starts as PCA of rounded components.

    Parameters
    ----------
    levels : int, default=8
        Values of each component, at least 2. NOTE[DIFF]: the paper shifts even numbers
        of levels by half a step so that zero is one of them; here they are even too.

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
        """Return the module that rounds; see `Bottleneck.build`."""
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
        """Return the nearest codes."""
        return self.codes(self._index(code))

    def codes(self, symbols):
        """Return the values of levels."""
        return self.values[symbols]

    def symbols(self, h):
        """Return the levels, counted from zero."""
        return self._index(h.tanh())

    def _index(self, code):
        return ((code.clamp(-1, 1) + 1) / 2 * (len(self.values) - 1)).round().long()

    def start(self, statistics):
        """Return PCA of a size at which all levels are in use."""
        encoding, (weight, bias) = statistics.pca(_START_SPREAD)
        # Rounded values are decoded by the line that fits them best over the rows.
        h = statistics.rows.double() @ encoding.weight.T + encoding.bias
        code = self.values.cpu().double()[self._index(h.tanh())]
        size = code.square().sum(dim=0)
        slope = (h * code).sum(dim=0) / torch.where(size > 0, size, 1.0)
        return encoding, Affine(weight * slope, bias)

    def report(self, code, weight):
        """Return the perplexity of the symbols, the mean over components."""
        n_values = len(self.values)
        return {"perplexity_": _perplexity(self._index(code), weight, n_values)}


def _straight_through(code, h):
    """Return the code, bit for bit, with the gradient of what was quantised."""
    return code.detach() + (h - h.detach())


def _perplexity(symbols, weight, n_values):
    """Return e to the entropy of each column of symbols, the mean over columns."""
    entropies = [
        torch.special.entr(torch.bincount(column, weight, n_values)).sum()
        for column in symbols.T
    ]
    return float(torch.stack(entropies).exp().mean())
