"""Missing values: what they are taken as, and that they have no part in anything."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
)
from skae._data.missing import Completion, completed_rows, fit_completion
from skae._data.scaling import fit_scaling
from skae._data.source import Dense, Resident
from skae._data.winsorizing import winsorized
from skae._gradient.closed_form import ClosedForm
from skae._gradient.flat_weights import FlatWeights
from skae._model.autoencoder import Objective, Parts
from skae._training.batches import Batch, Rows
from skae.architectures import MLP, Conv
from skae.bottlenecks import TopK, Variational
from skae.corruptions import Gaussian
from skae.displays import ExplanationDisplay
from skae.losses import AbsoluteError, Bernoulli, Poisson, Trimmed

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]
both = pytest.mark.parametrize("estimator", ESTIMATORS)


def curve(n_rows, seed=0):
    rng = np.random.RandomState(seed)
    t = rng.uniform(-3, 3, size=n_rows)
    X = np.c_[t, np.sin(t), np.cos(t), t**2 / 3]
    return X + 0.05 * rng.normal(size=X.shape)


def thinned(X, share=0.15, seed=0):
    """Return rows of which a share of the cells is missing, but none of the first."""
    missing = np.random.RandomState(seed).uniform(size=X.shape) < share
    missing[0] = False
    missing[1, 1] = True
    return np.where(missing, np.nan, X)


@pytest.fixture(scope="module")
def complete():
    return curve(300)


@pytest.fixture(scope="module")
def detector(complete):
    return AutoencoderOutlierDetector(2, random_state=0).fit(complete)


# What a missing entry is taken as


def test_a_completion_is_the_conditional_mean_of_a_normal_distribution():
    rng = np.random.RandomState(0)
    mean, loadings = rng.normal(size=6), rng.normal(size=(6, 2))
    noise = rng.uniform(0.1, 1, size=6)
    covariance = loadings @ loadings.T + np.diag(noise)
    x = rng.normal(size=6)
    m, o = [1, 4], [0, 2, 3, 5]
    expected = x.copy()
    expected[m] = mean[m] + covariance[np.ix_(m, o)] @ np.linalg.solve(
        covariance[np.ix_(o, o)], (x - mean)[o]
    )
    given = torch.from_numpy(x)[None].clone()
    given[0, m] = torch.nan
    found = Completion(mean, loadings, noise)(given)
    np.testing.assert_allclose(found[0], expected, rtol=1e-10)


def test_the_distribution_is_that_of_rows_before_entries_were_removed():
    rng = np.random.RandomState(0)
    mixing = rng.normal(size=(5, 5))
    X = rng.normal(size=(4000, 5)) @ mixing + 3
    found = fit_completion(Dense(thinned(X, 0.3)))
    covariance = found.loadings @ found.loadings.T + torch.diag(found.noise)
    scale = np.sqrt(np.outer(X.var(axis=0), X.var(axis=0)))
    error = np.abs(covariance.numpy() - np.cov(X.T)) / scale
    assert error.max() < 0.06
    np.testing.assert_allclose(found.mean, X.mean(axis=0), atol=0.15)


@pytest.mark.parametrize("n_features", [12, 600])
def test_rows_of_low_rank_are_restored(n_features):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, n_features))
    given = thinned(X, 0.2)
    rows = Dense(given)
    filled, known = completed_rows(rows, fit_completion(rows))
    missing = np.isnan(given)
    assert (known.numpy() == ~missing).all()
    error = (filled.take(slice(None)).numpy() - X)[missing]
    assert np.sqrt(np.mean(error**2)) < 0.1 * X.std()


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        ("standard", StandardScaler()),
        ("minmax", MinMaxScaler((-1, 1))),
        ("robust", RobustScaler(unit_variance=True)),
    ],
)
def test_scaling_is_that_of_scikit_learn_which_leaves_out_nan(kind, oracle):
    X = thinned(curve(500) * [1, 10, 100, 1e-3] + 1e3)
    scaling, mean = fit_scaling(kind, Dense(X))
    found = scaling(torch.from_numpy(X))
    np.testing.assert_allclose(found, oracle.fit_transform(X), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(mean, np.nanmean(X, axis=0))


def test_scaling_with_weights_is_that_of_repeated_rows():
    X = thinned(curve(100))
    weight = np.random.RandomState(0).randint(1, 4, size=100)
    scaling, _ = fit_scaling("standard", Dense(X), weight / weight.mean())
    oracle = StandardScaler().fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(scaling.center, oracle.mean_)
    np.testing.assert_allclose(scaling.scale, oracle.scale_)


def test_wild_values_are_replaced_beside_missing_ones():
    X = np.arange(200.0).reshape(-1, 1)
    X[7], X[3] = np.nan, -1e9
    found = winsorized(X)
    assert np.nanmin(found) == 0
    assert np.isnan(found[7])
    assert np.nanmax(found) == 199


# Training


@pytest.mark.parametrize("weighted", [False, True])
def test_the_closed_form_leaves_out_what_is_masked(weighted):
    generator = torch.Generator().manual_seed(0)
    module = Parts.of(architecture=MLP((7,))).build(6, 3, 0).double().train()
    weights = FlatWeights(list(module.parameters()), 0.0)
    weights.attach_gradient()
    gradient = weights.flat.grad
    draw = torch.randn(weights.flat.shape, generator=generator, dtype=torch.double)
    weights.flat.data.copy_(draw)
    x = torch.randn(9, 6, generator=generator, dtype=torch.double)
    weight = torch.rand(9, generator=generator, dtype=torch.double)
    mask = torch.rand(9, 6, generator=generator) < 0.7
    batch = Batch(x, weight if weighted else None, mask, x + 1)
    found, _ = ClosedForm(module)(batch, {})
    by_closed_form = gradient.clone()
    gradient.zero_()
    output = module(x, {}, mask, x + 1)
    expected = Objective(module.loss)(output, batch.weight)
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(by_closed_form, gradient)


def test_further_entries_are_hidden_from_the_encoder_only():
    rows = Dense(thinned(curve(400)).astype(np.float32))
    completion = fit_completion(rows)
    filled, known = completed_rows(rows, completion)
    data = Rows(filled, None, None, None, known, completion).take(np.arange(200))
    batch = data.hidden(torch.Generator().manual_seed(0))[:]
    assert torch.equal(batch.mask, known[:200])
    assert torch.equal(batch.x, filled.take(slice(200)))
    hidden = (batch.seen != batch.x) & known[:200]
    # Those of another row, and a tenth of the others.
    assert 0.15 < hidden.sum() / known[:200].sum() < 0.35
    again = data.hidden(torch.Generator().manual_seed(0))[:]
    assert torch.equal(batch.seen, again.seen)


@pytest.mark.slow
def test_training_improves_on_the_linear_completion():
    X = curve(800)
    given = thinned(X, 0.2)
    missing = np.isnan(given)
    model = AutoencoderTransformer(2, random_state=0).fit(given)
    assert model.best_epoch_ > 0

    def error(filled):
        return np.sqrt(np.mean((filled - X)[missing] ** 2))

    linear = model._model.map(lambda m, x: m.scaling.inverse(m.scaled(x)), given)
    mean = np.where(missing, np.nanmean(given, axis=0), X)
    assert error(model.impute(given)) < 0.8 * error(linear) < 0.6 * error(mean)


def test_the_start_is_pca_with_missing_entries():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8))
    given = thinned(X + 1e-3 * rng.normal(size=X.shape), 0.2)
    model = AutoencoderTransformer(2, architecture=MLP(()), random_state=0).fit(given)
    error = model.reconstruct(given) - X
    assert np.sqrt(np.mean(error**2)) < 0.02 * X.std()
    axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:2]
    np.testing.assert_allclose(
        model.components_.T @ model.components_, axes.T @ axes, atol=1e-2
    )


def test_the_value_of_no_cell_matters_that_is_missing(complete):
    """Diagnostics are of the known cells: the same as computed by hand."""
    given = thinned(complete)
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(given)
    known = ~np.isnan(given)
    residual = np.where(known, given - model.reconstruct(given), 0.0)
    distance = np.where(known, given - model.mean_, 0.0)
    r2 = 1 - np.sum(residual**2) / np.sum(distance**2)
    assert model.score(given) == pytest.approx(r2)
    error = model.reconstruction_error(given)
    np.testing.assert_allclose(error, np.sum(residual**2, axis=1) / known.sum(axis=1))
    by_feature = model.reconstruction_error(given, per_feature=True)
    assert (np.isnan(by_feature) == ~known).all()
    np.testing.assert_allclose(model.mean_, np.nanmean(given, axis=0))


# Where nothing is missing


@both
def test_complete_rows_are_not_completed(complete, estimator, monkeypatch):
    def fail(*args):
        raise AssertionError("completed")

    monkeypatch.setattr(Completion, "expected", fail)
    model = estimator(2, max_epochs=2, random_state=0).fit(complete)
    model.reconstruct(complete), model.transform(complete), model.score(complete)
    if estimator is AutoencoderOutlierDetector:
        model.predict(complete), model.explain(complete)
    np.testing.assert_array_equal(model.impute(complete), complete)


@both
def test_rows_are_independent_of_incomplete_ones_beside_them(complete, estimator):
    model = estimator(2, max_epochs=2, random_state=0).fit(complete)
    mixed = thinned(complete)
    whole = ~np.isnan(mixed).any(axis=1)
    np.testing.assert_allclose(
        model.transform(mixed)[whole], model.transform(complete)[whole], rtol=1e-12
    )


# Methods


@pytest.mark.slow
@both
@pytest.mark.parametrize("trained_on", ["complete", "thinned"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_method_takes_missing_values(complete, estimator, trained_on, dtype):
    given = thinned(complete).astype(dtype)
    rows = given if trained_on == "thinned" else complete
    model = estimator(2, max_epochs=2, random_state=0).fit(rows)
    for method in (model.transform, model.reconstruct, model.impute):
        assert np.isfinite(method(given)).all()
        assert method(given).dtype == dtype
    filled = model.impute(given)
    missing = np.isnan(given)
    np.testing.assert_array_equal(filled[~missing], given[~missing])
    np.testing.assert_array_equal(filled[missing], model.reconstruct(given)[missing])
    assert np.isfinite(model.score(given))
    # In a table with one row, too, on the quick way past the validation.
    np.testing.assert_allclose(model.impute(given[1:2]), filled[1:2], rtol=1e-5)
    if estimator is AutoencoderOutlierDetector:
        assert np.isfinite(model.score_samples(given)).all()
        assert set(model.predict(given)) <= {-1, 1}
        model.calibrate(given, false_positive_rate=0.1)
        assert (model.predict(given) == -1).mean() <= 0.1
        assert model.p_values(given).min() >= 1 / 301
        shares = model.explain(given)
        total = shares.share.sum(axis=1) + shares.code_share
        np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_both_precisions_complete_alike(complete):
    given = thinned(complete)
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(given)
    single = model.impute(given.astype(np.float32))
    np.testing.assert_allclose(single, model.impute(given), atol=1e-4)


@pytest.mark.slow
def test_a_fitted_model_is_pickled_with_its_completion(complete):
    given = thinned(complete)
    model = AutoencoderOutlierDetector(2, max_epochs=2, random_state=0).fit(given)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.impute(given), model.impute(given))
    np.testing.assert_array_equal(
        again.score_samples(given), model.score_samples(given)
    )


def test_data_frames_with_their_own_missing_values(complete):
    pd = pytest.importorskip("pandas")
    given = thinned(complete)
    names = list("abcd")
    frame = pd.DataFrame(given, columns=names)
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(frame)
    expected = model.impute(frame)
    np.testing.assert_array_equal(model.impute(frame.astype("Float64")), expected)
    objects = frame.astype(object).where(frame.notna(), None)
    np.testing.assert_array_equal(model.impute(objects), expected)


# With every part


COUNTS = np.random.RandomState(0).poisson(3.0, size=(120, 4)).astype(float)
CONFIGURATIONS = {
    "bernoulli": ({"loss": Bernoulli()}, (COUNTS > 2) * 1.0),
    "poisson": ({"loss": Poisson()}, COUNTS),
    "absolute": ({"loss": AbsoluteError()}, curve(120)),
    "trimmed": ({"loss": Trimmed(AbsoluteError())}, curve(120)),
    "variational": ({"bottleneck": Variational()}, curve(120)),
    "top k": ({"bottleneck": TopK(1)}, curve(120)),
    "noise": ({"corruption": Gaussian()}, curve(120)),
    "batch norm": ({"architecture": MLP((8,), norm="batch")}, curve(120)),
    "convolution": ({"architecture": Conv((1, 2, 2), channels=(2,))}, curve(120)),
    "robust": ({"scaling": "robust"}, curve(120)),
    "minmax": ({"scaling": "minmax"}, curve(120)),
    "last rows": ({"validation_split": "last"}, curve(120)),
}


@pytest.mark.slow
@both
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_part_takes_missing_values(name, estimator):
    params, X = CONFIGURATIONS[name]
    given = thinned(X.astype(float))
    model = estimator(2, max_epochs=2, random_state=0, **params).fit(given)
    low, high = getattr(params.get("loss"), "domain", (-np.inf, np.inf))
    filled = model.impute(given)
    assert np.isfinite(filled).all()
    assert low <= filled.min()
    assert filled.max() <= high
    mean = np.where(np.isnan(given), np.nanmean(given, axis=0), given)
    # Of the order of the data, however little was trained.
    assert np.abs(filled - mean).max() < 3 * np.ptp(X)


@both
def test_weights_pairs_and_validation_rows_with_missing_values(complete, estimator):
    given = thinned(complete)
    weight = np.random.RandomState(0).uniform(0.5, 2, size=300)
    rows = {"X_val": thinned(curve(50, 1)), "X_val_target": thinned(curve(50, 1), 0.1)}
    model = estimator(2, max_epochs=2, random_state=0)
    model.fit(given, None, weight, X_target=thinned(complete, 0.1, 2), **rows)
    assert np.isfinite(model.impute(given)).all()
    # In the validation rows alone.
    model.fit(complete, X_val=rows["X_val"])
    assert np.isfinite(list(model.history_["valid_loss"])).all()


@pytest.mark.slow
def test_a_target_says_more_than_its_rows(complete):
    """With pairs the loss compares with the cells of the target that are known."""
    given = thinned(complete, 0.3)
    model = AutoencoderTransformer(2, random_state=0, max_epochs=30)
    model.fit(given, X_target=complete)
    missing = np.isnan(given)
    filled = model.reconstruct(given)
    assert r2_score(complete[missing], filled[missing]) > 0.5


def test_a_warm_start_goes_on_with_missing_values(complete):
    model = AutoencoderTransformer(2, max_epochs=2, warm_start=True, random_state=0)
    model.fit(complete)
    model.fit(thinned(complete))
    assert np.isfinite(model.impute(thinned(complete))).all()


@pytest.mark.slow
def test_an_ensemble_takes_missing_values(complete):
    given = thinned(complete)
    detector = AutoencoderOutlierDetector(
        2, n_estimators=2, calibration_fraction=0.3, max_epochs=2, random_state=0
    ).fit(given)
    assert np.isfinite(detector.calibration_scores_).all()
    assert detector.predict([[np.nan] * 4]) == -1


def test_new_rows_are_drawn_of_a_model_of_incomplete_ones(complete):
    model = AutoencoderTransformer(2, max_epochs=2, random_state=0)
    drawn = model.fit(thinned(complete)).sample(200, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), complete.mean(axis=0), atol=0.6)


# The detector


@pytest.mark.slow
def test_one_missing_value_in_300_rows_is_scored(complete):
    given = complete.copy()
    given[17, 2] = np.nan
    scores = AutoencoderOutlierDetector(2, random_state=0).fit(given).score_samples
    assert np.isfinite(scores(given)).all()


@pytest.mark.slow
def test_a_row_without_any_value_is_an_outlier(detector):
    nothing = [[np.nan] * 4]
    assert detector.predict(nothing) == -1
    assert np.isfinite(detector.score_samples(nothing)).all()


@pytest.mark.parametrize("column", range(4))
def test_a_dead_sensor_is_an_outlier(detector, complete, column):
    dead = curve(100, 1)
    dead[:, column] = np.nan
    assert (detector.predict(dead) == -1).all()
    # Two are rarer than one.
    both_dead = dead.copy()
    both_dead[:, (column + 1) % 4] = np.nan
    one, two = (np.median(detector.score_samples(rows)) for rows in (dead, both_dead))
    assert two < one


@pytest.mark.slow
def test_what_is_often_missing_does_not_count(complete):
    given = complete.copy()
    given[::2, 3] = np.nan
    model = AutoencoderOutlierDetector(2, random_state=0).fit(given)
    new = curve(400, 1)
    usual = (model.predict(new) == -1).mean()
    new[:, 3] = np.nan
    assert (model.predict(new) == -1).mean() < usual + 0.03
    new[:, 0] = np.nan
    assert (model.predict(new) == -1).all()


@pytest.mark.slow
def test_outliers_are_found_among_rows_with_missing_values(complete):
    given = thinned(complete, 0.1)
    model = AutoencoderOutlierDetector(2, random_state=0).fit(given)
    new = thinned(curve(300, 1), 0.1, seed=1)
    assert (model.predict(new) == -1).mean() < 0.06
    off = new[:50].copy()
    off[:, 2] = 3.0
    assert (model.predict(off) == -1).mean() > 0.9


def test_an_explanation_says_missing(detector, complete):
    rows = complete[:3].copy()
    rows[0, 2] = np.nan
    explanation = detector.explain(rows)
    assert explanation.share[0].argmax() == 2
    assert explanation.share[0, 2] > 0.7
    assert np.isnan(explanation.value[0, 2])
    assert np.isnan(explanation.residual[0, 2])
    assert np.isfinite(explanation.expected).all()
    untouched = detector.explain(complete[1:3])
    np.testing.assert_allclose(explanation.share[1:], untouched.share, rtol=1e-6)
    pytest.importorskip("matplotlib")
    display = ExplanationDisplay.from_explanation(explanation)
    texts = [text.get_text() for text in display.ax_.texts]
    texts += [label.get_text() for label in display.ax_.get_yticklabels()]
    assert any("missing" in text for text in texts)


def test_exported_models_take_complete_rows(detector, complete):
    module = detector.to_torch("score").double()
    found = module(torch.from_numpy(complete)).detach().numpy()
    np.testing.assert_allclose(found, detector.score_samples(complete), rtol=1e-6)


# What is refused


@both
def test_a_column_without_any_value_is_refused(complete, estimator):
    given = complete.copy()
    given[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"X has columns without any value: \[2\]"):
        estimator(2).fit(given)
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(given, columns=list("abcd"))
    with pytest.raises(ValueError, match=r"without any value: \['c'\]"):
        estimator(2).fit(frame)


@both
def test_infinity_is_refused_beside_missing_values(complete, estimator):
    given = thinned(complete)
    given[0, 0] = np.inf
    with pytest.raises(ValueError, match="X contains infinity"):
        estimator(2).fit(given)


@both
def test_the_domain_is_checked_beside_missing_values(estimator):
    given = thinned(COUNTS)
    given[0, 0] = -1
    with pytest.raises(ValueError, match="Poisson is a loss for data in"):
        estimator(2, loss=Poisson()).fit(given)


# The imputer


@pytest.mark.slow
def test_the_imputer_in_a_pipeline():
    X = curve(400)
    y = X @ [1.0, 2.0, 3.0, 4.0]
    given = thinned(X, 0.1)
    imputer = AutoencoderImputer(AutoencoderTransformer(2), random_state=0)
    pipeline = make_pipeline(imputer, LinearRegression()).fit(given, y)
    filled = pipeline[0].transform(given)
    np.testing.assert_array_equal(filled, pipeline[0].autoencoder_.impute(given))
    assert pipeline.score(given, y) > 0.9
    assert clone(imputer).get_params()["autoencoder__n_components"] == 2


def test_the_imputer_returns_the_columns_that_it_got():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(thinned(curve(100)), columns=list("abcd"))
    imputer = AutoencoderImputer(AutoencoderTransformer(2, max_epochs=2))
    filled = imputer.set_output(transform="pandas").fit_transform(frame)
    assert list(filled.columns) == list("abcd")
    assert filled.notna().all(axis=None)
    pd.testing.assert_frame_equal(filled[frame.notna()], frame)


@parametrize_with_checks(
    [AutoencoderImputer(AutoencoderTransformer(architecture=MLP(()), max_epochs=3))],
)
def test_scikit_learn_checks_of_the_imputer(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("n_missing", "hides"), [(2, False), (40, True)])
def test_entries_are_hidden_where_a_hundredth_of_the_rows_lacks_some(n_missing, hides):
    x = torch.randn(1000, 5)
    known = torch.ones(1000, 5, dtype=torch.bool)
    known[:n_missing, 2] = False
    rows = Rows(Resident(x), known=known, completion=lambda rows: rows.nan_to_num(9.0))
    seen = rows.hidden(torch.Generator().manual_seed(0)).input.x
    assert (seen[:n_missing, 2] == 9).all()
    assert bool((seen == x)[known].all()) != hides
