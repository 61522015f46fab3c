"""The base of all architectures."""

from abc import abstractmethod

from .._component import Component

__all__ = ["Architecture"]


class Architecture(Component):
    """Base of all architectures: builds an encoder and a decoder."""

    @abstractmethod
    def build(self, n_features, encoder_width, n_components, generator):
        """Return the two networks.

        Parameters
        ----------
        n_features : int
            Features of the data: inputs of the encoder, outputs of the decoder.
        encoder_width : int
            Outputs of the encoder, as the bottleneck asks.
        n_components : int
            Width of the code: inputs of the decoder.
        generator : torch.Generator
            On the CPU; where the initial weights come from. Global generators
            must be left alone.

        Returns
        -------
        encoder, decoder : torch.nn.Module
            They may have the hooks that :class:`skae._module.Autoencoder` lists;
            ``start(affine)`` must make the network equal to an affine map.
        """
