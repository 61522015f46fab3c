"""Networks of the user's: built with the right widths, repeatable, left alone."""

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
def test_fits_repeat_bit_by_bit_whatever_the_global_state(encoder, X):
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        codes.append(_fit(X, encoder).transform(X))
    assert np.array_equal(*codes)
    other = _fit(X, encoder, random_state=1).transform(X)
    assert not np.allclose(codes[0], other)


def test_global_generators_are_left_alone(X):
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    _fit(X, forgetful, forgetful).transform(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_dropout_inside_differs_from_step_to_step_and_is_off_in_inference(generator):
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


def test_weights_are_trained_from_where_the_factory_left_them(X):
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
    # Where it looked at what it was given, it learnt nothing.
    assert norm.num_batches_tracked == 10 * np.ceil(len(X) / 32)


def _wide(n_in, n_out):
    return nn.Linear(n_in, n_out + 1)


def _flat(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out), nn.Flatten(0))


def _none(n_in, n_out):
    return None


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("factory", "error", "match"),
    [
        (_wide, ValueError, r"Two rows came out with shape \(2, "),
        (_flat, ValueError, r"Two rows came out with shape \("),
        (_none, TypeError, r"must return a torch.nn.Module. Got None"),
    ],
)
def test_what_factories_return_is_checked(name, factory, error, match, X):
    with pytest.raises(error, match=match) as raised:
        _fit(X, **{name: factory})
    assert f"{name!r} parameter of Custom" in str(raised.value)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_modules_are_no_factories_of_modules(name):
    given = {"encoder": small, "decoder": small, name: "linear"}
    with pytest.raises(ValueError, match=f"'{name}' parameter of Custom must be"):
        Custom(**given).validate()


def test_there_is_no_start(X):
    model = _fit(X, max_epochs=5)
    assert not model.net_.starts_fitted
    assert not hasattr(model, "components_")
