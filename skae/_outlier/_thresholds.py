"""From scores of normal rows to a threshold, and to p-values.

Scores are normality: the lower, the more abnormal. A row is called an outlier if its
score is below the threshold, not at it.
"""

import math
from functools import partial
from numbers import Integral, Real

import numpy as np

from .._compat.sklearn import Interval, validate_parameter_constraints

__all__ = [
    "FALSE_ALARMS",
    "at_false_positive_rate",
    "at_quantile",
    "automatic",
    "for_alerts",
    "given",
    "p_values",
]

# Share of normal rows that contamination="auto" is content to flag.
FALSE_ALARMS = 0.01
# Share of the rows, the most abnormal ones, that say how the tail falls.
_TAIL = 0.1
# How far beyond the start of the tail a row counts, in medians: of an exponential tail
# one in a thousand lies farther.
_FARTHEST = 10.0


def given(**rules):
    """Return what makes a threshold of scores and weights: the rule that is given.

    Raises
    ------
    ValueError
        If more than one is not None, or one is not accepted.
    """
    rules = {name: value for name, value in rules.items() if value is not None}
    if len(rules) > 1:
        raise ValueError(
            f"calibrate takes one of {', '.join(_RULES)}. Got {' and '.join(rules)}."
        )
    accepted = {name: constraints for name, (constraints, _) in _RULES.items()}
    validate_parameter_constraints(accepted, rules, "calibrate")
    for name, value in rules.items():
        _, threshold = _RULES[name]
        return partial(threshold, value)
    return automatic


def at_quantile(scores, share, weight=None):
    """Return the score below which a share of the rows lies."""
    # Of the definitions of a quantile only the second takes weights; linear
    # interpolation is what scikit-learn's detectors use.
    method = "linear" if weight is None else "inverted_cdf"
    return float(np.quantile(scores, share, weights=weight, method=method))


def automatic(scores, weight=None):
    """Return the score below which one normal row in a hundred is to be expected.

    A quantile that far out is hardly known from few rows. Beyond the most abnormal
    tenth of them the tail is taken to fall exponentially, as that of most scores does
    over such a short way, with the mean of what lies beyond. The most abnormal row is
    always called an outlier: fewer than a hundred rows cannot promise a smaller rate.
    A group of equal rows is not, if it is more than a hundredth of them.
    """
    lowest = float(scores.min())
    tied = np.isclose(scores, lowest, rtol=1e-9, atol=0.0)
    share = np.average(tied, weights=weight)
    if np.count_nonzero(tied) == 1 or share <= FALSE_ALARMS:
        lowest = float(np.nextafter(scores[tied].max(), np.inf))
    start = at_quantile(scores, _TAIL, weight)
    beyond = scores < start
    if not beyond.any():
        return lowest
    excess = start - scores[beyond]
    # One row far out, an outlier after all, must not carry the threshold away.
    excess = np.minimum(excess, _FARTHEST * np.median(excess))
    mean = np.average(excess, weights=None if weight is None else weight[beyond])
    return max(lowest, float(start - mean * math.log(_TAIL / FALSE_ALARMS)))


def at_false_positive_rate(scores, rate):
    """Return the threshold that a new normal row undercuts with at most this chance."""
    n = len(scores)
    k = math.floor(rate * (n + 1) + 1e-9)
    if k < 1:
        raise ValueError(
            f"false_positive_rate={rate} cannot be kept with {n} normal rows: the "
            f"smallest rate that they can promise is 1 / {n + 1}."
        )
    return float(np.sort(scores)[min(k, n) - 1])


def for_alerts(scores, n_alerts):
    """Return the threshold that so many of the rows undercut."""
    if n_alerts >= len(scores):
        raise ValueError(
            f"n_alerts={n_alerts} must be less than the number of rows, {len(scores)}."
        )
    return float(np.sort(scores)[n_alerts])


def p_values(scores, calibration):
    """Return the share of normal rows that are at least as abnormal, conformal.

    The row itself counts as one of them.
    """
    calibration = np.sort(calibration)
    at_least = np.searchsorted(calibration, scores, side="right")
    return (1 + at_least) / (1 + len(calibration))


def _finite_number(offset):
    if not isinstance(offset, Real) or not np.isfinite(offset):
        raise ValueError(
            f"rule must return the threshold, a finite number. Got {offset!r}."
        )
    return float(offset)


# What each rule may be, and the threshold that it makes of scores and weights.
_RULES: dict = {
    "quantile": (
        [Interval(Real, 0, 1, closed="neither")],
        lambda share, scores, weight: at_quantile(scores, share, weight),
    ),
    "false_positive_rate": (
        [Interval(Real, 0, 1, closed="neither")],
        lambda rate, scores, weight: at_false_positive_rate(scores, rate),
    ),
    "n_alerts": (
        [Interval(Integral, 0, None, closed="left")],
        lambda n_alerts, scores, weight: for_alerts(scores, n_alerts),
    ),
    "rule": (
        [callable],
        lambda rule, scores, weight: _finite_number(rule(scores)),
    ),
}
