"""Nested bottleneck: the first components of a code are a code, too."""

import torch
from torch import nn

from ._base import Bottleneck
from ._plain import Identity

__all__ = ["Nested", "Prefixes"]

# How often each size is trained: in proportion to these powers of the number of
# components and of the error of PCA with that many, as a share of the variance, which
# is not taken as less than the least one; and a part of all rows that keep the whole
# code. Of those in tests/benchmarks/bench_nested.py, uniform shares had errors a tenth
# higher; powers and shares close to these made no clear difference.
_POWER_OF_SIZE = -1.0
_POWER_OF_ERROR = -1.0
_LEAST_ERROR = 0.01
_WHOLE = 0.2


class Nested(Bottleneck):
    """Code whose first ``k`` components are a code of size ``k``, for every ``k``.

    In training a number of components is drawn for each row, and those beyond it are
    set to zero (nested dropout [1]_; several sizes in one step as in [2]_). The decoder
    so learns to reconstruct a row from the first components of its code, and the
    encoder to put first what matters most, as PCA does. One fit takes the place of one
    fit for each size::

        model = AutoencoderTransformer(16, bottleneck=Nested()).fit(X)
        model.reconstruction_curve_  # R² of all sizes, beside that of PCA
        model.truncate(4)  # the fitted model with four components

    Methods that take codes accept codes of fewer than ``n_components_`` columns.

    Before the first step the model with each size is PCA of that size, given the
    squared error and networks with ``start="pca"`` or ``start="mixed"``. Training
    returns to that if the result is not clearly better, or worse than PCA with any
    number of components on the validation set.

    As the size follows from the code, it is no further input of the encoder, but it is
    one of the decoder: the decoder gets ``2 * n_components`` numbers, the code and for
    each component whether it is absent. For the transformer, ``architecture=None``
    stands for ``MLP(activation="elu", norm=None, start="pca")``. Batch normalisation
    would mix statistics of all sizes. With ``start="mixed"`` and ``norm="layer"`` small
    sizes have lower errors on some tables; on others large ones stay worse than PCA, so
    that training returns to it for all sizes.

    See Also
    --------
    Plain : The best code of one size.
    skae.displays.CodeSizeDisplay : Draws scores against the size of the code.

    Notes
    -----
    Small sizes have larger errors and need to be trained longer, and large ones have
    small errors, which would have little weight. A row therefore keeps ``k`` of ``n``
    components with a probability in proportion to ``1 / (k * e)``, with ``e`` the
    share of the variance that PCA with ``k`` components leaves, at least 0.01; a fifth
    of the rows keep all.

    After training each component is made uncorrelated with those before it, and gets
    the mean, unit and sign that a component of PCA has. Components do not change places
    and do not depend on later ones, so that the first ones stay a code.

    References
    ----------
    .. [1] Rippel, Gelbart & Adams, "Learning Ordered Representations with Nested
       Dropout", ICML 2014.
    .. [2] Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.bottlenecks import Nested
    >>> X = load_digits().data
    >>> model = AutoencoderTransformer(
    ...     8, bottleneck=Nested(), max_epochs=20, early_stopping=False, random_state=0
    ... ).fit(X)
    >>> small = model.truncate(3)
    >>> small.transform(X).shape
    (1797, 3)
    >>> bool((small.transform(X) == model.transform(X)[:, :3]).all())
    True
    """

    symmetry = "triangular"
    nested = True

    def decoder_width(self, n_components):
        """Return twice the width of the code; see `Bottleneck.decoder_width`."""
        return 2 * n_components

    def build(self, n_components, generator):
        """Return a module that cuts codes short; see `Bottleneck.build`."""
        return Prefixes(n_components)


class Prefixes(Identity):
    """Return the input as the code, in training the first numbers of it.

    Parameters
    ----------
    n_components : int
        Width of the code that the networks are for.
    """

    def __init__(self, n_components):
        super().__init__()
        self.n_trained = self.n_components = n_components
        # Share of the rows that keep so many components, or fewer. Not part of the
        # state dict: needed in training only.
        shares = torch.ones(n_components) / n_components
        self.register_buffer("shares", shares.cumsum(dim=0), persistent=False)

    def truncate(self, n_components):
        """Return only so many components from now on."""
        self.n_components = n_components

    @property
    def is_truncated(self):
        """Whether there are components that it does not return."""
        return self.n_components < self.n_trained

    def draw(self, n_rows, generator):
        """Draw which components each row keeps, with the same sizes in each batch."""
        device = self.shares.device
        order = torch.randperm(n_rows, generator=generator, device=device)
        shift = torch.rand((), generator=generator, device=device)
        longest = torch.searchsorted(self.shares[:-1], (order + shift) / n_rows)
        return torch.arange(len(self.shares), device=device) <= longest[:, None]

    def forward(self, h, draw=None):
        if draw is not None:
            return h * draw, h.new_zeros(h.shape[0])
        return h[:, : self.n_components], h.new_zeros(h.shape[0])

    def expand(self, code):
        """Return the input of the decoder: the code, and which components are absent.

        Those are the ones after the last number that is not zero.
        """
        code = nn.functional.pad(code, (0, self.n_trained - code.shape[-1]))
        present = (code.flip(-1) != 0).to(code.dtype).cumsum(dim=-1).flip(-1)
        return torch.cat([code, (present == 0).to(code.dtype)], dim=-1)

    def start(self, statistics):
        """Return PCA, which does not depend on which components are absent."""
        x = statistics.rows.double() - statistics.mean
        total = x.square().sum()
        explained = (x @ statistics.axes.T).square().sum(dim=0).cumsum(dim=0)
        error = torch.where(total > 0, (total - explained) / total, 1.0)
        size = torch.arange(1, len(error) + 1).double()
        shares = size**_POWER_OF_SIZE * error.clamp(min=_LEAST_ERROR) ** _POWER_OF_ERROR
        shares = (1 - _WHOLE) * shares / shares.sum()
        shares[-1] += _WHOLE
        self.shares.copy_(shares.cumsum(dim=0))
        encoding, (weight, bias) = statistics.pca()
        return encoding, (torch.cat([weight, torch.zeros_like(weight)], dim=1), bias)
