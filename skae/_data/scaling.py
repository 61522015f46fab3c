"""Scaling inside the model: from the data's units to the network's, and back."""

import numpy as np

from .affine import AffineMap
from .moments import Moments
from .subsample import subsample

__all__ = ["fit_scaling", "known_statistics", "quartiles_of", "scaling_of", "unit_of"]

# Variance from which its squares are far from the least number of single precision.
_LEAST_SQUARE = 1e-30
# Rows from which quartiles are computed, at most: they are then off by less than a
# hundredth of the standard deviation.
_MAX_ROWS = 2**14
# Interquartile range of a normal distribution of unit variance.
_NORMAL_IQR = 1.3489795003921634
# Departure from a constant value that is rounding, relative to the value, and where
# that is zero.
_ROUNDING = 1e-6, 1e-12


def fit_scaling(kind, rows, sample_weight=None, *, marks_changes=False, blocks=None):
    """Learn the map ``(x - center) / scale`` of each feature from rows.

    Parameters
    ----------
    kind : {"global", "standard", "minmax", "robust", None}
        Centre, then divide by one number for all features (the root of their mean
        variance), by each feature's standard deviation, map each feature's range to
        [-1, 1], or centre at the median and divide by the interquartile range; None
        leaves the data as they are.
    rows : Source
        NaN where an entry is missing: it has no part in anything here. A feature of
        which all are missing counts as one that is always zero.
    sample_weight : ndarray of shape (n_samples,), default=None
    marks_changes : bool, default=False
        What becomes of a feature that does not vary, where each has its own scale. If
        False it is centred, and divided by the largest scale of the others if that is
        below one. If True, values that differ from the constant by more
        than rounding are mapped to plus or minus the root of ``n_samples``, whatever
        their unit: one more row with such a value would have had that distance.
    blocks : Blocks, default=None
        Which columns are indicators of categories: those have the scaling of their
        metric, whatever ``kind`` is.

    Returns
    -------
    scaling : AffineMap
    mean : ndarray of shape (n_features,)
        The weighted mean of the rows, whatever ``kind`` is.

    Raises
    ------
    ValueError
        If squares of the values overflow double precision.
    """
    dtype = np.float32 if rows.dtype.itemsize == 4 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance, low, high = _statistics(rows, sample_weight, dtype)
        if np.isnan(mean).any():
            dtype = np.float64
            mean, variance, low, high = known_statistics(rows, sample_weight)
        constant = low == high
        normal = (variance > _LEAST_SQUARE) & np.isfinite(variance)
        if dtype != np.float64 and not (normal | constant).all():
            mean, variance, *_ = _statistics(rows, sample_weight, np.float64)
    scaling, mean = scaling_of(
        kind,
        (mean, variance, low, high),
        len(rows),
        lambda: _quartiles(rows, sample_weight),
        marks_changes=marks_changes,
        blocks=blocks,
    )
    if rows.dtype.itemsize == 4:
        # Zero in the precision of the rows would be divided by.
        scaling.scale.clamp_(min=float(np.finfo(np.float32).smallest_subnormal))
    return scaling, mean


def scaling_of(kind, statistics, n_rows, quartiles, marks_changes=False, blocks=None):
    """Return the scaling of rows of which the statistics are known; see `fit_scaling`.

    Parameters
    ----------
    kind : {"global", "standard", "minmax", "robust", None}
    statistics : tuple of ndarray of shape (n_features,)
        Mean, variance, smallest and largest value of each feature.
    n_rows : int
    quartiles : callable
        Returns the median, and the interquartile range in units of that of a normal
        distribution.
    marks_changes, blocks
        As `fit_scaling` takes them.
    """
    mean, variance, low, high = statistics
    constant = low == high
    # Rounding leaves the mean of equal numbers a little beside them; divided by the
    # deviation that this makes it would be as large as any signal.
    mean, variance = np.where(constant, [low, 0 * low], [mean, variance])
    if not (np.isfinite(variance).all() and np.isfinite(high - low).all()):
        raise ValueError(
            "X has values whose squares are too large for double precision: "
            f"it ranges from {low.min():.6g} to {high.max():.6g}."
        )
    center, ones = mean, np.ones_like(mean)
    number = ones > 0 if blocks is None else ~blocks.is_indicator
    if kind == "standard":
        scale = np.sqrt(variance)
    elif kind == "global":
        scale = ones * np.sqrt(variance[number].mean() if number.any() else 1.0)
    elif kind == "minmax":
        center, scale = (low + high) / 2, (high - low) / 2
    elif kind == "robust":
        center, scale = quartiles()
        # Where half of the rows are equal, quartiles tell nothing.
        flat = scale == 0
        center, scale = np.where(flat, [mean, np.sqrt(variance)], [center, scale])
    else:
        center, scale = 0 * mean, ones
    if blocks is not None:
        metric = blocks.metric(mean, n_rows)
        center, scale = np.where(number, [center, scale], metric)
        constant &= number
    limit = None
    if marks_changes and constant.any() and kind not in ("global", None):
        relative, absolute = _ROUNDING
        least = np.where(mean == 0, absolute, relative * np.abs(mean))
        scale = np.where(constant, least, scale)
        limit = np.where(constant, np.sqrt(n_rows), np.inf)
    # Noise of the network in a column that does not vary must not exceed the others,
    # whatever their unit.
    unit = min(1.0, scale[number].max(initial=0.0)) or 1.0
    scale = np.where(scale > 0, scale, unit)
    largest = np.maximum(high - center, center - low)
    if (outside := largest / np.finfo(np.float32).max > scale).any():
        j = outside.argmax()
        raise ValueError(
            "X has values that leave the range of single precision when they are "
            f"scaled: column {j} ranges from {low[j]:.6g} to {high[j]:.6g}, and "
            f"scaling={kind!r} divides it by {scale[j]:.6g}. Correct such values, or "
            "pass scaling='standard'."
        )
    return AffineMap(center, scale, limit=limit), mean


def quartiles_of(drawn):
    """Return the median and the interquartile range of rows; see `scaling_of`."""
    missing = np.isnan(drawn)
    quantile = np.quantile
    if missing.any():
        quantile = np.nanquantile
        drawn[:, missing.all(axis=0)] = 0.0
    first, median, third = quantile(drawn, [0.25, 0.5, 0.75], axis=0)
    return median, (third - first) / _NORMAL_IQR


def _quartiles(rows, weight):
    """Return the median, and the interquartile range in units of that of a normal."""
    index, table = subsample(len(rows), _MAX_ROWS, weight), rows.stored()
    if table is not None:
        first, median, third = table.take(index).quantiles([0.25, 0.5, 0.75])
        return median, (third - first) / _NORMAL_IQR
    return quartiles_of(rows.take(index).numpy().astype(np.float64))


def unit_of(scaling):
    """Return the length, in the data's units, of a scaled step of length one.

    That is the scale where all features share it; 1.0 where they do not.
    """
    scale = scaling.scale
    return float(scale[0]) if bool((scale == scale[0]).all()) else 1.0


def _statistics(rows, weight, dtype):
    """Return mean, variance, smallest and largest value of each feature: one pass."""
    table = rows.stored()
    if table is not None:
        return table.statistics(weight)
    collected, low, high = Moments(dtype=dtype), np.inf, -np.inf
    for chunk, x in rows.chunks():
        x = x.numpy()
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        collected.add(x, None if weight is None else weight[chunk])
    bounds = low.astype(np.float64), high.astype(np.float64)
    return collected.mean, collected.second, *bounds


def known_statistics(rows, weight=None):
    """Return mean, variance, smallest and largest known value: two passes.

    Parameters
    ----------
    rows : Source
        NaN where an entry is missing. A feature of which all are missing counts as one
        that is always zero.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.
    """
    n_features = rows.shape[1]
    low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
    center = np.zeros(n_features)
    for _ in range(2):
        # The second pass is about the mean that the first one has found.
        shift = center
        sums, squares, total = np.zeros((3, n_features))
        for chunk, x in rows.chunks():
            x = x.numpy().astype(np.float64)
            known = ~np.isnan(x)
            low = np.minimum(low, np.where(known, x, np.inf).min(axis=0))
            high = np.maximum(high, np.where(known, x, -np.inf).max(axis=0))
            counts = known * (1.0 if weight is None else weight[chunk, np.newaxis])
            x = np.where(known, x - shift, 0.0)
            total += counts.sum(axis=0)
            sums += (counts * x).sum(axis=0)
            squares += (counts * x**2).sum(axis=0)
        offset = sums / np.where(total > 0, total, 1.0)
        center = shift + offset
    variance = squares / np.where(total > 0, total, 1.0) - offset**2
    empty = total == 0
    low, high = np.where(empty, 0.0, [low, high])
    return center, np.maximum(variance, 0.0), low, high
