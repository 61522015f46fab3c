"""Thresholds and p-values: what share of rows falls below, and what is promised."""

from copy import deepcopy
from functools import cache, partial

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score

from skae import AutoencoderOutlierDetector
from skae._outlier import _thresholds
from skae.anomaly_scores import Mahalanobis
from skae.architectures import MLP
from skae.exceptions import InvertedLabelsWarning

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


class Given(AutoencoderOutlierDetector):
    """Takes the first column for the score."""

    def score_samples(self, X):
        return np.array(X)[:, 0]


def small(cls=AutoencoderOutlierDetector, **params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "max_epochs": 3,
        "random_state": 0,
    }
    return cls(**defaults | params)


def draw(rng, n_rows):
    mixing = np.random.RandomState(0).normal(size=(2, 6))
    return rng.normal(size=(n_rows, 2)) @ mixing + 0.3 * rng.normal(size=(n_rows, 6))


@pytest.fixture
def X(rng):
    return draw(rng, 120)


@cache
def _fitted(seed):
    return small().fit(draw(np.random.RandomState(seed), 120))


@pytest.fixture
def model(X, seed):
    """Return a copy of a model of the rows X, which is trained once."""
    return deepcopy(_fitted(seed))


@pytest.fixture(scope="module")
def given():
    return small(Given).fit(draw(np.random.RandomState(0), 30))


def as_rows(scores):
    return np.reshape(scores, (-1, 1)) * np.ones(6)


def state(model):
    return {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in vars(model).items()
    }


def assert_unchanged(model, before, but=()):
    assert vars(model).keys() == before.keys()
    for name in before.keys() - set(but):
        np.testing.assert_equal(vars(model)[name], before[name])


# The rule of "auto"


@pytest.mark.parametrize("n", [10, 50, 73, 400])
def test_auto_is_an_exponential_tail(rng, n):
    scores = -rng.gamma(3.0, size=n)
    start = np.quantile(scores, 0.1)
    excess = start - scores[scores < start]
    # Of an exponential tail one row in a thousand lies beyond ten medians.
    slope = np.mean(np.minimum(excess, 10 * np.median(excess)))
    # An exponential tail of this mean beyond the tenth: exp(-d / slope) = 1 / 10.
    expected = start - slope * stats.expon.isf(0.1)
    found = _thresholds.automatic(scores)
    assert found == pytest.approx(max(expected, scores.min()), rel=2e-5)
    assert (scores < found).any()


def test_rows_with_copies_are_not_called_for_the_slope_of_others(rng):
    # Three of twenty values are beyond the tail that the others suggest: 6 % of rows.
    values = np.r_[np.linspace(-1, 0, 17), -8, -10, -12]
    share = np.r_[np.full(17, 0.94 / 17), np.full(3, 0.02)]
    clean = rng.choice(values, p=share, size=1000)
    assert np.mean(clean < _thresholds.automatic(clean)) <= 0.025
    # Of as many rows without copies some are outliers.
    mixed = np.where(clean < -7, clean + rng.uniform(size=1000), clean)
    assert np.mean(mixed < _thresholds.automatic(mixed)) >= 0.04


def test_one_row_far_out_does_not_carry_the_threshold_away(rng):
    scores = rng.normal(size=200)
    clean = _thresholds.automatic(scores)
    scores[scores.argmin()] = -1e6
    assert 0 < clean - _thresholds.automatic(scores) < 2


@pytest.mark.parametrize("copies", ["none", "each three times", "bootstrap"])
@pytest.mark.parametrize(("n", "offset"), [(600, 0.0), (60_000, -50.0)])
def test_outliers_are_called_where_rows_are_repeated(rng, copies, n, offset):
    scores = np.r_[-rng.gamma(5, 0.2, size=9 * n // 10), rng.normal(-9, 1, n // 10)]
    scores += offset
    if copies == "each three times":
        scores = np.repeat(scores[::3], 3)
    elif copies == "bootstrap":
        scores = rng.choice(scores, size=n)
    called = scores < _thresholds.automatic(scores)
    assert called[scores < offset - 6].mean() > 0.9


@pytest.mark.parametrize(("n_equal", "called"), [(1, 1), (4, 4), (5, 0), (60, 0)])
def test_a_group_of_equal_rows_is_called_if_it_is_small(n_equal, called):
    # A hundredth of the rows may be: four of four hundred.
    scores = np.linspace(0, 1, 400)
    # Equal but for rounding, and no farther out than the tail of the others goes.
    scores[:n_equal] = -1e-3 * (1 + 1e-14 * np.arange(n_equal))
    assert np.count_nonzero(scores < _thresholds.automatic(scores)) == called


def test_rows_that_are_all_equal_are_normal():
    assert (np.full(50, -2.0) >= _thresholds.automatic(np.full(50, -2.0))).all()
    X = np.ones((30, 3))
    assert (small().fit_predict(X) == 1).all()


FALL = {
    "exponential": (lambda rng, n: -rng.exponential(size=n), lambda t: np.exp(t)),
    "normal": (lambda rng, n: rng.normal(size=n), stats.norm.cdf),
    "chi-squared": (
        lambda rng, n: -rng.chisquare(5, size=n),
        lambda t: stats.chi2.sf(-t, 5),
    ),
}


@pytest.mark.parametrize("law", FALL)
@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(50, 0.017, 0.027), (100, 0.011, 0.018), (400, 0.0085, 0.0125)],
)
def test_auto_raises_about_one_false_alarm_in_a_hundred(rng, law, n, low, high):
    sample, cdf = FALL[law]
    thresholds = [_thresholds.automatic(sample(rng, n)) for _ in range(300)]
    # The rate is known for each threshold: no new rows are drawn.
    assert low < np.mean([cdf(t) for t in thresholds]) < high


def test_whole_weights_are_repetitions(rng):
    scores, weight = rng.normal(size=600), rng.randint(1, 5, size=600)
    repeated = np.repeat(scores, weight)
    ones = np.ones(len(repeated))
    for share in (0.01, 0.1, 0.37):
        found = _thresholds.at_quantile(scores, share, weight)
        expected = np.quantile(repeated, share, method="inverted_cdf")
        # Just below the score.
        assert found == pytest.approx(expected - 1e-5 * abs(expected), rel=1e-9)
    found = _thresholds.automatic(scores, weight)
    assert found > np.nextafter(scores.min(), np.inf)
    expected = _thresholds.automatic(repeated, ones)
    assert found == pytest.approx(expected, rel=2e-5)
    assert found != pytest.approx(_thresholds.automatic(scores), rel=1e-6)


# Shares of rows


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_quantile(model, rng, share):
    rows = draw(rng, 200)
    scores = model.score_samples(rows)
    model.calibrate(rows, quantile=share)
    assert model.offset_ == np.quantile(scores, share)
    assert np.mean(model.predict(rows) == -1) == pytest.approx(share, abs=1 / 200)


@pytest.mark.parametrize("n_alerts", [0, 1, 7, 119])
def test_so_many_alerts(X, model, n_alerts):
    model.calibrate(X, n_alerts=n_alerts)
    assert np.count_nonzero(model.predict(X) == -1) == n_alerts


def test_alerts_are_not_what_others_are_compared_with(X, model, rng):
    # They need not be normal.
    before = state(model)
    model.calibrate(draw(rng, 50), n_alerts=3)
    assert_unchanged(model, before, but=["offset_"])
    model.calibrate(X + 1).calibrate(X, n_alerts=3)
    np.testing.assert_array_equal(model.calibration_scores_, model.score_samples(X + 1))


@pytest.mark.parametrize("n_alerts", [1, 4])
def test_alerts_hold_on_average(given, rng, n_alerts):
    # Uniform scores: the expected number among 30 new rows is 30 times the threshold.
    found = [
        30 * given.calibrate(as_rows(rng.uniform(size=30)), n_alerts=n_alerts).offset_
        for _ in range(2000)
    ]
    error = 4 * np.std(found) / np.sqrt(2000)
    assert np.mean(found) == pytest.approx(n_alerts * 30 / 31, abs=error)
    # Per day, given several: as many on average, and with less noise.
    days = np.arange(300) // 30
    many = [
        30
        * given.calibrate(
            as_rows(rng.uniform(size=300)), n_alerts=n_alerts, groups=days
        ).offset_
        for _ in range(300)
    ]
    assert np.mean(many) == pytest.approx(n_alerts, abs=5 * np.std(many) / 17)
    assert np.std(many) < np.std(found) / 2


def test_groups_promise_a_rate_for_new_groups(given, rng):
    # Half of the spread is between groups, whose sizes differ.
    groups = np.repeat(np.arange(19), rng.randint(1, 9, size=19))
    p, rates = [], []
    for _ in range(2000):
        level = rng.normal(size=20)
        scores = level[groups] + rng.normal(size=len(groups))
        new = as_rows([level[19] + rng.normal()])
        given.calibrate(as_rows(scores), false_positive_rate=0.1, groups=groups)
        p.append(given.p_values(new)[0])
        rates.append(given.predict(new)[0] == -1)
        assert rates[-1] == (p[-1] <= 0.1 + 1e-9)
    assert 0.06 < np.mean(rates) <= 0.1 + 3 * np.sqrt(0.09 / 2000)
    assert min(p) == pytest.approx(1 / 20)
    with pytest.raises(ValueError, match=r"19 groups of normal rows.* 1 / 20"):
        given.calibrate(as_rows(scores), false_positive_rate=0.04, groups=groups)


@pytest.mark.parametrize("metric", [None, f1_score])
def test_labels_set_the_best_threshold(given, rng, metric):
    is_outlier = rng.uniform(size=60) < 0.3
    scores = (rng.normal(size=60) - 1.5 * is_outlier).round(1)
    given.calibrate(as_rows(scores), 1 - 2 * is_outlier, metric=metric)
    metric = balanced_accuracy_score if metric is None else metric
    best = max(metric(is_outlier, scores < t) for t in np.r_[scores, 99])
    assert metric(is_outlier, scores < given.offset_) == pytest.approx(best)
    # The normal ones are calibration rows from then on.
    np.testing.assert_array_equal(given.calibration_scores_, scores[~is_outlier])


def test_a_metric_that_is_undefined_without_alarms_is_not_the_best(given):
    precision = partial(precision_score, zero_division=np.nan)
    given.calibrate(as_rows([1.0, 2, 3, 4]), [1, 1, 0, 0], metric=precision)
    assert 1 < given.offset_ < 2


def test_labels_of_dense_scores_set_the_best_threshold(given, rng):
    # Each score is near the next one, the first is far from the last.
    is_outlier = np.arange(3_000) % 3 == 0
    scores = -1e4 + rng.normal(size=3_000) - 2 * is_outlier
    given.calibrate(as_rows(scores), is_outlier)
    best = max(
        balanced_accuracy_score(is_outlier, scores < t)
        for t in np.quantile(scores, np.linspace(0, 1, 101))
    )
    found = balanced_accuracy_score(is_outlier, scores < given.offset_)
    assert found > best - 0.05  # scores within a tenth are equal


@pytest.mark.parametrize(
    "arguments",
    [
        {"quantile": 0.1},
        {"false_positive_rate": 0.1},
        {"n_alerts": 2},
        {"rule": np.median},
        {},
        {"y": np.arange(40) < 4},
    ],
)
@pytest.mark.parametrize("score", [np.nan, -np.inf])
def test_rows_without_a_finite_score_are_the_most_abnormal(given, score, arguments):
    scores = np.linspace(0, 1, 40)
    scores[1] = score
    given.calibrate(as_rows(scores), **arguments)
    assert np.isfinite(given.offset_)
    assert np.isfinite(given.p_values(as_rows([score]))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [0, 1] * 60, "quantile": 0.1}, "none of the four rules"),
        ({"metric": f1_score}, "labels y"),
        ({"y": [0] * 120}, "both present"),
        ({"y": np.array([0, 1, None] * 40)}, r"Got \[0, 1, None\]"),
        ({"y": [0, 1]}, "2 labels"),
        ({"groups": [0, 1]}, "inconsistent"),
    ],
)
def test_labels_and_groups_are_checked(X, model, arguments, message):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.calibrate(X, **arguments)
    with pytest.raises(ValueError, match=r"pass|labels|both"):
        model.calibrate(**arguments)
    assert_unchanged(model, before)


def test_labels_of_normal_rows_are_noticed(X, model):
    rows = np.r_[X[:40], X[:10] + 8.0]
    is_outlier = np.arange(50) >= 40
    model.calibrate(rows, is_outlier)  # without a warning
    with pytest.warns(InvertedLabelsWarning, match="pass y == 0"):
        model.calibrate(rows, ~is_outlier)
    before = state(model)
    with pytest.raises(TypeError, match=r"sklearn.metrics.f1_score. Got 'f1'"):
        model.calibrate(rows, is_outlier, metric="f1")
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("value", "message"), [(None, "number. Got None"), (np.nan, "NaN with every")]
)
def test_a_metric_must_return_numbers(X, model, value, message):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.calibrate(X[:50], np.arange(50) < 5, metric=lambda *_: value)
    assert_unchanged(model, before)


def test_no_contamination_says_what_to_do(X):
    with pytest.raises(ValueError, match=r"contamination=0 .*'auto'.*calibrate"):
        small(contamination=0).fit(X)


def test_contamination_is_read_by_fit(model):
    offset = model.offset_
    assert model.set_params(contamination=0.2).calibrate().offset_ == offset


def test_fewer_alerts_where_scores_are_equal(given):
    rows = as_rows([0.0, 1, 1, 1, 2, 3])
    alerts = [
        int(np.sum(given.calibrate(rows, n_alerts=n).predict(rows) == -1))
        for n in range(6)
    ]
    assert alerts == [0, 1, 1, 1, 4, 5]


def test_rule(X, model):
    scores = model.score_samples(X)
    model.calibrate(X, rule=np.median)
    assert model.offset_ == np.median(scores)
    assert type(model.offset_) is float
    # Without rows: those that the threshold of fit came from.
    seen = []
    model.fit(X).calibrate(rule=lambda s: seen.append(s) or 0)
    assert model.offset_ == 0
    assert len(seen[0]) == len(X)


def test_none_is_the_rule_of_auto(model, rng):
    offset = model.offset_
    assert model.calibrate(quantile=0.5).offset_ != offset
    assert model.calibrate().offset_ == offset
    rows = draw(rng, 70)
    expected = _thresholds.automatic(model.score_samples(rows))
    assert model.calibrate(rows).offset_ == expected != offset
    # From then on these rows are what it goes by.
    assert model.calibrate(quantile=0.5).calibrate().offset_ == expected


@pytest.mark.parametrize("fraction", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_contamination_is_a_quantile_of_all_rows(X, rng, fraction, weighted):
    weight = rng.uniform(50, 200, size=len(X)) if weighted else None
    params = {"calibration_fraction": fraction, "anomaly_score": Mahalanobis()}
    model = small(contamination=0.2, **params).fit(X, sample_weight=weight)
    scores = model.score_samples(X)
    method = "inverted_cdf" if weighted else "linear"
    expected = np.quantile(scores, 0.2, weights=weight, method=method)
    assert model.offset_ == pytest.approx(expected, rel=2e-5)
    # With a given score the ranking does not depend on it.
    other = small(**params).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(other.score_samples(X), scores)
    # Without rows `calibrate` takes those held back, or those of the threshold.
    expected = other.offset_
    if fraction == 0:
        expected = _thresholds.automatic(scores, weight)
    assert model.calibrate().offset_ == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1])
def test_auto_finds_outliers_whether_or_not_some_are_among_the_rows(share):
    rng = np.random.RandomState(0)
    alarms, recalls = [], []
    for _ in range(20):
        n_outliers = round(2000 * share)
        inside = -rng.gamma(3, 1 / 3, size=2000)
        inside[:n_outliers] = -8 - rng.exponential(size=n_outliers)
        offset = _thresholds.automatic(inside)
        alarms.append(np.mean(-rng.gamma(3, 1 / 3, size=2000) < offset))
        recalls.append(np.mean(-8 - rng.exponential(size=500) < offset))
    assert np.mean(alarms) < 0.03
    assert np.mean(recalls) > 0.95


def test_rows_with_the_score_of_the_threshold_have_one_label(rng):
    scores = np.repeat([-3.0, -2.0, -1.0, -0.5], [2, 8, 40, 50])
    blurred = scores * (1 + 1e-7 * rng.normal(size=100))
    for share in (0.05, 0.2, 0.6):
        offset = _thresholds.at_quantile(blurred, share)
        for value in np.unique(scores):
            assert len(np.unique(blurred[scores == value] < offset)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"quantile": 0.25},
        {"false_positive_rate": 0.06},
        {"n_alerts": 5},
        {"n_alerts": 0},
        {"y": np.arange(101) % 7 < 2},
    ],
)
def test_rows_with_one_score_have_one_label_in_any_batch(given, rng, arguments):
    values = np.repeat([-3.0, -2.0, -1.0, -0.5], [1, 9, 40, 51])
    one, other = (as_rows(values * (1 + 1e-7 * rng.normal(size=101))) for _ in "ab")
    offset = given.calibrate(one, **arguments).offset_
    p_values = given.calibrate(one).p_values
    for value in np.unique(values):
        rows = np.r_[one[values == value], other[values == value]]
        assert len(np.unique(rows[:, 0] < offset)) == 1
        assert len(np.unique(p_values(rows))) == 1


# A rate that is promised


@pytest.mark.parametrize(("n", "rate"), [(37, 0.1), (99, 0.01), (20, 0.5), (9, 0.95)])
def test_false_positive_rate_is_kept_over_draws_of_both(given, rng, n, rate):
    # Scores are uniform: the threshold is the rate.
    rates = np.array(
        [
            given.calibrate(
                as_rows(rng.uniform(size=n)), false_positive_rate=rate
            ).offset_
            for _ in range(3000)
        ]
    )
    error = 3 * rates.std() / np.sqrt(len(rates))
    assert rates.mean() <= rate + error
    assert rates.mean() > rate - 1 / (n + 1) - error
    # The smallest that could be promised is the one that is.
    exact = np.floor(rate * (n + 1) + 1e-9) / (n + 1)
    assert rates.mean() == pytest.approx(exact, abs=error)


def test_a_rate_needs_rows(given, rng):
    rows = as_rows(rng.uniform(size=99))
    given.calibrate(rows, false_positive_rate=0.01)
    with pytest.raises(ValueError, match=r"false_positive_rate=0.01 .* 98 .*1 / 99"):
        given.calibrate(rows[1:], false_positive_rate=0.01)


def test_a_rate_is_of_rows_that_fit_has_not_seen(X, rng):
    model = small().fit(X)
    message = r"calibrate\(false_positive_rate=...\) needs .*calibration_fraction"
    with pytest.raises(ValueError, match=message):
        model.calibrate(false_positive_rate=0.1)
    rows = draw(rng, 39)
    offset = model.calibrate(rows, false_positive_rate=0.1).offset_
    assert offset == pytest.approx(np.sort(model.score_samples(rows))[3], rel=2e-5)
    assert model.calibrate().calibrate(false_positive_rate=0.1).offset_ == offset
    model = small(calibration_fraction=0.325).fit(X)
    model.calibrate(false_positive_rate=0.1)
    fourth = np.sort(model.calibration_scores_)[3]
    assert model.offset_ == pytest.approx(fourth, rel=2e-5)


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"quantile": 0.1, "n_alerts": 3}, "quantile and n_alerts"),
        ({"rule": min, "false_positive_rate": 0.1}, "false_positive_rate and rule"),
        ({"quantile": 0.0}, "quantile"),
        ({"quantile": 1}, "quantile"),
        ({"quantile": "auto"}, "quantile"),
        ({"false_positive_rate": 1.0}, "false_positive_rate"),
        ({"false_positive_rate": 1e-3}, "false_positive_rate"),
        ({"n_alerts": -1}, "n_alerts"),
        ({"n_alerts": 2.0}, "n_alerts"),
        ({"n_alerts": 120}, "n_alerts=120"),
        ({"rule": 0.3}, "rule"),
        ({"rule": lambda s: None}, "rule must return .* Got None"),
        ({"rule": lambda s: np.nan}, "rule must return .* Got nan"),
        ({"rule": lambda s: s}, "rule must return"),
        ({"rule": lambda s: "low"}, "rule must return"),
        ({"rule": lambda s: 1 / 0}, "division"),
    ],
)
@pytest.mark.parametrize("new_rows", [False, True])
def test_a_failed_calibration_changes_nothing(X, model, arguments, name, new_rows):
    before = state(model)
    with pytest.raises((ValueError, ZeroDivisionError), match=name):
        model.calibrate(X + 1 if new_rows else None, **arguments)
    assert_unchanged(model, before)


@pytest.mark.parametrize("rows", [np.ones((5, 5)), np.full((5, 6), np.inf), []])
def test_rows_to_calibrate_by_are_checked(model, rows):
    before = state(model)
    with pytest.raises(ValueError, match=r"features|infinity|Expected 2D"):
        model.calibrate(rows)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    "query",
    [
        lambda model, X: model.calibrate(),
        lambda model, X: model.calibrate(X),
        lambda model, X: model.calibrate(n_alerts=1),
        lambda model, X: model.p_values(X),
        lambda model, X: model.explain(X),
    ],
)
def test_not_before_fit(X, query):
    with pytest.raises(NotFittedError):
        query(AutoencoderOutlierDetector(), X)


# What changes


def test_calibrate_changes_the_threshold_alone(model, rng):
    before = state(model)
    assert model.calibrate(quantile=0.3) is model
    assert_unchanged(model, before, but=["offset_"])
    rows = draw(rng, 50)
    model.calibrate(rows, quantile=0.3)
    scores = vars(model).pop("calibration_scores_")
    np.testing.assert_array_equal(scores, model.score_samples(rows))
    assert_unchanged(model, before, but=["offset_", "_reference"])


def test_another_fit_forgets(X, model, rng):
    offset = model.offset_
    model.calibrate(draw(rng, 50), quantile=0.3).fit(X)
    assert model.offset_ == offset == model.calibrate().offset_
    assert not hasattr(model, "calibration_scores_")
