"""Selection: which weights to keep, and when to stop."""

from math import inf, isfinite, sqrt
from typing import NamedTuple

import numpy as np

__all__ = ["Selection", "Trial", "is_clear_gain"]

# Standard errors by which a gain must exceed zero to be clear of noise. This and the
# next one: tests/benchmarks/bench_constants.py.
_CLEAR = 2.0
# Share of the rows that count with their own gain.
_TRUSTED = 0.95


class Trial(NamedTuple):
    """An epoch, and what it gained on the validation set.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    gains : ndarray of shape (n_validation,)
        Decrease of the objective of each validation row since before the first step.
    """

    epoch: int
    gains: np.ndarray


class Selection:
    """Follow the epochs of a fit, keep the best weights, say when to stop.

    Parameters
    ----------
    module : torch.nn.Module
        The model, before its first step.
    validation : ndarray of shape (n_validation,) or None
        Objective of each validation row before the first step. None: the weights of
        the last epoch are kept, and the training objective says when to stop.
    weight : ndarray of shape (n_validation,) or None
        Sample weights of the validation rows.
    starts_fitted : bool
        Whether the initial weights are replaced only after a clear gain.
    n_iter_no_change : int
        Epochs without a counted improvement before stopping.
    tol : float
        Smallest improvement that counts, as a share of the objective.

    Attributes
    ----------
    trial : Trial or None
        After `finish`, the best epoch on the validation set, kept or not.
    """

    _changing = (
        *("best_epoch", "best_loss"),
        *("_best_rows", "_reference", "_waited", "_weights"),
    )

    def __init__(
        self, module, validation, weight, *, starts_fitted, n_iter_no_change, tol
    ):
        self._module = module
        self._weight = weight
        self._starts_fitted = starts_fitted
        self._patience = n_iter_no_change
        self._tol = tol
        self._start = self._weights = self._copy()
        self._start_rows = self._best_rows = validation
        self.initial_loss = self.best_loss = self._reference = (
            inf if validation is None else self._mean(validation)
        )
        self.best_epoch = 0
        self.trial = None
        self._waited = 0

    def leave_start(self):
        """Let training go on as long as it improves on itself, not on the start."""
        self._reference = inf

    def update(self, epoch, loss, rows, counts=True):
        """Take note of an epoch's weights; return whether to stop.

        Parameters
        ----------
        epoch : int
            Counted from 1.
        loss : float
            Objective of this epoch: on the validation set if there is one, else on the
            training set.
        rows : ndarray of shape (n_validation,) or None
            Objective of each validation row.
        counts : bool, default=True
            Whether the epoch counts as one without an improvement if it has none.
        """
        if rows is None or loss < self.best_loss:
            self._weights = self._copy()
            self._best_rows = rows
            self.best_loss = loss
            self.best_epoch = epoch
        if self._reference == inf or loss < self._reference - self._tol * abs(
            self._reference
        ):
            self._reference = loss
            self._waited = 0
        elif counts:
            self._waited += 1
        return self._waited >= self._patience

    def state_dict(self):
        """Return what has changed since the start."""
        return {name: getattr(self, name) for name in self._changing}

    def load_state_dict(self, state):
        """Go on from a state."""
        for name in self._changing:
            setattr(self, name, state[name])

    @property
    def starts_finite(self):
        """Whether the objective before the first step is finite, where it is known."""
        return self._start_rows is None or isfinite(self.initial_loss)

    def restore(self):
        """Give the module the best weights so far."""
        self._module.load_state_dict(self._weights)

    def finish(self):
        """Give the module the weights to keep."""
        if self.best_epoch > 0 and self._best_rows is not None:
            gains = self._start_rows - self._best_rows
            self.trial = Trial(self.best_epoch, gains)
            if self._starts_fitted and not is_clear_gain(gains, self._weight):
                self._weights = self._start
                self.best_loss, self.best_epoch = self.initial_loss, 0
        self.restore()

    def _copy(self):
        return {name: t.clone() for name, t in self._module.state_dict().items()}

    def _mean(self, rows):
        return float(np.average(rows, weights=self._weight))


def is_clear_gain(gains, weight=None, n_errors=None):
    """Return whether the mean of paired gains is positive beyond noise.

    A few extreme rows may be most of the mean, and say little about new ones. So a mean
    that is winsorized by size (after Dixon, 1960) must be clear of noise, too: the
    twentieth of the rows whose gains and losses are largest count as much as the
    largest of the others.

    Parameters
    ----------
    gains : ndarray of shape (n_rows,)
        Decrease of the objective of each validation row; negative if worse.
    weight : ndarray of shape (n_rows,) or None
        Sample weights.
    n_errors : float, default=None
        Standard errors by which the mean must exceed zero. None is 2.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.RandomState(0).normal(size=100)
    >>> is_clear_gain(noise), is_clear_gain(noise + 1)
    (False, True)
    >>> is_clear_gain(np.r_[np.full(99, -0.01), 100.0])  # one lucky row
    False
    """
    weight = np.ones_like(gains) if weight is None else weight
    if not np.average(gains, weights=weight) > 0:
        return False
    most = np.quantile(np.abs(gains), _TRUSTED, weights=weight, method="inverted_cdf")
    gains = np.clip(gains, -most, most)
    share = weight / weight.sum()
    mean = share @ gains
    # Kish's effective sample size: as many equal weights would be as uncertain.
    n_effective = 1 / (share @ share)
    if n_effective < 2:
        return False
    error = sqrt(share @ (gains - mean) ** 2 / (n_effective - 1))
    return bool(mean > (_CLEAR if n_errors is None else n_errors) * error)
