"""Anomaly scores: how a row's code and residual become one number."""

from abc import abstractmethod

from torch import nn

from ._component import Component

__all__ = ["AnomalyScore", "Reconstruction"]


class AnomalyScore(Component):
    """Base of all anomaly scores."""

    @abstractmethod
    def build(self, loss):
        """Return the module that scores rows.

        Parameters
        ----------
        loss : Loss
            The loss that the model was trained with.

        Returns
        -------
        torch.nn.Module
            Maps ``x`` and ``raw``, of shape ``(n_samples, n_features)``, and
            ``code``, of shape ``(n_samples, n_components)``, to a number per row:
            the larger, the more abnormal.
        """


class Reconstruction(AnomalyScore):
    """The training loss between a row and its reconstruction, per feature.

    What ``None`` stands for. With the squared error it is half the mean squared
    residual, in units of the scaled data.

    Examples
    --------
    >>> import torch
    >>> from skae.anomaly_scores import Reconstruction
    >>> from skae.losses import SquaredError
    >>> score = Reconstruction().build(SquaredError())
    >>> score(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]), None)
    tensor([1.])
    """

    def build(self, loss):
        """Return a module that applies ``loss``; see `AnomalyScore.build`."""
        return _Reconstruction(loss)


class _Reconstruction(nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, x, raw, code):
        return self.loss(raw, x) / x.shape[1]
