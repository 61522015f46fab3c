"""Validation of rows and sample weights given by users."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from .._compat.sklearn import check_sample_weight
from .arrays import check_namespace, float_dtypes, unwrapped
from .sparse_table import canonical, entries

__all__ = [
    "DTYPES",
    "are_missing",
    "check_flat",
    "checked_rows",
    "checked_weights",
    "has_missing",
    "weighted_rows",
]

# Accepted dtypes of rows; others are converted to the first.
DTYPES = [np.float64, np.float32]
# Numbers of channels of an image: grey, in colours, in colours and transparency.
_CHANNELS = (1, 3, 4)
# Number of entries above which the time of the full validation is negligible.
_FEW_ENTRIES = 4096
# Weights beyond these limits are divided by the largest, so that sums of them, times
# squares of values, are numbers.
_LEAST_WEIGHT, _LARGEST_WEIGHT = 1e-100, 1e100
# Weights that are this share of the largest, or less, are taken for zero.
_NEGLIGIBLE = 1e-14


def checked_rows(estimator, X, method):
    """Return validated rows for a method of a fitted estimator.

    `validate_data` takes as long as a small network takes for one row, even if there is
    nothing to convert. It is skipped for small NumPy arrays that need no conversion.
    """
    if _is_plain(estimator, X):
        return X
    X = unwrapped(X)
    check_flat(X, "X")
    check_namespace(X, estimator, method)
    X = validate_data(
        estimator,
        X,
        accept_sparse="csr",
        dtype=float_dtypes(X, DTYPES),
        reset=False,
        ensure_all_finite="allow-nan",
    )
    return canonical(X)


def has_missing(X):
    """Return whether a table of finite numbers or NaN has a NaN."""
    # The smallest of numbers of which one is NaN is NaN.
    return bool(np.isnan(entries(X).min()))


def are_missing(X):
    """Return for each column whether all its entries are NaN, an ndarray of bool."""
    if not sparse.issparse(X):
        return np.isnan(X).all(axis=0)
    missing = X.indices[np.isnan(X.data)]
    return np.bincount(missing, minlength=X.shape[1]) == X.shape[0]


def check_flat(X, name, to_fit=None):
    """Check that rows are vectors, not images or windows.

    Parameters
    ----------
    X : array-like
    name : str
        Name of ``X`` in the message.
    to_fit : estimator, default=None
        An estimator that is about to be fitted, whose architecture can still be
        changed.

    Raises
    ------
    ValueError
        The message has the call of ``reshape`` to make, and the shape that `Conv` is to
        get, where it has another one.
    """
    shape = _shape(X)
    if len(shape) < 3:
        return
    channels, lengths, channels_first = 1, shape[1:], name
    if len(shape) > 3 or shape[-1] == 1:
        if shape[-1] in _CHANNELS and shape[1] not in _CHANNELS:
            *lengths, channels = shape[1:]
            if channels > 1:
                channels_first = f"np.moveaxis({name}, -1, 1)"
        elif len(shape) > 3:
            channels, *lengths = shape[1:]
    remedy = f"{channels_first}.reshape({shape[0]}, -1)"
    input_shape = (channels, *lengths)
    known = getattr(getattr(to_fit, "architecture", None), "input_shape", ())
    if to_fit is not None and tuple(known) != input_shape and len(input_shape) <= 4:
        remedy += f", and architecture=Conv({input_shape}) for convolutions"
    raise ValueError(
        f"{name} has shape {shape}, but must have one flat row per sample: pass "
        f"{remedy}."
    )


def _shape(X):
    """Return the shape of an array or of a list of arrays; () of other objects.

    These include lazy collections that do not know their number of rows.
    """
    if isinstance(X, (list, tuple)) and len(X) > 0 and np.ndim(X[0]) > 1:
        return len(X), *np.shape(X[0])
    shape = getattr(X, "shape", ())
    known = isinstance(shape, tuple) and all(isinstance(n, Integral) for n in shape)
    return tuple(map(int, shape)) if known else ()


def _is_plain(estimator, X):
    """Return whether ``X`` is a small, finite array that needs no conversion."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype in DTYPES
        and 0 < X.size <= _FEW_ENTRIES
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and isinstance(estimator.mean_, np.ndarray)
        and bool(np.isfinite(X).all())
    )


def checked_weights(sample_weight, X):
    """Return weights of rows, float64, of which only the ratios matter.

    Raises
    ------
    ValueError
        If there is not one for each row, or one is negative or not finite.
    """
    weight = check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    largest = weight.max(initial=0.0)
    if largest == 0 or _LEAST_WEIGHT <= largest <= _LARGEST_WEIGHT:
        return weight
    return weight / largest


def weighted_rows(X, sample_weight):
    """Return which rows have positive weight, and their weights.

    Those that are negligible beside the largest are not: they change no sum, but a
    column that varies in such rows only would have a deviation far below its values.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
    sample_weight : array-like of shape (n_samples,) or None

    Returns
    -------
    kept : slice or ndarray of bool of shape (n_samples,)
    weight : ndarray of shape (n_kept,), float64, or None
        None if all weights are equal.

    Raises
    ------
    ValueError
        If a weight is negative, or fewer than two are positive.
    """
    if sample_weight is None:
        return slice(None), None
    weight = checked_weights(sample_weight, X)
    counts = weight > _NEGLIGIBLE * weight.max(initial=0.0)
    if np.count_nonzero(counts) < 2:
        n_rows = np.count_nonzero(counts)
        few = "positive" if n_rows == np.count_nonzero(weight) else "not negligible"
        raise ValueError(
            f"sample_weight is {few} for {n_rows} rows: at least 2 are required."
        )
    kept = slice(None) if counts.all() else counts
    weight = weight[kept]
    return kept, None if np.ptp(weight) == 0 else weight
