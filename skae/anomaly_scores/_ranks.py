"""Scales made of ranks: normal quantiles of columns, p-values of scores."""

import math

import torch
from torch import nn

from .._compat.torch import is_traced

__all__ = ["Ranks", "Surprise", "shared_out"]

# Points between which a scale is interpolated, at most.
_MAX_KNOTS = 64
# Values of a column that are nearer than this, in spreads, are one value: a hundred
# times what single precision can tell apart.
_RESOLUTION = 128 * torch.finfo(torch.float32).eps
# Scores that differ by less, relative to the largest, are one score.
_SAME = 1e-9
# Shares of rows above the two quantiles that set the slope of the tail of a score.
# With a tenth for the latter the ranking is the same on normal training rows, but where
# a tenth of them are outliers, these stretch the scale, and fewer are found; other
# shares and AUROCs: tests/benchmarks/bench_constants.py.
_BODY, _UPPER = 0.5, 0.15


def shared_out(scores, parts):
    """Return parts of rows in proportion, scaled so that they sum to scores.

    Rows without any parts are shared out equally.

    Examples
    --------
    >>> import torch
    >>> shared_out(torch.tensor([6.0, 6.0]), torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    tensor([[2., 4.],
            [3., 3.]])
    """
    total = parts.sum(dim=1, keepdim=True)
    share = torch.where(total > 0, parts / total, 1 / parts.shape[1])
    return scores[:, None] * share


class Interpolation(nn.Module):
    """A piecewise linear function for each column, constant outside of its knots.

    The columns have one number of knots; those with fewer have infinite ones at the
    end.
    """

    def start(self, knots, values):
        """Take the increasing knots of each column and its values there.

        Parameters
        ----------
        knots, values : list of Tensor of shape (n_knots,)
        """
        n = max(map(len, knots))
        x, y = knots[0].new_full((2, len(knots), n), torch.inf)
        slope = torch.zeros_like(x)
        for j, (a, b) in enumerate(zip(knots, values, strict=True)):
            x[j, : len(a)], y[j, : len(a)] = a, b
            slope[j, : len(a) - 1] = b.diff() / a.diff()
        self.register_buffer("x", x)
        self.register_buffer("y", y)
        self.register_buffer("slope", slope)
        self.register_buffer("low", torch.stack([a[0] for a in knots]))
        self.register_buffer("high", torch.stack([a[-1] for a in knots]))

    def forward(self, v):
        v = v.clamp(self.low, self.high).T.contiguous()
        if is_traced():
            # What exporters know of; the same numbers.
            index = (v[:, :, None] >= self.x[:, None, :]).sum(dim=2) - 1
        else:
            index = torch.searchsorted(self.x, v, right=True) - 1
        x, y, slope = (t.gather(1, index) for t in (self.x, self.y, self.slope))
        return (y + slope * (v - x)).T


def _knots(values, resolution):
    """Return the distinct values and the share of rows below each, half of ties too."""
    # Grouped by differences, so that equal values never fall into two groups.
    ordered = values.sort().values
    group = torch.zeros(len(ordered), dtype=torch.long)
    group[1:] = (ordered.diff() > resolution).cumsum(0)
    count = torch.bincount(group)
    mean = torch.zeros_like(count, dtype=ordered.dtype)
    mean = mean.index_add_(0, group, ordered) / count
    below = count.cumsum(0) - count
    return mean, (below + count.double() / 2) / len(ordered)


class Ranks(nn.Module):
    """Columns of rows mapped to a standard normal distribution.

    Piecewise linear between at most 64 quantiles of the training rows. Beyond these it
    grows like the logarithm of the distance, so that it is finite and increases
    strictly. Indicators of categories, which have no order, stay as they are.

    Parameters
    ----------
    blocks : Blocks, default=None
        Which columns are indicators.
    """

    def __init__(self, blocks=None):
        super().__init__()
        self.kept = None
        if blocks is not None:
            self.kept = torch.from_numpy(blocks.is_indicator)

    def start(self, rows, held_out):
        """Compute the quantiles of the training rows."""
        normal = torch.distributions.Normal(0.0, 1.0)
        self.inside = Interpolation()
        knots, values, slopes = [], [], []
        for column in rows.x.T:
            v, p = _knots(column, _RESOLUTION * column.std(correction=0))
            z = normal.icdf(p)
            if len(v) > _MAX_KNOTS:
                wanted = torch.linspace(z[0], z[-1], _MAX_KNOTS, dtype=z.dtype)
                some = torch.searchsorted(z, wanted).clamp_max(len(z) - 1).unique()
                v, p, z = v[some], p[some], z[some]
            i, j = torch.searchsorted(p, p.new_tensor([0.1, 0.9])).clamp_max(len(p) - 1)
            if i == j:
                i, j = 0, len(p) - 1
            # A column that does not vary keeps its unit.
            slopes.append((z[j] - z[i]) / (v[j] - v[i]) if j > i else z.new_ones(()))
            knots.append(v)
            values.append(z)
        self.inside.start(knots, values)
        self.register_buffer("slope", torch.stack(slopes))

    def forward(self, view):
        # Knots are in double precision; of rows in single precision the values differ
        # from them by rounding only.
        x = view.x.to(self.slope.dtype)
        above = (self.slope * (x - self.inside.high).clamp_min(0)).log1p()
        below = (self.slope * (self.inside.low - x).clamp_min(0)).log1p()
        mapped = self.inside(x) + above - below
        if self.kept is None:
            return mapped
        return torch.where(self.kept.to(x.device), x, mapped)


class Surprise(nn.Module):
    """Scores as negative logarithms of their conformal p-values, column by column.

    Between validation rows they are interpolated; beyond the 15 % that are most
    abnormal the tail is exponential, with the slope between the median and these.
    Beyond the least p-value that so many rows can have it grows like a logarithm.
    """

    def start(self, scores, usual=1.0):
        """Take the scores of validation rows.

        Parameters
        ----------
        scores : Tensor of shape (n_samples, n_scores)
        usual : float, default=1.0
            The unit of scores that are all zero.
        """
        self.inside = Interpolation()
        knots, values, units = [], [], []
        n = len(scores)
        for column in scores.double().T:
            v, below = _knots(column, _SAME * column.abs().max())
            s = -((n * (1 - below) + 0.5) / (n + 1)).log()
            middle, high = column.quantile(
                column.new_tensor([1 - _BODY, 1 - _UPPER])
            ).tolist()
            rounding = _SAME * abs(high)
            unit = (high - middle) / math.log(_BODY / _UPPER)
            if not unit > rounding:
                # So many are alike: of those beyond, or any unit.
                high = float(v[-1])
                unit = float((column - column.min()).mean())
                unit = unit if unit > rounding else abs(high) or float(usual) or 1.0
            # A quantile that is one of the scores, up to rounding.
            body = v <= high + rounding
            body[0] = True
            v, s = v[body], s[body]
            if len(v) > _MAX_KNOTS:
                some = torch.linspace(0, len(v) - 1, _MAX_KNOTS).round().long()
                v, s = v[some], s[some]
            knots.append(v)
            values.append(s)
            units.append(unit)
        self.inside.start(knots, values)
        self.register_buffer("unit", self.inside.low.new_tensor(units))
        # With fewer than six rows log(n + 1) is below the start of the tail.
        resolved = max(math.log(n + 1), -math.log(_UPPER))
        self.register_buffer("resolved", self.unit.new_tensor(resolved))

    def forward(self, scores):
        scores = scores.to(self.unit.dtype)
        above = (scores - self.inside.high).clamp_min(0) / self.unit
        below = ((scores - self.inside.low).clamp_max(0) / self.unit).exp()
        surprise = (self.inside(scores) + above) * below
        beyond = (surprise / self.resolved).clamp_min(1).log()
        return surprise.clamp_max(self.resolved) + self.resolved * beyond
