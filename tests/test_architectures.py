"""Architectures: widths, PCA start and initial weights of the networks."""

import warnings
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from skae import AutoencoderTransformer
from skae._component import Affine
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Parts
from skae.architectures import MLP
from skae.architectures._networks import ACTIVATIONS, Network, Tanh
from skae.bottlenecks import Plain
from skae.losses import SquaredError

TEXTBOOK = {"linear_path": False, "start": "random"}


def _build(mlp, seed=0, n_features=6, n_components=2):
    generator = torch.Generator().manual_seed(seed)
    return mlp.build(n_features, n_components, n_components, generator)


def _widths(network):
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def _disturb(module, generator):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator))


def _affine(n_inputs, n_outputs, generator):
    return Affine(
        torch.randn(n_outputs, n_inputs, generator=generator),
        torch.randn(n_outputs, generator=generator),
    )


# Widths


@pytest.mark.parametrize(
    ("sizes", "encoder", "decoder"),
    [
        ((), [6, 2], [2, 6]),
        ((5, 3), [6, 5, 3, 2], [2, 3, 5, 6]),
        ([5], [6, 5, 2], [2, 5, 6]),
        (np.array([5, 3]), [6, 5, 3, 2], [2, 3, 5, 6]),
        ("auto", [6, 128, 128, 2], [2, 128, 128, 6]),
    ],
)
def test_the_decoder_mirrors_the_encoder(sizes, encoder, decoder):
    mlp = MLP(sizes, **TEXTBOOK)
    mlp.validate()
    assert [_widths(network) for network in _build(mlp)] == [encoder, decoder]


def test_encoder_and_code_may_differ_in_width(generator):
    encoder, decoder = MLP((5,)).build(6, 4, 2, generator)
    assert encoder(torch.ones(3, 6)).shape == (3, 4)
    assert decoder(torch.ones(3, 2)).shape == (3, 6)


def test_the_linear_path_is_added_to_the_textbook_net(generator):
    with_path, _ = _build(MLP((5,), start="random"))
    without, _ = _build(MLP((5,), **TEXTBOOK))
    x = torch.randn(10, 6, generator=generator)
    torch.testing.assert_close(with_path(x), without(x) + with_path.linear(x))


@pytest.mark.parametrize("linear_path", [True, False])
def test_without_hidden_layers_the_net_is_one_linear_map(linear_path):
    encoder, _ = _build(MLP((), linear_path=linear_path))
    assert [type(m) for m in encoder.children()] == [nn.Linear]


# Start


@pytest.mark.parametrize("sizes", [(), (5,), (5, 4)])
def test_start_makes_a_network_equal_to_an_affine_map(sizes, generator):
    x = torch.randn(50, 6, generator=generator)
    encoder, _ = _build(MLP(sizes))
    # Whatever its weights: a trained network can be set back too.
    _disturb(encoder, generator)
    affine = _affine(6, 2, generator)
    encoder.start(affine)
    assert torch.equal(encoder(x), nn.functional.linear(x, *affine))


@pytest.mark.parametrize("mlp", [MLP(()), MLP((5,)), MLP("auto", activation="relu")])
@pytest.mark.parametrize("n_components", [1, 3])
def test_training_starts_at_pca(mlp, n_components, X):
    pca = PCA(n_components).fit(X)
    parts = Parts(mlp, Plain(), SquaredError())
    module = parts.build(X.shape[1], n_components, seed=0).double()
    x = torch.from_numpy(X)
    axes = PrincipalAxes(Dense(X), None, n_components, None)
    assert module.start(axes.statistics(Resident(x)))
    raw, code, _, _ = module(x)
    np.testing.assert_allclose(code.detach(), pca.transform(X), atol=1e-10)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(raw.detach(), expected, atol=1e-10)


@pytest.mark.parametrize("sizes", [(), (5,)])
def test_a_random_start_cannot_be_set(sizes):
    parts = Parts(MLP(sizes, start="random"), Plain(), SquaredError())
    module = parts.build(6, 2, seed=0)
    before = {name: p.clone() for name, p in module.state_dict().items()}
    axes = PrincipalAxes(Dense(np.eye(6)), None, 2, None)
    assert not module.start(axes.statistics(Resident(torch.eye(6))))
    for name, p in module.state_dict().items():
        assert torch.equal(p, before[name])


# The affine map of a network


@pytest.mark.parametrize(
    "mlp",
    [MLP(()), MLP((), start="random"), MLP((5,))],
    ids=["linear", "linear, random", "started"],
)
def test_affine_is_equal_to_the_network(mlp, generator):
    encoder, _ = _build(mlp)
    _disturb(encoder, generator)
    if mlp.hidden_layer_sizes:
        encoder.start(_affine(6, 2, generator))
        with torch.no_grad():
            encoder.branch.last.bias += 1.0  # a constant, which does not depend on x
    x = torch.randn(50, 6, generator=generator)
    weight, bias = encoder.affine
    torch.testing.assert_close(encoder(x), x @ weight.T + bias)


@pytest.mark.parametrize("mlp", [MLP((5,)), MLP((5,), **TEXTBOOK)])
def test_a_nonlinear_network_has_no_affine_map(mlp):
    encoder, _ = _build(mlp)
    assert encoder.affine is None


def test_a_network_without_linear_path_has_no_affine_map():
    encoder, _ = _build(MLP((5,), **TEXTBOOK))
    nn.init.zeros_(encoder.branch.last.weight)
    assert encoder.affine is None


# Errors


@pytest.mark.parametrize("sizes", [(0,), (5, -1), (2.5,), ("a",), (None,)])
def test_widths_are_positive_integers(sizes):
    with pytest.raises(
        ValueError, match="'hidden_layer_sizes' parameter of MLP must be"
    ):
        MLP(sizes).validate()


@pytest.mark.parametrize("start", ["pca", "mixed"])
def test_the_pca_start_needs_a_linear_map(start):
    with pytest.raises(ValueError, match=r"start='random' or linear_path=True"):
        MLP((5,), linear_path=False, start=start).validate()


@pytest.mark.parametrize(
    ("n_components", "activation", "norm", "start"),
    [(5, "relu", None, "mixed"), (6, "elu", "batch", "pca")],
)
def test_the_default_depends_on_the_code(n_components, activation, norm, start):
    build = {"n_features": 9, "n_components": n_components}
    explicit = MLP(activation=activation, norm=norm, start=start)
    networks = _build(MLP(), **build), _build(explicit, **build)
    assert str(networks[0]) == str(networks[1])
    _, linear = _build(MLP(linear_path=False), **build)
    assert type(linear) is Network


def test_a_mixed_start_is_left_for_random_weights(X):
    encoder, _ = _build(MLP((7,), start="mixed"))
    affine = Affine(torch.eye(2, 6), torch.ones(2))
    encoder.start(affine)
    torch.testing.assert_close(encoder.affine, affine)
    encoder.leave_start(torch.Generator().manual_seed(0))
    # As torch initialises its layers.
    layers = (encoder.branch.hidden[0].layer, encoder.branch.last, encoder.linear)
    for layer, n_inputs in zip(layers, (6, 7, 6), strict=True):
        assert 0.8 < layer.weight.abs().max() * n_inputs**0.5 <= 1
        assert not layer.bias.any()
    assert encoder.linear.pace == 1
    assert not encoder.linear.start_weight.any()


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_mixed_start_falls_back_to_pca(early_stopping, X):
    model = AutoencoderTransformer(
        2,
        architecture=MLP((7,), start="mixed"),
        early_stopping=early_stopping,
        lr=1e-12,
        max_epochs=2,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    expected = PCA(2).fit_transform(X)
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-4)


# Initial weights


def test_initial_weights_come_from_the_generator_alone(seed):
    before = torch.get_rng_state()
    mlp = MLP((5,), start="random")
    first, again, other = (_build(mlp, s) for s in (seed, seed, seed + 1))
    assert torch.equal(torch.get_rng_state(), before)
    for p, same, different in zip(
        *(encoder.parameters() for encoder, _ in (first, again, other)), strict=True
    ):
        assert torch.equal(p, same)
        assert p.ndim == 1 or not torch.equal(p, different)


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 1), ("relu", 2**0.5)])
def test_initial_weights_have_the_documented_variance(activation, gain, seed):
    mlp = MLP((400, 300), activation=activation)
    encoder, _ = _build(mlp, seed, n_features=200, n_components=100)
    for stage in encoder.branch.hidden:
        layer = stage.layer
        variance = layer.weight.detach().var() * layer.in_features
        assert variance.item() == pytest.approx(gain**2, rel=0.05)
        assert not layer.bias.any()


@pytest.mark.parametrize("linear_path", [False, True])
def test_random_weights_vary_as_those_of_torch(linear_path, seed):
    mlp = MLP((400, 300), activation="relu", linear_path=linear_path, start="random")
    encoder, _ = _build(mlp, seed, n_features=200, n_components=100)
    layers = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert len(layers) == 3 + linear_path
    for layer in layers:
        variance = layer.weight.detach().var()
        of_torch = nn.Linear(layer.in_features, 1000).weight.detach().var()
        torch.testing.assert_close(variance, of_torch, rtol=0.05, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("start", ["pca", "random"])
def test_gradient_reaches_every_weight_after_one_step(activation, start, X):
    parts = Parts(
        MLP((5, 4), activation=activation, start=start), Plain(), SquaredError()
    )
    module = parts.build(X.shape[1], 2, seed=0).double()
    x = torch.from_numpy(X)
    module.start(PrincipalAxes(Dense(X), None, 2, None).statistics(Resident(x)))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        _, _, terms, _ = module(x)
        terms.mean().backward()
        optimizer.step()
    for name, p in module.named_parameters():
        assert p.grad.any(), name


# Normalisation and dropout


@torch.no_grad()
@pytest.mark.parametrize("hidden", [(5,), (5, 4)])
def test_batch_normalisation_is_that_of_torch(hidden, generator):
    ours = MLP(hidden, norm="batch", activation="tanh", **TEXTBOOK)
    encoder, _ = _build(ours, n_features=6)
    theirs = nn.Sequential()
    for stage in encoder.branch.hidden:
        # Without momentum its statistics are those of all rows so far.
        norm = nn.BatchNorm1d(stage.layer.out_features, momentum=None)
        theirs.extend([stage.layer, norm, nn.Tanh()])
    theirs.append(encoder.branch.last)
    x = 2 + 3 * torch.randn(20, 6, generator=generator)
    torch.testing.assert_close(encoder.train()(x), theirs(x))
    # In inference the units of the second layer see normalised ones of the first: so
    # do they when the statistics are estimated, one layer after the other.
    encoder.eval()
    with ExitStack() as stack:
        for stage in encoder.branch.hidden:
            stack.enter_context(stage.norm.mode("estimate"))
        encoder(x)
    first, norm = encoder.branch.hidden[0].norm, theirs[1]
    torch.testing.assert_close(first.mean, norm.running_mean)
    torch.testing.assert_close(first.variance, norm.running_var)
    for stage, norm in zip(encoder.branch.hidden, theirs[1::3], strict=True):
        norm.running_mean.copy_(stage.norm.mean)
        norm.running_var.copy_(stage.norm.variance)
    x = torch.randn(20, 6, generator=generator)
    torch.testing.assert_close(encoder(x), theirs.eval()(x))


def test_layer_normalisation_is_that_of_torch(generator):
    encoder, _ = _build(MLP((5,), norm="layer", activation="tanh", **TEXTBOOK))
    x = torch.randn(20, 6, generator=generator)
    (stage,) = encoder.branch.hidden
    normed = nn.functional.layer_norm(stage.layer(x), (5,))
    torch.testing.assert_close(encoder(x), encoder.branch.last(normed.tanh()))


@torch.no_grad()
def test_a_batch_of_one_row_passes_as_in_inference(generator):
    encoder, _ = _build(MLP((5,), norm="batch", **TEXTBOOK))
    (stage,) = encoder.branch.hidden
    with stage.norm.mode("estimate"):
        encoder.eval()(torch.randn(20, 6, generator=generator))
    before = {name: t.clone() for name, t in encoder.named_buffers()}
    x = torch.randn(1, 6, generator=generator)
    assert torch.equal(encoder.train()(x), encoder.eval()(x))
    with stage.norm.mode("estimate"):
        encoder(x)
    for name, t in encoder.named_buffers():
        assert torch.equal(t, before[name])


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.parametrize(("n_rows", "batch_size"), [(9, 2), (8, 1), (2, 2)])
def test_batch_normalisation_survives_a_batch_of_one_row(n_rows, batch_size, X):
    model = AutoencoderTransformer(
        1,
        architecture=MLP((5,), norm="batch"),
        batch_size=batch_size,
        max_epochs=3,
        early_stopping=False,
        random_state=0,
    ).fit(X[:n_rows])
    assert np.isfinite(model.history_["train_loss"]).all()
    assert np.isfinite(model.reconstruct(X)).all()


def test_statistics_for_inference_are_those_of_the_weights_that_are_kept(X):
    model = AutoencoderTransformer(
        2,
        architecture=MLP((5, 4), norm="batch"),
        batch_size=50,
        max_epochs=3,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    x = torch.from_numpy((X - model.mean_) / model.scale_).float()
    # There are fewer rows than are used at most, so that these are all of them.
    for stage in model.net_.module_.encoder.branch.hidden:
        reached = stage.layer(x).detach()
        torch.testing.assert_close(stage.norm.mean, reached.mean(dim=0))
        torch.testing.assert_close(stage.norm.variance, reached.var(dim=0))
        x = stage(x)


def test_dropout_is_in_the_encoder_and_in_training_only(generator):
    encoder, decoder = _build(MLP((50, 40), dropout=0.4, **TEXTBOOK))
    x = torch.randn(10, 6, generator=generator)
    masks = encoder.draw(len(x), generator)
    assert [mask.shape for mask in masks] == [(10, 50), (10, 40)]
    assert decoder.draw(len(x), generator) is None
    first, second = encoder.branch.hidden
    expected = encoder.branch.last(second(first(x) * masks[0]) * masks[1])
    assert torch.equal(encoder.train()(x, masks), expected)
    assert torch.equal(encoder.eval()(x, masks), encoder(x))
    assert not torch.allclose(encoder(x), expected)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(dropout, generator):
    encoder, _ = _build(MLP((100,), dropout=dropout, **TEXTBOOK))
    (mask,) = encoder.draw(1000, generator)
    dropped = (mask == 0).double().mean().item()
    assert dropped == pytest.approx(dropout, abs=5 * (0.25 / mask.numel()) ** 0.5)
    left = mask[mask > 0]
    torch.testing.assert_close(left, torch.full_like(left, 1 / (1 - dropout)))


def test_no_dropout_draws_nothing(generator):
    encoder, _ = _build(MLP((5,), dropout=0))
    state = generator.get_state()
    assert encoder.draw(10, generator) is None
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, None])
def test_dropout_is_a_share_below_one(dropout):
    with pytest.raises(ValueError, match="'dropout' parameter of MLP must be"):
        MLP((5,), dropout=dropout).validate()


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_starts_at_pca_with_normalisation_and_dropout(norm, dropout, X):
    module = Parts(
        MLP((5,), norm=norm, dropout=dropout), Plain(), SquaredError()
    ).build(6, 2, seed=0)
    x = torch.from_numpy(X)
    module.double().start(
        PrincipalAxes(Dense(X), None, 2, None).statistics(Resident(x))
    )
    draws = module.draw(x.shape, torch.Generator())
    for training in (False, True):
        raw, code, _, _ = module.train(training)(x, draws)
        pca = PCA(2).fit(X)
        np.testing.assert_allclose(code.detach(), pca.transform(X), atol=1e-9)
        expected = pca.inverse_transform(pca.transform(X))
        np.testing.assert_allclose(raw.detach(), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("n_features", "width"),
    [(1, 128), (128, 128), (181, 128), (182, 256), (256, 256), (600, 512), (5000, 512)],
)
def test_widths_are_the_nearest_power_of_two(n_features, width):
    encoder, decoder = _build(MLP(), n_features=n_features)
    assert _widths(encoder.branch) == [n_features, width, width, 2]
    assert _widths(decoder.branch) == [2, width, width, n_features]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_hyperbolic_tangent_equals_that_of_torch(dtype, generator):
    x = 5 * torch.randn(7, 33, generator=generator, dtype=dtype)[:, ::2]
    expected = torch.tanh(x)
    with torch.inference_mode():
        fast = Tanh()(x)
    assert fast.dtype == dtype
    torch.testing.assert_close(fast, expected)
    x.requires_grad_()
    Tanh()(x).sum().backward()
    torch.testing.assert_close(x.grad, 1 - expected**2)


@pytest.fixture
def no_numpy(monkeypatch):
    """Let every conversion of a tensor to NumPy fail."""

    def fail(self, **kwargs):
        raise AssertionError("NumPy was used")

    monkeypatch.setattr(torch.Tensor, "numpy", fail)


@pytest.mark.usefixtures("no_numpy")
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_hyperbolic_tangent_is_that_of_torch(strict):
    x = torch.linspace(-1, 1, 12).view(3, 4)
    with torch.inference_mode():
        program = torch.export.export(nn.Sequential(Tanh()), (x,), strict=strict)
    operations = {node.target for node in program.graph.nodes}
    assert torch.ops.aten.tanh.default in operations
    torch.testing.assert_close(program.module()(x), torch.tanh(x))


@pytest.mark.usefixtures("no_numpy")
def test_a_compiled_hyperbolic_tangent_is_that_of_torch():
    x = torch.linspace(-1, 1, 12).view(3, 4)
    compiled = torch.compile(Tanh(), backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), torch.tanh(x))


@pytest.mark.usefixtures("no_numpy")
@pytest.mark.parametrize("transform", [torch.vmap, torch.func.functionalize])
def test_the_hyperbolic_tangent_can_be_transformed(transform):
    x = torch.linspace(-1, 1, 12).view(3, 4)
    with torch.inference_mode():
        torch.testing.assert_close(transform(Tanh())(x), torch.tanh(x))


def test_the_hyperbolic_tangent_of_tensors_without_data():
    x = torch.empty(3, 4)
    with torch.inference_mode():
        assert Tanh()(x.to("meta")).shape == x.shape
        with FakeTensorMode() as mode:
            assert Tanh()(mode.from_tensor(x)).shape == x.shape
        assert Tanh()(x[:0]).shape == (0, 4)
