"""Distance to rows that are remembered."""

import math
from numbers import Integral

import numpy as np
import torch

from .._compat.sklearn import Interval, StrOptions
from .._data.subsample import subsample
from ._base import AnomalyScore, Joint, Scorer, deviation

__all__ = ["Neighbors"]

# Training rows that are remembered: more change a ranking little, and cost in
# proportion.
_MAX_MEMORY = 1024
# Numbers in the distances that are held at once: what a processor core has near it.
_MAX_DISTANCES = 2**17
# Numbers that are sorted at once; processors are slow at sorting more.
_RUN = 128
# Power of its spread by which a column of residual and code is divided: half-way
# between the metric of the data and that of Mahalanobis.
_WHITENING = 0.5
# Neighbourhoods of m remembered rows: the nearest row and these. They were chosen on
# tables other than those of the benchmarks: there any of some dozen choices did within
# a point of AUROC of each other, small ones better where training rows are all normal,
# large ones where they are not.
_SIZES = (lambda m: round(m**0.5), lambda m: m // 8)
# Which of them says how far apart rows lie where a remembered row is.
_AROUND = 2
# Mean squared distance, as a share of what is usual, below which rows are duplicates.
_SMALLEST = 1e-3


class Neighbors(AnomalyScore):
    r"""Squared distance to the nearest of some training rows that are remembered.

    At most 1,024 training rows, evenly spaced in their order, are the memory. The score
    of a row is the mean squared distance to its nearest ``n_neighbors`` of them. A row
    that is itself remembered is not its own neighbour: one exact copy is left out, of
    training rows and new ones alike.

    By default several neighbourhoods count, from near to far: the nearest row, in units
    of how far from each other rows lie around *it* (the idea of the local outlier
    factor [1]_), and the :math:`\sqrt m` and :math:`m / 8` nearest of the :math:`m`
    remembered rows. The first tells what is new among normal rows; the last cannot be
    misled by a group of outliers in the memory, unless it is as large. Each is divided
    by its mean absolute deviation from the median over held-out rows, then their mean
    is taken.

    Parameters
    ----------
    n_neighbors : int, default=None
        Size of the one neighbourhood that counts. None is several; see above. Not more
        than the rows that are remembered, without the row itself, are used.

    space : {"joint", "data"}, default="joint"
        Where distances are measured.

        - "joint": residual and code side by side. Each column is divided by the square
          root of its spread, of residuals over held-out rows and of codes over training
          rows: half-way between the metric of the data, in which what is left over
          hardly counts, and that of :class:`Mahalanobis`, in which noise counts as much
          as structure.
        - "data": the scaled rows themselves, which the model does not enter.

    References
    ----------
    .. [1] Breunig, Kriegel, Ng & Sander, "LOF: Identifying Density-Based Local
       Outliers", SIGMOD 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.anomaly_scores import Neighbors
    >>> rng = np.random.RandomState(0)
    >>> X = np.r_[rng.normal(-5, 1, size=(100, 2)), rng.normal(5, 1, size=(100, 2))]
    >>> detector = AutoencoderOutlierDetector(
    ...     1, anomaly_score=Neighbors(), random_state=0
    ... ).fit(X)
    >>> between, inside = detector.score_samples([[0.0, 0.0], [5.0, 5.0]])
    >>> bool(between < inside)  # in the middle of all rows, but far from each
    True
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "space": [StrOptions({"joint", "data"})],
    }

    def __init__(self, n_neighbors=None, *, space="joint"):
        self.n_neighbors = n_neighbors
        self.space = space

    def build(self, loss):
        """Return a module with a memory; see `AnomalyScore.build`."""
        space = _Data() if self.space == "data" else Joint(_WHITENING)
        return _Neighbors(space, self.n_neighbors)


class _Data(torch.nn.Module):
    """The rows as they are."""

    def start(self, rows, held_out):
        pass

    def forward(self, view):
        return view.x


class _Neighbors(Scorer):
    def __init__(self, space, n_neighbors):
        super().__init__()
        self.space = space
        self.n_neighbors = n_neighbors

    def start(self, rows, held_out):
        self.space.start(rows, held_out)
        memory = self.space(rows)
        # Rows far from the origin would lose their differences to rounding.
        self.register_buffer("center", memory.mean(dim=0))
        memory = memory - self.center
        memory = memory[torch.from_numpy(subsample(len(memory), _MAX_MEMORY))]
        self.register_buffer("memory", memory)
        m = len(memory) - 1
        sizes = [1, *(size(m) for size in _SIZES)]
        if self.n_neighbors is not None:
            sizes = [self.n_neighbors]
        self.sizes = [max(1, min(m, size)) for size in sizes]
        # Distances in the neighbourhood of a row are in units of these.
        radii = memory.new_ones(len(memory))
        self.register_buffer("radii", radii)
        self.register_buffer("scales", memory.new_ones(len(self.sizes)))
        if self.n_neighbors is None:
            self.radii = _not_too_small(self._terms(memory)[:, _AROUND])
            terms = self._terms(self.space(held_out) - self.center)
            self.scales = len(self.sizes) * torch.maximum(
                deviation(terms), _SMALLEST * terms.mean(dim=0)
            )
            self.scales[self.scales == 0] = 1.0

    def forward(self, view):
        terms = self._terms(self.space(view) - self.center)
        return (terms / self.scales).sum(dim=1)

    def _terms(self, u):
        """Return the mean squared distance to the rows of each neighbourhood."""
        return torch.cat([self._terms_of_some(part) for part in self._split(u)])

    def _split(self, u):
        return u.split(max(1, _MAX_DISTANCES // len(self.memory)))

    def _terms_of_some(self, u):
        distances, lengths, nearest = self._distances(u)
        smallest = _smallest(distances, max(self.sizes))
        smallest = smallest.add_(lengths[:, None]).clamp_min_(0)
        terms = torch.stack([smallest[:, :k].mean(dim=1) for k in self.sizes], dim=1)
        if self.n_neighbors is None:
            terms[:, 0] /= self.radii[nearest]
        return terms

    def _distances(self, u):
        """Return squared distances to the memory, and where each row's nearest is.

        From the distances of a row its squared length is left out, which is returned
        beside them: it does not change which rows are near, and costs less when it is
        added to those few. A remembered row that is a copy is infinitely far.
        """
        lengths, remembered = _squares(u), _squares(self.memory)
        distances = torch.addmm(remembered, u, self.memory.T, alpha=-2)
        nearest = _nearest(distances)
        gap = distances.gather(1, nearest[:, None])[:, 0] + lengths
        # What rounding leaves of the distance of a row to itself.
        tolerance = max(1e-9, 8 * torch.finfo(u.dtype).eps)
        is_copy = gap <= tolerance * (lengths + remembered[nearest])
        if is_copy.any():
            distances[is_copy, nearest[is_copy]] = torch.inf
            nearest[is_copy] = _nearest(distances[is_copy])
        return distances, lengths, nearest

    def contributions(self, view):
        u = self.space(view) - self.center
        parts = torch.cat([self._contributions_of_some(p) for p in self._split(u)])
        n_features = view.x.shape[1]
        return parts[:, :n_features], parts[:, n_features:].sum(dim=1)

    def _contributions_of_some(self, u):
        """Return the columns' shares in the squared distances that make the score.

        The score is a weighted sum of squared distances to the memory, and these are
        sums over columns.
        """
        distances, _, nearest = self._distances(u)
        order = distances.topk(max(self.sizes), largest=False).indices
        weight = torch.zeros_like(distances)
        for i, k in enumerate(self.sizes):
            # Of rows that are equally near, the one that the score has taken.
            inside = nearest[:, None] if k == 1 else order[:, :k]
            share = (1 / (k * self.scales[i])).expand_as(inside)
            if i == 0:
                share = share / self.radii[inside]
            weight.scatter_add_(1, inside, share)
        # Sum of w (u - m)^2 over the memory, column by column.
        total = weight.sum(dim=1, keepdim=True)
        mean = weight @ self.memory
        square = weight @ self.memory.square()
        return (u.square() * total - 2 * u * mean + square).clamp_min(0)


def _not_too_small(radii):
    usual = radii.mean()
    return radii.clamp_min(_SMALLEST * usual) if usual > 0 else torch.ones_like(radii)


def _squares(rows):
    return rows.square().sum(dim=1)


def _nearest(distances):
    """Return where each row is smallest; on the CPU NumPy is the faster one."""
    if distances.device.type != "cpu":
        return distances.argmin(dim=1)
    return torch.from_numpy(distances.numpy().argmin(axis=1))


def _smallest(distances, k):
    """Return the ``k`` smallest numbers of each row, in order; the rest may be lost.

    On the CPU by a tournament of sorted runs, several times as fast as to sort or to
    partition whole rows. Of two runs of equal length, the smaller half is what is
    smaller of the first number of one and the last of the other, the second and the
    last but one, and so on.
    """
    if distances.device.type != "cpu":
        return distances.topk(k, largest=False).values
    values = distances.numpy()
    n, width = values.shape
    length = max(_RUN, k)
    n_runs = 2 ** math.ceil(math.log2(max(1, width / length)))
    missing = n_runs * length - width
    if missing > 0:
        values = np.pad(values, ((0, 0), (0, missing)), constant_values=np.inf)
    runs = values.reshape(n, n_runs, length)
    runs.sort(axis=2)
    while runs.shape[1] > 1:
        half = runs.shape[1] // 2
        runs = np.minimum(runs[:, :half], runs[:, half:, ::-1])
        runs.sort(axis=2)
    return torch.from_numpy(runs[:, 0, :k])
