"""Anomaly scores from distances to stored training rows."""

from numbers import Integral, Real

import numpy as np
import torch

from .._compat.sklearn import Interval, StrOptions
from .._compat.torch import is_traced
from .._data.source import chunk_rows
from .._data.subsample import subsample
from ._base import AnomalyScore, Joint, Scorer, spread
from ._ranks import Ranks, Surprise, shared_out

__all__ = ["Neighbors"]

# Training rows that are stored, at most. The cost is proportional to their number;
# other numbers are compared in tests/benchmarks/bench_constants.py.
_MAX_MEMORY = 1024
# Distances that are held at once. With a quarter of them, scores of 40,000 rows took a
# sixth longer (bench_predict.py); twice as many gained nothing.
_MAX_DISTANCES = 2**19
# Exponent of the spread by which each column of residual and code is divided: halfway
# between the metric of the data (0) and that of Mahalanobis (1); compared with others
# in tests/benchmarks/bench_constants.py.
_WHITENING = 0.5
# Nearest rows of the first neighbourhood size. This one, _RELATIVE and _AROUND are
# compared with others in tests/benchmarks/bench_constants.py.
_NEAR = 3
# Their distances are divided by the spacing of the stored rows to this power: halfway
# between the distance (0) and a ratio of densities (1), as with the spreads.
_RELATIVE = 0.5
# The spacing at a stored row is the mean squared distance to so many others, relative
# to its median over all stored rows. It is at least the second number, so that rows
# beside copies are not infinitely far away; other values were hardly different.
_AROUND, _LEAST_SPACING = 5, 0.1
# The second is this share of the stored rows, or of every other one, every third and so
# on if more than this number are left.
_FAR = 1 / 8
_ENOUGH = 128
# Up to so many nearest rows are found one after the other, which is faster.
_FEW = 8
# Squared distances below this, relative to those of rows to the centre, are those of
# equal rows: single precision leaves as much where columns that hardly vary are
# stretched.
_EQUAL = 1e-7
# The same where the score is the distance itself, which has all digits.
_SAME = 1e-12
# The same for the squared distances of stored rows to their centre, relative to the
# distance of the centre to the origin, in double precision.
_EPSILON = 1e-20
# Suspected rows are left out in so many steps.
_ROUNDS = 4
# Rows are copies if no entry differs by more than single precision loses in scaling,
# relative to the entry and the spread of its column. Centring loses digits in
# proportion to the mean: this allows for means of a hundred standard deviations. It is
# the same for float64 rows, so that scores do not depend on the dtype.
_ROUNDING = 128 * torch.finfo(torch.float32).eps


class Neighbors(AnomalyScore):
    r"""Squared distance to the nearest of the stored training rows.

    At most 1,024 training rows are stored, one drawn from each of as many equal strata
    of the table, with a fixed seed. The distance of a row is the mean squared distance
    to its ``n_neighbors`` nearest stored rows. A stored row is not its own neighbour:
    one copy, all of whose scaled entries are equal up to rounding errors of single
    precision, is left out, both for training rows and for new ones.

    By default two neighbourhood sizes are combined: the 3 nearest stored rows, and the
    nearest eighth of them (to save time, of about 128 of them, evenly spaced). The
    first detects novelties among normal rows. A distance counts more where normal rows
    are dense: for this size, the squared distance to each stored row is divided by the
    square root of the spacing there, the mean squared distance of the stored row to its
    own 5 nearest, but at least a tenth of the median spacing; the 3 smallest quotients
    count. That is halfway between the distance and a ratio of densities, as in
    the local outlier factor [1]_. The second is not misled by a group of outliers among
    the stored rows, unless the group is as large. The two distances are converted to
    one scale, the negative logarithm of the conformal p-value among validation rows
    (see :class:`Combined`); the score is their mean.

    Distances are computed in double precision, so that float32 and float64 rows have
    the same scores up to the rounding errors of the rows. Squared distances below 1e-7
    of the usual one of stored rows to their centre are taken for zero, and below 1e-12
    with ``n_neighbors``.

    Parameters
    ----------
    n_neighbors : int, default=None
        Number of nearest stored rows, if only one neighbourhood size is to be used. The
        score is then the mean squared distance itself. None combines two; see above.
        If fewer rows are stored (the row itself not counted), all of them are used.

    space : {"joint", "data", "quantile"}, default="joint"
        Where distances are measured.

        - "joint": residual and latent code side by side. Each column is divided by the
          square root of its spread, of residuals over validation rows and of codes over
          training rows. This is halfway between the metric of the data, in which the
          residual hardly counts, and that of :class:`Mahalanobis`, in which noise
          counts as much as structure. A column that is constant in training has the
          largest spread of all residuals.
        - "data": the scaled rows themselves; the network is not used.
        - "quantile": the rows with each column mapped to a standard normal
          distribution, by the ranks of the training rows as in
          :class:`~sklearn.preprocessing.QuantileTransformer`; the network is not used.
          Skewed columns and columns with a few extreme values so count as much as
          others. Beyond the training rows the map grows like a logarithm.

    contamination : float, default=0.0
        Share of outliers among the training rows, in [0, 0.5]. If it is positive,
        ``min(0.5, 2 * contamination + 0.05)`` of the stored rows are left out: those
        that are farthest from their nearest eighth of the rows that are left, in four
        steps. About twice as many as there are outliers, because outliers hide among
        each other, and the loss of a few normal rows costs little.

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
        "space": [StrOptions({"joint", "data", "quantile"})],
        "contamination": [Interval(Real, 0, 0.5, closed="both")],
    }

    def __init__(self, n_neighbors=None, *, space="joint", contamination=0.0):
        self.n_neighbors = n_neighbors
        self.space = space
        self.contamination = contamination

    def build(self, loss):
        """Return a module that stores training rows; see `AnomalyScore.build`."""
        spaces = {
            "joint": lambda: Joint(_WHITENING, loss.blocks),
            "data": _Data,
            "quantile": lambda: Ranks(loss.blocks),
        }
        return _Neighbors(spaces[self.space](), self.n_neighbors, self.contamination)


class _Data(torch.nn.Module):
    """The scaled rows themselves."""

    def start(self, rows, held_out):
        pass

    def forward(self, view):
        return view.x


class _Neighbors(Scorer):
    # It can be traced by torch.export and torch.onnx: no branch looks at values, and
    # NumPy computes in inference mode only.

    def __init__(self, space, n_neighbors, contamination):
        super().__init__()
        self.space = space
        self.n_neighbors = n_neighbors
        self.contamination = contamination

    def start(self, rows, held_out):
        self.space.start(rows, held_out)
        memory = self.space(rows)
        # Far from the origin, differences of rows would be lost to rounding.
        self.register_buffer("center", memory.mean(dim=0))
        kept = torch.from_numpy(subsample(len(memory), _MAX_MEMORY))
        kept = kept[_trusted(memory[kept] - self.center, self.contamination)]
        self.register_buffer("memory", memory[kept] - self.center)
        # Copies are told by the scaled rows, which depend on neither the network nor
        # the batch. In the space of the data the memory has them.
        in_data = isinstance(self.space, _Data)
        self.register_buffer("stored", None if in_data else rows.x[kept])
        self.register_buffer("middle", rows.x.mean(dim=0))
        self.register_buffer("size", spread(rows.x - self.middle))
        m = len(kept)
        self.near = max(1, min(m - 1, self.n_neighbors or _NEAR))
        self.register_buffer("weight", torch.ones_like(self.memory[:, 0]))
        self.step = max(1, m // _ENOUGH)
        usual = _squares(self.memory).median()
        # Of rows that are all equal the centring leaves rounding, which is no unit.
        rounding = _EPSILON * self.center.square().sum()
        self.register_buffer("usual", torch.where(usual > rounding, usual, 0.0))
        self.scale = None
        if self.n_neighbors is None:
            self.weight = self._spacing(rows.x[kept]) ** -_RELATIVE
            self.far = max(1, min(m - 1, round(_FAR * len(self.memory[:: self.step]))))
            self.scale = Surprise()
            self.scale.start(self._all_terms(held_out), self.usual)

    @property
    def stored_rows(self):
        if self.stored is not None:
            return self.stored
        return self.memory + self.center  # in the space of the data

    def _spacing(self, x):
        """Return the spacing at each stored row, relative to the usual one."""
        distances = self._distances(self.memory)
        self._leave_out(distances, self.memory, x)
        k = max(1, min(len(distances) - 1, _AROUND))
        spacing = _mean(distances, k)
        # The median does not depend on a few rows that are far out, but is zero if most
        # rows have copies.
        for unit in (spacing.median(), spacing.mean()):
            if _EQUAL * self.usual < unit < torch.inf:
                return (spacing / unit).clamp_min(_LEAST_SPACING)
        # All rows are equal, or there is only one.
        return torch.ones_like(spacing)

    def forward(self, view):
        return self._scores(self._all_terms(view)).mean(dim=1).to(view.x.dtype)

    def _scores(self, terms):
        return terms if self.scale is None else self.scale(terms)

    def contributions(self, view):
        parts = self._in_pieces(self._contributions, view).to(view.x.dtype)
        n_features = view.x.shape[1]
        return parts[:, :n_features], parts[:, n_features:].sum(dim=1)

    def _all_terms(self, view):
        """Return the mean squared distance for each neighbourhood size."""
        return self._in_pieces(self._terms, view)

    def _in_pieces(self, function, view):
        u = _double(self.space(view)) - self.center
        if is_traced():
            return function(u, view.x)
        n_rows = chunk_rows(len(self.memory), _MAX_DISTANCES)
        pieces = zip(u.split(n_rows), view.x.split(n_rows), strict=True)
        return torch.cat([function(*piece) for piece in pieces])

    def _terms(self, u, x):
        distances = self._distances(u)
        # Before distances are changed in place.
        far = None if self.scale is None else self._to_some(distances, u, x)
        self._leave_out(distances, u, x)
        if self.near <= _FEW:
            found = [_nearest(distances)]
            while len(found) < self.near:
                distances.scatter_(1, found[-1], torch.inf)
                found.append(_nearest(distances))
            # The sum of squared differences has all digits of small distances.
            found = torch.cat(found, dim=1)
            squares = (u[:, None] - _double(self.memory)[found]).square().sum(dim=2)
            near = (_double(self.weight)[found] * squares).mean(dim=1)
        else:
            near = _mean(distances, self.near)
        if far is None:
            near = torch.where(near > _SAME * self.usual, near, 0.0)
            return near[:, None]
        terms = torch.stack([near, _mean(far, self.far)], dim=1)
        # Distances of rows that are equal, of which only rounding is left.
        return torch.where(terms > _EQUAL * self.usual, terms, 0.0)

    def _to_some(self, distances, u, x):
        """Return squared distances to every so many of the stored rows.

        One of them of which ``x`` is a copy is left out, whichever copy is left out of
        all: that is a matter of rounding.
        """
        some = distances[:, :: self.step] / _double(self.weight)[:: self.step]
        self._leave_out(some, u, x, self.step)
        return some

    def _distances(self, u):
        """Return weighted squared distances to the stored rows."""
        memory, weight = _double(self.memory), _double(self.weight)
        # One product, in which the squared lengths are weighted too.
        rows = torch.cat([u, _squares(u)[:, None]], dim=1)
        columns = torch.cat([-2 * memory, torch.ones_like(memory[:, :1])], dim=1)
        columns = weight[:, None] * columns
        return torch.addmm(weight * _squares(memory), rows, columns.T)

    def _leave_out(self, distances, u, x, step=1):
        """Put the nearest stored row infinitely far away if ``x`` is a copy of it.

        In place, for distances to every ``step``-th stored row.
        """
        first = _nearest(distances)
        rounding = _ROUNDING * (self.size + (x - self.middle).abs())
        in_data = self.stored is None
        rows, stored = (u, _double(self.memory)) if in_data else (x, self.stored)
        differences = (rows - stored[step * first[:, 0]]).abs()
        is_copy = (differences <= rounding).all(dim=1, keepdim=True)
        # Added, so that the gradient of a nearest row that is no copy is kept.
        without = torch.zeros_like(first, dtype=u.dtype).masked_fill(is_copy, torch.inf)
        distances.scatter_add_(1, first, without)

    def _contributions(self, u, x):
        """Return the part of each column in the score.

        A distance is a weighted mean over stored rows of sums over columns. Its score
        is shared out to the columns as the distance is.
        """
        terms = self._terms(u, x)
        scores = self._scores(terms) / terms.shape[1]
        distances = self._distances(u)
        some = None if self.scale is None else self._to_some(distances, u, x)
        self._leave_out(distances, u, x)
        if self.near > 1:
            inside = distances.topk(self.near, largest=False).indices
        else:
            # Of rows at the same distance, the one that the score has used.
            inside = _nearest(distances)
        used = torch.zeros_like(distances).scatter_(1, inside, 1.0)
        used = [used * _double(self.weight)]
        if self.scale is not None:
            far = self.step * some.topk(self.far, largest=False).indices
            used.append(torch.zeros_like(distances).scatter_(1, far, 1.0))
        memory = _double(self.memory)
        parts = 0
        for score, weight in zip(scores.T, used, strict=True):
            weight = weight / weight.sum(dim=1, keepdim=True)
            # Mean of (u - m)^2 over these rows, column by column.
            mean, square = weight @ memory, weight @ memory.square()
            columns = (u.square() - 2 * u * mean + square).clamp_min(0)
            parts = parts + shared_out(score, columns)
        return parts


def _trusted(rows, contamination):
    """Return which of the stored rows are kept, a boolean tensor."""
    m = len(rows)
    kept = torch.ones(m, dtype=torch.bool)
    n_out = int(min(0.5, 2 * contamination + 0.05) * m) if contamination > 0 else 0
    # Of a single row that is kept, its copy would be left out: nothing would be near.
    n_out = min(n_out, m - 2)
    if n_out <= 0:
        return kept
    squares = _squares(rows)
    distances = torch.addmm(squares + squares[:, None], rows, rows.T, alpha=-2)
    distances.fill_diagonal_(torch.inf)
    for step in range(1, _ROUNDS + 1):
        k = max(1, min(int(kept.sum()) - 1, int(_FAR * m)))
        suspicion = distances[:, kept].topk(k, largest=False).values.mean(dim=1)
        worst = suspicion.argsort(descending=True, stable=True)
        kept = torch.ones(m, dtype=torch.bool)
        kept[worst[: round(n_out * step / _ROUNDS)]] = False
    return kept


def _squares(rows):
    return rows.square().sum(dim=1)


def _mean(distances, k):
    """Return the mean of the ``k`` smallest squared distances of each row."""
    return _smallest(distances, k).clamp_min(0).mean(dim=1)


def _double(rows):
    """Return rows in double precision, which devices of type "mps" do not have."""
    return rows if rows.device.type == "mps" else rows.double()


def _use_numpy(distances):
    """Return whether NumPy, the faster one on the CPU, may select distances.

    Outside of inference mode gradients may be needed, and traces record torch only.
    """
    on_cpu = distances.device.type == "cpu"
    return on_cpu and torch.is_inference_mode_enabled() and not is_traced()


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
