"""The base of all bottlenecks."""

from abc import abstractmethod
from math import inf

from .._component import Component

__all__ = ["Bottleneck"]


class Bottleneck(Component):
    """Base of all bottlenecks.

    Attributes
    ----------
    symmetry : {"rotation", "scaling", "permutation", None}
        What may be done to the code after training: any rotation (the code is
        linear in the encoder's output, nothing depends on its axes), a positive
        factor for each component and a new order, a new order only, or nothing.
    guards : bool
        Whether it keeps a code that is wider than the data from being a copy.
    code_range : tuple of (float, float)
        The closed interval in which every component of the code lies.
    discrete : bool
        Whether the code has finitely many values, which the built module names by
        integers: it has the hooks ``symbols``,
        ``codes`` and ``symbols_shape``.
    sparse_output : bool
        Whether `transform` returns a sparse matrix.
    """

    symmetry: str | None = None
    guards = False
    code_range = (-inf, inf)
    discrete = False
    sparse_output = False

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
    def build(self, n_components, generator):
        """Return the module that stands in the middle.

        Parameters
        ----------
        n_components : int
            Width of the code.
        generator : torch.Generator
            On the CPU; where initial values come from. Global generators must be
            left alone.

        Returns
        -------
        torch.nn.Module
            Maps ``h`` of shape ``(n_samples, encoder_width)`` to a pair: the code,
            of shape ``(n_samples, n_components)``, and its price per row, of shape
            ``(n_samples,)``. It may have the hooks that
            :class:`skae._module.Autoencoder` lists.

        Raises
        ------
        ValueError
            If a code of this width is not possible.
        """
