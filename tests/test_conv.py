"""Convolutional networks: shapes, PCA start and initial weights."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer
from skae._component import Affine
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Parts
from skae.architectures import Conv
from skae.architectures._networks import Stage
from skae.bottlenecks import Plain
from skae.losses import SquaredError

TEXTBOOK = {"linear_path": False, "start": "random"}
# Channels, then lengths: even, odd, prime, one.
SHAPES = [
    (1, 8),
    (1, 7),
    (2, 13),
    (3, 2),
    (1, 8, 8),
    (2, 5, 9),
    (1, 1, 6),
    (1, 3, 4, 5),
    (2, 2, 1, 3),
    (1, 7, 7, 7),
]


def _build(conv, n_components=2, seed=0, encoder_width=None):
    n_features = int(np.prod(conv.input_shape))
    generator = torch.Generator().manual_seed(seed)
    conv.validate()
    return conv.build(
        n_features, encoder_width or n_components, n_components, generator
    )


def _rows(shape, generator, n_rows=4):
    return torch.randn(n_rows, int(np.prod(shape)), generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", [(4,), (4, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_every_length_is_restored(shape, channels, upsampling, kernel_size, generator):
    conv = Conv(
        shape,
        channels,
        kernel_size=kernel_size,
        upsampling=upsampling,
        **TEXTBOOK,
    )
    encoder, decoder = _build(conv, encoder_width=3)
    x = _rows(shape, generator)
    assert encoder(x).shape == (4, 3)
    raw = decoder(torch.randn(4, 2, generator=generator))
    assert raw.shape == x.shape
    assert raw.isfinite().all()


@pytest.mark.parametrize("channels", [(4,), (4, 3), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_layers_halve_the_lengths_and_have_the_channels(
    channels, upsampling, generator
):
    conv = Conv((2, 13, 6), channels, upsampling=upsampling, **TEXTBOOK)
    seen = {"encoder": [], "decoder": []}
    networks = dict(zip(seen, _build(conv), strict=True))
    for name, network in networks.items():
        for m in network.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
                m.register_forward_hook(
                    lambda m, _, out, name=name: seen[name].append(tuple(out.shape[1:]))
                )
    networks["decoder"](networks["encoder"](_rows((2, 13, 6), generator)))
    lengths = [(13, 6), (7, 3), (4, 2), (2, 1)]
    expected = [(c, *lengths[i + 1]) for i, c in enumerate(channels)]
    assert seen["encoder"] == expected
    assert seen["decoder"] == [*reversed(expected[:-1]), (2, 13, 6)]


@pytest.mark.parametrize("hidden", [(), (7,), (9, 5)], ids=str)
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_dense_layers_lead_to_the_code_and_back(hidden, upsampling, generator):
    conv = Conv(
        (2, 13, 6),
        (4, 3),
        hidden_layer_sizes=hidden,
        upsampling=upsampling,
        **TEXTBOOK,
    )
    encoder, decoder = _build(conv, encoder_width=4)
    widths = [
        [
            (m.in_features, m.out_features)
            for m in n.modules()
            if isinstance(m, nn.Linear)
        ]
        for n in (encoder, decoder)
    ]
    # Halved twice: three channels of four by two.
    outer = [24, *hidden]
    assert widths[0] == list(pairwise([*outer, 4]))
    assert widths[1] == list(pairwise([2, *reversed(outer)]))
    x = _rows((2, 13, 6), generator)
    assert encoder(x).shape == (4, 4)
    assert decoder(torch.ones(3, 2)).shape == (3, 156)


def test_rows_are_arrays_in_c_order(generator):
    # A pixel changes only the outputs near it in the image.
    conv = Conv((2, 8, 9), (3,), **TEXTBOOK)
    encoder, _ = _build(conv)
    layer = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d))
    seen = []
    layer.register_forward_hook(lambda m, args, out: seen.append((args[0], out)))
    x = torch.zeros(2, 2, 8, 9)
    x[1, 1, 4, 6] = 1.0
    encoder(x.flatten(start_dim=1))
    ((given, out),) = seen
    assert torch.equal(given, x)
    rows, columns = torch.nonzero((out[1] - out[0]).abs().sum(dim=0), as_tuple=True)
    assert set(rows.tolist()) == {2}
    assert set(columns.tolist()) == {3}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_start_makes_a_network_equal_to_an_affine_map(shape, upsampling, generator):
    encoder, decoder = _build(Conv(shape, (4, 3), upsampling=upsampling))
    n_features = int(np.prod(shape))
    for network, n_in, n_out in ((encoder, n_features, 2), (decoder, 2, n_features)):
        x = torch.randn(5, n_in, generator=generator)
        affine = Affine(
            torch.randn(n_out, n_in, generator=generator),
            torch.randn(n_out, generator=generator),
        )
        network.start(affine)
        assert torch.equal(network(x), nn.functional.linear(x, *affine))
        weight, bias = network.affine
        torch.testing.assert_close(network(x), x @ weight.T + bias)


@pytest.mark.parametrize("shape", [(1, 6), (2, 3), (1, 2, 3), (1, 1, 2, 3)], ids=str)
def test_training_starts_at_pca(shape, X):
    module = Parts(Conv(shape), Plain(), SquaredError()).build(6, 2, seed=0).double()
    x = torch.from_numpy(X)
    assert module.start(PrincipalAxes(Dense(X), None, 2, None).statistics(Resident(x)))
    raw, code, _, _ = module(x)
    pca = PCA(2).fit(X)
    np.testing.assert_allclose(code.detach(), pca.transform(X), atol=1e-10)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(raw.detach(), expected, atol=1e-10)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("start", ["pca", "random"])
def test_gradient_reaches_every_weight_after_one_step(upsampling, start, generator):
    conv = Conv(
        (1, 5, 4),
        (4, 3),
        hidden_layer_sizes=(5,),
        upsampling=upsampling,
        start=start,
        activation="tanh",
    )
    module = Parts(conv, Plain(), SquaredError()).build(20, 2, seed=0).double()
    x = _rows((1, 5, 4), generator, 50).double()
    module.start(PrincipalAxes(Dense(x.numpy()), None, 2, None).statistics(Resident(x)))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        module(x)[2].mean().backward()
        optimizer.step()
    for name, p in module.named_parameters():
        assert p.grad.any(), name


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_a_signal_keeps_its_size_through_the_layers(upsampling, seed):
    # Randomly initialised layers approximately preserve the variance of the signal.
    conv = Conv(
        (8, 16, 16), (16, 32, 64), activation="relu", upsampling=upsampling, **TEXTBOOK
    )
    encoder, decoder = _build(conv, 32, seed)
    generator = torch.Generator().manual_seed(seed)
    x = _rows((8, 16, 16), generator, 50)
    for network, given in ((encoder, x), (decoder, torch.randn(50, 32))):
        size = network(given).square().mean().sqrt().item()
        assert 0.2 < size < 5


# Axes over which numbers are normalised, besides those of the positions.
NORMED = {"batch": 0, "layer": 1}


def _normalised(x, norm):
    """Return numbers of mean zero and variance one over the axes of a norm."""
    axes = (NORMED[norm], *range(2, x.ndim))
    centered = x - x.mean(dim=axes, keepdim=True)
    variance = centered.square().mean(dim=axes, keepdim=True)
    return centered / (variance + 1e-5).sqrt()


def _normed(conv, generator):
    """Return an encoder, a decoder and, for each, a list that a pass of rows extends.

    It receives, of each normalisation, what it is given, what it returns, and itself.
    Weights and biases of the normalisations are drawn at random.
    """
    networks = [network.double() for network in _build(conv)]
    seen = [[], []]
    for network, found in zip(networks, seen, strict=True):
        for stage in (m for m in network.modules() if isinstance(m, Stage)):
            for p in stage.norm.parameters():
                nn.init.uniform_(p, 0.5, 2, generator=generator)
            stage.norm.register_forward_hook(
                lambda norm, given, out, found=found: found.append((*given, out, norm))
            )
    return *networks, *seen


@pytest.mark.parametrize("shape", [(2, 9), (2, 5, 6), (1, 4, 3, 5)], ids=str)
@pytest.mark.parametrize("norm", NORMED)
def test_layers_are_normalised(norm, shape, generator):
    conv = Conv(shape, (4, 3), hidden_layer_sizes=(6,), norm=norm, **TEXTBOOK)
    encoder, decoder, *seen = _normed(conv, generator)
    encoder(3 + 2 * _rows(shape, generator, 7).double())
    decoder(torch.randn(7, 2, generator=generator).double())
    for stages, n_channels in zip(seen, ([4, 3, 6], [6, 3, 4]), strict=True):
        assert [given.shape[1] for given, _, _ in stages] == n_channels
        for given, out, module in stages:
            per_channel = (-1, *[1] * (given.ndim - 2))
            weight, bias = (p.view(per_channel) for p in (module.weight, module.bias))
            expected = _normalised(given, norm) * weight + bias
            torch.testing.assert_close(out, expected)
            # They are not normalised before.
            assert not torch.allclose(_normalised(given, norm), given, atol=0.1)


@pytest.mark.parametrize("shape", [(2, 9), (2, 5, 6)], ids=str)
@pytest.mark.parametrize("norm", NORMED)
def test_one_axis_is_normalised_whatever_the_scale_along_it(norm, shape, generator):
    # Numbers of a batch are normalised by channel, those of a layer by row: units and
    # origin of a channel or of a row have no effect, those of the other one have.
    conv = Conv(shape, (4,), norm=norm, **TEXTBOOK)
    encoder, *_ = _normed(conv, generator)
    (stage,) = (m for m in encoder.modules() if isinstance(m, Stage))
    x = torch.randn(6, 4, *shape[1:], generator=generator).double()
    ones = [1] * (len(shape) - 1)
    scales = torch.linspace(0.5, 4, 6).double().view(6, 1, *ones)
    by_row = (x - 3) * scales
    by_channel = (x - 3) * scales[:4].view(1, 4, *ones)
    same, other = (by_channel, by_row) if norm == "batch" else (by_row, by_channel)
    torch.testing.assert_close(stage.norm(same), stage.norm(x), atol=1e-3, rtol=1e-3)
    assert (stage.norm(other) - stage.norm(x)).abs().max() > 0.1


@pytest.mark.parametrize("norm", [*NORMED, None])
def test_rows_depend_on_each_other_in_a_batch_alone(norm, generator):
    conv = Conv((2, 5, 6), (4, 3), norm=norm, **TEXTBOOK)
    encoder, _ = _build(conv)
    x = _rows((2, 5, 6), generator, 6)
    alone = encoder.train()(x)[:2]
    among_others = encoder(torch.cat([x[:2], 10 + 3 * x[2:]]))[:2]
    assert torch.allclose(alone, among_others, atol=1e-5) == (norm != "batch")
    # In inference, rows of a batch do not.
    encoder.eval()
    torch.testing.assert_close(encoder(x)[:2], encoder(x[:2]))


def test_the_default_normalises_batches(generator):
    x = _rows((2, 5, 6), generator, 6)
    codes = [
        _build(Conv((2, 5, 6), (4,), **params, **TEXTBOOK))[0](x)
        for params in ({}, {"norm": "batch"}, {"norm": None})
    ]
    assert torch.equal(codes[0], codes[1])
    assert not torch.allclose(codes[0], codes[2], atol=0.01)


def test_weights_are_drawn_from_the_generator_alone(seed):
    before = torch.get_rng_state()
    conv = Conv((1, 7, 7), (4, 3), start="random")
    first, again, other = (_build(conv, seed=s) for s in (seed, seed, seed + 1))
    assert torch.equal(torch.get_rng_state(), before)
    for networks in zip(first, again, other, strict=True):
        for p, same, different in zip(*(n.parameters() for n in networks), strict=True):
            assert torch.equal(p, same)
            assert p.ndim == 1 or not torch.equal(p, different)


@pytest.mark.slow
def test_images_are_learnt(rng):
    # A bright spot at a random position: two nonlinear degrees of freedom.
    where = rng.uniform(1, 6, size=(300, 2))
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"))
    distance = ((grid[None] - where[:, :, None, None]) ** 2).sum(axis=1)
    X = np.exp(-distance / 4).reshape(300, 64)
    model = AutoencoderTransformer(
        2,
        architecture=Conv((1, 8, 8), (8, 16)),
        max_epochs=60,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    assert model.reconstruction_error(X).mean() < (
        0.3 * model.pca_reconstruction_error_
    )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"input_shape": (5,)}, "'input_shape' parameter of Conv must be"),
        ({"input_shape": (1, 2, 3, 4, 5)}, "'input_shape' parameter of Conv must be"),
        ({"input_shape": (1, 0)}, "'input_shape' parameter of Conv must be"),
        ({"input_shape": (1, 6.0)}, "'input_shape' parameter of Conv must be"),
        ({"input_shape": 6}, "'input_shape' parameter of Conv must be"),
        ({"channels": ()}, "'channels' parameter of Conv must be"),
        ({"channels": (4, -1)}, "'channels' parameter of Conv must be"),
        ({"channels": 4}, "'channels' parameter of Conv must be"),
        ({"hidden_layer_sizes": (5, 0)}, "'hidden_layer_sizes' parameter of Conv must"),
        ({"hidden_layer_sizes": 5}, "'hidden_layer_sizes' parameter of Conv must be"),
        ({"kernel_size": 2}, "'kernel_size' parameter of Conv must be"),
        ({"kernel_size": 0}, "'kernel_size' parameter of Conv must be"),
        ({"kernel_size": -3}, "'kernel_size' parameter of Conv must be"),
        ({"kernel_size": (3, 3)}, "'kernel_size' parameter of Conv must be"),
        ({"upsampling": "bilinear"}, "'upsampling' parameter of Conv must be"),
        ({"linear_path": False}, "pass start='random' or linear_path=True"),
        ({"input_shape": (1, 7)}, r"needs rows of 7 features, but X has 6"),
    ],
    ids=str,
)
def test_errors_name_the_parameter(params, match, X):
    conv = Conv(**{"input_shape": (1, 6), **params})
    with pytest.raises(ValueError, match=match):
        AutoencoderTransformer(2, architecture=conv).fit(X)


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_shapes_may_be_any_sequence(kind, X):
    conv = Conv(kind((1, 6)), kind((3, 2)))
    model = AutoencoderTransformer(
        2, architecture=conv, max_epochs=2, early_stopping=False, random_state=0
    )
    tuples = AutoencoderTransformer(**model.get_params(deep=False))
    tuples.set_params(architecture=Conv((1, 6), (3, 2)))
    np.testing.assert_array_equal(model.fit(X).transform(X), tuples.fit(X).transform(X))
