"""Missing entries: what they are expected to be, given the other entries of a row.

Rows are taken as draws from a normal distribution whose covariance is that of a few
components plus noise of each column: probabilistic PCA [1]_. A missing entry is
replaced by its conditional mean. The distribution itself is estimated from rows with
missing entries by the EM algorithm [2]_, so that neither the axes nor the variances are
those of a table that was filled once and for all.

.. [1] Tipping & Bishop, "Probabilistic Principal Component Analysis", Journal of the
   Royal Statistical Society B 61, 1999.
.. [2] Little & Rubin, "Statistical Analysis with Missing Data", Wiley, 2002, chapter
   11; Josse & Husson, "Handling missing values in exploratory multivariate data
   analysis methods", Journal de la SFdS 153, 2012, for the view as iterated PCA.
"""

from copy import deepcopy
from functools import cached_property

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from .affine import DoubleConstants
from .principal_axes import PrincipalAxes
from .source import Mapped, Resident, is_small
from .subsample import subsample

__all__ = ["Completion", "Known", "completed_rows", "fit_completion"]

# Components, at most; entries of the matrices that say what a known entry of each
# column tells of them.
_MAX_COMPONENTS = 32
_MAX_ENTRIES = 2**22
# Columns up to which the covariance is estimated as a whole, with that of what is
# missing; beyond, axes are iterated.
_MAX_COVARIANCE = 512
# Rows that the distribution is estimated from, at most, and the numbers that go into
# the systems of equations of all of them.
_MAX_ROWS = 4096
_MIN_ROWS = 512
_MAX_WORK = 2**28
# Rows of which the covariance of what is missing is computed.
_UNCERTAIN_ROWS = 256
# Steps of the algorithm; and the change of what is filled in, in standard deviations of
# its column, at which it has converged.
_MAX_STEPS = 50
_TOL = 1e-3
# Least variance of the noise, as a share of that of a column.
_LEAST_NOISE = 1e-4
# Part of Ledoit & Wolf's shrinkage that is used.
_SHRINKAGE = 0.25


class Completion(DoubleConstants):
    """Fills the missing entries of scaled rows with their conditional means.

    Parameters
    ----------
    mean : array-like of shape (n_features,)
    loadings : array-like of shape (n_features, n_components)
        Axes, times the standard deviations along them.
    noise : array-like of shape (n_features,)
        Variances of the noise of the columns, positive.
    low, high : array-like of shape (n_features,), default=None
        Bounds of what is filled in.
    """

    def __init__(self, mean, loadings, noise, low=None, high=None):
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float64)
        bound = torch.full_like(mean, torch.inf)
        constants = {
            "mean": mean,
            "loadings": loadings,
            "noise": noise,
            "low": -bound if low is None else low,
            "high": bound if high is None else high,
        }
        for name, value in constants.items():
            value = torch.as_tensor(value, dtype=torch.float64).contiguous()
            self.register_buffer(name, value)

    @classmethod
    def of_axes(cls, axes, rows):
        """Return the completion that PCA of complete rows stands for.

        Parameters
        ----------
        axes : PrincipalAxes
        rows : Source
            The rows that the axes are of.
        """
        bounds = _bounds(rows)
        return cls(
            axes.mean, *_leading(axes, _most_components(len(axes.mean))), *bounds
        )

    def forward(self, x):
        """Return rows with numbers in the place of NaN: the same ones if there is none.

        The conditional means are computed in double precision, whatever the rows are.
        """
        # A sum is faster than a test of each number.
        if not x.sum().isnan():
            return x
        missing = x.isnan()
        rows = missing.any(dim=1).nonzero()[:, 0]
        if not len(rows):
            return x
        filled = x.clone()
        filled[rows] = self._filled(x[rows], ~missing[rows]).to(x.dtype)
        return filled

    def _filled(self, x, known):
        expected, _ = self.expected(x.to(self.mean.dtype), known)
        return torch.where(known, x, expected.clamp(self.low, self.high))

    def expected(self, x, known):
        """Return the conditional mean of each entry, and the precision of the scores.

        Returns
        -------
        expected : Tensor of shape (n_samples, n_features)
        root : Tensor of shape (n_samples, n_components, n_components)
            Cholesky factors of the precision matrices.
        """
        loadings, k = self.loadings, self.loadings.shape[1]
        weighted = loadings / self.noise[:, None]
        told = (loadings[:, :, None] * weighted[:, None, :]).reshape(len(loadings), -1)
        precision = (known.to(told.dtype) @ told).reshape(len(known), k, k)
        precision = precision + torch.eye(k, dtype=told.dtype, device=told.device)
        root = torch.linalg.cholesky(precision)
        centered = torch.where(known, x - self.mean, 0.0)
        scores = torch.cholesky_solve((centered @ weighted)[:, :, None], root)[:, :, 0]
        return self.mean + scores @ loadings.T, root


def _most_components(n_features):
    return int(min(_MAX_COMPONENTS, max(1, (_MAX_ENTRIES / n_features) ** 0.5)))


def fit_completion(rows, weight=None):
    """Estimate the distribution of rows with missing entries.

    Parameters
    ----------
    rows : Source
        Scaled rows, NaN where an entry is missing.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    Completion
        What it fills in lies within the range of the known entries of the column.
    """
    n_features = rows.shape[1]
    k = min(n_features - 1, len(rows) - 2, _most_components(n_features))
    affordable = _MAX_WORK // (n_features * max(k, 1) ** 2)
    n_rows = min(_MAX_ROWS, max(_MIN_ROWS, affordable))
    x = rows.take(subsample(len(rows), n_rows, weight)).double()
    known = ~x.isnan()
    count = known.sum(dim=0).clamp(min=1)
    center = torch.where(known, x, 0.0).sum(dim=0) / count
    z = torch.where(known, x - center, 0.0)
    scale = (z.square().sum(dim=0) / count).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    found = _by_steps(z / scale, known, max(k, 0))
    return Completion(
        found.mean * scale + center,
        found.loadings * scale[:, None],
        found.noise * scale.square(),
        *_bounds(rows),
    )


def _bounds(rows):
    """Return the least and the largest known entry of each column."""
    table = rows.stored()
    if table is not None:
        *_, low, high = table.statistics()
        return low, high
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    for _, x in rows.chunks():
        x = x.numpy()
        low, high = np.fmin(low, np.fmin.reduce(x)), np.fmax(high, np.fmax.reduce(x))
    # Parts of a table may have columns without any known entry.
    return tuple(np.where(np.isfinite(bound), bound, 0.0) for bound in (low, high))


def _leading(axes, k):
    """Return loadings of at most ``k`` axes, and the variances of the noise."""
    directions, variances = axes.leading(k)
    loadings = directions.T * np.sqrt(variances)
    variance = np.where(axes.variance > 0, axes.variance, 1.0)
    noise = axes.variance - np.square(loadings).sum(axis=1)
    return loadings, np.maximum(noise, _LEAST_NOISE * variance)


def _by_steps(z, known, k):
    """Estimate the distribution of standardised rows: the EM algorithm.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_features)
        Zero where an entry is missing.
    known : Tensor of bool of shape (n_samples, n_features)
    k : int
        Number of components.
    """
    n_features = z.shape[1]
    filled, mean = z, torch.zeros(n_features, dtype=z.dtype)
    covariance = None
    if n_features <= _MAX_COVARIANCE:
        # Of the pairs of known entries.
        pairs = known.to(z.dtype).T @ known.to(z.dtype)
        covariance = z.T @ z / pairs.clamp(min=2)
    for _ in range(_MAX_STEPS):
        if n_features <= _MAX_COVARIANCE:
            found = _of_covariance(mean, _shrunk(covariance, filled), k)
        else:
            found = _of_rows(filled, k)
        expected, root = found.expected(z, known)
        before, filled = filled, torch.where(known, z, expected)
        change = (filled - before)[~known].square().mean()
        mean = filled.mean(dim=0)
        if not change > _TOL**2:
            break
        if n_features <= _MAX_COVARIANCE:
            centered = filled - mean
            covariance = centered.T @ centered / len(z) + _uncertain(found, root, known)
    return found


def _shrunk(covariance, rows):
    """Return a covariance matrix nearer to one without relations."""
    rows = (rows - rows.mean(dim=0)).numpy()
    share = _SHRINKAGE * float(ledoit_wolf_shrinkage(rows, assume_centered=True))
    return (1 - share) * covariance + share * torch.diag(covariance.diagonal())


def _of_covariance(mean, covariance, k):
    variances, axes = torch.linalg.eigh(covariance)
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    noise = max(float(variances[k:].mean()), _LEAST_NOISE)
    loadings = axes[:, :k] * (variances[:k] - noise).clamp(min=0).sqrt()
    return Completion(mean, loadings, torch.full_like(mean, noise))


def _of_rows(filled, k):
    axes = PrincipalAxes(Resident(filled), None, k, np.random.RandomState(0))
    return Completion(axes.mean, *_leading(axes, k))


def _uncertain(completion, root, known):
    """Return the mean covariance of what is missing, given what is known."""
    total = torch.zeros(2 * completion.mean.shape, dtype=torch.float64)
    # One of each stratum, so that all parts of the table are there.
    index = subsample(len(known), _UNCERTAIN_ROWS)
    covariance = torch.cholesky_inverse(root[index])
    for missing, of_scores in zip(~known[index], covariance, strict=True):
        j = missing.nonzero()[:, 0]
        loadings = completion.loadings[j]
        total[j[:, None], j] += loadings @ of_scores @ loadings.T
        total[j, j] += completion.noise[j]
    return total / len(index)


class Completed(Mapped):
    """Rows of another source, completed when they are read.

    Parameters
    ----------
    rows : Source
        Scaled rows, NaN where an entry is missing.
    completion : Completion
        On the device of the rows.
    """

    def __init__(self, rows, completion):
        super().__init__(rows)
        self._mapped = completion

    def to(self, device):
        """Return the same rows for a device."""
        rows = self._rows.to(device)
        return Completed(rows, deepcopy(self._mapped).to(rows.device))


class Known:
    """Which entries of the rows of a source are known, read when they are asked for.

    Parameters
    ----------
    rows : Source
        NaN where an entry is missing.
    """

    def __init__(self, rows):
        self._rows = rows

    def __getitem__(self, index):
        """Return a Tensor of bool, for some of the rows."""
        return ~self._rows.take(index).isnan()

    @property
    def incomplete(self):
        """Share of the rows with missing entries; all are read for it once."""
        return self._counts[0] / len(self._rows)

    @property
    def count(self):
        """Number of known entries of each column, an ndarray."""
        return self._counts[1]

    @cached_property
    def _counts(self):
        incomplete, known = 0, np.zeros(self._rows.shape[1])
        for _, x in self._rows.chunks():
            missing = x.isnan()
            incomplete += int(missing.any(dim=1).sum())
            known += len(x) - missing.sum(dim=0).cpu().numpy()
        return incomplete, known

    def to(self, device):
        """Return the same for a device."""
        known = Known(self._rows.to(device))
        if "_counts" in vars(self):
            known._counts = self._counts
        return known


def completed_rows(rows, completion):
    """Return rows without missing entries, and which entries are known.

    Parameters
    ----------
    rows : Source
        Scaled rows, NaN where an entry is missing.
    completion : Completion

    Returns
    -------
    filled : Resident or Completed
    known : Tensor of bool of shape (n_samples, n_features) or Known
        A large sparse table is completed when it is read, and so is what is read in
        chunks.
    """
    if rows.streamed or (rows.stored() is not None and not is_small(rows)):
        return Completed(rows, completion), Known(rows)
    filled = torch.empty(rows.shape, dtype=rows.dtype)
    known = torch.empty(rows.shape, dtype=torch.bool)
    for chunk, x in rows.chunks():
        known[chunk] = ~x.isnan()
        filled[chunk] = completion(x)
    return Resident(filled), known
