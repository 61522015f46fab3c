"""Calls that leave an estimator as it was if they fail."""

from contextlib import contextmanager

from ._compat.sklearn import callback_state

__all__ = ["all_or_nothing"]


@contextmanager
def all_or_nothing(estimator):
    """Restore the attributes of an estimator if its fit fails."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        before |= callback_state(estimator)
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
