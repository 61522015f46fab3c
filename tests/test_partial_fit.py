"""`partial_fit`: rows that come one call after the other."""

import pickle
import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches

import skae
from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.reservoir import Reservoir
from skae.architectures import MLP, Conv
from skae.bottlenecks import FiniteScalar, Nested, TopK, Variational, VectorQuantized
from skae.corruptions import Gaussian
from skae.exceptions import DivergenceWarning
from skae.losses import Bernoulli

ESTIMATORS = AutoencoderTransformer, AutoencoderOutlierDetector


def made(n_rows, seed=0):
    """Return curved rows of six columns, with noise, off the origin."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-2, 2, size=(n_rows, 2))
    X = np.hstack([t, t**2, np.sin(2 * t)])
    return X + 0.05 * rng.normal(size=X.shape) + np.arange(6)


@pytest.fixture
def few_kept(monkeypatch):
    """No more than 300 rows are kept."""
    monkeypatch.setattr("skae._training.increments._MOST", 300)
    monkeypatch.setattr("skae._training.increments._LEAST", 300)


def _fed(model, X, size):
    for rows in gen_batches(len(X), size):
        model.partial_fit(X[rows])
    return model


def _pca_error(X, k):
    pca = PCA(k).fit(X)
    return np.square(X - pca.inverse_transform(pca.transform(X))).mean()


# The reservoir


def test_each_row_is_kept_with_the_same_chance(rng):
    counts = np.zeros(60)
    for _ in range(2000):
        reservoir = Reservoir(6)
        for part in np.array_split(np.arange(60.0)[:, np.newaxis], [3, 10, 11, 40]):
            reservoir.add(part, rng)
        assert len(reservoir) == 6
        assert not reservoir.has_all
        counts[reservoir.rows[:, 0].astype(int)] += 1
    # Binomial, of 2000 draws with a chance of a tenth.
    assert np.abs(counts - 200).max() < 4.5 * np.sqrt(2000 * 0.1 * 0.9)


@pytest.mark.parametrize("half_life", [100, 1000])
def test_the_chance_of_a_row_halves_with_the_half_life(half_life, rng):
    ages = []
    for _ in range(60):
        reservoir = Reservoir(200)
        for i in range(60):
            rows = 100.0 * i + np.arange(100.0)[:, np.newaxis]
            reservoir.add(rows, rng, half_life)
        ages.append(6000 - reservoir.rows[:, 0])
    ages = np.concatenate(ages)
    # Exponential, with the mean half_life / log(2), cut off at 6000.
    scale = half_life / np.log(2)
    share = np.mean(ages < half_life) * (1 - np.exp(-6000 / scale))
    assert share == pytest.approx(0.5, abs=0.03)


# Statistics


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mean_and_pca_are_those_of_all_rows(estimator, few_kept):
    X = made(2000)
    for size in (2000, 333, 100):
        model = _fed(estimator(2, scaling="global", random_state=0), X, size)
        np.testing.assert_allclose(model.mean_, X.mean(axis=0), rtol=1e-12)
        assert model.n_samples_seen_ == 2000
        error = model.pca_reconstruction_error_
        assert error == pytest.approx(_pca_error(X, 2), rel=1e-9)


def test_columns_far_from_zero_keep_their_variance(few_kept):
    X = made(1000) + 1e8
    model = _fed(AutoencoderTransformer(2, random_state=0), X, 100)
    error = _pca_error(X - 1e8, 2)
    assert model.pca_reconstruction_error_ == pytest.approx(error, rel=1e-4)


@pytest.mark.slow
def test_scaling_and_size_follow_while_all_rows_are_kept(few_kept):
    X = made(2000)
    X[:50] *= 0.01
    model = AutoencoderTransformer("auto", scaling="standard", random_state=0)
    seen = []
    for rows in gen_batches(len(X), 50):
        model.partial_fit(X[rows])
        seen.append((model.n_components_, model.scale_.copy()))
        n_rows = rows.stop
        if n_rows <= 300:
            np.testing.assert_allclose(model.scale_, X[:n_rows].std(axis=0), rtol=1e-9)
            expected = AutoencoderTransformer(
                "auto", scaling="standard", architecture=MLP(()), max_epochs=1
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected.fit(X[:n_rows])
            assert model.n_components_ == expected.n_components_
    # 300 rows that are trained on are kept, a tenth of all are not.
    assert len({scale.tobytes() for _, scale in seen[7:]}) == 1
    assert len({n for n, _ in seen[7:]}) == 1


@pytest.mark.parametrize("scaling", ["minmax", "robust", None])
def test_scalings(scaling, few_kept):
    X = made(1000)
    model = _fed(AutoencoderTransformer(2, scaling=scaling, random_state=0), X, 100)
    inside = AutoencoderTransformer(2, scaling=scaling, max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inside.fit(X[:400])
    np.testing.assert_allclose(model.scale_, inside.scale_, rtol=0.3)


def test_half_life_weighs_the_mean(few_kept):
    X = made(1200)
    X[600:] += 10
    model = AutoencoderTransformer(2, random_state=0)
    for rows in gen_batches(len(X), 100):
        model.partial_fit(X[rows], half_life=200)
    age = np.arange(len(X))[::-1] // 100 * 100
    weight = 0.5 ** (age / 200)
    expected = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(model.mean_, expected, rtol=1e-10)
    recent = np.mean(model._increments.kept.rows[:, 0] > 5)
    assert recent > 0.8


# Training


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", [1000, 5000])
def test_one_pass_in_calls_is_as_good_as_one_epoch_of_fit(estimator, size):
    # Six components: training begins at PCA. From random weights a single pass ends
    # with errors that differ several times between seeds.
    rng = np.random.RandomState(0)
    z = rng.normal(size=(23_000, 6))
    X = np.hstack([z, np.sin(2 * z)]) @ rng.normal(size=(12, 20))
    X, new = np.split(X + 0.1 * rng.normal(size=X.shape), [20_000])
    errors = np.empty((2, 2))
    for seed in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = estimator(6, max_epochs=1, random_state=seed).fit(X)
        model = _fed(estimator(6, random_state=seed), X, size)
        errors[seed] = [m.reconstruction_error(new).mean() for m in (model, whole)]
    parts, whole = errors.mean(axis=0)
    # With other seeds, fit differs by 2 % itself.
    assert parts < 1.05 * whole
    assert parts < 0.9 * model.pca_reconstruction_error_


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_training_goes_on_and_beats_pca(estimator, few_kept):
    X, new = made(12_000), made(2000, 1)
    model = estimator(2, random_state=0)
    errors = []
    for rows in gen_batches(len(X), 2000):
        model.partial_fit(X[rows])
        errors.append(model.reconstruction_error(new).mean())
    # The rate of the linear maps of the detector is lower.
    most = 0.6 if estimator is AutoencoderTransformer else 0.8
    assert errors[-1] < most * _pca_error(X, 2)
    assert errors[-1] < errors[1]
    assert model.kept_weights_ == "weights of the last call"
    assert len(model.history_["train_loss"]) == model.n_iter_ == 6


@pytest.mark.parametrize(
    ("params", "kept", "at_pca"),
    [
        ({}, "PCA of all rows", True),
        ({"architecture": MLP(start="random")}, "weights of the last call", False),
        ({"bottleneck": TopK(1)}, "initial weights", False),
        ({"bottleneck": FiniteScalar(3)}, "initial weights", False),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_pca_is_called_pca(estimator, params, kept, at_pca):
    # A step so short is no gain.
    model = estimator(2, lr=1e-8, random_state=0, **params).partial_fit(made(300))
    assert model.kept_weights_ == kept
    assert model.diagnostics_["starts_at_pca"] == at_pca


def test_rows_without_structure_leave_pca(few_kept):
    rng = np.random.RandomState(0)
    mixing = rng.normal(size=(6, 6))
    model = AutoencoderTransformer(3, lr=0.05, random_state=0)
    X, new = (rng.normal(size=(n, 6)) @ mixing for n in (2000, 2000))
    for rows in gen_batches(len(X), 200):
        model.partial_fit(X[rows])
        pca = PCA(3).fit(X[: rows.stop])
        of_pca = np.square(new - pca.inverse_transform(pca.transform(new))).mean()
        assert model.reconstruction_error(new).mean() < 1.02 * of_pca


@pytest.mark.slow
def test_rows_wait_until_there_is_a_batch(few_kept):
    X = made(600)
    model = _fed(AutoencoderTransformer(2, batch_size=32, random_state=0), X, 600)
    n_passes = model.n_iter_
    for row in made(31, 1):
        model.partial_fit(row[np.newaxis])
    assert model.n_iter_ == n_passes
    assert model.n_samples_seen_ == 631
    _fed(model, made(20, 2), 1)
    assert model.n_iter_ == n_passes + 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"architecture": MLP((8,), start="random", linear_path=False)},
        {"architecture": MLP((8,), norm="batch")},
        {"architecture": Conv((1, 6), channels=(4,))},
        {"architecture": MLP(())},
        {"bottleneck": Variational()},
        {"bottleneck": VectorQuantized(8)},
        {"bottleneck": TopK(1)},
        {"bottleneck": Nested()},
        {"corruption": Gaussian(0.1)},
        {"optimizer": "sgd", "lr": 0.01},
        {"weight_decay": 0.01},
        {"early_stopping": False},
        {"whiten": True},
        {"n_components": 0.8},
    ],
    ids=str,
)
def test_parameters(parameters, few_kept):
    parameters = {"n_components": 2} | parameters
    model = AutoencoderTransformer(random_state=0, **parameters)
    _fed(model, made(900), 300)
    assert model.transform(made(5, 1)).shape == (5, model.n_components_)
    assert np.isfinite(model.reconstruct(made(5, 1))).all()
    assert model.sample(3).shape == (3, 6)
    assert np.isfinite(model.score(made(100, 1)))


def test_losses_on_a_part_of_the_line(few_kept):
    X = (made(900) > np.arange(6)).astype(np.float32)
    model = AutoencoderTransformer(2, loss=Bernoulli(), random_state=0)
    _fed(model, X, 300)
    assert model.reconstruct(X).min() >= 0
    with pytest.raises(ValueError, match="Bernoulli"):
        model.partial_fit(X + 0.5)


def test_float32_stays_float32(few_kept):
    X = made(900).astype(np.float32)
    model = _fed(AutoencoderTransformer(2, random_state=0), X, 300)
    assert model._increments.kept.rows.dtype == np.float32
    assert model.transform(X).dtype == np.float32


def test_another_optimizer_begins_anew(few_kept):
    X = made(1200)
    model = _fed(AutoencoderTransformer(2, random_state=0), X[:600], 300)
    for optimizer in "sgd", "adam", "nadam":
        model.set_params(optimizer=optimizer, lr=1e-3).partial_fit(X[600:])
    assert np.isfinite(model.score(X))


def test_divergence_leaves_what_was_there(few_kept):
    X = made(1200)
    model = AutoencoderTransformer(2, random_state=0, gradient_clip=None)
    _fed(model, X[:600], 300)
    model.set_params(lr=1e30, optimizer="sgd", architecture=MLP((8,), norm=None))
    model = clone(model)
    with pytest.warns(DivergenceWarning, match="not trained on"):
        _fed(model, X, 400)
    error = model.reconstruction_error(X).mean()
    assert error == pytest.approx(_pca_error(X, 2), rel=0.05)


# Estimators


@pytest.mark.parametrize("n_rows", [2, 3, 10, 25])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_first_call_may_have_few_rows(estimator, n_rows):
    X = made(n_rows)
    model = estimator(1, random_state=0).partial_fit(X)
    assert np.isfinite(model.transform(X)).all()
    model.partial_fit(made(100, 1))
    assert np.isfinite(model.reconstruct(X)).all()


def test_a_single_first_row_is_refused():
    with pytest.raises(ValueError, match="minimum of 2"):
        AutoencoderTransformer(1).partial_fit(made(1))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_interrupted_and_uninterrupted_calls_agree(estimator, few_kept, tmp_path):
    X = made(1500)
    whole = _fed(estimator(2, random_state=0), X, 250)
    model = estimator(2, random_state=0)
    through = [
        deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: _saved(model, tmp_path / "model.skae"),
    ]
    for i, rows in enumerate(gen_batches(len(X), 250)):
        model = through[i % 3](model.partial_fit(X[rows]))
    np.testing.assert_array_equal(model.transform(X), whole.transform(X))
    assert model.n_samples_seen_ == 1500


def _saved(model, path):
    skae.save(model, path)
    return skae.load(path)


def test_out_of_core_wrappers_get_what_they_expect(few_kept):
    """As dask_ml's Incremental: a clone, and blocks of X and y one after the other."""
    model = clone(AutoencoderTransformer(2, random_state=0))
    X = made(1000)
    for rows in gen_batches(len(X), 200):
        model = deepcopy(model)
        assert model.partial_fit(X[rows], None) is model
    assert model.transform(X).shape == (1000, 2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_call_that_fails_changes_nothing(estimator, few_kept):
    X = pd.DataFrame(made(900), columns=list("abcdef"))
    model = _fed(estimator(2, random_state=0), X, 450)
    before = model.transform(X)
    missing = X.copy()
    missing.iloc[3, 2] = np.nan
    for rows, message in (
        (missing, "missing values"),
        (X.iloc[:, :5], "feature names"),
        (X.rename(columns={"a": "z"}), "feature names"),
        (X + np.inf, "infinity|missing"),
        (X.astype({"a": "category"}), "categories"),
        (made(3).reshape(3, 2, 3), "one flat row"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(rows)
        assert model.n_samples_seen_ == 900
        np.testing.assert_array_equal(model.transform(X), before)
    with pytest.raises(ValueError, match="changed since"):
        model.set_params(architecture=MLP((3,))).partial_fit(X)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"validation_split": "last"}, "validation_split"),
        ({"net_params": {"callbacks": []}}, "callbacks"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(parameters, named):
    with pytest.raises(ValueError, match=f"does not support {named}"):
        AutoencoderTransformer(2, **parameters).partial_fit(made(50))


def test_more_that_is_not_supported():
    with pytest.raises(ValueError, match="n_estimators=3"):
        AutoencoderOutlierDetector(2, n_estimators=3).partial_fit(made(50))
    with pytest.raises(ValueError, match="at most 4096"):
        AutoencoderTransformer(2).partial_fit(np.ones((3, 5000)))
    with pytest.raises(ValueError, match="half_life"):
        AutoencoderTransformer(2).partial_fit(made(50), half_life=0)
    with pytest.raises(ValueError, match="one by one"):
        AutoencoderTransformer(2).partial_fit({"chunks": made(50)}.values())


# After fit


def test_a_fitted_model_goes_on(few_kept):
    X, more, new = made(3000), made(6000, 1), made(2000, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoencoderTransformer(2, max_epochs=5, random_state=0).fit(X)
    first = model.reconstruction_error(new).mean()
    scale = model.scale_.copy()
    code = model.transform(new)
    model.partial_fit(more[:200])
    np.testing.assert_array_equal(model.transform(new), code)  # not yet
    _fed(model, more[200:], 1500)
    assert not np.array_equal(model.transform(new), code)
    np.testing.assert_array_equal(model.scale_, scale)
    both = np.vstack([X, more])
    np.testing.assert_allclose(model.mean_, both.mean(axis=0), rtol=1e-6)
    assert model.n_samples_seen_ == 9000
    assert model.pca_reconstruction_error_ == pytest.approx(
        _pca_error(both, 2), rel=1e-4
    )
    assert model.reconstruction_error(new).mean() < 1.02 * first


def test_fit_begins_anew(few_kept):
    X = made(900)
    model = _fed(AutoencoderTransformer(2, random_state=0, max_epochs=3), X, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = clone(model).fit(X)
        model.fit(X)
    np.testing.assert_array_equal(model.transform(X), again.transform(X))
    assert not hasattr(model, "n_samples_seen_")


def test_some_fits_cannot_be_continued():
    X = made(200)
    X[3, 3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoencoderTransformer(2, max_epochs=1).fit(X)
    with pytest.raises(ValueError, match="missing values, categories or X_target"):
        model.partial_fit(made(50))


# Detectors


@pytest.mark.parametrize(
    "parameters",
    [{}, {"contamination": 0.05}, {"calibration_fraction": 0.2}],
    ids=str,
)
def test_detectors_set_their_threshold(parameters, few_kept):
    detector = AutoencoderOutlierDetector(2, random_state=0, **parameters)
    _fed(detector, made(3000), 1000)
    share = np.mean(detector.predict(made(5000, 1)) == -1)
    assert share < 2.5 * parameters.get("contamination", 0.02)
    far = made(20, 2)
    far[:, 2] += 20
    assert (detector.predict(far) == -1).all()
    if "calibration_fraction" in parameters:
        assert len(detector.calibration_scores_) == 300
        assert detector.p_values(far).max() < 0.01
    explanation = detector.explain(far)
    np.testing.assert_array_equal(explanation.share.argmax(axis=1), 2)


def test_wild_values_of_a_call_are_replaced(few_kept):
    X = made(2000)
    X[7, 2] = -1e9
    detector = _fed(AutoencoderOutlierDetector(2, random_state=0), X, 500)
    assert detector.scale_[2] < 5
