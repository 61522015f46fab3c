"""Which rows are held out: at random, the last ones, or as a splitter says."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.random import sample_without_replacement

from .categories import is_missing

__all__ = [
    "Holdout",
    "HoldoutOfMany",
    "group_codes",
    "most_held_out",
    "neighbours_are_alike",
]

# Rows whose next row is compared with others, and with how many others each.
_N_COMPARED, _N_OTHERS = 200, 400
_MIN_ROWS = 100
# Share of the other rows that are nearer than the next row, in the median, below which
# neighbours are alike. It is a half if rows are in no order, and 1 / (2 k) if they are
# sorted by k classes of equal size that do not overlap.
_ALIKE = 0.03
# Squared distance to the next row, as a share of that to others, in the median, below
# which rows are nearly equal: classes that overlap have more.
_NEAR = 0.25


def group_codes(groups, X, name="groups"):
    """Return group labels as integers from zero, or None if there are none.

    Raises
    ------
    ValueError
        If there is not one label per row, or only one group, or if labels cannot be
        compared with each other.
    """
    if groups is None:
        return None
    try:
        if _has_missing(groups):
            raise ValueError("labels are missing")
        groups = column_or_1d(groups)
        labels, codes = np.unique(groups, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be one label per row, all numbers or all strings, and none "
            f"missing. The error was: {error}"
        ) from error
    check_consistent_length(X, groups)
    if len(labels) < 2:
        raise ValueError(
            f"{name} must have at least two different labels, of rows that do not "
            f"depend on each other. Got {len(labels)}: {labels[:1]}."
        )
    return codes


def _has_missing(labels):
    # Before they become strings, if some are.
    if np.asarray(labels).dtype.kind in "iub":
        return False
    return any(map(is_missing, np.asarray(labels, dtype=object).ravel()))


@dataclass(frozen=True)
class Holdout:
    """Which rows may be held out, and which only together.

    Attributes
    ----------
    split : {"random", "last"} or cross-validation splitter
    groups : ndarray of int of shape (n_samples,) or None
        Rows of a group are held out together. None: each row is a group.
    """

    split: object = "random"
    groups: np.ndarray | None = None

    @property
    def is_splitter(self):
        """Whether a splitter says which rows are held out."""
        return not isinstance(self.split, str)

    @property
    def is_plain(self):
        """Whether rows are taken to be independent of each other."""
        return not self.is_splitter and self.split == "random" and self.groups is None

    def of(self, kept):
        """Return the same for some of the rows.

        A splitter knows all rows only: within a part of them, the last are held out.
        """
        groups = None if self.groups is None else self.groups[kept]
        return replace(self, groups=groups)

    @property
    def within(self):
        """The same for the rows of a fold, of which a splitter knows nothing."""
        return replace(self, split="last") if self.is_splitter else self

    def draw(self, n_samples, n_rows, random_state):
        """Return the indices of about ``n_rows`` rows to hold out, in whole groups.

        They are more than ``n_rows`` by less than a group. A splitter decides itself:
        they are the test rows of its last split.

        Returns
        -------
        ndarray of int, in increasing order, or None
            None if no group can be held out.
        """
        if self.is_splitter:
            _, test = self._splits(n_samples)[-1]
            return np.sort(test)
        if self.groups is None and 0 < n_rows < n_samples:
            if self.split == "last":
                return np.arange(n_samples - n_rows, n_samples)
            return np.sort(random_state.permutation(n_samples)[:n_rows])
        drawn, n_drawn = [], 0
        # At random a group that is most of the table is passed over.
        most = n_samples // 2 if self.split == "random" else n_samples - 1
        for rows in self._in_order(n_samples, random_state):
            if n_drawn >= n_rows:
                break
            if self.groups is None or n_drawn + len(rows) <= most:
                drawn.append(rows)
                n_drawn += len(rows)
            elif self.split == "last":
                break
        return np.sort(np.concatenate(drawn)) if 0 < n_drawn < n_samples else None

    def folds(self, n_samples, n_folds, random_state):
        """Return training and test rows of each fold, as splitters do.

        At most ``n_folds`` of about equal size; consecutive ones with "last". Those of
        a splitter are its own.
        """
        if self.is_splitter:
            return self._splits(n_samples)
        groups = self._in_order(n_samples, random_state)
        sizes = np.array([len(rows) for rows in groups])
        middles = np.cumsum(sizes) - sizes / 2
        n_folds = min(n_folds, len(groups))
        bounds = np.cumsum([len(p) for p in np.array_split(range(n_samples), n_folds)])
        fold_of = np.searchsorted(bounds, middles, side="right")
        tests = [
            np.concatenate([groups[i] for i in np.flatnonzero(fold_of == fold)])
            for fold in np.unique(fold_of)
        ]
        rows = np.arange(n_samples)
        return [(np.setdiff1d(rows, test), test) for test in tests]

    def n_folds(self, n_samples, n_folds):
        """Return how many folds there are, at most."""
        if self.is_splitter:
            return len(self._splits(n_samples))
        n_groups = n_samples if self.groups is None else len(np.unique(self.groups))
        return min(n_folds, n_groups)

    def _splits(self, n_samples):
        try:
            X = np.empty((n_samples, 1))
            splits = list(self.split.split(X, groups=self.groups))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"validation_split={self.split!r} cannot split {n_samples} rows. It is "
                "given the groups that are passed to fit, but no labels, which "
                f"stratified splitters need. The error was: {error}"
            ) from error
        if not splits or any(0 in map(len, split) for split in splits):
            raise ValueError(
                f"validation_split={self.split!r} must yield training and test rows. "
                f"Got {len(splits)} splits of {n_samples} rows, with a part without "
                "rows or none at all."
            )
        # Some, such as PredefinedSplit, do not look at the rows that they are given.
        if max(np.max(part) for split in splits for part in split) >= n_samples:
            raise ValueError(
                f"validation_split={self.split!r} is for more rows than the "
                f"{n_samples} that it is given: those of positive weight, and in a "
                "cross-validation those of the training part."
            )
        return splits

    def _in_order(self, n_samples, random_state):
        """Return the rows of each group, in the order in which groups are held out."""
        if self.groups is None:
            groups = np.arange(n_samples)[:, np.newaxis]
            last = np.arange(n_samples)
        else:
            order = np.argsort(self.groups, kind="stable")
            _, starts = np.unique(self.groups[order], return_index=True)
            groups = np.split(order, starts[1:])
            last = np.array([rows[-1] for rows in groups])
        if self.split == "last":
            picked = np.argsort(-last)
        else:
            picked = random_state.permutation(len(groups))
        return [groups[i] for i in picked]


def most_held_out(width):
    """Return how many rows of so many columns may be held out of a large table."""
    return max(2**12, min(2**17, 2**24 // width))


@dataclass(frozen=True)
class HoldoutOfMany(Holdout):
    """Which rows are held out of so many that no list of all fits into memory.

    Attributes
    ----------
    most : int
        Number of rows that are held out, at most.
    """

    most: int = 2**17

    def draw(self, n_samples, n_rows, random_state):
        """Return the indices of rows to hold out; see `Holdout.draw`."""
        n_rows = min(n_rows, self.most)
        if self.split == "last":
            return np.arange(n_samples - n_rows, n_samples)
        drawn = sample_without_replacement(
            n_samples,
            n_rows,
            method="tracking_selection",  # others list all rows
            random_state=random_state,
        )
        return np.sort(drawn)


def neighbours_are_alike(x):
    """Return whether consecutive rows are nearly equal and the nearest of all rows.

    Rows of a time series and rows that are sorted by machine are; rows in a random
    order are not, nor are those sorted by a few classes.

    Parameters
    ----------
    x : Source
        Scaled rows.
    """
    n_rows = len(x)
    if n_rows < _MIN_ROWS:
        return False
    # Of its own: a check must not change the fit.
    random_state = np.random.RandomState(0)
    first = random_state.choice(n_rows - 1, min(_N_COMPARED, n_rows - 1), replace=False)
    others = random_state.choice(n_rows, min(_N_OTHERS, n_rows), replace=False)
    rows, following, other = (
        part.double().cpu().numpy()
        for part in x.take(np.concatenate([first, first + 1, others])).split(
            [len(first), len(first), len(others)]
        )
    )
    to_next = np.linalg.norm(rows - following, axis=1)[:, np.newaxis]
    to_others = cdist(rows, other)
    # Equal rows count half.
    equal = np.isclose(to_others, to_next, rtol=1e-6, atol=1e-12)
    nearer = (to_others < to_next) & ~equal
    rank = np.median(nearer.mean(axis=1) + equal.mean(axis=1) / 2)
    near = np.median(to_next**2) < _NEAR * np.median(to_others**2)
    return bool(near and rank < _ALIKE)
