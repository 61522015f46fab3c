"""Thresholds and p-values from the scores of normal rows.

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

# Relative difference below which two scores are equal up to rounding: in single
# precision, of a row and of a copy of it in another batch.
_ROUNDING = 1e-5
# Share of normal rows that contamination="auto" flags.
FALSE_ALARMS = 0.01
# Share of the rows, the most abnormal ones, from which the tail is estimated. This and
# the next one: tests/benchmarks/bench_constants.py.
_TAIL = 0.1
# Shares of rows above the two quantiles from which the tail is estimated again, in case
# the most abnormal rows are outliers, and the factor by which that tail is stretched,
# because tails are often heavier than the body.
_BODY, _SHOULDER, _STRETCH = 0.5, 0.2, 1.5
# Largest excess beyond the start of the tail that counts, in medians: one in a thousand
# of an exponential tail is larger.
_FARTHEST = 10.0


def given(**rules):
    """Return the rule that is given, a function of scores and weights.

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
    """Return the score below which a share of the rows lies.

    If it is the score of several rows, they are all above it, whatever rounding does.
    """
    # Of the definitions of a quantile only the second takes weights; linear
    # interpolation is what scikit-learn's detectors use.
    method = "linear" if weight is None else "inverted_cdf"
    quantile = float(np.quantile(scores, share, weights=weight, method=method))
    rounding = _ROUNDING * abs(quantile)
    tied = scores[np.abs(scores - quantile) <= rounding]
    return quantile if len(tied) < 2 else float(tied.min() - rounding)


def automatic(scores, weight=None):
    """Return the score below which one normal row in a hundred is to be expected.

    Few rows hardly determine such an extreme quantile. The scores of the most abnormal
    tenth are taken to have an exponential tail, with the mean of their excess. If these
    rows are outliers, such a threshold is so low that it finds none. So it is no lower
    than one from the less abnormal half, whose median and upper quantile set the slope
    of an exponential tail, stretched by half. The most abnormal row is always called an
    outlier: fewer than a hundred rows cannot promise a smaller rate. A group of rows
    with equal scores is not, if it is more than a hundredth of them.
    """
    lowest = float(scores.min())
    tied = np.isclose(scores, lowest, rtol=_ROUNDING, atol=0.0)
    share = np.average(tied, weights=weight)
    if np.count_nonzero(tied) == 1 or share <= FALSE_ALARMS:
        # Above them by what rounding may change in another batch.
        most = float(scores[tied].max())
        lowest = max(most + _ROUNDING * abs(most), float(np.nextafter(most, np.inf)))
    else:
        lowest -= _ROUNDING * abs(lowest)
    start = at_quantile(scores, _TAIL, weight)
    beyond = scores < start
    if not beyond.any():
        return lowest
    excess = start - scores[beyond]
    # One extreme row, an outlier after all, must not move the threshold.
    excess = np.minimum(excess, _FARTHEST * np.median(excess))
    mean = np.average(excess, weights=None if weight is None else weight[beyond])
    tail = float(start - mean * math.log(_TAIL / FALSE_ALARMS))
    return max(lowest, tail, _robust(scores, weight))


def _robust(scores, weight):
    """Return the threshold by which a fifth of the rows may be outliers."""
    body, shoulder = (at_quantile(scores, q, weight) for q in (_BODY, _SHOULDER))
    unit = _STRETCH * (body - shoulder) / math.log(_BODY / _SHOULDER)
    # Rows that are mostly alike say nothing of the tail.
    return shoulder - unit * math.log(_SHOULDER / FALSE_ALARMS) if unit > 0 else -np.inf


def at_false_positive_rate(scores, rate):
    """Return the threshold that a new normal row is below with at most this chance."""
    n = len(scores)
    k = math.floor(rate * (n + 1) + 1e-9)
    if k < 1:
        raise ValueError(
            f"false_positive_rate={rate} cannot be kept with {n} normal rows: the "
            f"smallest rate that they can promise is 1 / {n + 1}."
        )
    return float(np.sort(scores)[min(k, n) - 1])


def for_alerts(scores, n_alerts):
    """Return the threshold that this number of rows are below."""
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


# Accepted values of each rule, and its threshold as a function of scores and weights.
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
