"""Gauss-Newton steps of the code, against SciPy's least squares and PCA."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from sklearn.datasets import make_s_curve
from sklearn.decomposition import PCA

import skae
from skae import AutoencoderTransformer
from skae.architectures import MLP, Conv
from skae.bottlenecks import Nested, Plain, TopK, Variational
from skae.losses import Bernoulli, Huber
from skae.penalties import L1

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


@pytest.fixture
def X():
    """Rows along a bent surface in five columns, with a little noise."""
    rng = np.random.RandomState(0)
    rows, _ = make_s_curve(300, noise=0.05, random_state=rng)
    mixing = rng.normal(size=(3, 5))
    return rows @ mixing + 0.05 * rng.normal(size=(300, 5))


@pytest.fixture
def new(X):
    rng = np.random.RandomState(1)
    return X[:60] + 0.3 * rng.normal(size=(60, 5))


def fitted(X, n_steps, **params):
    """Return a network of two components that differs from PCA, and nothing else."""
    defaults = {
        "n_components": 2,
        "architecture": MLP((16,), activation="tanh", norm=None),
        "max_epochs": 20,
        "early_stopping": False,
        "random_state": 0,
    }
    model = AutoencoderTransformer(n_projection_steps=n_steps, **defaults | params)
    return model.fit(X)


def squares(model, X):
    """Return what is minimised: the squared error of rows, as the network sees them."""
    return np.nansum(((X - model.reconstruct(X)) / model.scale_) ** 2, axis=1)


def test_many_steps_reach_what_least_squares_reaches(X, new):
    model, plain = fitted(X, 100), fitted(X, 0)
    rows = new[:8]
    for row, code, found in zip(
        rows, plain.transform(rows), squares(model, rows), strict=True
    ):
        solved = least_squares(
            lambda z, row=row: plain.inverse_transform(z[None])[0] - row,
            code,
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        assert found * plain.scale_[0] ** 2 == pytest.approx(2 * solved.cost, rel=1e-5)


def test_one_step_is_that_of_a_linear_decoder(X, new):
    # After random training the encoder is not the inverse of the decoder.
    params = {"architecture": MLP((), start="random"), "max_epochs": 2}
    plain, model = fitted(X, 0, **params), fitted(X, 1, **params)
    weight = plain.components_
    offset = plain.inverse_transform(np.zeros((1, 2)))
    code = np.linalg.lstsq(weight.T, (new - offset).T, rcond=None)[0].T
    nearest = code @ weight + offset
    # The damping leaves about a hundredth of the way.
    before, after = (np.abs(m.reconstruct(new) - nearest).max() for m in (plain, model))
    assert before > 0.1
    assert after < 0.02 * before


def test_the_code_of_pca_is_the_nearest(X, new):
    model = fitted(X, 2, architecture=MLP(()), lr=1e-12, max_epochs=1)
    expected = PCA(2).fit(X).transform(new)
    np.testing.assert_allclose(model.transform(new), expected, atol=1e-5)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_no_error_is_larger_than_without(X, new, n_steps):
    far = np.r_[new, 1e3 * new[:5], np.full((1, 5), 1e30)]
    plain, model = fitted(X, 0), fitted(X, n_steps)
    before, after = squares(plain, far), squares(model, far)
    assert (after <= before * (1 + 1e-9)).all()
    assert after[:60].sum() < 0.95 * before[:60].sum()


def test_more_steps_are_not_worse(X, new):
    errors = [squares(fitted(X, n), new).sum() for n in range(4)]
    assert (np.diff(errors) <= 1e-12).all()


def test_only_known_entries_count(X, new):
    rng = np.random.RandomState(2)
    new[rng.uniform(size=new.shape) < 0.2] = np.nan
    new = new[np.isfinite(new).sum(axis=1) > 2]
    plain, model = fitted(X, 0), fitted(X, 60)
    assert (squares(model, new) <= squares(plain, new) * (1 + 1e-9)).all()
    for row, code, found in zip(
        new[:6], plain.transform(new[:6]), squares(model, new[:6]), strict=True
    ):
        solved = least_squares(
            lambda z, row=row: np.nan_to_num(plain.inverse_transform(z[None])[0] - row),
            code,
        )
        assert found * plain.scale_[0] ** 2 <= 2 * solved.cost * (1 + 1e-4) + 1e-9


def test_codes_are_centred_uncorrelated_and_decode_to_the_reconstruction(X):
    model = fitted(X, 2)
    code = model.transform(X)
    covariance = np.cov(code.T)
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-4)
    assert abs(covariance[0, 1]) < 1e-4 * covariance[0, 0]
    np.testing.assert_allclose(
        model.inverse_transform(code), model.reconstruct(X), atol=1e-9
    )
    assert model.explained_variance_ratio_.sum() == pytest.approx(
        model.score(X), abs=1e-5
    )


def test_rows_have_one_code_in_any_batch_and_dtype(X, new):
    model = fitted(X, 2)
    code = model.transform(new)
    alone = np.concatenate([model.transform(row[None]) for row in new])
    np.testing.assert_allclose(alone, code, rtol=1e-9, atol=1e-9)
    single = model.transform(new.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, code, rtol=1e-3, atol=1e-3)


def test_rows_are_split_where_derivatives_are_large(X, new, monkeypatch):
    model = fitted(X, 2)
    code = model.transform(new)
    monkeypatch.setattr("skae._model.projection._MAX_ENTRIES", 100)
    np.testing.assert_allclose(model.transform(new), code, rtol=1e-9, atol=1e-12)


def test_a_component_that_the_decoder_does_not_use(X, new):
    model = fitted(X, 2, n_components=6)
    assert np.isfinite(model.transform(new)).all()
    constant = np.ones((100, 3))
    model = fitted(constant, 2)
    np.testing.assert_allclose(model.reconstruct(constant), constant)


@pytest.mark.parametrize(
    "params",
    [
        {"bottleneck": Nested()},
        {"penalty": L1(0.01)},
        {"scaling": "standard", "whiten": True},
        {"architecture": Conv((1, 5), channels=(4,)), "max_epochs": 5},
        {"architecture": MLP((8,), norm="batch")},
    ],
    ids=repr,
)
def test_components_with_which_it_goes(X, new, params):
    before = squares(fitted(X, 0, **params), new)
    model = fitted(X, 2, **params)
    assert (squares(model, new) <= before * (1 + 1e-6)).all()
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(new)),
        model.reconstruct(new),
        atol=1e-8,
    )


def test_nested_codes_of_a_smaller_size(X, new):
    plain, model = (fitted(X, n, bottleneck=Nested()) for n in (0, 2))
    for one in (plain, model):
        one.n_components_ = 1
    before, after = squares(plain, new), squares(model, new)
    assert (after <= before * (1 + 1e-9)).all()


def test_files_and_checkpoints_keep_it(X, new, tmp_path):
    model = fitted(X, 2)
    skae.save(model, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    np.testing.assert_array_equal(loaded.transform(new), model.transform(new))


def test_training_is_the_same(X):
    for name, weight in fitted(X, 0).net_.module_.state_dict().items():
        assert torch.equal(weight, fitted(X, 2).net_.module_.state_dict()[name])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": Huber()}, "Huber.* is not the squared error"),
        ({"loss": Bernoulli(), "scaling": None}, "Bernoulli.* is not the squared"),
        ({"bottleneck": TopK(1)}, "TopK.* may not be moved"),
        ({"bottleneck": Variational()}, "Variational.* may not be moved"),
        ({"bottleneck": Plain("sigmoid")}, "sigmoid.* may not be moved"),
        ({"categorical_features": [0]}, "X has categorical features"),
    ],
    ids=repr,
)
def test_what_it_does_not_go_with(X, params, message):
    X = (X > 0).astype(float)
    with pytest.raises(ValueError, match=f"n_projection_steps=2 .*{message}"):
        AutoencoderTransformer(2, n_projection_steps=2, **params).fit(X)


def test_it_cannot_be_exported(X):
    model = fitted(X, 2)
    module = model.to_torch().double()
    x = torch.from_numpy(X[:4])
    with torch.no_grad():
        np.testing.assert_allclose(module(x).numpy(), model.transform(X[:4]), rtol=1e-9)
    with pytest.raises(Exception, match="pass n_projection_steps=0"):
        torch.export.export(module, (x,))
