"""Losses: the distance between a row and its reconstruction, with its link.

A loss is summed over the features and returned per row. Where it is the negative
log-likelihood of a distribution, up to a constant, ``bottleneck`` prices such as
the Kullback-Leibler divergence add to it with weight one.
"""

from abc import abstractmethod
from math import inf

from ._component import Affine, Component

__all__ = ["Loss", "SquaredError"]


class Loss(Component):
    """Base of all losses.

    A subclass implements ``__call__``; one whose decoder does not output the data
    themselves (logits, log rates) implements `inverse_link` and `start` too.

    Attributes
    ----------
    domain : tuple of (float, float)
        The closed interval in which the data must lie. Only a loss on the whole
        real line lets the estimators scale the data.
    """

    domain = (-inf, inf)

    @abstractmethod
    def __call__(self, raw, x):
        """Return the loss of each row.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder.
        x : Tensor of shape (n_samples, n_features)
            The clean rows.

        Returns
        -------
        Tensor of shape (n_samples,)
        """

    def inverse_link(self, raw):
        """Map the output of the decoder to the data: the identity here.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
            What the loss takes for the reconstruction.
        """
        return raw

    def start(self, reconstruction):
        """Return the decoder whose inverse link is ``reconstruction``, to first order.

        Parameters
        ----------
        reconstruction : Affine
            Map from the code to the data.

        Returns
        -------
        Affine
            Map from the code to the output of the decoder: the same here.
        """
        return Affine(*reconstruction)


class SquaredError(Loss):
    r"""Half the squared distance, :math:`\frac{1}{2} \|x - \hat x\|^2`.

    It is the negative log-likelihood of a normal distribution with unit variance
    around the reconstruction, up to a constant, and the loss that PCA minimises.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import SquaredError
    >>> SquaredError()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.5000])
    """

    def __call__(self, raw, x):
        """Return half the squared distance of each row; see `Loss`."""
        return 0.5 * (raw - x).square().sum(dim=1)
