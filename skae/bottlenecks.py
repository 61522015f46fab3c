"""Bottlenecks: what stands between encoder and decoder, and its price."""

from abc import abstractmethod

from torch import nn

from ._component import Affine, Component

__all__ = ["Bottleneck", "Plain"]


class Bottleneck(Component):
    """Base of all bottlenecks.

    Attributes
    ----------
    symmetry : {"rotation", "permutation", None}
        What may be done to the code after training: any rotation (the code is
        linear in the encoder's output, nothing depends on its axes), a permutation
        only, or nothing.
    guards : bool
        Whether it keeps a code that is wider than the data from being a copy.
    """

    symmetry: str | None = None
    guards = False

    def encoder_width(self, n_components):
        """Return how many numbers the encoder must give.

        Parameters
        ----------
        n_components : int
            Width of the code.

        Returns
        -------
        int
            As many, unless a subclass says otherwise.
        """
        return n_components

    @abstractmethod
    def build(self, n_components):
        """Return the module that stands in the middle.

        Parameters
        ----------
        n_components : int
            Width of the code.

        Returns
        -------
        torch.nn.Module
            Maps ``h`` of shape ``(n_samples, encoder_width)`` to a pair: the code,
            of shape ``(n_samples, n_components)``, and its price per row, of shape
            ``(n_samples,)``. It may have the hooks that
            :class:`skae._module.Autoencoder` lists, `start` and `auxiliary` among
            them.
        """


class Plain(Bottleneck):
    """The encoder's output is the code, free of charge; what ``None`` stands for.

    With ``MLP(start="pca")`` and the squared error the model starts as PCA.

    Examples
    --------
    >>> import torch
    >>> from skae.bottlenecks import Plain
    >>> code, cost = Plain().build(2)(torch.ones(3, 2))
    >>> code.shape, cost
    (torch.Size([3, 2]), tensor([0., 0., 0.]))
    """

    symmetry = "rotation"

    def build(self, n_components):
        """Return a module that hands its input on; see `Bottleneck.build`."""
        return _Plain()


class _Plain(nn.Module):
    def forward(self, h):
        return h, h.new_zeros(len(h))

    def start(self, statistics):
        """Return the affine maps that encoder and decoder should start from: PCA."""
        axes, mean = statistics.axes, statistics.mean
        return Affine(axes, -(axes @ mean)), Affine(axes.T, mean)
