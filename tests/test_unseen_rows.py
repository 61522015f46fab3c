"""The rows that the threshold comes from: of which no training has seen any."""

import numpy as np
import pytest
from test_thresholds import draw, small

from skae._outlier import _thresholds
from skae._training import fit as fit_layer
from skae._training import plan
from skae.anomaly_scores import Reconstruction
from skae.architectures import MLP
from skae.corruptions import Gaussian

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture
def parts(monkeypatch):
    """Record the rows that are left out of a model to be scored by it."""
    recorded = []

    def fold(self, kept, *args):
        recorded.append(np.setdiff1d(np.arange(len(self.rows)), kept))
        return original(self, kept, *args)

    original = plan.Plan.fold
    monkeypatch.setattr(plan.Plan, "fold", fold)
    return recorded


@pytest.mark.parametrize(
    ("n_rows", "weighted"),
    [
        (60, True),
        pytest.param(60, False, marks=pytest.mark.slow),
        pytest.param(150, True, marks=pytest.mark.slow),
        pytest.param(150, False, marks=pytest.mark.slow),
    ],
)
def test_few_rows_are_scored_by_models_of_the_others(rng, parts, n_rows, weighted):
    X = draw(rng, n_rows)
    weight = rng.exponential(size=n_rows) if weighted else None
    model = small().fit(X, sample_weight=weight)
    assert len(parts) == 5
    assert sorted(np.concatenate(parts)) == list(range(n_rows))
    # Too few rows to train on: every model is PCA, whatever the seed.
    scores = np.empty(n_rows)
    for rows in parts.copy():
        kept = np.setdiff1d(np.arange(n_rows), rows)
        others = small(random_state=5)
        others.fit(X[kept], sample_weight=weight[kept] if weighted else None)
        scores[rows] = others.score_samples(X[rows])
    expected = _thresholds.automatic(scores, weight)
    assert model.offset_ == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_rows", "n_components", "n_parts"),
    [(9, 1, 0), (10, 1, 5), (499, 2, 5), (500, 2, 0), (600, 29, 0), (600, 31, 5)],
)
def test_which_tables_are_cut_into_parts(rng, parts, n_rows, n_components, n_parts):
    # Fewer than 500 rows, or than 20 per component.
    X = rng.normal(size=(n_rows, 32))
    small(n_components=n_components, max_epochs=1).fit(X)
    assert len(parts) == n_parts
    parts.clear()
    small(n_components=1, max_epochs=1).fit(X, X_val=X)
    small(n_components=1, max_epochs=1, calibration_fraction=0.3).fit(X)
    assert not parts


@pytest.mark.parametrize(("n_columns", "n_parts"), [(59, 0), (61, 5)])
def test_wide_tables_are_cut_into_parts(rng, parts, n_columns, n_parts):
    # Fewer than ten rows per column.
    small(max_epochs=1).fit(rng.normal(size=(600, n_columns)))
    assert len(parts) == n_parts


@pytest.fixture
def nets(monkeypatch):
    """Record the epochs that networks may take, and the rows that they have."""
    recorded = []

    def training(net, data, epochs=None, *args):
        n_validation = 0 if data.validation is None else len(data.validation)
        n_epochs = net.max_epochs if epochs is None else epochs
        recorded.append((n_epochs, len(data.train), n_validation))
        return original(net, data, epochs, *args)

    original = fit_layer.Net.training
    monkeypatch.setattr(fit_layer.Net, "training", training)
    return recorded


def test_models_of_the_others_are_trained_in_the_same_way(rng, nets):
    small(architecture=MLP((8,), start="random"), max_epochs=4).fit(draw(rng, 220))
    # Few rows: the validation set chooses the epochs, and all rows are trained on.
    first, (epochs, *counts), *others = nets
    assert first == (4, 170, 50)
    assert counts == [220, 0]
    assert others == 5 * [(epochs, 176, 0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_rows", "params", "leave", "n_nets"),
    [
        (220, {}, True, 7),
        # Five folds judge, one network has all rows, and five score rows unseen.
        (60, {"corruption": Gaussian(0.2), "architecture": None, "lr": 1e-2}, True, 11),
        (220, {"early_stopping": False}, False, 6),
    ],
    ids=str,
)
def test_models_of_the_others_begin_with_weights_of_the_same_kind(
    n_rows, params, leave, n_nets, rng, monkeypatch
):
    left, training = [], fit_layer.Net.training

    def recorded(net, data, epochs=None, *args):
        if net.max_epochs > 0 and epochs != 0:
            left.append(net.leaves_start)
        return training(net, data, epochs, *args)

    monkeypatch.setattr(fit_layer.Net, "training", recorded)
    # A parabola, of which a network learns more than PCA.
    t = rng.normal(size=(n_rows, 1))
    X = np.hstack([t, t**2 - 1]) + 0.02 * rng.normal(size=(n_rows, 2))
    params = {"lr": 3e-2, **params}
    small(n_components=1, max_epochs=80, **params).fit(X)
    assert left == n_nets * [leave]


def test_models_of_the_others_stay_at_the_start_if_that_was_best(rng, nets):
    # A rate so small that nothing is gained.
    small(lr=1e-12, max_epochs=4).fit(draw(rng, 220))
    assert nets == [(4, 170, 50)] + 5 * [(0, 176, 0)]
    nets.clear()
    small(lr=1e-12, max_epochs=4, warm_start=True).fit(draw(rng, 220))
    # 50 of the 176 rows would be more than a quarter: 20 judge the training.
    assert nets == [(4, 170, 50)] + 5 * [(4, 156, 20)]


def test_rows_that_judged_count_by_their_weight(rng):
    X, weight, seen = draw(rng, 600), rng.exponential(size=600), []
    model = small(max_epochs=1).fit(X, sample_weight=weight)
    offset = model.offset_
    # Find them by their scores.
    model.calibrate(rule=lambda scores: seen.extend(scores) or 0)
    assert len(seen) == 60
    scores = model.score_samples(X)
    rows = np.abs(scores[:, None] - seen).argmin(axis=0)
    expected = _thresholds.automatic(scores[rows], weight[rows])
    assert offset == pytest.approx(expected, rel=1e-9)
    for share in (0.1, 0.3, 0.5, 0.7):
        expected = _thresholds.at_quantile(scores[rows], share, weight[rows])
        found = model.calibrate(quantile=share).offset_
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_models_of_the_others_are_trained_as_long(rng):
    X = draw(rng, 200)
    model = small(
        architecture=MLP((8,), start="random"),
        anomaly_score=Reconstruction(),
        early_stopping=False,
        max_epochs=40,
    ).fit(X)
    untrained = small(**model.get_params(deep=False) | {"lr": 1e-9}).fit(X)
    assert model.offset_ > untrained.offset_ / 2


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [60, 150])
@pytest.mark.parametrize(
    ("score", "too_many"), [(None, 0.015), (Reconstruction(), 0.035)], ids=repr
)
def test_few_rows_set_a_threshold_that_holds(n_rows, score, too_many):
    rates, of_own = [], []
    for seed in range(10):
        rng = np.random.RandomState(seed)
        mixing = rng.normal(size=(10, 40))
        X, fresh = (
            rng.normal(size=(n, 10)) @ mixing + 0.5 * rng.normal(size=(n, 40))
            for n in (n_rows, 1000)
        )
        model = small(n_components=10, anomaly_score=score).fit(X)
        rates.append(np.mean(model.predict(fresh) == -1))
        # What the rows say that the model was made of.
        offset = _thresholds.automatic(model.score_samples(X))
        of_own.append(np.mean(model.score_samples(fresh) < offset))
    assert 0.003 < np.mean(rates) < 0.02
    assert np.mean(of_own) > too_many
