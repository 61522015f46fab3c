"""Conformal p-values, and the rows that they compare with."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from test_thresholds import Given, as_rows, draw, small

from skae._outlier._thresholds import automatic

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture
def X(rng):
    return draw(rng, 120)


@pytest.fixture(scope="module")
def given():
    return small(Given).fit(draw(np.random.RandomState(0), 30))


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_count_rows_at_least_as_abnormal(given, rng, ties):
    calibration, scores = rng.normal(size=40), rng.normal(size=60)
    if ties:
        calibration, scores = calibration.round(), scores.round()
    given.calibrate(as_rows(calibration))
    expected = [(1 + sum(c <= s for c in calibration)) / 41 for s in scores]
    np.testing.assert_allclose(given.p_values(as_rows(scores)), expected, rtol=1e-12)
    assert given.p_values(as_rows([-99, 99])).tolist() == [1 / 41, 1]


@pytest.mark.parametrize("ties", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_p_values_are_super_uniform(given, rng, ties):
    n, n_draws = 19, 4000
    p = np.empty(n_draws)
    for i in range(n_draws):
        scores = rng.normal(size=n + 1)
        scores = scores.round() if ties else scores
        p[i] = given.calibrate(as_rows(scores[1:])).p_values(as_rows(scores[:1]))[0]
    for level in (0.05, 0.12, 0.3, 0.5):
        share = np.mean(p <= level)
        error = 4 * np.sqrt(level * (1 - level) / n_draws)
        assert share <= level + error
        if not ties:
            exact = np.floor(level * (n + 1) + 1e-9) / (n + 1)
            assert share == pytest.approx(exact, abs=error)


@pytest.mark.slow
def test_p_values_of_a_real_model(X, rng):
    # Calibration and test rows are drawn anew each time, the model is one.
    model = small().fit(X)
    shares = []
    for _ in range(150):
        p = model.calibrate(draw(rng, 49)).p_values(draw(rng, 50))
        shares.append([np.mean(p <= level) for level in (0.02, 0.1, 0.3)])
    mean, error = np.mean(shares, axis=0), np.std(shares, axis=0) / np.sqrt(150)
    np.testing.assert_allclose(mean, [0.02, 0.1, 0.3], atol=4 * error.max())


def test_false_discoveries_are_controlled(given, rng):
    false, found = [], []
    is_outlier = np.arange(100) >= 80
    for _ in range(300):
        given.calibrate(as_rows(rng.normal(size=200)))
        scores = rng.normal(size=100) - 4 * is_outlier
        called = false_discovery_control(given.p_values(as_rows(scores))) <= 0.2
        false.append((called & ~is_outlier).sum() / max(called.sum(), 1))
        found.append(called[is_outlier].mean())
    error = np.std(false) / np.sqrt(len(false))
    assert np.mean(false) <= 0.8 * 0.2 + 3 * error
    assert np.mean(false) > 0.1  # there was something to control
    assert np.mean(found) > 0.5


def test_p_values_need_calibration_rows(X):
    model = small().fit(X)
    with pytest.raises(ValueError, match=r"call calibrate\(X\).*Got 0.0"):
        model.p_values(X)
    # A threshold alone does not bring any.
    with pytest.raises(ValueError, match="calibration_fraction"):
        model.calibrate(quantile=0.1).p_values(X)


def test_p_values_by_either_way(X, rng):
    rows = draw(rng, 30)
    model = small(calibration_fraction=0.25).fit(X)
    assert len(model.calibration_scores_) == 30
    assert model.p_values(rows).min() >= 1 / 31
    other = draw(rng, 99)
    model.calibrate(other)
    np.testing.assert_array_equal(model.calibration_scores_, model.score_samples(other))
    assert model.p_values(100 * rows).max() == 1 / 100


# Rows that are held back


def held_back(model, X):
    """Find them by their scores."""
    scores, theirs = model.score_samples(X), model.calibration_scores_
    return np.isclose(scores[:, None], theirs, rtol=1e-9, atol=0).any(axis=1)


@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.5, 0.98])
def test_share_of_rows_held_back(X, fraction):
    model = small(calibration_fraction=fraction).fit(X)
    assert len(model.calibration_scores_) == max(1, round(fraction * len(X)))
    assert held_back(model, X).sum() == len(model.calibration_scores_)


def test_too_many_rows_held_back(rng):
    model = small(calibration_fraction=0.9)
    message = "calibration_fraction=0.9 leaves 1 of 10 rows"
    with pytest.raises(ValueError, match=message):
        model.fit(draw(rng, 10))
    model.fit(draw(rng, 20))
    assert len(model.calibration_scores_) == 18


def test_weights_that_go_on_may_have_seen_all_rows(X):
    model = small(calibration_fraction=0.2, warm_start=True).fit(X)
    with pytest.raises(
        ValueError, match=r"warm_start=True .* calibration_fraction=0.2"
    ):
        model.fit(X)
    assert model.set_params(calibration_fraction=0).fit(X) is model


@pytest.mark.parametrize("n_rows", [100, 400])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_learns_from_rows_held_back(rng, n_rows, weighted):
    X, fresh = draw(rng, n_rows), draw(rng, 50)
    weight = rng.uniform(0.5, 2, size=n_rows) if weighted else None
    params = {"calibration_fraction": 0.3, "n_estimators": 2, "lr": 2e-2}
    model = small(**params).fit(X, sample_weight=weight)
    held = held_back(model, X)
    assert held.sum() == len(model.calibration_scores_)
    X[held] = 1e3 * rng.standard_cauchy(size=(held.sum(), 6))
    if weighted:
        weight[held] *= 50
    other = small(**params).fit(X, sample_weight=weight)
    assert other.n_iter_ == model.n_iter_
    for query in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(
            getattr(other, query)(fresh), getattr(model, query)(fresh)
        )
    shares = [m.explain(fresh).share for m in (model, other)]
    np.testing.assert_array_equal(*shares)
    np.testing.assert_array_equal(other.mean_, model.mean_)
    np.testing.assert_array_equal(other.scale_, model.scale_)
    # Only what the threshold comes from is another.
    assert other.calibration_scores_.max() < model.calibration_scores_.min()
    assert other.offset_ < model.offset_


def test_auto_threshold_comes_from_rows_held_back(X):
    model = small(calibration_fraction=0.4).fit(X)
    assert model.offset_ == automatic(model.calibration_scores_)


def test_another_seed_holds_back_other_rows(X):
    one, same, other = (
        held_back(small(calibration_fraction=0.3, random_state=s).fit(X), X)
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
