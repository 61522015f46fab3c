"""Rows and weights as users give them, made ready or refused."""

import numpy as np
from sklearn.utils.validation import validate_data

from .._compat.sklearn import check_sample_weight
from .arrays import check_namespace, float_dtypes

__all__ = ["DTYPES", "checked_rows", "weighted_rows"]

# Of the rows: others become the first.
DTYPES = [np.float64, np.float32]
# Numbers from which the checks of rows no longer matter beside what is done to them.
_FEW_ENTRIES = 4096


def checked_rows(estimator, X, method):
    """Return rows for a method of a fitted estimator, as :func:`validate_data` does.

    It takes as long as one row takes in a small network to find nothing to do; few rows
    of which that is plain are not shown to it.
    """
    if _is_plain(estimator, X):
        return X
    check_namespace(X, estimator, method)
    return validate_data(estimator, X, dtype=float_dtypes(X, DTYPES), reset=False)


def _is_plain(estimator, X):
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
    """Return the rows that count, and their weights: None where all are equal."""
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
