"""The loss of rows with categories: cross-entropy beside the loss of numbers."""

import numpy as np
import torch
from torch import nn

from .._component import Affine
from ..losses import Loss

__all__ = ["MixedLoss"]

# Newton steps for the slope of the logits of a feature, and its bounds. A linear map
# gives probabilities with errors of some percent; a larger slope would take them
# seriously, and where categories are separated it would grow without bound.
_N_STEPS = 10
_MAX_SLOPE = 20.0


class MixedLoss(Loss):
    r"""A loss of the user for numbers, and cross-entropy for categories.

    The decoder gives logits for the categories of a feature; reconstructions are
    probabilities, by the softmax function, in units of the scaled indicators.

    The cross-entropy is divided by twice the entropy of the categories among the
    training rows. Without any knowledge of the row the loss of a feature is then 1/2,
    like half the squared error of a number of unit variance: features weigh the same,
    however many categories they have.

    Parameters
    ----------
    loss : Loss
        Of the numbers.
    blocks : Blocks
        Which columns are indicators of categories.
    center, scale : array-like of shape (n_columns,)
        Of the scaling. The centre of an indicator is the share of its category.
    """

    def __init__(self, loss, blocks, center, scale):
        self.loss = loss
        self.blocks = blocks
        self.center = torch.as_tensor(center, dtype=torch.float64)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        indicator = blocks.is_indicator
        self._numbers = torch.from_numpy(np.flatnonzero(~indicator))
        self._indicators = torch.from_numpy(np.flatnonzero(indicator))
        # Puts numbers and indicators, side by side, in the order of the columns.
        self._order = torch.cat([self._numbers, self._indicators]).argsort()
        sizes = blocks.n_categories[blocks.n_categories > 0]
        filled = np.arange(max(sizes)) < sizes[:, np.newaxis]
        index = np.zeros(filled.shape, dtype=np.int64)
        index[filled] = np.arange(len(self._indicators))
        # Indicators of each feature, in rows that are filled up to one length; and the
        # place of each of them in these rows.
        self._filled, self._index = torch.from_numpy(filled), torch.from_numpy(index)
        self._place = torch.from_numpy(np.flatnonzero(filled))
        share = self.center[self._indicators]
        entropy = self._padded(-share * share.log(), 0.0).sum(dim=-1)
        weight = torch.where(entropy > 0, 0.5 / entropy, 0.0)
        self._weight = weight[:, None].expand(filled.shape)[self._filled]

    @property
    def name(self):
        """Name of the loss in messages; see `Loss.name`."""
        return f"{self.loss.name} and cross-entropy"

    @property
    def domain(self):
        """Domain of the loss of numbers; see `Loss.domain`."""
        return self.loss.domain

    def _padded(self, values, fill):
        """Return values of indicators with one axis for features, one for categories.

        Parameters
        ----------
        values : Tensor of shape (..., n_indicators)

        Returns
        -------
        Tensor of shape (..., n_categorical, n_most)
        """
        filled = self._filled.to(values.device)
        padded = values[..., self._index.to(values.device)]
        return padded.masked_fill(~filled, fill)

    def _log_probabilities(self, raw):
        """Return log-probabilities, of shape (n_samples, n_indicators)."""
        logits = self._padded(raw[:, self._indicators.to(raw.device)], -torch.inf)
        log_probabilities = logits.log_softmax(dim=-1).flatten(1)
        return log_probabilities[:, self._place.to(raw.device)]

    def _joined(self, numbers, indicators):
        """Return columns in their order."""
        joined = torch.cat([numbers, indicators], dim=-1)
        return joined[..., self._order.to(joined.device)]

    def _of_indicators(self, constant, x):
        return constant.to(x)[self._indicators.to(x.device)]

    def per_entry(self, raw, x):
        """Return the terms of numbers and indicators; see `Loss.per_entry`."""
        numbers = self._numbers.to(x.device)
        indicators = x[:, self._indicators.to(x.device)]
        center, scale = (
            self._of_indicators(constant, x) for constant in (self.center, self.scale)
        )
        of_category = indicators * scale + center
        log_probabilities = self._log_probabilities(raw)
        return self._joined(
            self.loss.per_entry(raw[:, numbers], x[:, numbers]),
            -self._weight.to(x) * of_category * log_probabilities,
        )

    def inverse_link(self, raw):
        """Return reconstructions, of categories scaled probabilities."""
        center, scale = (
            self._of_indicators(constant, raw) for constant in (self.center, self.scale)
        )
        probabilities = self._log_probabilities(raw).exp()
        numbers = raw[:, self._numbers.to(raw.device)]
        return self._joined(
            self.loss.inverse_link(numbers), (probabilities - center) / scale
        )

    def build(self, n_features):
        """Return a module that has the start of the logits; see `Loss.build`."""
        return _MixedLink(self, self.loss.build(len(self._numbers)))

    def variance(self, mean):
        """Return the variance of numbers, and 1 for indicators; see `Loss.variance`."""
        numbers = self._numbers.to(mean.device)
        found = self.loss.variance(mean[..., numbers])
        if found is None:
            return None
        variance = torch.ones_like(mean)
        variance[..., numbers] = found
        return variance

    def trusted(self, terms, weight=None):
        """Return the terms that the loss of numbers trusts; see `Loss.trusted`."""
        return self.loss.trusted(terms, weight)

    def start_logits(self, reconstruction, fitted):
        """Return the start of the decoder for the indicators.

        The logits are linear in the reconstruction by PCA: the logarithm of the share
        of the category, plus a slope times the difference of the probability that the
        reconstruction stands for to that share. Each feature has the slope with the
        largest likelihood.

        Parameters
        ----------
        reconstruction : Affine
            Map from the code to the scaled columns.
        fitted : tuple of (Tensor, Tensor) of shape (n_rows, n_columns)
            Scaled rows, and their reconstruction by PCA.

        Returns
        -------
        Affine
            Map from the code to the logits of the indicators.
        """
        weight, bias = (part[self._indicators] for part in reconstruction)
        center, scale = (
            self._of_indicators(constant, weight)
            for constant in (self.center, self.scale)
        )
        rows, fitted = (self._of_indicators(part.T, weight).T for part in fitted)
        log_share = self._padded(center.log(), -torch.inf).to(rows)
        u = self._padded(fitted * scale.to(rows), 0.0)
        y = self._padded(rows * scale.to(rows) + center.to(rows), 0.0)
        slope = torch.ones(len(self._filled), dtype=rows.dtype)
        for _ in range(_N_STEPS):
            p = (log_share + slope[:, None] * u).softmax(dim=-1)
            mean = (p * u).sum(dim=-1)
            variance = (p * u * u).sum(dim=-1) - mean.square()
            gradient = (mean - (y * u).sum(dim=-1)).sum(dim=0)
            curvature = variance.sum(dim=0).clamp_min(1e-9 * len(rows))
            slope = (slope - gradient / curvature).clamp(0.0, _MAX_SLOPE)
        slope = slope[:, None].expand(self._filled.shape)[self._filled].to(weight)
        return Affine(
            (slope * scale)[:, None] * weight, center.log() + slope * scale * bias
        )


class _MixedLink(nn.Module):
    """Output of the decoder: through the link of the loss of numbers, and as logits."""

    def __init__(self, loss, of_numbers):
        super().__init__()
        self.loss = loss
        self.of_numbers = of_numbers

    def forward(self, output):
        if self.of_numbers is None:
            return output
        loss = self.loss
        numbers, indicators = (
            output[:, index.to(output.device)]
            for index in (loss._numbers, loss._indicators)
        )
        return loss._joined(self.of_numbers(numbers), indicators)

    def start(self, reconstruction, rows, fitted):
        """Return the start of the decoder; see `Loss.build`."""
        loss = self.loss
        numbers = loss._numbers
        of_numbers = Affine(*(part[numbers] for part in reconstruction))
        if self.of_numbers is None:
            of_numbers = loss.loss.start(of_numbers)
        else:
            given = of_numbers, rows[:, numbers], fitted[:, numbers]
            of_numbers = self.of_numbers.start(*given)
        logits = loss.start_logits(reconstruction, (rows, fitted))
        weight, bias = (
            torch.cat(parts)[loss._order]
            for parts in zip(of_numbers, logits, strict=True)
        )
        return Affine(weight, bias)
