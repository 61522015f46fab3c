"""Some of many rows, the same ones whatever the seed of the fit."""

import numpy as np

__all__ = ["subsample"]


def subsample(n_samples, n_kept, weight=None):
    """Return indices of rows, one drawn from each of ``n_kept`` equal strata.

    The strata follow the order of the rows, so that all parts of a table are there; the
    draw within each, of a fixed seed, keeps the rows from being all of one phase where
    the table has a period (hours of a day).

    Parameters
    ----------
    n_samples : int
    n_kept : int
        How many to return, if there are as many.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights; given some, strata have equal weight, so that a row may come
        several times and each comes as often as it counts.

    Returns
    -------
    ndarray of int
        In increasing order.

    Examples
    --------
    >>> import numpy as np
    >>> subsample(9, 3)
    array([1, 5, 7])
    >>> subsample(3, 3, np.array([1.0, 0.1, 9.0]))
    array([2, 2, 2])
    """
    n_kept = min(n_samples, n_kept)
    if weight is None and n_kept == n_samples:
        return np.arange(n_samples)
    drawn = np.random.RandomState(0).uniform(size=n_kept)
    wanted = (np.arange(n_kept) + drawn) / n_kept
    if weight is None:
        return (wanted * n_samples).astype(int)
    passed = np.cumsum(weight) / np.sum(weight)
    return np.searchsorted(passed, wanted, side="right").clip(max=n_samples - 1)
