"""A sample of the rows that came one after the other."""

import math

import numpy as np

__all__ = ["Reservoir"]


class Reservoir:
    """Rows drawn from all that were added, each with the same chance [1]_.

    With a half-life, recent rows are more likely: the chance that a row is there halves
    with so many further rows [2]_.

    Parameters
    ----------
    capacity : int
        Number of rows that are kept, at most.

    Attributes
    ----------
    rows : ndarray of shape (n_kept, n_columns) or None
        None before a row is added.
    n_added : int

    References
    ----------
    .. [1] Vitter, "Random Sampling with a Reservoir", ACM Transactions on Mathematical
       Software 11, 1985, algorithm R.
    .. [2] Aggarwal, "On Biased Reservoir Sampling in the Presence of Stream Evolution",
       VLDB 2006.
    """

    def __init__(self, capacity):
        self.capacity = capacity
        self.rows = None
        self.n_added = 0

    def __len__(self):
        return 0 if self.rows is None else len(self.rows)

    @property
    def has_all(self):
        """Whether no row has been left out."""
        return self.n_added == len(self)

    def add(self, rows, random_state, half_life=None):
        """Take rows into account.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
        random_state : RandomState
        half_life : float, default=None
            In rows.
        """
        if self.rows is None:
            self.rows = rows[:0].copy()
        capacity, chance = self.capacity, None
        if half_life is not None:
            # A row is replaced at the rate at which it is to be forgotten.
            most = max(1, round(half_life / math.log(2)))
            capacity, chance = min(capacity, most), min(1.0, capacity / most)
        free = max(capacity - len(self), 0)
        first, others = rows[:free], rows[free:]
        self.rows = np.concatenate([self.rows, first.astype(self.rows.dtype)])
        before = self.n_added + len(first)
        self.n_added += len(rows)
        if not len(others):
            return
        if chance is None:
            # The n-th row has a place with the chance capacity / n.
            slots = random_state.randint(before + 1 + np.arange(len(others)))
            taken = slots < len(self)
        else:
            slots = random_state.randint(len(self), size=len(others))
            taken = random_state.uniform(size=len(others)) < chance
        # Of several rows in one place the last one stays.
        self.rows[slots[taken]] = others[taken]
