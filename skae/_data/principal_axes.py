"""Principal axes of weighted rows: PCA, where training starts."""

from copy import copy
from numbers import Integral

import numpy as np
import torch
from scipy import linalg
from sklearn.utils.extmath import svd_flip

from .._component import Statistics
from .centered import ChunkProducts, SparseProducts, TurnedProducts, centered
from .subsample import subsample

__all__ = ["PrincipalAxes"]

# Numbers up to which a table is small: its whole spectrum is computed, in double
# precision.
_FEW_ENTRIES = 2**20
# Columns up to which all axes are computed, however few are needed.
_FEW_COLUMNS = 128
# Below this many rows or columns the axes are exact, above it they are found by
# iteration, where their number is known and small (as scikit-learn's PCA does).
_MAX_EXACT = 1000
# Passes of the iteration, and directions it looks for beyond those asked for.
_N_PASSES = 5
_N_MORE = 10
# Where their number follows from a share of the variance: directions of a block; the
# part of the width that their space, and the number of axes, may reach. With more, all
# axes at once are faster.
_N_DIRECTIONS = 40
_MAX_SPACE = 4
_MAX_NEEDED = 8
# The number is settled if so many times what the last pass has added to the sum of the
# variances would not change it, and is less than this share of what remains.
_MANY_TIMES = 100
_MAX_UNSETTLED = 1e-2
# Error of the sum of variances, as a share of the largest one, in double precision.
_DOUBLE_ERROR = 1e-10
# Norm of a direction orthogonal to a space, as a share of its block's norm, below which
# it is rounding noise.
_NOISE = 1e-6
# Square of that norm for a column's direction, below which the column is not tried: it
# is far above the square of rounding noise, and far below the mean over all columns.
_LEAST_LEFT = 1e-8
# Entries above which, and share of stored ones up to which, a sparse table is
# decomposed by its stored entries. Others are read in chunks, as dense rows are: their
# axes are those of dense rows to the last bit, which training depends on.
_MIN_ENTRIES = 2**22
_MAX_DENSITY = 0.05
# Rows and columns of a sparse table up to which its whole spectrum is computed, in half
# a minute. For dense rows there is no such limit, which are few where they are wide.
_MAX_WHOLE = 4096
# Number of components that "auto" stands for, at most, where both are more.
_MAX_AUTO = 128
# Leverage above which a row lies outside the span of the others.
_ALONE = 1 - 1e-6
# Weight of the variance of a column relative to the leave-one-out residuals.
_TRUST = 1e-3
# Error of the variances in single precision, as a share of the largest one: above all
# that tests/benchmarks/bench_constants.py measures. Usual spectra stay below 3e-8,
# columns of zeros and ones reach 6e-7 there, and 2.6e-6 if there are 8,000 of them.
_SINGLE_ERROR = 4e-6
# Shares of PCA's residual: what this error may add to it by turning the axes, and by
# how much it may change the residual that is read off the spectrum.
_MAX_EXCESS = 1e-4
_MAX_SHIFT = 1e-3
# Rows that the parts may look at before training; and where a sparse table is wide,
# entries and rows.
_MAX_ROWS = 4096
_MAX_READ = 2**24
_MIN_ROWS = 256


class PrincipalAxes:
    """Principal axes of the scaled training rows.

    Parameters
    ----------
    x : Source
        Scaled rows, of shape (n_samples, n_features).
    weight : ndarray of shape (n_samples,) or None
        Sample weights of mean one.
    n_components : int, float, "auto" or None
        Which part of the spectrum is needed, as the estimators understand it.
    random_state : RandomState
        For the iteration on data that are large both ways.
    most : int, default=None
        Largest number of components that "auto" stands for. None is half of the rows or
        of the columns, whichever are fewer.

    Attributes
    ----------
    n_components : int
        Number of components that ``n_components`` stands for.
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    rank : int
        Number of directions in which the rows vary, as far as they were computed.
    total_variance : float
        Sum of the variances of the features.
    """

    def __init__(self, x, weight, n_components, random_state, most=None):
        self._weight = weight
        if n_components is None:
            n_components = min(x.shape)
        large = x.shape[0] * x.shape[1] > _FEW_ENTRIES
        table = x.stored() if large else None
        if table is not None and not _is_sparse(table):
            table = None
        most = min(x.shape) // 2 if most is None else min(most, len(x) // 2)
        self._most = max(1, most)
        n_axes = share = None
        wide = x.shape[1] > _FEW_COLUMNS
        if large and wide and isinstance(n_components, Integral):
            n_axes = min(int(n_components), *x.shape)
        elif table is not None and n_components == "auto" and _is_vast(table):
            n_axes = self._most = _MAX_AUTO
        elif large:
            share = _share_of(n_components)
        # Large tables in single precision are multiplied in it first, at twice the
        # speed.
        single = large and x.dtype == torch.float32 and table is None
        for dtype in (np.float32, np.float64) if single else (np.float64,):
            too_large = None if dtype == np.float64 else "raise"
            try:
                with np.errstate(over=too_large, invalid=too_large):
                    if table is None:
                        rows = ChunkProducts(x, weight, dtype)
                    else:
                        rows = SparseProducts(table, weight)
                    spectrum = _spectrum(rows, dtype, n_axes, share, random_state)
            except FloatingPointError:
                continue  # as double precision will not
            self.mean, self._variance, variances, axes_of = spectrum
            noise = max(x.shape) * np.finfo(np.float64).eps
            if dtype == np.float32:
                noise = _SINGLE_ERROR
            self._keep(variances, noise, n_components)
            if dtype == np.float64 or self._exact_enough():
                break
        self._axes_of = axes_of
        axes = axes_of(min(self.n_components, self.rank))
        n_more = min(self.n_components, x.shape[1]) - self.rank
        if n_more > 0:
            more = _further(
                x, weight, self.mean, self.variance, axes, self._variances, n_more
            )
            axes = np.vstack([axes, more])
        _, self._axes = svd_flip(None, axes, u_based_decision=False)

    @classmethod
    def of_moments(cls, mean, covariance, n_samples, n_components):
        """Return the axes of rows of which only the moments are known.

        Parameters
        ----------
        mean : ndarray of shape (n_features,)
        covariance : ndarray of shape (n_features, n_features)
        n_samples : int
            Number of rows of the moments.
        n_components : int, float, "auto" or None
            As `PrincipalAxes` takes it.
        """
        axes = cls.__new__(cls)
        axes._weight = None
        fewer = min(n_samples, len(mean))
        axes._most = max(1, fewer // 2)
        axes.mean, axes._variance = mean, np.diag(covariance)
        variances, vectors = _largest(covariance, None)
        noise = max(n_samples, len(mean)) * np.finfo(np.float64).eps
        axes._keep(variances, noise, fewer if n_components is None else n_components)
        # Directions without variance, if any, are in the order of the eigenvectors.
        axes._axes_of = lambda k: vectors[:, :k].T
        leading = axes._axes_of(axes.n_components)
        _, axes._axes = svd_flip(None, leading, u_based_decision=False)
        return axes

    def _keep(self, variances, noise, n_components):
        """Keep the variances, of which those below the noise say nothing.

        Variances are squares: what is below the rounding error of the largest one says
        nothing of the data. Rows are equal if all columns vary by less than the
        rounding error of the mean.
        """
        rounding = np.square(np.finfo(np.float64).eps * self.mean)
        if (self._variance <= rounding).all():
            self._variance = np.zeros_like(self._variance)
            variances = np.zeros_like(variances)
        self.total_variance = float(self._variance.sum())
        floor = noise * max(variances[0], 0.0)
        self.rank = int(np.count_nonzero(variances > floor))
        self._variances = variances[: self.rank]
        self.n_components = self._resolve(n_components)

    def _resolve(self, n_components):
        if isinstance(n_components, Integral):
            return int(n_components)
        if self.rank == 0:
            return 1
        share = _share_of(n_components)
        explained = np.cumsum(self._variances) / self.total_variance
        # As PCA: the first component at which the share is exceeded.
        needed = min(
            int(np.searchsorted(explained, share, side="right")) + 1, self.rank
        )
        return min(needed, self._most) if n_components == "auto" else needed

    def _exact_enough(self):
        """Return whether the error of single precision is small beside PCA's residual.

        An error ``e`` of the covariance changes the residual variance by ``e``, and
        turns the last axis towards the discarded ones by at most ``e / variance``,
        which moves ``e**2 / variance`` into the residual. Where PCA is almost perfect
        both are large, compared with the residual.
        """
        k = self.n_components
        # Comparisons with what is not finite are false.
        if not (k <= self.rank and 1e-30 < self.total_variance < 1e30):
            return False
        variances = self._variances[:k]
        left = self.total_variance - variances.sum()
        error = _SINGLE_ERROR * variances[0]
        turned = k * error**2 / variances[-1]
        return turned <= _MAX_EXCESS * left and error <= _MAX_SHIFT * left

    def cut(self, n_components):
        """Return the same axes for another, not larger, number of components."""
        axes = copy(self)
        axes.n_components = n_components
        return axes

    def leading(self, k):
        """Return up to ``k`` axes along which the rows vary, and their variances."""
        k = min(k, self.n_components, self.rank)
        return self._axes[:k], self._variances[:k]

    def whole(self):
        """Return all axes along which the rows vary, and their variances.

        Returns
        -------
        tuple or None
            None where there are so many columns that not all were computed.
        """
        if len(self.mean) > _FEW_COLUMNS:
            return None
        return self._axes_of(self.rank), self._variances

    def statistics(self, x):
        """Return what components may know, for the resolved number of components.

        Parameters
        ----------
        x : Source
            The rows that the axes are of.

        Returns
        -------
        Statistics
        """
        k = self.n_components
        n_features = len(self.mean)
        axes = np.zeros((k, n_features))
        variances = np.zeros(k)
        # Further axes, if there are any, have no variance.
        there = min(k, len(self._axes))
        axes[:there] = self._axes[:there]
        kept = min(k, self.rank)
        variances[:kept] = self._variances[:kept]
        left_out = max(n_features - kept, 1)
        n_rows = _MAX_ROWS
        if x.stored() is not None:
            n_rows = min(n_rows, max(_MIN_ROWS, _MAX_READ // n_features))
        index = torch.from_numpy(subsample(len(x), n_rows, self._weight))
        return Statistics(
            mean=torch.from_numpy(self.mean),
            axes=torch.from_numpy(axes),
            variances=torch.from_numpy(variances),
            noise_variance=max(self.total_variance - variances.sum(), 0.0) / left_out,
            read=lambda: x.take(index),
        )

    @property
    def variance(self):
        """Variance of each scaled feature, float64 of shape (n_features,)."""
        return np.maximum(self._variance, 0.0)

    @property
    def residual_variance(self):
        """Mean squared residual of PCA of each scaled feature, from the spectrum."""
        kept = min(self.n_components, self.rank)
        explained = self._variances[:kept] @ np.square(self._axes[:kept])
        return np.maximum(self._variance - explained, 0.0)


def _is_sparse(table):
    """Return whether products of stored entries are the faster ones."""
    n_entries = np.prod(table.matrix.shape)
    return n_entries > _MIN_ENTRIES and table.matrix.nnz <= _MAX_DENSITY * n_entries


def _is_vast(table):
    """Return whether a whole spectrum is out of reach."""
    return min(table.matrix.shape) > _MAX_WHOLE


def _share_of(n_components):
    """Return the share of the variance that a number of components stands for."""
    return 0.9 if n_components == "auto" else n_components


def _spectrum(rows, dtype, n_axes, share, random_state):
    """Decompose rows, in the way that is the fastest for their shape.

    Parameters
    ----------
    rows : ChunkProducts or SparseProducts
    dtype : dtype
        Precision of the products of rows.
    n_axes : int or None
        How many axes are needed; all where it is None.
    share : float or None
        Share of the total variance up to which they are needed instead.
    random_state
        As `PrincipalAxes` takes it.

    Returns
    -------
    mean : ndarray of shape (n_features,)
    variance : ndarray of shape (n_features,)
        Of each feature.
    variances : ndarray
        Along the axes, largest first.
    axes_of : callable
        Returns that many axes, an ndarray of shape (n_axes, n_features).
    """
    n_samples, n_features = rows.shape
    smaller = min(rows.shape)
    n_directions = smaller if n_axes is None else n_axes + _N_MORE
    if smaller > _MAX_EXACT and 4 * n_directions * _N_PASSES < smaller:
        return _by_iteration(rows, n_directions, random_state)
    if smaller > _MAX_EXACT and share is not None:
        found = _by_share(rows, dtype, share)
        if found is not None:
            return found
        if isinstance(rows, SparseProducts) and smaller > _MAX_WHOLE:
            raise ValueError(
                f"n_components={share} asks for so many components that the whole "
                f"spectrum of a sparse X of shape {rows.shape} would be needed: pass "
                "their number, an int, or 'auto'."
            )
    if n_features <= n_samples:
        mean, covariance = rows.covariance()
        variances, vectors = _largest(covariance, n_axes)
        variance = np.diag(covariance)
        return mean, variance, variances, lambda k: vectors[:, :k].T
    mean, variance = rows.moments()
    if n_samples * n_features <= _FEW_ENTRIES:
        _, singular, axes = linalg.svd(rows.whole(), full_matrices=False)
        return mean, variance, singular**2 / n_samples, lambda k: axes[:k]
    # Few rows of many features: by the scalar products of the rows.
    variances, vectors = _largest(rows.gram() / n_samples, n_axes)
    return mean, variance, variances, _axes_from(rows, vectors)


def _axes_from(rows, vectors):
    """Return a function that returns that many axes, from directions of the rows."""

    def axes_of(k):
        axes = rows.combined(vectors[:, :k])
        return axes / linalg.norm(axes, axis=1, keepdims=True)

    return axes_of


def _largest(products, n_axes):
    """Return the largest eigenvalues of a symmetric matrix, and their vectors."""
    size = len(products)
    subset = None if n_axes is None else [size - n_axes, size - 1]
    values, vectors = linalg.eigh(products, subset_by_index=subset)
    return values[::-1], vectors[:, ::-1]


def _by_iteration(rows, n_directions, random_state):
    """Decompose rows that are large both ways: by a block Krylov iteration.

    The covariance itself is never there, only its product with some directions, in
    one pass over the rows. All products are kept, and the axes taken from the space
    of them all: after five passes these are nearer than after the eight of power
    iteration in :func:`~sklearn.utils.extmath.randomized_svd` [1]_.

    .. [1] Musco & Musco, "Randomized Block Krylov Methods for Stronger and Faster
       Approximate Singular Value Decomposition", NeurIPS 2015.
    """
    mean, variance = rows.moments()
    n_samples, n_features = rows.shape
    # Of few rows that are wide, the products with all features take the longest.
    turned = isinstance(rows, SparseProducts) and n_samples < n_features
    for basis, images in _growing(  # noqa: B007 - the last ones are used
        TurnedProducts(rows) if turned else rows, n_directions, random_state, _N_PASSES
    ):
        pass
    variances, vectors = _largest(basis.T @ images / n_samples, n_directions)
    if turned:
        return mean, variance, variances, _axes_from(rows, basis @ vectors)
    return mean, variance, variances, _axes_in(basis, vectors)


def _by_share(rows, dtype, share):
    """Decompose rows as far as a share of the variance needs it, by the iteration.

    The total variance is known exactly, so that the others need not be: the iteration
    goes on until the sum of the largest variances says how many are needed. These sums
    only grow, from below. The number is settled when what is missing for one component
    less is far more than the last pass has added.

    Returns
    -------
    tuple or None
        As `_spectrum` returns it; None where many axes are needed, or where the number
        remains in doubt: all are then found faster at once.
    """
    n_samples, n_features = rows.shape
    smaller = min(rows.shape)
    if isinstance(rows, SparseProducts):
        smaller = min(smaller, _MAX_WHOLE)
    mean, variance = rows.moments()
    total = variance.sum()
    wanted = share * total
    n_passes = smaller // (_MAX_SPACE * _N_DIRECTIONS)
    # Seeds do not change what is found, but for its last digits.
    random_state = np.random.RandomState(0)
    error = _SINGLE_ERROR if dtype == np.float32 else _DOUBLE_ERROR
    before = None
    for basis, images in _growing(rows, _N_DIRECTIONS, random_state, n_passes):
        images = images / n_samples
        if before is None:
            # The sum of k variances is at most the root of k times the sum of all
            # squares, and random directions show how large that is.
            squares = np.square(images).sum() * n_features / basis.shape[1]
            least = wanted**2 / squares if squares > 0 else np.inf
            before = np.zeros(1)
        else:
            variances, vectors = _largest(basis.T @ images, None)
            sums = np.cumsum(variances)
            # All further variances are at most as large as the last that is known well.
            known = min(_N_DIRECTIONS, len(sums)) - 1
            least = known + (wanted - sums[known]) / max(variances[known], 1e-300)
            k = int(np.searchsorted(sums, wanted, side="right")) + 1
            if k <= len(before) and k < len(sums):
                missing = wanted - (sums[k - 2] if k > 1 else 0.0)
                spare = sums[k - 1] - wanted
                added = max(sums[k - 1] - before[k - 1], 0.0)
                left = max(total - sums[k - 1], 0.0)
                sure = min(missing, spare) > error * variances[0]
                settled = min(missing, _MAX_UNSETTLED * left)
                if sure and _MANY_TIMES * added < settled:
                    return mean, variance, variances[:k], _axes_in(basis, vectors)
            before = sums
        if not least <= smaller / _MAX_NEEDED:
            return None
    return None


def _axes_in(basis, vectors):
    """Return a function that returns that many axes, from those in a space."""
    return lambda k: (basis @ vectors[:, :k]).T


def _growing(rows, n_directions, random_state, n_passes):
    """Yield a growing basis, and its product with n times the covariance matrix.

    Each pass over the rows adds the images of the last directions to the basis.
    """
    n_features = rows.shape[1]
    block = random_state.normal(size=(n_features, n_directions))
    basis, images = np.empty((n_features, 0)), np.empty((n_features, 0))
    for _ in range(n_passes):
        block = _orthogonal(block, basis)
        if block.shape[1] == 0:
            break  # the space is all there is
        image = rows.image(block)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        yield basis, images
        block = image


def _orthogonal(block, basis):
    """Return directions of a block that are not in a space, orthonormal; maybe none."""
    size = linalg.norm(block)
    # Twice: what was all but in the space is noise after the first time.
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
        block, triangle, _ = linalg.qr(block, mode="economic", pivoting=True)
        # What is left of a direction that was in the space is noise, which would be
        # made as large as the others.
        block = block[:, np.abs(np.diag(triangle)) > _NOISE * size]
        size = 1.0
    return block


def _further(x, weight, mean, variance, axes, variances, n_more):
    """Return directions in which the rows do not vary, orthonormal, for new rows.

    PCA has such axes too, those of rounding noise. Which directions new rows will vary
    in is more than the training rows can tell. There are two kinds: columns that were
    constant, and relations between the others, such as two columns that were equal.
    Both get half of the axes, in turn: with all of them for one kind the error of new
    rows would be above that of PCA where it is the other one that varies.

    Parameters
    ----------
    x, weight
        As `PrincipalAxes` takes them.
    mean, variance : ndarray of shape (n_features,)
    axes : ndarray of shape (rank, n_features)
        All in which the rows vary.
    variances : ndarray of shape (rank,)
    n_more : int
        At most ``n_features - rank``.

    Returns
    -------
    ndarray of shape (n_more, n_features)
    """
    n_samples, n_features = x.shape
    rank = len(axes)
    # Rounding may have left axes of small variance a little oblique.
    basis = linalg.qr(axes.T, mode="economic")[0] if rank else axes.T
    noise = max(x.shape) * np.finfo(np.float64).eps
    constant = variance <= noise * variance.max()
    # Rows of which none depends on the others: as good as any, each will lie outside of
    # their span, most of all in the columns of large variance.
    independent = rank >= n_samples - 1
    expected = variance
    if rank and not independent:
        left = np.maximum(1 - np.square(basis).sum(axis=1), _LEAST_LEFT)
        unseen = _unseen(x, weight, mean, axes, variances)
        expected = unseen / left + _TRUST * variance
    kinds = [np.where(constant, 1.0, 0.0), np.where(constant, 0.0, expected)]
    n_constant = min(int(constant.sum()), n_features - rank)
    counts = [n_constant, n_features - rank - n_constant]
    if independent:
        kinds.reverse()
        counts.reverse()
    second = min(counts[1], max(n_more // 2, n_more - counts[0]))
    parts = []
    for wanted, count in zip(kinds, (n_more - second, second), strict=True):
        part = _spanned(basis, wanted, count)
        basis = np.hstack([basis, part])
        parts.append(part)
    # What rounding kept from being found, if anything.
    n_found = basis.shape[1] - rank
    rest = _spanned(basis, np.ones(n_features), n_more - n_found)
    # In turn, so that fewer components have axes of both kinds, too.
    places = [2 * np.arange(part.shape[1]) + i for i, part in enumerate(parts)]
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.hstack([np.hstack(parts)[:, order], rest]).T


def _unseen(x, weight, mean, axes, variances):
    """Return mean squares, by column, of what rows have outside of the others' span.

    That is zero for a row that depends on others, and else the residual of the row if
    it were left out, which follows from the decomposition of all rows.
    """
    n_samples, n_features = x.shape
    total = np.zeros(n_features)
    for chunk, rows in centered(x, weight, np.float64, mean):
        scores = rows @ axes.T
        share = 1.0 if weight is None else weight[chunk]
        leverage = (np.square(scores) / variances).sum(axis=1) + share
        alone = leverage > _ALONE * n_samples
        dual = scores[alone] / variances
        dual *= n_samples / np.square(dual).sum(axis=1, keepdims=True)
        total += np.square(dual @ axes).sum(axis=0)
    return total / n_samples


def _spanned(basis, wanted, count):
    """Return orthonormal directions outside of a space, from columns by their worth.

    Parameters
    ----------
    basis : ndarray of shape (n_features, n_directions)
        Orthonormal.
    wanted : ndarray of shape (n_features,)
        Worth of the direction of each column; zero is not to be taken.
    count : int
        Number of directions.

    Returns
    -------
    ndarray of shape (n_features, at most count)
    """
    n_features = len(wanted)
    found = np.empty((n_features, 0))
    space = basis
    while found.shape[1] < count:
        left = 1 - np.square(space).sum(axis=1)
        worth = np.where(left > _LEAST_LEFT, wanted * left, 0.0)
        picked = np.argsort(-worth, kind="stable")[: count - found.shape[1]]
        picked = picked[worth[picked] > 0]
        block = np.zeros((n_features, len(picked)))
        block[picked, np.arange(len(picked))] = 1.0
        # Columns may depend on each other there: then the next ones follow.
        block = _orthogonal(block, space) if len(picked) else block
        if block.shape[1] == 0:
            break
        found = np.hstack([found, block])
        space = np.hstack([space, block])
    return found
