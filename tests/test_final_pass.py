"""How often a fit passes over its rows after training, and what it finds there."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.affine import AffineMap
from skae._model.autoencoder import Autoencoder
from skae._training import final_pass
from skae.architectures import MLP
from skae.bottlenecks import TopK, VectorQuantized
from skae.losses import Bernoulli

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

WIDTH = 12


@pytest.fixture
def rows(rng):
    t = rng.normal(size=(700, 4))
    return np.tanh(t @ rng.normal(size=(4, WIDTH))) + 0.1 * rng.normal(
        size=(700, WIDTH)
    )


@pytest.fixture
def scaled(monkeypatch):
    """Record how many rows are scaled at a time."""
    counts, forward = [], AffineMap.forward

    def recorded(self, x):
        if self.scale is not None and len(self) == WIDTH:
            counts.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(AffineMap, "forward", recorded)
    return counts


ESTIMATORS = {
    "transformer": (AutoencoderTransformer, {}, 1),
    "sparse": (AutoencoderTransformer, {"bottleneck": TopK(2)}, 1),
    "discrete": (AutoencoderTransformer, {"bottleneck": VectorQuantized(8)}, 1),
    "detector": (AutoencoderOutlierDetector, {}, 2),
    "contaminated": (AutoencoderOutlierDetector, {"contamination": 0.1}, 2),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_rows_are_scaled_once_for_training_and_at_most_twice_after(
    name, weighted, rows, rng, scaled
):
    estimator, params, n_after = ESTIMATORS[name]
    weight = rng.uniform(0.5, 2, size=len(rows)) if weighted else None
    model = estimator(3, max_epochs=1, random_state=0, **params)
    model.fit(rows, sample_weight=weight)
    # Besides the training rows, only the mean of the rows is scaled.
    n_rows = sum(n for n in scaled if n > 1)
    assert n_rows == (1 + n_after) * len(rows)


def test_an_explanation_passes_rows_through_the_model_once(rows, monkeypatch):
    model = AutoencoderOutlierDetector(3, max_epochs=3, random_state=0).fit(rows)
    counts, forward = [], Autoencoder.forward

    def recorded(self, x, *args, **kwargs):
        counts.append(len(x))
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(Autoencoder, "forward", recorded)
    monkeypatch.setattr(Autoencoder, "encode", None)
    model.explain(rows[:50])
    assert counts == [50]


@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_of_pca_comes_from_its_spectrum(scaling, dtype, rows):
    X = (rows * np.linspace(1, 5, WIDTH)).astype(dtype)
    model = AutoencoderTransformer(3, scaling=scaling, max_epochs=1, random_state=0)
    model.fit(X)
    scaled = (X - model.mean_) / model.scale_
    pca = PCA(3).fit(scaled)
    residual = scaled - pca.inverse_transform(pca.transform(scaled))
    expected = np.square(residual * model.scale_)
    assert model.pca_reconstruction_error_ == pytest.approx(expected.mean(), rel=1e-4)
    share = 1 - expected.sum() / np.square(X - X.mean(axis=0)).sum()
    assert model.diagnostics_["pca_r2"] == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize("loss", [None, Bernoulli()], ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_r2_is_that_of_the_training_rows(loss, weighted, rows, rng):
    X = (rows - rows.min()) / np.ptp(rows)
    weight = rng.uniform(0.5, 2, size=len(rows)) if weighted else None
    model = AutoencoderTransformer(3, loss=loss, max_epochs=5, random_state=0)
    model.fit(X, sample_weight=weight)
    expected = r2_score(
        X,
        model.reconstruct(X),
        sample_weight=weight,
        multioutput="variance_weighted",
    )
    assert model.diagnostics_["r2"] == pytest.approx(expected, abs=1e-6)
    # Each row is decoded with one component more, so that the gains add up to it.
    total = model.explained_variance_ratio_.sum()
    assert total == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def curved():
    return AutoencoderTransformer(
        9,
        architecture=MLP((16,), start="random"),
        max_epochs=40,
        lr=1e-2,
        early_stopping=False,
        random_state=0,
    )


# Several numbers of components are decoded at once, and one after the other.
@pytest.mark.parametrize("n_rows", [100, 700])
@pytest.mark.parametrize("weighted", [False, True])
def test_gains_are_what_each_component_adds(weighted, n_rows, rows, curved, rng):
    X = rows[:n_rows]
    weight = rng.uniform(0.5, 2, size=n_rows) if weighted else None
    code = curved.fit(X, sample_weight=weight).transform(X)
    mean = np.average(code, axis=0, weights=weight)
    left = []
    for k in range(10):
        residual = X - curved.inverse_transform(np.where(np.arange(9) < k, code, mean))
        if k < 9:
            residual -= np.average(residual, axis=0, weights=weight)
        left.append(np.average(np.square(residual).sum(axis=1), weights=weight))
    # No component at all is the mean of the rows.
    centered = X - np.average(X, axis=0, weights=weight)
    left[0] = np.average(np.square(centered).sum(axis=1), weights=weight)
    np.testing.assert_allclose(
        curved.explained_variance_ratio_, -np.diff(left) / left[0], atol=1e-6
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_few_rows_tell_how_the_gain_is_divided(
    weighted, rows, curved, rng, monkeypatch
):
    weight = rng.uniform(0.5, 2, size=len(rows)) if weighted else None
    whole = curved.fit(rows, sample_weight=weight).explained_variance_ratio_
    decode, counts = final_pass._decode_scaled, []

    def recorded(model, code):
        counts.append(len(code))
        return decode(model, code)

    monkeypatch.setattr(final_pass, "_decode_scaled", recorded)
    monkeypatch.setattr(final_pass, "_MAX_ENTRIES", 1)
    part = curved.fit(rows, sample_weight=weight).explained_variance_ratio_
    assert sum(counts) == 9 * 40
    np.testing.assert_allclose(part, whole, atol=0.05)
    assert np.abs(part - whole).max() > 1e-6
    # All rows tell how large it is.
    assert part.sum() == pytest.approx(curved.diagnostics_["r2"], abs=1e-12)
    assert part.sum() == pytest.approx(whole.sum(), abs=1e-6)


def test_gains_add_up_to_r2_where_entries_are_missing(rows, rng):
    X = np.where(rng.rand(*rows.shape) < 0.1, np.nan, rows)
    model = AutoencoderTransformer(3, max_epochs=5, random_state=0).fit(X)
    total = model.explained_variance_ratio_.sum()
    assert total == pytest.approx(model.diagnostics_["r2"], abs=1e-12)


@pytest.mark.parametrize("n_epochs", [0, 5])
def test_the_code_is_centred_uncorrelated_and_ordered(n_epochs, rows):
    model = AutoencoderTransformer(
        4,
        architecture=MLP((16,), start="random" if n_epochs else "pca"),
        max_epochs=max(n_epochs, 1),
        lr=5e-3 if n_epochs else 1e-12,
        random_state=0,
    )
    code = model.fit_transform(rows)
    covariance = np.cov(code.T)
    variance = np.diag(covariance)
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-9 * code.std())
    np.testing.assert_allclose(covariance, np.diag(variance), atol=1e-8 * variance[0])
    assert (np.diff(variance) < 0).all()
    for step in 1e-3 * np.eye(4):
        moves = model.inverse_transform(code + step) - model.reconstruct(rows)
        loadings = moves.mean(axis=0)
        assert loadings.max() > 0.99 * np.abs(loadings).max()


def test_a_float_contamination_trains_no_network_for_a_threshold_of_its_own(
    rows, monkeypatch
):
    trained = []
    monkeypatch.setattr(
        Autoencoder, "start", lambda self, *statistics: trained.append(self) or False
    )
    X = rows[:300]
    model = AutoencoderOutlierDetector(
        3, contamination=0.05, max_epochs=2, random_state=0
    ).fit(X)
    # Few rows: once to choose the epochs, then on all rows.
    assert len(trained) == 2
    scores = model.score_samples(X)
    assert model.offset_ == pytest.approx(np.quantile(scores, 0.05), rel=1e-9)
    # Without rows, `calibrate` takes those that the threshold came from.
    model.calibrate(quantile=0.1)
    assert model.offset_ == pytest.approx(np.quantile(scores, 0.1), rel=1e-9)
