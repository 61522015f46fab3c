"""Properties of all bottlenecks, and the plain bottleneck."""

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Parts
from skae.architectures import MLP
from skae.bottlenecks import Bottleneck, Plain
from skae.losses import SquaredError

all_bottlenecks = pytest.mark.parametrize(
    "bottleneck", of_kind(Bottleneck, SETTINGS), ids=repr
)
ACTIVATIONS = {
    "relu": lambda h: np.maximum(h, 0),
    "sigmoid": lambda h: 1 / (1 + np.exp(-h)),
    "tanh": np.tanh,
}
all_activations = pytest.mark.parametrize("activation", ACTIVATIONS)


def _encoded(bottleneck, generator, n_rows=200, n_components=3):
    width = bottleneck.encoder_width(n_components)
    shape = (n_rows, width)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


# All bottlenecks


@all_bottlenecks
@pytest.mark.parametrize("training", [False, True])
def test_codes_lie_in_their_range(bottleneck, training, generator):
    module = bottleneck.build(3, generator).double().train(training)
    h = _encoded(bottleneck, generator)
    draw = module.draw(len(h), generator) if hasattr(module, "draw") else None
    code, cost = module(h) if draw is None else module(h, draw)
    low, high = bottleneck.code_range
    assert code.shape == (len(h), 3)
    assert cost.shape == (len(h),)
    assert (code >= low).all()
    assert (code <= high).all()


@all_bottlenecks
def test_projection_gives_possible_codes_and_keeps_them(bottleneck, generator):
    module = bottleneck.build(3, generator).double().eval()
    h = _encoded(bottleneck, generator)
    if not hasattr(module, "project"):
        assert bottleneck.code_range == (-np.inf, np.inf)
        return
    possible = module.project(h)
    assert torch.equal(module.project(possible), possible)
    # Every code of the bottleneck is possible.
    code, _ = module(h)
    torch.testing.assert_close(module.project(code), code)


@all_bottlenecks
def test_pca_start_makes_the_whole_model_better_than_the_mean(bottleneck, X):
    module = Parts(MLP((8,)), bottleneck, SquaredError()).build(6, 3, 0).double()
    x = torch.from_numpy(X)
    started = module.start(
        PrincipalAxes(Dense(X), None, 3, None).statistics(Resident(x))
    )
    assert started is (
        bottleneck != Plain("relu") and hasattr(module.bottleneck, "start")
    )
    if started:
        module.eval()
        left = (x - module.reconstruct(x)).square().sum()
        assert left < (x - x.mean(dim=0)).square().sum()


# Plain


def test_without_an_activation_the_code_is_the_input(generator):
    h = _encoded(Plain(), generator)
    code, cost = Plain().build(3, None)(h)
    assert torch.equal(code, h)
    assert torch.equal(cost, torch.zeros(len(h), dtype=h.dtype))


@all_activations
def test_the_activation_is_applied_without_a_cost(activation, generator):
    h = _encoded(Plain(), generator)
    code, cost = Plain(activation).build(3, None)(h)
    np.testing.assert_allclose(code, ACTIVATIONS[activation](h.numpy()))
    assert not cost.any()


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("n_components", [1, 3])
def test_a_saturating_code_starts_near_pca(activation, n_components, X, rng):
    train, test = X[:100], X[100:]
    parts = Parts(MLP((8,)), Plain(activation), SquaredError())
    module = parts.build(6, n_components, 0).double()
    axes = PrincipalAxes(Dense(train), None, n_components, None)
    assert module.start(axes.statistics(Resident(torch.from_numpy(train))))

    def r2(reconstruction):
        left = np.square(test - reconstruction).sum()
        return 1 - left / np.square(test - train.mean(axis=0)).sum()

    pca = PCA(n_components).fit(train)
    of_pca = r2(pca.inverse_transform(pca.transform(test)))
    found = r2(module.reconstruct(torch.from_numpy(test)).detach().numpy())
    assert of_pca - 0.1 < found < of_pca


def test_a_rectified_code_has_no_start(X):
    parts = Parts(MLP((8,)), Plain("relu"), SquaredError())
    module = parts.build(6, 2, 0).double()
    statistics = PrincipalAxes(Dense(X), None, 2, None).statistics(
        Resident(torch.from_numpy(X))
    )
    assert not module.start(statistics)


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@all_activations
def test_transform_returns_codes_in_their_range(activation, X):
    model = AutoencoderTransformer(
        3,
        bottleneck=Plain(activation),
        max_epochs=30,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    code = model.transform(X)
    low, high = model.bottleneck.code_range
    assert low <= code.min()
    assert code.max() <= high
    assert model.score(X) > 0.5
    if activation == "relu":
        assert (code == 0).any()
    np.testing.assert_allclose(
        model.inverse_transform(code), model.reconstruct(X), rtol=1e-6, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
def test_components_of_a_rectified_code_are_in_the_datas_units(X):
    # A step of length one along any component changes the reconstruction by one.
    model = AutoencoderTransformer(
        3,
        architecture=MLP((), start="random"),
        bottleneck=Plain("relu"),
        max_epochs=20,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    lengths = np.linalg.norm(model.components_, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
    variances = model.transform(X).var(axis=0)
    assert (np.diff(variances) <= 0).all()
