"""Corruptions: what is done to the input in training; the loss sees the clean rows.

What is random is drawn apart from being applied, so that a corruption is a pure
function of the rows and of its draw.
"""

from abc import abstractmethod
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval

from ._component import Component

__all__ = ["Corruption", "Gaussian"]


class Corruption(Component):
    """Base of all corruptions: `draw` what is random, then apply it."""

    @abstractmethod
    def draw(self, shape, generator):
        """Draw what is random in one application.

        Parameters
        ----------
        shape : tuple of (int, int)
            Rows and features of the batch.
        generator : torch.Generator
            Where randomness comes from; its device is that of the batch.

        Returns
        -------
        Tensor or tuple of Tensor
        """

    @abstractmethod
    def __call__(self, x, draw):
        """Return corrupted rows; ``x`` itself is left as it is.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Clean rows, scaled.
        draw : Tensor or tuple of Tensor
            What `draw` returned.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
        """


class Gaussian(Corruption):
    """Add independent normal noise to every entry [1]_.

    Parameters
    ----------
    scale : float, default=0.1
        Standard deviation of the noise, in units of the scaled data (with
        ``scaling="standard"``: in standard deviations of each feature).

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio & Manzagol, "Stacked Denoising
       Autoencoders", JMLR 11, 2010.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Gaussian
    >>> x = torch.zeros(1000, 20)
    >>> corruption = Gaussian(scale=0.5)
    >>> noise = corruption.draw(x.shape, torch.Generator().manual_seed(0))
    >>> round(corruption(x, noise).std().item(), 1)
    0.5
    """

    _parameter_constraints: dict = {"scale": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, scale=0.1):
        self.scale = scale

    def draw(self, shape, generator):
        """Draw standard normal noise; see `Corruption.draw`."""
        return torch.randn(
            shape,
            generator=generator,
            device=generator.device,
            dtype=torch.float32,
        )

    def __call__(self, x, draw):
        """Return the rows plus the scaled noise; see `Corruption.__call__`."""
        return x + self.scale * draw
