"""Some of many rows, the same ones whatever the seed."""

import numpy as np

__all__ = ["subsample"]


def subsample(n_samples, n_kept, weight=None):
    """Return indices of evenly spaced rows, in their order.

    Parameters
    ----------
    n_samples : int
    n_kept : int
        How many to return, if there are as many.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights; given some, rows are evenly spaced along their sum, so that one
        may come several times and each as often as it counts.

    Examples
    --------
    >>> import numpy as np
    >>> subsample(9, 3)
    array([1, 4, 7])
    >>> subsample(3, 3, np.array([1.0, 0.1, 9.0]))
    array([2, 2, 2])
    """
    n_kept = min(n_samples, n_kept)
    wanted = (np.arange(n_kept) + 0.5) / n_kept
    if weight is None:
        return (wanted * n_samples).astype(int)
    passed = np.cumsum(weight) / np.sum(weight)
    return np.searchsorted(passed, wanted, side="right").clip(max=n_samples - 1)
