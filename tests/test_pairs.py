"""Pairs: rows, and what to reconstruct from them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.source import Dense
from skae._gradient.step import Autograd
from skae._model.autoencoder import Parts
from skae._training.batches import Batch
from skae._training.plan import prepare
from skae._training.progress import _Callbacks
from skae.architectures import MLP, Custom
from skae.corruptions import Gaussian, Masking
from skae.exceptions import (
    DecoderRangeWarning,
    IgnoredTargetWarning,
    OvercompleteWarning,
)
from skae.losses import Bernoulli
from skae.penalties import L1

pytestmark = [
    pytest.mark.filterwarnings("ignore:max_epochs="),
    pytest.mark.filterwarnings("ignore::skae.exceptions.WorseThanPCAWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning"),
]


@pytest.fixture
def pairs(rng):
    """Noisy and clean points of a curve in five dimensions."""
    t = rng.uniform(-1, 1, size=(300, 1))
    clean = np.hstack([t, t**2, np.sin(3 * t), np.cos(3 * t), -t]) * 3 + 10
    return clean + rng.normal(scale=0.5, size=clean.shape), clean


def transformer(**params):
    quick = {"architecture": MLP((8,)), "max_epochs": 5, "random_state": 0}
    return AutoencoderTransformer(2, **quick | params)


def r2(target, fitted, mean):
    return 1 - np.square(target - fitted).sum() / np.square(target - mean).sum()


@pytest.mark.parametrize("params", [{}, {"corruption": Gaussian()}])
def test_rows_as_their_own_target_change_nothing(pairs, params):
    X, _ = pairs
    model = transformer(**params).fit(X)
    same = transformer(**params).fit(X, X_target=X.copy())
    assert_array_equal(same.transform(X), model.transform(X))
    assert_array_equal(same.reconstruct(X), model.reconstruct(X))
    assert_allclose(
        same.explained_variance_ratio_, model.explained_variance_ratio_, rtol=1e-6
    )
    assert_allclose(
        same.pca_reconstruction_error_, model.pca_reconstruction_error_, rtol=1e-6
    )


@pytest.mark.slow
def test_pairs_denoise_better_than_noisy_rows_alone(pairs):
    noisy, clean = pairs
    train, new = slice(0, 200), slice(200, None)
    settings = {"max_epochs": 100, "early_stopping": False}
    model = transformer(**settings).fit(noisy[train], X_target=clean[train])
    alone = transformer(**settings).fit(noisy[train])
    assert model.score(noisy[new], X_target=clean[new]) > alone.score(
        noisy[new], X_target=clean[new]
    )
    left = np.square(model.reconstruct(noisy[new]) - clean[new]).mean()
    assert left < 0.5 * np.square(noisy[new] - clean[new]).mean()


def test_the_start_is_the_pca_of_the_target_applied_to_the_rows(pairs):
    noisy, clean = (rows[:60] for rows in pairs)
    model = transformer().fit(noisy, X_target=clean)
    pca = PCA(2).fit(clean)
    fitted = pca.inverse_transform(pca.transform(noisy))
    assert model.n_iter_ == 0
    assert_allclose(model.reconstruct(noisy), fitted, rtol=1e-4)
    assert_allclose(model.mean_, clean.mean(axis=0))
    assert_allclose(
        model.pca_reconstruction_error_, np.square(clean - fitted).mean(), rtol=1e-5
    )
    expected = r2(clean, fitted, clean.mean(axis=0))
    assert_allclose(model.diagnostics_["pca_r2"], expected, rtol=1e-5)
    assert_allclose(model.diagnostics_["r2"], expected, rtol=1e-4)
    assert_allclose(model.explained_variance_ratio_.sum(), expected, rtol=1e-4)
    assert_allclose(model.score(noisy, X_target=clean), expected, rtol=1e-4)


def test_the_score_compares_with_the_target(pairs):
    noisy, clean = pairs
    model = transformer().fit(noisy, X_target=clean)
    fitted, weight = model.reconstruct(noisy), np.arange(len(noisy))
    assert_allclose(
        model.score(noisy, X_target=clean), r2(clean, fitted, clean.mean(axis=0))
    )
    assert_allclose(model.score(noisy), r2(noisy, fitted, clean.mean(axis=0)))
    left = weight @ np.square(clean - fitted).sum(axis=1)
    total = weight @ np.square(clean - clean.mean(axis=0)).sum(axis=1)
    assert_allclose(
        model.score(noisy, sample_weight=weight, X_target=clean), 1 - left / total
    )


@pytest.mark.parametrize("own", [False, True])
def test_the_validation_loss_is_that_of_the_pairs(pairs, own):
    noisy, clean = pairs
    given = {"X_val": noisy[200:], "X_val_target": clean[200:]} if own else {}
    train = slice(0, 200) if own else slice(None)
    model = transformer(early_stopping=not own)
    model.fit(noisy[train], X_target=clean[train], **given)
    if own:
        held_out = (noisy[200:], clean[200:])
        residual = held_out[1] - model.reconstruct(held_out[0])
        loss = np.square(residual / model.scale_).sum(axis=1).mean() / 2
        assert_allclose(model.validation_loss_curve_[-1], loss, rtol=1e-4)
    else:
        assert model.diagnostics_["n_held_out"] == 50
        assert len(model.validation_loss_curve_) == model.n_iter_


def test_rows_of_weight_zero_are_dropped_with_their_target(pairs):
    noisy, clean = pairs
    weight = np.ones(len(noisy))
    weight[::3] = 0
    kept = weight > 0
    weighted = transformer().fit(noisy, sample_weight=weight, X_target=clean)
    dropped = transformer().fit(noisy[kept], X_target=clean[kept])
    assert_array_equal(weighted.reconstruct(noisy), dropped.reconstruct(noisy))


def test_weights_are_those_of_pairs(pairs):
    noisy, clean = (rows[:60] for rows in pairs)
    weight = np.tile([1.0, 2.0, 3.0], 20)
    weighted = transformer().fit(noisy, sample_weight=weight, X_target=clean)
    repeat = np.repeat(np.arange(60), weight.astype(int))
    # 120 rows are enough for a validation set: the start is what is compared.
    repeated = transformer(lr=1e-12).fit(noisy[repeat], X_target=clean[repeat])
    assert_allclose(weighted.reconstruct(noisy), repeated.reconstruct(noisy), rtol=1e-4)
    assert_allclose(
        weighted.pca_reconstruction_error_,
        repeated.pca_reconstruction_error_,
        rtol=1e-5,
    )
    assert_allclose(weighted.diagnostics_["r2"], repeated.diagnostics_["r2"], rtol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {"corruption": Masking(0.3)},
        {"penalty": L1(1e-3)},
        {"batch_size": 7},
        {"architecture": MLP((8,), norm=None, dropout=0.2)},
    ],
)
def test_closed_form_and_autograd_agree(pairs, params, monkeypatch):
    noisy, clean = pairs
    settings = {"early_stopping": False, "max_epochs": 3, **params}
    model = transformer(**settings).fit(noisy, X_target=clean)
    monkeypatch.setattr(
        "skae._training.net.choose_step",
        lambda net, watched, current=None: Autograd(net),
    )
    other = transformer(**settings).fit(noisy, X_target=clean)
    assert other.diagnostics_["step"] == "autograd"
    assert_allclose(
        model.reconstruct(noisy), other.reconstruct(noisy), rtol=1e-3, atol=1e-3
    )


def test_the_encoder_gets_the_rows_and_the_loss_the_target(pairs):
    noisy, clean = pairs
    seen = []

    class Encoder(torch.nn.Linear):
        def forward(self, x):
            if torch.is_grad_enabled():
                seen.append(x.detach().clone())
            return super().forward(x)

    model = transformer(
        architecture=Custom(Encoder, torch.nn.Linear),
        batch_size=300,
        max_epochs=1,
        early_stopping=False,
        lr=1e-12,
    ).fit(noisy, X_target=clean)
    (x,) = seen
    expected = (noisy - clean.mean(axis=0)) / model.scale_
    assert_allclose(np.sort(x[:, 0]), np.sort(expected[:, 0]), rtol=1e-4, atol=1e-5)
    residual = (clean - model.reconstruct(noisy)) / model.scale_
    loss = np.square(residual).sum(axis=1).mean() / 2
    assert_allclose(model.loss_curve_, [loss], rtol=1e-4)


def test_a_wide_code_of_pairs_is_no_copy(pairs, recwarn):
    noisy, clean = (rows[:60] for rows in pairs)
    transformer().set_params(n_components=7).fit(noisy, X_target=clean)
    assert OvercompleteWarning not in [w.category for w in recwarn]


def test_the_domain_of_the_loss_is_that_of_the_target(pairs):
    noisy, clean = pairs
    black, noise = (clean > 10).astype(float), noisy
    model = transformer(loss=Bernoulli()).fit(noise, X_target=black)
    assert model.score(noise, X_target=black) > 0
    with pytest.raises(ValueError, match="X_target ranges from"):
        transformer(loss=Bernoulli()).fit(black, X_target=noise)


@pytest.mark.parametrize(
    "params", [{}, {"calibration_fraction": 0.2}, {"n_estimators": 2}]
)
def test_detectors_take_pairs(pairs, params):
    noisy, clean = pairs
    detector = AutoencoderOutlierDetector(
        2, architecture=MLP((8,)), max_epochs=2, random_state=0, **params
    ).fit(noisy, X_target=clean)
    assert np.mean(detector.predict(noisy) == 1) > 0.9
    assert detector.predict(noisy[:1] + 20) == -1
    # Of pairs that were torn apart, PCA would explain nothing.
    assert detector.pca_reconstruction_error_ < 0.3 * clean.var(axis=0).mean()


def test_pairs_pass_through_a_pipeline(pairs):
    noisy, clean = pairs
    pipe = make_pipeline(transformer())
    pipe.fit(noisy, autoencodertransformer__X_target=clean)
    expected = transformer().fit(noisy, X_target=clean)
    assert_array_equal(pipe.transform(noisy), expected.transform(noisy))


def plan_of(noisy, clean):
    return prepare(
        transformer()._settings(),
        Dense(noisy),
        target=Dense(clean),
        random_state=np.random.RandomState(0),
    )


def test_cross_fitting_keeps_pairs_together(pairs):
    noisy, clean = pairs
    kept = np.arange(50, len(noisy))
    part = plan_of(noisy, clean).fold(kept, n_epochs=1, leaves_start=True)
    assert_array_equal(part.rows.take(slice(None)), noisy[50:])
    assert_array_equal(part.target.take(slice(None)), clean[50:])
    assert_allclose(part.mean, clean[50:].mean(axis=0))


def test_callbacks_get_the_target_as_y(pairs):
    noisy, clean = pairs
    data = _Callbacks(None)._data(plan_of(noisy, clean))
    assert_array_equal(data["X"], noisy)
    assert_array_equal(data["y"], clean)


def test_encoders_observe_the_rows(pairs):
    noisy, clean = (torch.from_numpy(rows).float() for rows in pairs)
    module = Parts.of(architecture=MLP((8,))).build(5, 2, seed=0)
    batch, seen = Batch(clean, input=noisy), []
    module.encoder.observe = lambda x, draw: seen.append(x)
    module.after_step(0.5, batch, {}, module(clean, {}, None, noisy))
    assert_array_equal(seen[0], noisy)


def test_advice_on_the_range_is_about_the_target(pairs):
    noisy, clean = pairs

    def bounded(n_in, n_out):
        return torch.nn.Sequential(torch.nn.Linear(n_in, n_out), torch.nn.Sigmoid())

    model = transformer(architecture=Custom(torch.nn.Linear, bounded))
    with pytest.warns(DecoderRangeWarning, match="scaling=None"):
        model.fit(noisy, X_target=(clean > 10).astype(float))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (lambda X: {"X_target": X[:-1]}, "X_target has 299 rows, but X has 300"),
        (lambda X: {"X_target": X[:, :2]}, "X_target has 2 features, but X has 5"),
        (lambda X: {"X_target": X * np.nan}, "X_target has columns without any value"),
        (lambda X: {"X_target": X[:, :, None]}, "X_target has shape"),
        (lambda X: {"X_target": X, "X_val": X}, "go together"),
        (lambda X: {"X_val": X, "X_val_target": X}, "go together"),
        (lambda X: {"X_target": X, "X_val_target": X}, "without X_val"),
    ],
)
def test_pairs_that_do_not_match_are_refused(pairs, given, match):
    X, _ = pairs
    with pytest.raises(ValueError, match=match):
        transformer().fit(X, **given(X))


def test_a_table_as_y_is_told_where_it_belongs(pairs):
    noisy, clean = pairs
    with pytest.warns(IgnoredTargetWarning, match=r"fit\(X, X_target=y\)"):
        model = transformer().fit(noisy, clean)
    expected = transformer().fit(noisy)
    assert_array_equal(model.transform(noisy), expected.transform(noisy))
    with pytest.warns(IgnoredTargetWarning, match=r"score\(X, X_target=y\)"):
        score = model.score(noisy, clean)
    assert score == model.score(noisy)


@pytest.mark.parametrize(
    "y",
    [
        lambda X: X,
        lambda X: X[:, 0],
        lambda X: X[:, :2],
        lambda X: X.tolist(),
        lambda X: ["a"] * len(X),
    ],
)
def test_any_other_y_is_ignored(pairs, y, recwarn):
    X, _ = pairs
    transformer().fit(X, y(X))
    assert IgnoredTargetWarning not in [w.category for w in recwarn]
