"""Validation of rows and sample weights given by users."""

import numpy as np
from sklearn.utils.validation import validate_data

from .._compat.sklearn import check_sample_weight
from .arrays import check_namespace, float_dtypes

__all__ = ["DTYPES", "checked_rows", "weighted_rows"]

# Accepted dtypes of rows; others are converted to the first.
DTYPES = [np.float64, np.float32]
# Number of entries above which the time of the full validation is negligible.
_FEW_ENTRIES = 4096


def checked_rows(estimator, X, method):
    """Return validated rows for a method of a fitted estimator.

    `validate_data` takes as long as a small network takes for one row, even if there is
    nothing to convert. It is skipped for small NumPy arrays that need no conversion.
    """
    if _is_plain(estimator, X):
        return X
    check_namespace(X, estimator, method)
    return validate_data(estimator, X, dtype=float_dtypes(X, DTYPES), reset=False)


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


def weighted_rows(X, sample_weight):
    """Return the rows of positive weight, and their weights.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : array-like of shape (n_samples,)

    Returns
    -------
    X : ndarray of shape (n_kept, n_features)
    weight : ndarray of shape (n_kept,), float64, or None
        None if all weights are equal.

    Raises
    ------
    ValueError
        If a weight is negative, or fewer than two are positive.
    """
    weight = check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    counts = weight > 0
    if np.count_nonzero(counts) < 2:
        raise ValueError(
            f"sample_weight is positive for {np.count_nonzero(counts)} rows: at least "
            "2 are required."
        )
    if not counts.all():
        X, weight = X[counts], weight[counts]
    return X, None if np.ptp(weight) == 0 else weight
