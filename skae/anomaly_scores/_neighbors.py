"""Anomaly scores from distances to stored training rows."""

from numbers import Integral

import numpy as np
import torch

from .._compat.sklearn import Interval, StrOptions
from .._data.source import chunk_rows
from .._data.subsample import subsample
from ._base import AnomalyScore, Joint, Scorer, View, deviation, spread

__all__ = ["Neighbors"]

# Training rows that are stored, at most. The cost is proportional to their number;
# other numbers are compared in tests/benchmarks/bench_constants.py.
_MAX_MEMORY = 1024
# Distances that are held at once: few enough for the cache of a processor core.
_MAX_DISTANCES = 2**17
# Exponent of the spread by which each column of residual and code is divided: halfway
# between the metric of the data (0) and that of Mahalanobis (1); compared with others
# in tests/benchmarks/bench_constants.py.
_WHITENING = 0.5
# Neighbourhood sizes besides the nearest row, as functions of the number m of stored
# rows; compared with others in tests/benchmarks/bench_constants.py.
_SIZES = (lambda m: round(m**0.5), lambda m: m // 8)
# Index of the neighbourhood size whose mean squared distance measures the spacing of
# rows around a stored row; compared in tests/benchmarks/bench_constants.py.
_AROUND = 2
# Lower bound of a unit, relative to the mean squared distance: rows that are closer
# are duplicates. Varied in tests/benchmarks/bench_constants.py.
_SMALLEST = 1e-3
# Rows are copies if no entry differs by more than single precision loses in scaling,
# relative to the entry and the spread of its column. Centring loses digits in
# proportion to the mean: this allows for means of a hundred standard deviations. It is
# the same for float64 rows, so that scores do not depend on the dtype.
_ROUNDING = 128 * torch.finfo(torch.float32).eps


class Neighbors(AnomalyScore):
    r"""Squared distance to the nearest of the stored training rows.

    At most 1,024 training rows are stored, one drawn from each of as many equal strata
    of the table, with a fixed seed. The score of a row is the mean squared distance to
    its ``n_neighbors`` nearest stored rows. A stored row is not its own neighbour: one
    copy, all of whose scaled entries are equal up to rounding errors of single
    precision, is left out, both for training rows and for new ones.

    By default several neighbourhood sizes are combined. The first is the nearest row,
    in units of the spacing of rows around *it* (the idea of the local outlier factor
    [1]_), so that rows in sparse regions are not flagged merely for that. The others
    are the :math:`\sqrt m` and :math:`m / 8` nearest of the :math:`m` stored rows. The
    first detects novelties among normal rows. The last is not misled by a group of
    outliers among the stored rows, unless the group is as large. Each of the three is
    divided by its mean absolute deviation from the median over validation rows; the
    score is their mean.

    Distances are computed in double precision, so that float32 and float64 rows have
    the same scores up to the rounding errors of the rows.

    Parameters
    ----------
    n_neighbors : int, default=None
        Number of nearest stored rows, if only one neighbourhood size is to be used.
        None combines several; see above. If fewer rows are stored (the row itself not
        counted), all of them are used.

    space : {"joint", "data"}, default="joint"
        Where distances are measured.

        - "joint": residual and latent code side by side. Each column is divided by the
          square root of its spread, of residuals over validation rows and of codes over
          training rows. This is halfway between the metric of the data, in which the
          residual hardly counts, and that of :class:`Mahalanobis`, in which noise
          counts as much as structure.
        - "data": the scaled rows themselves; the network is not used.

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
        """Return a module that stores training rows; see `AnomalyScore.build`."""
        space = _Data() if self.space == "data" else Joint(_WHITENING)
        return _Neighbors(space, self.n_neighbors)


class _Data(torch.nn.Module):
    """The scaled rows themselves."""

    def start(self, rows, held_out):
        pass

    def forward(self, view):
        return view.x


class _Neighbors(Scorer):
    # It can be traced by torch.export and torch.onnx: no branch looks at values, and
    # NumPy computes in inference mode only.

    def __init__(self, space, n_neighbors):
        super().__init__()
        self.space = space
        self.n_neighbors = n_neighbors

    def start(self, rows, held_out):
        self.space.start(rows, held_out)
        memory = self.space(rows)
        # Far from the origin, differences of rows would be lost to rounding.
        self.register_buffer("center", memory.mean(dim=0))
        kept = torch.from_numpy(subsample(len(memory), _MAX_MEMORY))
        self.register_buffer("memory", memory[kept] - self.center)
        # Copies are told by the scaled rows, which depend on neither the network nor
        # the batch. In the space of the data the memory has them.
        in_data = isinstance(self.space, _Data)
        self.register_buffer("stored", None if in_data else rows.x[kept])
        self.register_buffer("middle", rows.x.mean(dim=0))
        self.register_buffer("size", spread(rows.x - self.middle))
        m = len(kept) - 1
        sizes = [1, *(size(m) for size in _SIZES)]
        if self.n_neighbors is not None:
            sizes = [self.n_neighbors]
        self.sizes = [max(1, min(m, size)) for size in sizes]
        # Spacing of rows around each stored row, and the unit of each size.
        self.register_buffer("radii", memory.new_ones(len(kept)))
        self.register_buffer("scales", memory.new_ones(len(self.sizes)))
        if self.n_neighbors is None:
            stored = View(*(part[kept] for part in rows))
            self.radii = _not_too_small(self._all_terms(stored)[:, _AROUND])
            terms = self._all_terms(held_out)
            self.scales = len(self.sizes) * torch.maximum(
                deviation(terms), _SMALLEST * terms.mean(dim=0)
            )
            self.scales[self.scales == 0] = 1.0

    def forward(self, view):
        return (self._all_terms(view) / self.scales).sum(dim=1).to(view.x.dtype)

    def contributions(self, view):
        parts = self._in_pieces(self._contributions, view).to(view.x.dtype)
        n_features = view.x.shape[1]
        return parts[:, :n_features], parts[:, n_features:].sum(dim=1)

    def _all_terms(self, view):
        """Return the mean squared distance for each neighbourhood size."""
        return self._in_pieces(self._terms, view)

    def _in_pieces(self, function, view):
        u = _double(self.space(view)) - self.center
        if _is_traced():
            return function(u, view.x)
        n_rows = chunk_rows(len(self.memory), _MAX_DISTANCES)
        pieces = zip(u.split(n_rows), view.x.split(n_rows), strict=True)
        return torch.cat([function(*piece) for piece in pieces])

    def _terms(self, u, x):
        distances, nearest = self._distances(u, x)
        # The sum of squared differences has all digits of the smallest distance.
        smallest = _squares(u - _double(self.memory[nearest[:, 0]]))[:, None]
        n_others = max(self.sizes) - 1
        if n_others > 0:
            distances.scatter_(1, nearest, torch.inf)
            others = _smallest(distances, n_others) + _squares(u)[:, None]
            smallest = torch.cat([smallest, others.clamp_min(0)], dim=1)
        terms = [smallest[:, :k].mean(dim=1) for k in self.sizes]
        if self.n_neighbors is None:
            terms[0] = terms[0] / self.radii[nearest[:, 0]]
        return torch.stack(terms, dim=1)

    def _distances(self, u, x):
        """Return squared distances to the stored rows, and the index of the nearest.

        The squared length of each row is not added: it does not change the order, and
        to add it to the few distances that are used is cheaper. A stored row of which
        ``x`` is a copy is infinitely far away.
        """
        memory = _double(self.memory)
        distances = torch.addmm(_squares(memory), u, memory.T, alpha=-2)
        first = _nearest(distances)
        rounding = _ROUNDING * (self.size + (x - self.middle).abs())
        rows, stored = (u, memory) if self.stored is None else (x, self.stored)
        differences = (rows - stored[first[:, 0]]).abs()
        is_copy = (differences <= rounding).all(dim=1, keepdim=True)
        # Detached: of this entry no gradient is needed, and gather would keep it.
        without = torch.where(is_copy, torch.inf, distances.detach().gather(1, first))
        distances.scatter_(1, first, without)
        return distances, _nearest(distances)

    def _contributions(self, u, x):
        """Return the share of each column in the score.

        The score is a weighted sum of squared distances to the stored rows, and these
        are sums over columns.
        """
        distances, nearest = self._distances(u, x)
        order = distances.topk(max(self.sizes), largest=False).indices
        weight = torch.zeros_like(distances)
        for i, k in enumerate(self.sizes):
            # Of rows at the same distance, the one that the score has used.
            inside = nearest if k == 1 else order[:, :k]
            share = (1 / (k * self.scales[i])).to(weight).expand_as(inside)
            if i == 0:
                share = share / self.radii[inside]
            weight.scatter_add_(1, inside, share)
        # Sum of w (u - m)^2 over the stored rows, column by column.
        memory = _double(self.memory)
        total = weight.sum(dim=1, keepdim=True)
        mean = weight @ memory
        square = weight @ memory.square()
        return (u.square() * total - 2 * u * mean + square).clamp_min(0)


def _not_too_small(radii):
    usual = radii.mean()
    return radii.clamp_min(_SMALLEST * usual) if usual > 0 else torch.ones_like(radii)


def _squares(rows):
    return rows.square().sum(dim=1)


def _double(rows):
    """Return rows in double precision, which devices of type "mps" do not have."""
    return rows if rows.device.type == "mps" else rows.double()


def _is_traced():
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _use_numpy(distances):
    """Return whether NumPy, the faster one on the CPU, may select distances.

    Outside of inference mode gradients may be needed, and traces record torch only.
    """
    on_cpu = distances.device.type == "cpu"
    return on_cpu and torch.is_inference_mode_enabled() and not _is_traced()


def _nearest(distances):
    """Return the index of the smallest number of each row, of shape (n_rows, 1)."""
    if _use_numpy(distances):
        return torch.from_numpy(distances.numpy().argmin(axis=1, keepdims=True))
    return distances.argmin(dim=1, keepdim=True)


def _smallest(distances, k):
    """Return the ``k`` smallest numbers of each row, in ascending order."""
    if _use_numpy(distances):
        first = np.partition(distances.numpy(), k - 1, axis=1)[:, :k]
        return torch.from_numpy(np.sort(first, axis=1))
    return distances.topk(k, largest=False).values
