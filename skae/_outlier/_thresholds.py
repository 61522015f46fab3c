"""Thresholds and p-values from the scores of normal rows.

Scores are normality: the lower, the more abnormal. A row is called an outlier if its
score is below the threshold, not at it.
"""

import math
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from .._compat.sklearn import (
    Interval,
    InvalidParameterError,
    validate_parameter_constraints,
)
from .._warning import warn_user
from ..exceptions import InvertedLabelsWarning

__all__ = [
    "FALSE_ALARMS",
    "Reference",
    "at_false_positive_rate",
    "at_quantile",
    "automatic",
    "for_alerts",
    "for_labels",
    "given",
    "p_values",
    "suspicious",
]

# Relative difference below which two scores are equal up to rounding: in single
# precision, of a row and of a copy of it in another batch.
_ROUNDING = 1e-5
# Size of scores beyond which thresholds do not follow them: differences of larger
# ones may leave the range of numbers.
_MOST = 1e300
# Share of normal rows that contamination="auto" flags.
FALSE_ALARMS = 0.01
# AUROC of labels below which they are taken for those of normal rows.
_INVERTED = 0.3
# So many times the usual share of flagged rows, and so many of them, are taken for
# outliers. Of 70 tables of normal rows 1 has as many; where a tenth of the training
# rows are outliers, 2 of 60 have: mostly, outliers among the training rows cannot be
# told from the tail of the normal ones.
_SUSPICIOUS, _AT_LEAST = 5, 10
# Share of the rows, the most abnormal ones, from which the tail is estimated. This and
# the next one: tests/benchmarks/bench_constants.py.
_TAIL = 0.1
# Shares of rows above the two quantiles from which the tail is estimated again, in case
# the most abnormal rows are outliers, and the factor by which that tail is stretched,
# because tails are often heavier than the body. The smaller it is, the more of these
# outliers are found, and the more of the clean rows are flagged:
# tests/benchmarks/bench_constants.py.
_BODY, _SHOULDER, _STRETCH = 0.5, 0.2, 1.35
# Distinct scores, and their share of all, up to which rows have few distinct values.
# More are those of a table in which each row is repeated a few times.
_FEW_VALUES, _FEW_SHARE = 1000, 0.2
# Largest excess beyond the start of the tail that counts, in medians: one in a thousand
# of an exponential tail is larger.
_FARTHEST = 10.0


@dataclass(frozen=True)
class Reference:
    """The rows that a threshold is set from.

    Attributes
    ----------
    scores : ndarray of shape (n_samples,), float64
        Finite: rows without a finite score have the lowest there is.
    weight : ndarray of shape (n_samples,) or None
        Sample weights.
    groups : ndarray of int of shape (n_samples,) or None
        Of rows that depend on each other.
    """

    scores: np.ndarray
    weight: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "scores", _finite(self.scores))

    def of(self, kept):
        """Return some of the rows."""
        parts = self.scores, self.weight, self.groups
        return Reference(*(None if part is None else part[kept] for part in parts))

    @property
    def n_groups(self):
        """How many rows there are that do not depend on each other."""
        groups = self.groups
        return len(self.scores) if groups is None else len(np.unique(groups))

    @property
    def shares(self):
        """Weight of each row for a row of a new group; with that one they sum to 1."""
        if self.groups is None:
            return np.full(len(self.scores), 1 / (len(self.scores) + 1))
        _, codes, counts = np.unique(
            self.groups, return_inverse=True, return_counts=True
        )
        return 1 / ((self.n_groups + 1) * counts[codes])


def _finite(scores):
    lowest = -np.finfo(np.float64).max
    return np.nan_to_num(scores, nan=lowest, neginf=lowest)


def given(**rules):
    """Return the rule that is given, a function of a `Reference`.

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
    if isinstance(rules.get("n_alerts"), bool):
        # To Python it is an integer.
        raise InvalidParameterError(
            "The 'n_alerts' parameter of calibrate must be an int in the range "
            f"[0, inf). Got {rules['n_alerts']} instead."
        )
    for name, value in rules.items():
        _, threshold = _RULES[name]
        return partial(threshold, value)
    return lambda rows: automatic(rows.scores, rows.weight)


def at_quantile(scores, share, weight=None):
    """Return the score below which a share of the rows lies.

    If it is the score of rows, they are all above it, whatever rounding does.
    """
    # Of the definitions of a quantile only the second takes weights; linear
    # interpolation is what scikit-learn's detectors use.
    method = "linear" if weight is None else "inverted_cdf"
    scores = np.clip(scores, -_MOST, _MOST)
    quantile = float(np.quantile(scores, share, weights=weight, method=method))
    tied = scores[np.abs(scores - quantile) <= _ROUNDING * abs(quantile)]
    return _below(float(tied.min())) if len(tied) else quantile


def automatic(scores, weight=None):
    """Return the score below which one normal row in a hundred is to be expected.

    Few rows hardly determine such an extreme quantile. The scores of the most abnormal
    tenth are taken to have an exponential tail, with the mean of their excess. If these
    rows are outliers, such a threshold is so low that it finds none. So it is no lower
    than one from the less abnormal half, whose median and upper quantile set the slope
    of an exponential tail, stretched by a third. This second threshold is left out
    where there are few distinct scores, and most of the rows below it have copies. The
    most abnormal row is always called an outlier: fewer than a hundred rows cannot
    promise a smaller rate. A group of rows with equal scores is not, if it is more than
    a hundredth of them.
    """
    scores = np.clip(scores, -_MOST, _MOST)
    lowest = float(scores.min())
    tied = np.isclose(scores, lowest, rtol=_ROUNDING, atol=0.0)
    share = np.average(tied, weights=weight)
    if np.count_nonzero(tied) == 1 or share <= FALSE_ALARMS:
        lowest = _above(float(scores[tied].max()))
    else:
        lowest = _below(lowest)
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
    if not unit > 0:
        return -np.inf
    threshold = shoulder - unit * math.log(_SHOULDER / FALSE_ALARMS)
    below = scores[scores < threshold]
    if _n_distinct(below) >= len(below) / 2:
        return threshold
    # Few distinct scores have gaps, not a tail; rows that are seldom have no copies.
    few = _n_distinct(scores) <= min(_FEW_VALUES, _FEW_SHARE * len(scores))
    return -np.inf if few else threshold


def _n_distinct(scores):
    """Return the number of scores that differ by more than rounding."""
    return np.count_nonzero(_begins_group(np.sort(scores)))


def suspicious(rows, threshold):
    """Return the share of flagged rows if there are far too many, otherwise 0."""
    flagged = rows.scores < threshold
    share = float(np.average(flagged, weights=rows.weight))
    many = share >= _SUSPICIOUS * FALSE_ALARMS and flagged.sum() >= _AT_LEAST
    return share if many else 0.0


def _above(score):
    """Return a number above a score by what rounding may change in another batch."""
    return max(score + _ROUNDING * abs(score), float(np.nextafter(score, np.inf)))


def _below(score):
    """Return a number below a score by what rounding may change in another batch."""
    lowest = -np.finfo(np.float64).max
    return max(score - _ROUNDING * abs(score), lowest)


def at_false_positive_rate(rows, rate):
    """Return the threshold that a new normal row is below with at most this chance.

    It is just below one of the scores: rows that have this score are above it.
    """
    order = np.argsort(rows.scores)
    n = rows.n_groups
    # p-values of scores from one given score up to the next; see `p_values`.
    p = 1 / (n + 1) + np.cumsum(rows.shares[order]) - rows.shares[order]
    k = int(np.count_nonzero(p <= rate + 1e-9))
    if k < 1:
        what = "normal rows" if rows.groups is None else "groups of normal rows"
        raise ValueError(
            f"false_positive_rate={rate} cannot be kept with {n} {what}: the smallest "
            f"rate that they can promise is 1 / {n + 1}."
        )
    return _below(float(rows.scores[order[k - 1]]))


def for_alerts(rows, n_alerts):
    """Return the threshold that so many rows are below, or so many per group."""
    n_rows = len(rows.scores)
    n_below = n_alerts * (1 if rows.groups is None else rows.n_groups)
    if n_below >= n_rows:
        per = "" if rows.groups is None else f" in each of {rows.n_groups} groups"
        raise ValueError(
            f"n_alerts={n_alerts}{per} must be less than the number of rows, {n_rows}."
        )
    ordered = np.sort(rows.scores)
    last, following = map(float, ordered[[max(n_below - 1, 0), n_below]])
    # Just above the last of them, not below the next: then a new row is below with the
    # chance n_below / (n_rows + 1), not one more. None of equal rows are below.
    return _above(last) if _above(last) < following else _below(last)


def for_labels(is_outlier, metric=None):
    """Return a rule: the threshold whose labels have the best value of a metric."""
    metric = balanced_accuracy_score if metric is None else metric
    if not callable(metric):
        raise TypeError(
            "metric must be a function of labels, such as sklearn.metrics.f1_score. "
            f"Got {metric!r}."
        )

    def threshold(rows):
        if len(rows.scores) != len(is_outlier):
            raise ValueError(
                f"y has {len(is_outlier)} labels, but X has {len(rows.scores)} rows."
            )
        _warn_of_inverted(is_outlier, rows.scores)
        order = np.argsort(rows.scores, kind="stable")
        scores, outlier = rows.scores[order], is_outlier[order]
        # Between groups of equal scores, where a call more is a false alarm.
        differ = _begins_group(scores)[1:]
        below, above = scores[:-1][differ], scores[1:][differ]
        tried = [_below(float(scores[0])), *(below + (above - below) / 2)]
        tried.append(_above(float(scores[-1])))
        group = np.r_[0, np.cumsum(differ)]
        mixed = np.zeros(len(below) + 1, dtype=bool)
        mixed[group[:-1][outlier[:-1] != outlier[1:]]] = True
        tried = np.array(tried)[np.r_[True, mixed[:-1] | mixed[1:], True]]
        values = [_number(metric(outlier, scores < t)) for t in tried]
        if np.isnan(values).all():
            raise ValueError("metric is NaN with every threshold.")
        # NaN is no good value: precision is undefined where nothing is called.
        return float(tried[int(np.nanargmax(values))])

    return threshold


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metric must return a number. Got {value!r}.") from error


def _begins_group(scores):
    """Return which of the ascending scores differ from all before them.

    Scores are equal if they differ from the first of their group by rounding only: of
    dense scores each may be near the next one.
    """
    begins = np.zeros(len(scores), dtype=bool)
    first = 0
    while first < len(scores):
        begins[first] = True
        end = scores[first] + _ROUNDING * abs(scores[first])
        first = max(int(np.searchsorted(scores, end, side="right")), first + 1)
    return begins


def _warn_of_inverted(is_outlier, scores):
    """Warn of labels by which outliers are the more normal rows."""
    if is_outlier.all() or not is_outlier.any():
        return
    auroc = roc_auc_score(is_outlier, -_finite(scores))
    if auroc < _INVERTED:
        warn_user(
            "Rows that y calls outliers are scored as more normal than the others "
            f"(AUROC {auroc:.2f}). 1, or -1, is the label of outliers: pass y == 0 if "
            "1 is that of normal rows.",
            InvertedLabelsWarning,
        )


def p_values(scores, rows):
    """Return the share of normal rows that are at least as abnormal, conformal.

    The row itself counts as one of them, or as one of the groups. Scores that are equal
    up to rounding are equally abnormal.
    """
    order = np.argsort(rows.scores)
    calibration, scores = rows.scores[order], _finite(scores)
    equal = scores + _ROUNDING * np.abs(scores)
    at_least = np.searchsorted(calibration, equal, side="right")
    if rows.groups is None:
        return (1 + at_least) / (1 + len(calibration))
    beyond = np.r_[0.0, np.cumsum(rows.shares[order])]
    return np.minimum(1 / (rows.n_groups + 1) + beyond[at_least], 1.0)


def _finite_number(offset):
    if not isinstance(offset, Real) or not np.isfinite(offset):
        raise ValueError(
            f"rule must return the threshold, a finite number. Got {offset!r}."
        )
    return float(offset)


# Accepted values of each rule, and its threshold as a function of the rows.
_RULES: dict = {
    "quantile": (
        [Interval(Real, 0, 1, closed="neither")],
        lambda share, rows: at_quantile(rows.scores, share, rows.weight),
    ),
    "false_positive_rate": (
        [Interval(Real, 0, 1, closed="neither")],
        lambda rate, rows: at_false_positive_rate(rows, rate),
    ),
    "n_alerts": (
        [Interval(Integral, 0, None, closed="left")],
        lambda n_alerts, rows: for_alerts(rows, n_alerts),
    ),
    "rule": (
        [callable],
        lambda rule, rows: _finite_number(rule(rows.scores)),
    ),
}
