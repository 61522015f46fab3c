"""The model and its objective: where the parts meet."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer
from skae._component import Affine
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Autoencoder, Objective, Parts
from skae._training import batches
from skae.architectures import MLP
from skae.bottlenecks import (
    Bottleneck,
    Plain,
    VectorQuantized,
)
from skae.corruptions import Corruption, Gaussian, Swap
from skae.losses import Bernoulli, Poisson, SquaredError
from skae.penalties import L1, Penalty

N_FEATURES, N_COMPONENTS = 5, 2


class Shift(Corruption):
    """A corruption of somebody else's: moves every row by a drawn step."""

    def draw(self, shape, generator):
        return torch.rand(shape[0], 1, generator=generator)

    def __call__(self, x, draw):
        return x + draw


class Noisy(Bottleneck):
    """A bottleneck of somebody else's, with every hook that there is."""

    guards = True

    def encoder_width(self, n_components):
        return 2 * n_components

    def build(self, n_components, generator):
        return _Noisy()


class _Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("progress", torch.tensor(0.0))

    def draw(self, n_rows, generator):
        return torch.randn(n_rows, 1, generator=generator)

    def forward(self, h, draw=None):
        mean, spread = h.chunk(2, dim=1)
        code = mean if draw is None else mean + spread * draw
        return code, spread.square().sum(dim=1)

    def after_step(self, progress):
        self.progress.fill_(progress)

    def auxiliary(self, x, reconstruction, h, code, decoder):
        return (decoder(torch.zeros_like(code)) - x).square().sum(dim=1)


class Batch(Penalty):
    """Charges the batch by its weighted mean code."""

    def per_batch(self, code, weight):
        weight = torch.ones(len(code)) if weight is None else weight
        return (weight @ code / weight.sum()).square().sum()


def _build(bottleneck=None, corruption=None, penalty=None, seed=0, norm="batch"):
    architecture = MLP((8,), norm=norm, start="random")
    parts = Parts(
        architecture, bottleneck or Plain(), SquaredError(), corruption, penalty
    )
    return parts.build(N_FEATURES, N_COMPONENTS, seed)


@pytest.fixture
def x(generator):
    return torch.randn(30, N_FEATURES, generator=generator)


# Forward


@pytest.mark.parametrize("bottleneck", [None, Noisy()])
def test_half_precision_stays_within_the_networks(bottleneck, x, generator):
    module = _build(bottleneck)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x, module.draw(x.shape, generator))
    assert {t.dtype for t in output} == {torch.float32}


def test_inference_is_deterministic_and_free_of_training(x, generator):
    module = _build(Noisy(), Shift(), L1(0.5))
    plain = _build(Noisy())
    for first, second, third in zip(module(x), module(x), plain(x), strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


def test_forward_gives_one_term_per_row(x, generator):
    module = _build(Noisy(), Shift(), L1())
    for draws in (None, module.draw(x.shape, generator)):
        raw, code, terms, h = module(x, draws)
        assert raw.shape == x.shape
        assert code.shape == (len(x), N_COMPONENTS)
        assert terms.shape == (len(x),)
        assert h.shape == (len(x), 2 * N_COMPONENTS)


def test_rows_do_not_see_each_other(x, generator):
    module = _build(corruption=Gaussian(), penalty=L1(), norm=None)
    draws = module.draw(x.shape, generator)
    whole = module(x, draws)
    first = module(x[:1], {"corruption": draws["corruption"][:1], "penalty": None})
    for a, b in zip(whole, first, strict=True):
        torch.testing.assert_close(a[:1], b)


def test_only_what_is_random_draws(x, generator):
    assert set(_build().draw(x.shape, generator)) == set()
    assert set(_build(Noisy(), Shift(), L1()).draw(x.shape, generator)) == {
        "bottleneck",
        "corruption",
        "penalty",
    }


def test_a_draw_repeats_with_the_state_of_its_generator(x, seed):
    module = _build(Noisy(), Gaussian())
    before = torch.get_rng_state()
    first, second = (
        module(x, module.draw(x.shape, torch.Generator().manual_seed(seed)))
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_network_sees_corrupted_rows_and_the_loss_clean_ones(x, generator):
    module = _build(corruption=Shift())
    draws = module.draw(x.shape, generator)
    output = module(x, draws)
    corrupted = Shift()(x, draws["corruption"])
    raw = output[0]
    torch.testing.assert_close(raw, module(corrupted)[0])
    terms = Objective(SquaredError()).per_sample(output)
    torch.testing.assert_close(terms, SquaredError()(raw, x))


def test_a_penalty_is_charged_in_training_only(x, generator):
    module = _build(penalty=L1(0.5))
    raw, code, free, _ = module(x)
    _, _, charged, _ = module(x, module.draw(x.shape, generator))
    assert torch.equal(free, SquaredError()(raw, x))
    torch.testing.assert_close(charged, free + 0.5 * code.abs().sum(dim=1))


def test_a_penalty_sees_the_map_with_its_draws_held_fixed(x, generator):
    seen = {}

    class Witness(Penalty):
        def per_sample(self, x, code, encode, draw):
            seen.update(x=x, code=code, again=encode(x))
            return 0

    module = _build(Noisy(), Shift(), Witness(), norm=None)
    draws = module.draw(x.shape, generator)
    module(x, draws)
    assert torch.equal(seen["code"], seen["again"])
    assert torch.equal(seen["x"], Shift()(x, draws["corruption"]))


# Hooks


def test_a_bottleneck_gets_its_draw_and_all_prices_add_up(x, generator):
    module = _build(Noisy(), penalty=L1(0.5))
    draws = module.draw(x.shape, generator)
    raw, code, terms, h = module(x, draws)
    assert torch.equal(h, module.encoder(x))
    expected, price = module.bottleneck(h, draws["bottleneck"])
    torch.testing.assert_close(code, expected)
    auxiliary = module.bottleneck.auxiliary(x, raw, h, code, module.decoder)
    loss = SquaredError()(raw, x)
    prices = price + auxiliary + 0.5 * code.abs().sum(dim=1)
    torch.testing.assert_close(terms, loss + prices)


class Listener(nn.Module):
    """A network that records what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def start(self, affine):
        self.told.append(affine)

    def observe(self, x, draw):
        self.told.append((x, draw))

    def after_step(self, progress):
        self.told.append(progress)

    def draw(self, n_rows, generator):
        return n_rows

    def forward(self, x, draw=None):
        return x if draw is None else x + draw


class Middle(nn.Module):
    """A bottleneck that does nothing, and records what it observes."""

    def __init__(self, starts=None):
        super().__init__()
        self.starts = starts
        self.told = []

    def forward(self, h):
        return h, h.new_zeros(len(h))

    def start(self, statistics):
        return self.starts

    def observe(self, h, code, draw, weight):
        self.told.append((h, code, draw, weight))


def _listening(corruption=None, starts=None):
    return Autoencoder(
        Listener(), Middle(starts), Listener(), SquaredError(), corruption
    )


def test_networks_have_hooks_too(x, generator):
    module = Autoencoder(
        Listener(), Plain().build(N_FEATURES, None), Listener(), SquaredError()
    )
    draws = module.draw(x.shape, generator)
    assert draws == {"encoder": 30, "decoder": 30}
    output = module(x, draws)
    raw, code, _, h = output
    assert torch.equal(h, x + 30)
    assert torch.equal(code, x + 30)
    assert torch.equal(raw, x + 30 + 30)
    module.after_step(0.25, batches.Batch(x), draws, output)
    for network, given in ((module.encoder, x), (module.decoder, code)):
        (observed, draw), progress = network.told
        assert torch.equal(observed, given)
        assert draw == 30
        assert progress == 0.25


def test_modules_observe_what_passed_through_them(x, generator):
    module = _listening(Shift())
    draws = module.draw(x.shape, generator)
    output = module(x, draws)
    weight = torch.rand(len(x), generator=generator)
    module.after_step(0.5, batches.Batch(x, weight), draws, output)
    (seen, _), _ = module.encoder.told
    assert torch.equal(seen, Shift()(x, draws["corruption"]))
    ((h, code, draw, given),) = module.bottleneck.told
    assert torch.equal(h, output[3])
    assert torch.equal(code, output[1])
    assert draw is None
    assert torch.equal(given, weight)


def test_a_forward_pass_only_computes(x, generator):
    # What is learnt by other ways than a gradient is learnt by observing.
    module = Parts(
        MLP((8,), norm="batch"), VectorQuantized(4), SquaredError(), Swap()
    ).build(N_FEATURES, N_COMPONENTS, 0)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    module.train()(x, module.draw(x.shape, generator))
    for name, t in module.state_dict().items():
        assert torch.equal(t, before[name]), name


def test_the_start_passes_the_link_of_the_loss(x):
    class Linked(SquaredError):
        def start(self, reconstruction):
            return f"link of {reconstruction}"

    to, back = ("weight", "bias"), ("other weight", "other bias")
    module = _listening(starts=(to, back))
    module.loss = Linked()
    assert module.start("data")
    assert module.encoder.told == [Affine(*to)]
    assert module.decoder.told == [f"link of {Affine(*back)}"]


@pytest.mark.parametrize("deaf", ["encoder", "decoder"])
def test_a_start_is_whole_only_if_both_networks_can_be_set(deaf):
    module = _listening(starts=((None, None), (None, None)))
    assert module.start(None)
    setattr(module, deaf, nn.Identity())
    assert not module.start(None)


def test_a_bottleneck_without_a_start_leaves_the_networks_alone():
    module = Autoencoder(Listener(), nn.Identity(), Listener(), SquaredError())
    assert not module.start(None)
    assert module.encoder.told == module.decoder.told == []


@pytest.mark.parametrize("loss", [Bernoulli(), Poisson()])
def test_a_loss_on_part_of_the_line_lets_the_encoder_see_standard_rows(loss, rng):
    # Far from zero and of another size, as counts are; in [0, 1] for coins.
    X = rng.uniform(0.7, 0.8, size=(200, N_FEATURES)) * min(loss.domain[1], 1000)
    module = Parts(MLP(()), Plain(), loss).build(N_FEATURES, N_COMPONENTS, 0).double()
    seen = []
    module.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.from_numpy(X)
    assert module.start(
        PrincipalAxes(Dense(X), None, N_COMPONENTS, None).statistics(Resident(x))
    )
    code = module.encode(x)
    (given,) = seen
    np.testing.assert_allclose(given.mean(dim=0), 0, atol=1e-4)
    assert given.square().mean().item() == pytest.approx(1)
    # What it starts as is PCA of the rows all the same, not of those it sees.
    expected = PCA(N_COMPONENTS).fit_transform(X)
    np.testing.assert_allclose(code.detach(), expected, rtol=1e-3, atol=1e-3)


def test_parts_from_elsewhere_work_in_an_estimator(X):
    model = AutoencoderTransformer(
        2,
        bottleneck=Noisy(),
        corruption=Shift(),
        max_epochs=3,
        early_stopping=False,
        lr=1e-3,
        random_state=0,
    ).fit(X)
    assert model.transform(X).shape == (len(X), 2)
    assert model.net_.module_.bottleneck.progress == 1.0


# Several at once


def test_stacked_models_run_as_they_do_alone(x, seed):
    modules = [_build(Noisy(), Gaussian(0.5), L1(0.1), seed=i) for i in range(3)]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(3)]
    draws = [m.draw(x.shape, g) for m, g in zip(modules, generators, strict=True)]
    stacked = {
        name: torch.stack([d[name] for d in draws])
        for name in ("bottleneck", "corruption")
    }

    def run(state, draws):
        return torch.func.functional_call(
            modules[0], state, (x, {**draws, "penalty": None})
        )

    together = torch.func.vmap(run)(torch.func.stack_module_state(modules), stacked)
    for i, module in enumerate(modules):
        for a, b in zip(together, module(x, draws[i]), strict=True):
            torch.testing.assert_close(a[i], b)
