"""Custom architectures: widths, reproducibility, checks of what functions return."""

import pickle
import random

import numpy as np
import pytest
import torch
from _components import forgetful, small
from sklearn.base import clone
from torch import nn

from skae import AutoencoderTransformer
from skae._model.autoencoder import Parts
from skae.architectures import Custom
from skae.bottlenecks import Plain, Variational
from skae.losses import SquaredError

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


def _fit(X, encoder=small, decoder=small, n_components=2, **params):
    settings = {"max_epochs": 3, "early_stopping": False, "random_state": 0, **params}
    return AutoencoderTransformer(
        n_components, architecture=Custom(encoder, decoder), **settings
    ).fit(X)


@pytest.mark.parametrize(("bottleneck", "width"), [(Plain(), 3), (Variational(), 6)])
def test_factories_are_called_with_the_widths(bottleneck, width, X):
    calls = {"encoder": set(), "decoder": set()}

    def recorder(name):
        def build(n_in, n_out):
            calls[name].add((n_in, n_out))
            return nn.Linear(n_in, n_out)

        return build

    _fit(X, recorder("encoder"), recorder("decoder"), 3, bottleneck=bottleneck)
    assert calls == {"encoder": {(6, width)}, "decoder": {(3, 6)}}


@pytest.mark.parametrize("encoder", [small, forgetful])
def test_fits_are_reproducible_for_every_global_random_state(encoder, X):
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        codes.append(_fit(X, encoder).transform(X))
    assert np.array_equal(*codes)
    other = _fit(X, encoder, random_state=1).transform(X)
    assert not np.allclose(codes[0], other)


def test_global_generators_are_not_changed(X):
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    _fit(X, forgetful, forgetful).transform(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_dropout_differs_between_steps_and_is_off_in_inference(generator):
    module = Parts(Custom(forgetful, small), Plain(), SquaredError()).build(6, 2, 0)
    x = torch.randn(20, 6, generator=generator)
    first, second = (module.draw(x.shape, generator) for _ in range(2))
    module.train()
    codes = [module(x, draws)[1] for draws in (first, second, first)]
    assert not torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])
    module.eval()
    assert torch.equal(module(x, first)[1], module(x, second)[1])
    assert torch.equal(module(x, first)[1], module(x)[1])


def test_training_starts_from_the_weights_of_the_factory(X):
    def constant(n_in, n_out):
        layer = nn.Linear(n_in, n_out)
        nn.init.constant_(layer.weight, 0.5)
        return layer

    model = _fit(X, constant, constant, lr=1e-12, max_epochs=1)
    for p in model.net_.module_.parameters():
        if p.ndim == 2:
            torch.testing.assert_close(p, torch.full_like(p, 0.5))
    assert model.best_epoch_ == 1
    trained = _fit(X, max_epochs=30)
    assert trained.score(X) > _fit(X, lr=1e-12).score(X)


def test_double_precision_layers_become_single(X):
    def double(n_in, n_out):
        return nn.Linear(n_in, n_out).double()

    model = _fit(X, double, double)
    assert {p.dtype for p in model.net_.module_.parameters()} == {torch.float32}


def test_factories_at_the_top_of_a_module_are_pickled(X):
    model = _fit(X, forgetful)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.transform(X), model.transform(X))
    assert np.array_equal(clone(model).fit(X).transform(X), model.transform(X))


def test_batch_normalisation_of_torch_is_allowed(X):
    def normed(n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_out)
        )

    model = _fit(X, normed, max_epochs=10)
    whole = model.transform(X)
    np.testing.assert_allclose(model.transform(X[:1]), whole[:1], atol=1e-9)
    norm = model.net_.module_.encoder.module[1]
    assert norm.running_mean.any()
    # The check of the output shape has not updated the statistics.
    assert norm.num_batches_tracked == 10 * np.ceil(len(X) / 32)


def _wide(n_in, n_out):
    return nn.Linear(n_in, n_out + 1)


def _flat(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out), nn.Flatten(0))


def _none(n_in, n_out):
    return None


class _Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


class _Named(nn.Linear):
    def forward(self, x):
        return {"code": super().forward(x)}


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("factory", "error", "match"),
    [
        (_wide, ValueError, r"For 2 rows the output has shape \(2, "),
        (_flat, ValueError, r"For 2 rows the output has shape \("),
        (_none, TypeError, r"must return a torch.nn.Module. Got None"),
        (_Pair, TypeError, r"returned an object of type tuple instead"),
        (_Named, TypeError, r"returned an object of type dict instead"),
    ],
)
def test_the_return_value_of_factories_is_checked(name, factory, error, match, X):
    with pytest.raises(error, match=match) as raised:
        _fit(X, **{name: factory})
    message = str(raised.value)
    assert f"{name!r} parameter of Custom" in message
    if factory is not _none:
        n_in, n_out = (6, 2) if name == "encoder" else (2, 6)
        assert f"shape (n_rows, {n_in}) to one Tensor of shape (n_rows, {n_out})" in (
            message
        )


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_factories_must_be_callable(name):
    given = {"encoder": small, "decoder": small, name: "linear"}
    with pytest.raises(ValueError, match=f"'{name}' parameter of Custom must be"):
        Custom(**given).validate()


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_modules_are_not_accepted_as_factories(name, X):
    with pytest.raises(TypeError, match=f"'{name}' parameter of Custom must be a func"):
        _fit(X, **{name: nn.Linear(6, 6)})


class _First(nn.Module):
    """Take the first columns."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.n_out = n_out

    def forward(self, x):
        return x[:, : self.n_out]


class _Padded(_First):
    """Append columns of zeros."""

    def forward(self, x):
        return nn.functional.pad(x, (0, self.n_out - x.shape[1]))


def test_networks_without_parameters_are_fitted(X):
    # The default, early stopping, included: no epoch can be an improvement.
    for params in ({}, {"early_stopping": True}):
        model = _fit(X, _First, _Padded, scaling=None, **params)
        expected = np.concatenate([X[:, :2], np.zeros((len(X), 4))], axis=1)
        np.testing.assert_allclose(model.reconstruct(X), expected, atol=1e-12)
        code = model.transform(X)
        assert code.shape == (len(X), 2)
        np.testing.assert_allclose(
            model.inverse_transform(code), expected, rtol=1e-6, atol=1e-6
        )


def test_networks_with_frozen_parameters_only_are_fitted(X):
    def frozen(n_in, n_out):
        return nn.Linear(n_in, n_out).requires_grad_(False)

    model = _fit(X, frozen, frozen, scaling=None)
    module = model.net_.module_
    assert not any(p.requires_grad for p in module.parameters())
    x = torch.from_numpy(X).float()
    expected = module.decoder(module.encoder(x)).numpy()
    np.testing.assert_allclose(model.reconstruct(X), expected, rtol=1e-5, atol=1e-5)
    for network in (module.encoder, module.decoder):
        layer = network.module
        # Within the bounds of the initialisation of torch: they were not trained.
        assert layer.weight.abs().max() <= layer.in_features**-0.5


def test_there_is_no_start(X):
    model = _fit(X, max_epochs=5)
    assert not model.net_.starts_fitted
    assert not hasattr(model, "components_")


def test_a_decoder_may_return_a_view_of_its_weights(X):
    class One(nn.Module):
        def __init__(self, n_out):
            super().__init__()
            self.row = nn.Parameter(torch.zeros(1, n_out))

        def forward(self, code):
            return self.row.expand(len(code), -1)

    model = _fit(X, nn.Linear, lambda n_in, n_out: One(n_out), max_epochs=30)
    # The best row is the mean, for all rows.
    np.testing.assert_allclose(model.reconstruct(X).std(axis=0), 0, atol=1e-12)
    assert model.score(X) == pytest.approx(0, abs=0.02)
