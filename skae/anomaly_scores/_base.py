"""Base classes of anomaly scores, and the quantities that they are computed from."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._component import Component

__all__ = [
    "ROUNDING",
    "AnomalyScore",
    "Joint",
    "Scorer",
    "View",
    "deviation",
    "residual_spread",
    "spread",
]

# Lower bounds of spreads. For residuals, relative to the largest of all columns: in a
# column that is reconstructed exactly, every rounding error would be an outlier. Varied
# in tests/benchmarks/bench_constants.py.
_SMALLEST_RESIDUAL = 1e-2
# For residuals, relative to the spread of the column: rounding of single precision.
ROUNDING = 1e-5
# For scores in double precision, relative to the largest.
_ROUNDING_OF_SCORES = 1e-9
# For components of the code, relative to the largest; they are seldom only rounding.
_SMALLEST_COMPONENT = 1e-6


class View(NamedTuple):
    """Output of a fitted model for rows, in units of the scaled data.

    Anomaly scores are computed from these tensors. They have the dtype of the rows that
    are scored, and are float64 for `Scorer.start`.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
        The rows.
    raw : Tensor of shape (n_samples, n_features)
        Output of the decoder, before the loss's inverse link; logarithms of rates with
        :class:`~skae.losses.Poisson`.
    residual : Tensor of shape (n_samples, n_features)
        The rows minus their reconstruction.
    code : Tensor of shape (n_samples, n_components)
        The latent code, as returned by `transform`.
    objective : Tensor of shape (n_samples,)
        Loss plus cost of the bottleneck, whose mean training minimises: for
        :class:`~skae.bottlenecks.Variational` the negative evidence lower bound.

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
    """Base of all anomaly scores.

    A subclass implements `build`.
    """

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

    ``forward(view)`` takes a `View` and returns one number per row, a Tensor of shape
    (n_samples,): the larger, the more abnormal. Statistics that `start` computes must
    be registered as buffers. They are kept in float64; rows of another dtype or on
    another device are scored by a copy of the module, with buffers of that dtype on
    that device.

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
        """Compute statistics of training rows; called once, before rows are scored.

        Parameters
        ----------
        rows : View
            Training rows, float64; at most several thousand. With sample weights, rows
            are drawn in proportion to their weight, so that one may occur repeatedly.
        held_out : View
            Validation rows, float64, which the weights were not trained on. The same as
            ``rows`` if there are none.
        """

    @property
    def stored_rows(self):
        """Training rows that the score is computed from, to show beside an outlier.

        Tensor of shape (n_stored, n_features), scaled; None if there are none.
        """
        return None

    def contributions(self, view):
        """Return the contributions of features and code to the score of each row.

        `explain` needs this method; it is optional otherwise.

        Parameters
        ----------
        view : View
            The rows.

        Returns
        -------
        by_feature : Tensor of shape (n_samples, n_features)
            Contribution of each feature, not negative.
        by_code : Tensor of shape (n_samples,)
            Contribution of the latent code, which belongs to no single feature; not
            negative.

        Raises
        ------
        NotImplementedError
            If the score does not define contributions.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot explain its scores: define its method "
            "contributions to get the contribution of each feature."
        )


def spread(values, smallest=_SMALLEST_RESIDUAL):
    """RMS of each column, clipped from below at `smallest` times the largest.

    If all columns are zero, ones are returned.

    Examples
    --------
    >>> import torch
    >>> spread(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    tensor([3.0000, 0.0300])
    """
    root = values.square().mean(dim=0).sqrt()
    largest = root.max() if len(root) else root.sum()
    return root.clamp_min(smallest * largest) if largest > 0 else torch.ones_like(root)


def residual_spread(rows, held_out, blocks=None):
    """Return the RMS of the residual of each column on validation rows, clipped.

    That no row had another category, or another value of a constant column, does not
    make one impossible. The spread of an indicator is at least what it would be with
    one more row whose category is not the expected one; that of a constant column is
    the largest of all.

    Parameters
    ----------
    rows, held_out : View
        As `Scorer.start` takes them.
    blocks : Blocks, default=None
        Which columns are indicators.
    """
    found = spread(held_out.residual)
    step = rows.x.amax(dim=0) - rows.x.amin(dim=0)
    found = torch.where(step > 0, found, found.max())
    if blocks is None:
        return found
    least = step / (len(held_out.x) + 1) ** 0.5
    indicator = torch.from_numpy(blocks.is_indicator)
    return torch.where(indicator, torch.maximum(found, least), found)


def deviation(scores):
    """Return the mean absolute deviation of each column from its median.

    Scores are divided by it before they are added. The standard deviation would depend
    on a few outliers, and so vary between samples of validation rows. It is zero if the
    scores are equal up to rounding: two rows are equally far from their mean.

    Examples
    --------
    >>> import torch
    >>> deviation(torch.tensor([[0.0], [1.0], [2.0], [9.0]]))
    tensor([2.5000])
    """
    distance = (scores - scores.median(dim=0).values).abs().mean(dim=0)
    rounding = _ROUNDING_OF_SCORES * scores.abs().amax(dim=0)
    return torch.where(distance > rounding, distance, 0.0)


class Joint(nn.Module):
    """Residual and latent code, scaled and concatenated to one vector per row.

    Parameters
    ----------
    whitening : float
        Each column is divided by its spread to this power: 0 keeps the metric of the
        data, 1 gives all columns unit spread.
    blocks : Blocks, default=None
        Which columns of the rows are indicators of categories.
    """

    def __init__(self, whitening, blocks=None):
        super().__init__()
        self.whitening = whitening
        self.blocks = blocks

    def start(self, rows, held_out):
        """Measure the spread of residuals on validation rows, of codes on all rows.

        Returns
        -------
        Tensor of shape (n_features + n_components,)
            How much of the vectors that `forward` returns is rounding of single
            precision, column by column.
        """
        center = rows.code.mean(dim=0)
        of_code = spread(rows.code - center, _SMALLEST_COMPONENT)
        self.register_buffer("center", center)
        self.register_buffer("of_code", of_code**self.whitening)
        # Residuals that are rounding errors only must not be scaled up.
        rounding = ROUNDING * spread(rows.x - rows.x.mean(dim=0))
        of_residual = residual_spread(rows, held_out, self.blocks)
        of_residual = torch.maximum(of_residual, rounding)
        self.register_buffer("of_residual", of_residual**self.whitening)
        of_components = ROUNDING * of_code.max() / self.of_code
        return torch.cat([rounding / self.of_residual, of_components])

    def forward(self, view):
        """Return the vectors: one column per feature, then one per component."""
        code = (view.code - self.center) / self.of_code
        return torch.cat([view.residual / self.of_residual, code], dim=1)
