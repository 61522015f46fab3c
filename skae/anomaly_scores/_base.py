"""What an anomaly score sees of rows, and what it must give."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._component import Component

__all__ = ["AnomalyScore", "Joint", "Scorer", "View", "deviation", "spread"]

# Spread of a residual, as a share of the largest, below which it counts as this: a
# column that the model copies, or that never varied, would make an outlier of every
# rounding error.
_SMALLEST_RESIDUAL = 1e-2
# And as a share of the spread of the column itself: what single precision leaves.
_ROUNDING = 1e-5
# The same of a component of the code, which is there to be large.
_SMALLEST_COMPONENT = 1e-6


class View(NamedTuple):
    """What a fitted model makes of rows; all in units of the scaled data.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
        The rows.
    raw : Tensor of shape (n_samples, n_features)
        Output of the decoder, before the loss's inverse link.
    residual : Tensor of shape (n_samples, n_features)
        The rows minus their reconstruction.
    code : Tensor of shape (n_samples, n_components)
        The code, as `transform` gives it.
    objective : Tensor of shape (n_samples,)
        Loss and price of the bottleneck, as training minimises their mean: the negative
        evidence lower bound for :class:`~skae.bottlenecks.Variational`.

    Examples
    --------
    >>> import torch
    >>> from skae.anomaly_scores import View
    >>> x, raw = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])
    >>> view = View(x, raw, x - raw, torch.tensor([[0.5]]), torch.tensor([2.0]))
    >>> view.residual
    tensor([[0., 2.]])
    """

    x: Tensor
    raw: Tensor
    residual: Tensor
    code: Tensor
    objective: Tensor


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
        Scorer
        """


class Scorer(nn.Module):
    """Base of the modules that anomaly scores build.

    ``forward(view)`` takes a `View` and returns a number per row: the larger, the more
    abnormal. What `start` learns is registered as buffers, which follow the rows to
    their device and dtype.

    Examples
    --------
    >>> import torch
    >>> from skae.anomaly_scores import Scorer, View
    >>> class Largest(Scorer):
    ...     def start(self, rows, held_out):
    ...         self.register_buffer("usual", held_out.residual.std(dim=0))
    ...     def forward(self, view):
    ...         return (view.residual / self.usual).abs().amax(dim=1)
    >>> residual = torch.tensor([[1.0, 10.0], [-1.0, -10.0]], dtype=torch.double)
    >>> rows = View(residual, 0 * residual, residual, residual, residual[:, 0])
    >>> scorer = Largest()
    >>> scorer.start(rows, rows)
    >>> scorer(rows)
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """

    def __init__(self):
        super().__init__()

    def start(self, rows, held_out):
        """Learn from training rows; called once, before anything is scored.

        Parameters
        ----------
        rows : View
            Of training rows, at most several thousand of them, each about as often as
            its sample weight says.
        held_out : View
            Of rows that judged the training and that no step of it has seen; the same
            rows where there are none.
        """

    def contributions(self, view):
        """Return how much each feature, and the code, adds to the score of rows.

        Parameters
        ----------
        view : View
            Of the rows.

        Returns
        -------
        by_feature : Tensor of shape (n_samples, n_features)
            Not negative.
        by_code : Tensor of shape (n_samples,)
            Not negative: what lies in the code itself and in no single feature.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how much each feature adds to its "
            "score: define its method contributions to have rows explained."
        )


def spread(values, smallest=_SMALLEST_RESIDUAL):
    """Return the root mean square of each column, and of none too little.

    Examples
    --------
    >>> import torch
    >>> spread(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    tensor([3.0000, 0.0300])
    """
    root = values.square().mean(dim=0).sqrt()
    largest = root.max() if len(root) else root.sum()
    return root.clamp_min(smallest * largest) if largest > 0 else torch.ones_like(root)


def deviation(scores):
    """Return the mean absolute deviation of each column from its median.

    The unit that scores are added in. The standard deviation would be that of a few
    rows far out, and another one for other held-out rows.

    Examples
    --------
    >>> import torch
    >>> deviation(torch.tensor([[0.0], [1.0], [2.0], [9.0]]))
    tensor([2.5000])
    """
    return (scores - scores.median(dim=0).values).abs().mean(dim=0)


class Joint(nn.Module):
    """Residual and code side by side, as one vector.

    Parameters
    ----------
    whitening : float
        Each column is divided by its spread to this power: 0 leaves the metric of the
        data, 1 makes all columns equally wide.
    """

    def __init__(self, whitening):
        super().__init__()
        self.whitening = whitening

    def start(self, rows, held_out):
        """Learn the spread of residuals from held-out rows, of codes from all."""
        center = rows.code.mean(dim=0)
        of_code = spread(rows.code - center, _SMALLEST_COMPONENT)
        self.register_buffer("center", center)
        self.register_buffer("of_code", of_code**self.whitening)
        # Where all residuals are rounding, they must not be made as large as codes.
        rounding = _ROUNDING * spread(rows.x - rows.x.mean(dim=0))
        of_residual = torch.maximum(spread(held_out.residual), rounding)
        self.register_buffer("of_residual", of_residual**self.whitening)

    def forward(self, view):
        """Return the vectors: first the features' columns, then the code's."""
        code = (view.code - self.center) / self.of_code
        return torch.cat([view.residual / self.of_residual, code], dim=1)
