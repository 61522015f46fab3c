"""Gradients in closed form, against those that torch finds by itself."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from _components import named
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae._component import Affine
from skae._gradient.closed_form import ClosedForm, ClosedNetwork
from skae._gradient.flat_weights import FlatWeights
from skae._model.autoencoder import Objective, Parts
from skae._training.batches import Batch
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import Nested, Plain, TopK, Variational
from skae.corruptions import Dropout, Gaussian, Masking
from skae.losses import AbsoluteError, Huber, Poisson, SquaredError, Trimmed
from skae.penalties import L1, Contractive, Decorrelation

N_FEATURES, N_COMPONENTS = 6, 3
ACTIVATIONS = ["elu", "gelu", "relu", "sigmoid", "silu", "tanh"]
LINEAR = [MLP(()), MLP((), start="random")]
NETWORKS = [
    MLP(hidden, activation=activation, linear_path=path, start=start, dropout=dropout)
    for activation, hidden, path, start, dropout in product(
        ACTIVATIONS, [(7,), (7, 5)], [True, False], ["pca", "random"], [0.0, 0.3]
    )
    if path or start == "random"
] + [
    MLP((7, 5), norm="batch"),
    MLP((7,), norm="batch", activation="silu", dropout=0.3),
    MLP((7, 5), norm="batch", linear_path=False, start="random"),
]


def _module(
    architecture=None, bottleneck=None, loss=None, corruption=None, penalty=None
):
    parts = Parts(
        architecture or MLP((7,)),
        bottleneck or Plain(),
        loss or SquaredError(),
        corruption,
        penalty,
    )
    return parts.build(N_FEATURES, N_COMPONENTS, 0).double().train()


def _prepare(module, generator):
    """Give a module a start and weights away from it, and return its gradient."""
    for network in (module.encoder, module.decoder):
        if hasattr(network, "start"):
            weight = network.linear.weight
            network.start(
                Affine(weight.detach() + 0.3, torch.full_like(weight[:, 0], 0.1))
            )
    weights = FlatWeights(list(module.parameters()), 0.0)
    weights.attach_gradient()
    gradient = weights.flat.grad
    weights.flat.data.copy_(
        torch.randn(weights.flat.shape, generator=generator, dtype=torch.float64)
    )
    return gradient


def _expected(module, gradient, batch):
    gradient.zero_()
    (x, weight, *_), draws = batch
    objective = Objective(module.loss)(module(x, draws), weight)
    objective.backward()
    return objective.detach(), gradient.clone()


def _batch(module, n_rows, weighted, generator):
    x = torch.randn(n_rows, N_FEATURES, generator=generator, dtype=torch.float64)
    weight = None
    if weighted:
        weight = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    return Batch(x, weight), module.draw(x.shape, generator)


CORRUPTIONS = [None, Gaussian(0.5), Masking(), Dropout()]


@pytest.mark.parametrize(
    ("architecture", "corruption"),
    [(network, CORRUPTIONS[i % 4]) for i, network in enumerate(LINEAR + NETWORKS)]
    + [(MLP((7,)), corruption) for corruption in CORRUPTIONS],
    ids=repr,
)
def test_gradients_are_those_of_automatic_differentiation(
    architecture, corruption, generator
):
    module = _module(architecture, corruption=corruption)
    gradient = _prepare(module, generator)
    assert ClosedForm.suits(module)
    step = ClosedForm(module)
    # Buffers are shared by steps, of one size or several: nothing may be left in them.
    for n_rows, weighted in [(9, False), (8, True), (9, True), (9, False), (1, False)]:
        batch = _batch(module, n_rows, weighted, generator)
        expected = _expected(module, gradient, batch)
        gradient.fill_(torch.nan)
        objective, output = step(*batch)
        assert output is None
        torch.testing.assert_close(objective, expected[0])
        torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("architecture", [MLP(()), MLP((7,)), MLP((7, 5), dropout=0.3)])
def test_gradients_of_nested_codes(architecture, generator):
    module = _module(architecture, Nested(), corruption=Gaussian(0.5))
    gradient = _prepare(module, generator)
    assert ClosedForm.suits(module)
    step = ClosedForm(module)
    for n_rows, weighted in [(9, False), (8, True), (9, True), (1, False)]:
        batch = _batch(module, n_rows, weighted, generator)
        expected = _expected(module, gradient, batch)
        gradient.fill_(torch.nan)
        objective, _ = step(*batch)
        torch.testing.assert_close(objective, expected[0])
        torch.testing.assert_close(gradient, expected[1])


def test_gradients_follow_weights_that_are_changed_in_place(generator):
    module = _module()
    gradient = _prepare(module, generator)
    step = ClosedForm(module)
    batch = _batch(module, 5, False, generator)
    step(*batch)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(-0.5)
    expected = _expected(module, gradient, batch)
    objective, _ = step(*batch)
    torch.testing.assert_close((objective, gradient), expected)


@named
def _linear(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"architecture": MLP((7, 5), norm="batch", dropout=0.3)},
        {"architecture": MLP(()), "corruption": Masking()},
        {"bottleneck": Plain("tanh")},
        {"bottleneck": Variational()},
        {"bottleneck": TopK(1)},
        {"loss": AbsoluteError()},
        {"loss": Poisson(), "penalty": L1(0.1)},
        {"loss": Trimmed(SquaredError())},
        {"penalty": Contractive(0.1)},
        {"penalty": Decorrelation(0.1)},
    ],
    ids=repr,
)
def test_networks_in_closed_form_are_part_of_any_model(parts, generator):
    module = _module(**parts)
    gradient = _prepare(module, generator)
    assert ClosedNetwork.suits(module)
    networks = ClosedNetwork(module.encoder), ClosedNetwork(module.decoder)
    objective = Objective(module.loss, module.penalty)
    for n_rows, weighted in [(9, False), (8, True), (9, True), (1, False)]:
        (x, weight, *_), draws = _batch(module, n_rows, weighted, generator)
        x = x.abs()
        known = torch.rand(x.shape, generator=generator) < 0.8
        found = []
        for functions in (None, networks):
            gradient.zero_()
            output = module(x, draws, known, networks=functions)
            value = objective(output, weight)
            value.backward()
            found.append([t.detach().clone() for t in (value, *output, gradient)])
        torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    "parts",
    [
        {"architecture": MLP((7,), norm="layer")},
        {"architecture": Conv((1, 6), (2,))},
        {"architecture": Custom(_linear, _linear)},
        {"bottleneck": Plain("tanh")},
        {"bottleneck": Variational()},
        {"bottleneck": TopK(1)},
        {"loss": AbsoluteError()},
        {"loss": Huber()},
        {"loss": Trimmed(SquaredError())},
        {"penalty": L1(0.1)},
        {"penalty": Contractive(0.1)},
    ],
    ids=repr,
)
def test_what_has_no_closed_form_is_left_to_torch(parts, generator):
    module = _module(**parts)
    FlatWeights(list(module.parameters()), 0.0).attach_gradient()
    assert not ClosedForm.suits(module)


def test_a_loss_of_somebody_elses_is_left_to_torch():
    class Own(SquaredError):
        def per_entry(self, raw, x):
            return 2 * super().per_entry(raw, x)

    module = _module(loss=Own())
    FlatWeights(list(module.parameters()), 0.0).attach_gradient()
    assert not ClosedForm.suits(module)


def _without_bias(network):
    network.branch.last.bias = None


def _with_shared_weights(network):
    network.branch.hidden[1].layer = network.branch.hidden[0].layer


def _with_another_linear_map(network):
    class Own(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    network.linear = Own(N_FEATURES, N_COMPONENTS)


def _with_another_stage(network):
    class Own(type(network.branch.hidden[0])):
        def forward(self, x):
            return 2 * super().forward(x)

    network.branch.hidden[0].__class__ = Own


@pytest.mark.parametrize(
    "change",
    [
        _without_bias,
        _with_shared_weights,
        _with_another_linear_map,
        _with_another_stage,
    ],
)
def test_networks_that_somebody_changed_are_left_to_torch(change):
    module = _module(MLP((7, 7), start="random"))
    change(module.encoder)
    FlatWeights(list(module.parameters()), 0.0).attach_gradient()
    assert not ClosedForm.suits(module)


def test_weights_without_a_gradient_are_left_to_torch():
    module = _module()
    assert not ClosedForm.suits(module)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "architecture", [MLP((16, 8)), MLP((16,), linear_path=False, start="random")]
)
@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_a_fit_is_the_same_either_way(architecture, weighted, X, rng, monkeypatch):
    weight = rng.uniform(0.5, 2, size=len(X)) if weighted else None
    settings = {"corruption": Gaussian(0.1), "gradient_clip": 1.0, "max_epochs": 30}
    fits = {}
    never = staticmethod(lambda module: False)
    for left_out in (None, ClosedForm, ClosedNetwork):
        if left_out is not None:
            monkeypatch.setattr(left_out, "suits", never)
        model = AutoencoderTransformer(
            2,
            architecture=architecture,
            random_state=0,
            n_iter_no_change=30,
            **settings,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, sample_weight=weight)
        fits[model.diagnostics_["step"]] = model
    losses = [model.history_["train_loss"] for model in fits.values()]
    assert list(fits) == [
        "closed form",
        "autograd, with networks in closed form",
        "autograd",
    ]
    for others in losses[1:]:
        np.testing.assert_allclose(losses[0], others, rtol=1e-3)
