"""Gauss-Newton steps of the code, against SciPy's least squares and PCA."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from sklearn.datasets import make_s_curve
from sklearn.decomposition import PCA
from skorch.callbacks import Callback

import skae
from skae import AutoencoderImputer, AutoencoderTransformer
from skae._model import projection
from skae._model.projection import projected
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import Nested, Plain, TopK, Variational
from skae.corruptions import Gaussian
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


FITTED: dict = {}


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
    key = repr(model), X.tobytes()
    if key not in FITTED:
        FITTED[key] = model.fit(X)
    return deepcopy(FITTED[key])


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


def test_the_code_of_a_linear_decoder_is_that_of_least_squares(X, new):
    # A random network, of which the encoder is nowhere near the inverse.
    random = MLP((), start="random")
    module = fitted(X, 0, architecture=random, max_epochs=1).net_.module_.double()
    x = torch.from_numpy(new)
    with torch.no_grad():
        code = projected(module, module.encode(x), x, n_steps=8)
        offset = module.decode(torch.zeros(1, 2).double())
        weight = module.decode(torch.eye(2).double()) - offset
    expected = np.linalg.lstsq(weight.T.numpy(), (x - offset).T.numpy(), rcond=None)[0]
    np.testing.assert_allclose(code.numpy(), expected.T, rtol=1e-6, atol=1e-6)


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


def test_rows_with_missing_entries_keep_their_code(X, new):
    rng = np.random.RandomState(2)
    new[::2][rng.uniform(size=new[::2].shape) < 0.4] = np.nan
    complete = np.isfinite(new).all(axis=1)
    assert 0 < complete.sum() < len(new)
    plain, model = fitted(X, 0), fitted(X, 2)
    # In the coordinates of the network: those of the code are of all training rows.
    back = plain.reconstruct(new), model.reconstruct(new)
    np.testing.assert_array_equal(back[0][~complete], back[1][~complete])
    before, after = (np.square(new - rows)[complete].sum() for rows in back)
    assert after < 0.98 * before
    filled = (AutoencoderImputer(m).fit(X).transform(new) for m in (plain, model))
    np.testing.assert_array_equal(*filled)


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
    sizes = []

    def counted(decode, code, x, n_steps, nearer=projection._nearer):
        sizes.append(len(code))
        return nearer(decode, code, x, n_steps)

    monkeypatch.setattr(projection, "_nearer", counted)
    monkeypatch.setattr(projection, "_LEAST_ROWS", 8)
    monkeypatch.setattr(projection, "_MAX_ENTRIES", 2 * 16 * 10)
    np.testing.assert_allclose(model.transform(new), code, rtol=1e-9, atol=1e-12)
    assert sizes == [10] * 6


def test_a_component_that_the_decoder_does_not_use(X, new):
    module = fitted(X, 0).net_.module_.double()
    module.decoder.linear.start_weight[:, 0] = 0.0
    with torch.no_grad():
        module.decoder.linear.moved_weight[:, 0] = 0.0
        module.decoder.branch.hidden[0].layer.weight[:, 0] = 0.0
        x = torch.from_numpy(new)
        code = module.encode(x)
        found = projected(module, code, x, n_steps=5)
        before, after = ((x - module.decode(c)).square().sum() for c in (code, found))
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], code[:, 0], atol=1e-6)
    assert after < 0.99 * before


def test_a_shorter_step_where_the_whole_one_goes_too_far():
    # Newton's method for arctan(z) = 0 diverges from 1.5.
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = torch.nn.Linear(1, 1)

        def decode(self, code):
            return torch.atan(code)

    x, code = torch.zeros(1, 1), torch.tensor([[1.5]])
    whole = code - torch.atan(code) * (1 + code**2)
    assert torch.atan(whole).abs() > torch.atan(code).abs()
    with torch.no_grad():
        found = projected(Module(), code, x, n_steps=1)
    torch.testing.assert_close(found, code + (whole - code) / 3, rtol=0.05, atol=0.0)
    with torch.no_grad():
        found = projected(Module(), code, x, n_steps=8)
    assert found.abs() < 1e-3


@pytest.mark.parametrize(
    "params",
    [
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
    after = squares(model, new)
    assert (after <= before * (1 + 1e-6)).all()
    assert after.sum() < (1 - 1e-4) * before.sum()
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(new)),
        model.reconstruct(new),
        atol=1e-8,
    )


def test_files_keep_it(X, new, tmp_path):
    model = fitted(X, 2)
    skae.save(model, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    np.testing.assert_array_equal(loaded.transform(new), model.transform(new))
    assert squares(loaded, new).sum() < 0.95 * squares(fitted(X, 0), new).sum()


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
        ({"bottleneck": Nested()}, "Nested.* may not be moved"),
        ({"corruption": Gaussian()}, "Gaussian.* noise would be fitted again"),
        ({"bottleneck": Plain("sigmoid")}, "sigmoid.* may not be moved"),
        ({"categorical_features": [0]}, "X has categorical features"),
    ],
    ids=repr,
)
def test_what_it_does_not_go_with(X, params, message):
    X = (X > 0).astype(float)
    with pytest.raises(ValueError, match=f"n_projection_steps=2 .*{message}"):
        AutoencoderTransformer(2, n_projection_steps=2, **params).fit(X)


def test_pairs_are_refused(X):
    with pytest.raises(ValueError, match=r"n_projection_steps=2 .* not X_target"):
        AutoencoderTransformer(2, n_projection_steps=2).fit(X, X_target=-X)


def test_a_decoder_without_derivatives_is_refused_before_training(X):
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Decoder(torch.nn.Linear):
        def forward(self, x):
            return Same.apply(super().forward(x))

    architecture = Custom(
        lambda d, k: torch.nn.Linear(d, k), lambda k, d: Decoder(k, d)
    )
    begun = []
    with pytest.raises(ValueError, match="n_projection_steps > 0 needs a decoder"):
        fitted(
            X, 2, architecture=architecture, net_params={"callbacks": [Begun(begun)]}
        )
    assert not begun
    fitted(X, 0, architecture=architecture)


class Begun(Callback):
    def __init__(self, begun):
        self.begun = begun

    def on_epoch_begin(self, net, **kwargs):
        self.begun.append(net)


def test_rows_that_are_far_out_are_as_near_in_single_precision(X):
    # Their squares are infinite there.
    far = (1e25 * X[:20]).astype(np.float32)
    plain, model = fitted(X, 0), fitted(X, 2)
    before, after, double = (
        np.square(m.reconstruct(rows) / 1e25 - X[:20]).sum()
        for m, rows in ((plain, far), (model, far), (model, far.astype(float)))
    )
    assert after == pytest.approx(double, rel=1e-5)
    assert after < before - 1e-2


def test_it_cannot_be_exported(X):
    model = fitted(X, 2)
    module = model.to_torch().double()
    x = torch.from_numpy(X[:4])
    with torch.no_grad():
        np.testing.assert_allclose(module(x).numpy(), model.transform(X[:4]), rtol=1e-9)
    with pytest.raises(Exception, match="pass n_projection_steps=0"):
        torch.export.export(module, (x,))
