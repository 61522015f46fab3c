"""Penalties against their formulas."""

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from scipy.special import rel_entr
from torch import nn
from torch.autograd.functional import jacobian

from skae import AutoencoderTransformer
from skae._model.autoencoder import Parts
from skae.architectures import MLP, Conv
from skae.bottlenecks import (
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Gaussian
from skae.losses import SquaredError
from skae.penalties import (
    L1,
    Contractive,
    Decorrelation,
    KLSparsity,
    Penalty,
    Sum,
)

all_penalties = pytest.mark.parametrize("penalty", of_kind(Penalty, SETTINGS), ids=repr)


def _codes(generator, n_rows=20, n_columns=5):
    # Within [0, 1], which every penalty accepts.
    return torch.rand(n_rows, n_columns, generator=generator, dtype=torch.float64)


def _cost(penalty, code, draw=None):
    return penalty.per_sample(None, code, None, draw)


# What all share


@all_penalties
def test_costs_have_their_shapes(penalty, generator):
    x = _codes(generator)

    def encode(x):
        return x[:, :3] ** 2

    draw = penalty.draw(x.shape, generator)
    per_sample = penalty.per_sample(x, encode(x), encode, draw)
    assert isinstance(per_sample, int) or per_sample.shape == (len(x),)
    per_batch = penalty.per_batch(encode(x), None)
    assert isinstance(per_batch, int) or per_batch.shape == ()


@all_penalties
def test_equal_weights_are_none(penalty, generator):
    code = _codes(generator)
    cost = penalty.per_batch(code, None)
    for weight in (1.0, 7.0):
        weighted = penalty.per_batch(code, torch.full((20,), weight).double())
        assert float(weighted) == pytest.approx(float(cost))


@pytest.mark.parametrize(
    "penalty", [L1(0), KLSparsity(alpha=0), Contractive(0), Decorrelation(0)], ids=repr
)
def test_zero_strength_costs_nothing(penalty, generator):
    x = _codes(generator)
    draw = penalty.draw(x.shape, generator)
    assert not torch.as_tensor(penalty.per_sample(x, x**2, torch.square, draw)).any()
    assert penalty.per_batch(x, None) == 0


# L1


def test_l1_is_the_scaled_norm(generator):
    code = _codes(generator) - 0.5
    expected = 0.3 * torch.linalg.vector_norm(code, ord=1, dim=1)
    torch.testing.assert_close(_cost(L1(0.3), code), expected)


# Kullback-Leibler


@pytest.mark.parametrize("target", [0.05, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_kl_sparsity_is_the_divergence_of_coins(target, weighted, generator):
    code = _codes(generator)
    weight = torch.rand(20, generator=generator).double() if weighted else None
    mean = np.average(code, axis=0, weights=weight)
    expected = rel_entr(target, mean) + rel_entr(1 - target, 1 - mean)
    cost = KLSparsity(target, alpha=2.0).per_batch(code, weight)
    assert cost.item() == pytest.approx(2 * expected.sum())


def test_kl_sparsity_is_zero_at_its_target_and_large_at_the_ends():
    costs = [
        KLSparsity(0.2).per_batch(torch.full((10, 1), mean, dtype=torch.float64), None)
        for mean in (0.2, 0.1, 0.01, 0.0)
    ]
    assert costs[0] == pytest.approx(0)
    assert costs == sorted(costs)
    for mean in (0.0, 1.0):
        code = torch.full((10, 1), mean, requires_grad=True)
        cost = KLSparsity(0.2).per_batch(code, None)
        assert 2 < cost.item() < 20


def test_kl_sparsity_draws_the_mean_activation_to_its_target(X):
    model = AutoencoderTransformer(
        4,
        bottleneck=Plain("sigmoid"),
        penalty=KLSparsity(0.1, alpha=100.0),
        max_epochs=100,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    means = model.transform(X).mean(axis=0)
    np.testing.assert_allclose(means, 0.1, atol=0.02)


BEYOND = [None, Plain(), Plain("relu"), Plain("tanh"), Variational(), TopK(2)]


@pytest.mark.parametrize("bottleneck", [*BEYOND, FiniteScalar()], ids=repr)
@pytest.mark.parametrize("penalty", [KLSparsity(), L1() + KLSparsity()], ids=repr)
def test_kl_sparsity_needs_a_code_between_zero_and_one(bottleneck, penalty, X):
    model = AutoencoderTransformer(2, bottleneck=bottleneck, penalty=penalty)
    with pytest.raises(ValueError, match=r"codes in \[0\.0, 1\.0\], but bottleneck="):
        model.fit(X)


# Contractive


class Kept(Penalty):
    """Stores the arguments of a penalty."""

    def per_sample(self, x, code, encode, draw):
        self.given = x, code, encode
        return 0


def _given(architecture, bottleneck, n_components, generator, n_features=12):
    """Return the arguments of a penalty in a model: rows, codes, the map between."""
    kept = Kept()
    parts = Parts(architecture, bottleneck, SquaredError(), Gaussian(), kept)
    module = parts.build(n_features, n_components, seed=0).double()
    x = torch.randn(5, n_features, generator=generator, dtype=torch.float64)
    module(x, module.draw(x.shape, generator))
    return (module, *kept.given)


def _squared_norms(encode, x):
    # Of the whole batch, row by row: shape (n_rows, n_components, n_rows, n_features).
    whole = jacobian(encode, x)
    rows = torch.arange(len(x))
    return whole[rows, :, rows].square().sum(dim=(1, 2))


NETWORKS = {
    "mlp": MLP((7,), start="random"),
    "dropout": MLP((7, 6), start="random", dropout=0.3),
    "layer norm": MLP((7,), norm="layer", start="random"),
    "1-d": Conv((1, 12), channels=(3,), start="random", activation="tanh"),
    "2-d": Conv((2, 2, 3), channels=(3, 4), start="random", activation="gelu"),
}
all_networks = pytest.mark.parametrize(
    "architecture", NETWORKS.values(), ids=NETWORKS.keys()
)
all_codes = pytest.mark.parametrize(
    "bottleneck",
    [Plain(), Plain("sigmoid"), Variational(), TopK(1), FiniteScalar(4)],
    ids=repr,
)


@all_networks
@all_codes
@pytest.mark.parametrize("n_components", [1, 3, 8])
def test_the_cost_of_narrow_codes_is_that_of_the_exact_jacobian(
    architecture, bottleneck, n_components, generator
):
    _, x, code, encode = _given(architecture, bottleneck, n_components, generator)
    penalty = Contractive(0.5)
    cost = penalty.per_sample(x, code, encode, penalty.draw(x.shape, generator))
    torch.testing.assert_close(cost, 0.5 * _squared_norms(encode, x))


@pytest.mark.parametrize(
    ("name", "bottleneck"),
    [
        ("mlp", Plain()),
        pytest.param("layer norm", Plain("sigmoid"), marks=pytest.mark.slow),
        pytest.param("1-d", Plain("tanh"), marks=pytest.mark.slow),
        ("dropout", Variational()),
        pytest.param("2-d", Variational(), marks=pytest.mark.slow),
        pytest.param("mlp", VectorQuantized(8), marks=pytest.mark.slow),
        pytest.param("mlp", TopK(5), marks=pytest.mark.slow),
    ],
)
def test_the_cost_of_wide_codes_is_unbiased(name, bottleneck, generator):
    _, x, code, encode = _given(NETWORKS[name], bottleneck, 10, generator)
    penalty = Contractive(0.5)
    costs = torch.stack(
        [
            penalty.per_sample(x, code, encode, penalty.draw(x.shape, generator))
            for _ in range(300)
        ]
    ).detach()
    error = costs.std(dim=0) / len(costs) ** 0.5
    expected = 0.5 * _squared_norms(encode, x)
    assert ((costs.mean(dim=0) - expected).abs() < 5 * error).all()
    assert (error < 0.2 * expected).all()


@pytest.mark.parametrize("n_components", [3, 10])
def test_the_cost_of_the_jacobian_has_a_gradient_for_every_weight_of_the_encoder(
    n_components, generator
):
    # tanh: a map with a curve in it, so that even biases matter.
    architecture = MLP((7, 6), activation="tanh", start="random")
    module, x, code, encode = _given(architecture, Plain(), n_components, generator)
    penalty = Contractive()
    draw = penalty.draw(x.shape, generator)
    penalty.per_sample(x, code, encode, draw).sum().backward()
    for name, p in module.encoder.named_parameters():
        # The last bias and that of the linear path shift all codes alike.
        moves = name not in {"branch.last.bias", "linear.bias"}
        assert bool(p.grad is not None and p.grad.any()) is moves, name
    assert all(p.grad is None for p in module.decoder.parameters())


@pytest.mark.parametrize("n_components", [3, 10])
def test_the_gradient_of_the_cost_is_that_of_the_jacobian(n_components, generator):
    linear = nn.Linear(4, n_components, dtype=torch.float64)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    penalty = Contractive(0.5)
    gradients = []
    for _ in range(1 if n_components <= 8 else 1000):
        linear.zero_grad()
        draw = penalty.draw(x.shape, generator)
        penalty.per_sample(x, linear(x), linear, draw).sum().backward()
        gradients.append(linear.weight.grad.clone())
    found = torch.stack(gradients).mean(dim=0)
    # Of 0.5 * ||W||^2 for each of six rows.
    expected = 6 * linear.weight.detach()
    spread = expected.square().mean().sqrt().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2 * spread)


def test_a_contractive_code_is_flatter(X):
    def slope(penalty):
        model = AutoencoderTransformer(
            2,
            penalty=penalty,
            scaling="standard",
            max_epochs=30,
            early_stopping=False,
            random_state=0,
        ).fit(X)
        module = model.net_.module_
        x = torch.from_numpy((X[:20] - X.mean(axis=0)) / X.std(axis=0)).float()
        return _squared_norms(module.encode, x).mean()

    assert slope(Contractive(1.0)) < 0.8 * slope(None)


# Decorrelation


@pytest.mark.parametrize("weighted", [False, True])
def test_decorrelation_is_the_sum_of_squared_correlations(weighted, generator):
    code = _codes(generator) @ torch.rand(5, 4, generator=generator).double()
    if weighted:
        weight = torch.randint(1, 5, (20,), generator=generator)
        rows = np.repeat(code.numpy(), weight, axis=0)
        weight = weight.double()
    else:
        rows, weight = code.numpy(), None
    correlation = np.corrcoef(rows.T)
    expected = 0.5 * np.sum(correlation**2 - np.eye(4))
    cost = Decorrelation(0.5).per_batch(code, weight)
    assert cost.item() == pytest.approx(expected)


def test_decorrelation_does_not_see_units(generator):
    code = _codes(generator)
    moved = code * torch.tensor([1e-3, 1.0, 1e3, 2.0, 5.0]) + 10.0
    costs = [Decorrelation().per_batch(c, None) for c in (code, moved)]
    torch.testing.assert_close(*costs)


def test_constant_components_correlate_with_nothing(generator):
    code = _codes(generator)
    with_constant = torch.cat([code, torch.zeros(20, 1)], dim=1).requires_grad_()
    cost = Decorrelation().per_batch(with_constant, None)
    torch.testing.assert_close(cost, Decorrelation().per_batch(code, None))
    (gradient,) = torch.autograd.grad(cost, with_constant)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e3])
def test_equal_rows_cost_nothing(constant):
    code = torch.full((20, 3), constant, requires_grad=True)
    cost = Decorrelation().per_batch(code, None)
    cost.backward()
    assert cost.item() == pytest.approx(0, abs=1e-6)
    assert code.grad.isfinite().all()


# Sums


class Batch(Penalty):
    """A random penalty with a cost of the batch."""

    symmetry = "rotation"

    def draw(self, shape, generator):
        return torch.rand(shape[0], generator=generator)

    def per_sample(self, x, code, encode, draw):
        return draw

    def per_batch(self, code, weight):
        return code.mean(dim=0).square().sum()


def test_a_sum_adds_both_costs_in_any_order(seed, generator):
    code = _codes(generator)
    left, right = L1(0.5), Batch()
    for penalty in (left + right, right + left):
        draw = penalty.draw(code.shape, torch.Generator().manual_seed(seed))
        drawn = right.draw(code.shape, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(
            _cost(penalty, code, draw), _cost(left, code) + drawn
        )
        torch.testing.assert_close(
            penalty.per_batch(code, None), right.per_batch(code, None)
        )


def test_each_part_of_a_sum_has_its_own_draw(generator):
    first, second = (Batch() + Batch()).draw((20, 5), generator)
    assert not torch.equal(first, second)


def test_nested_names_lead_into_sums():
    penalty = L1(0.1) + (L1(0.2) + L1(0.3))
    penalty.set_params(right__left__alpha=9.0)
    assert penalty.right.left.alpha == 9.0
    assert repr(penalty.right) == "Sum(left=L1(alpha=9.0), right=L1(alpha=0.3))"


def test_a_sum_allows_what_both_allow():
    assert (Batch() + Batch()).symmetry == "rotation"
    assert (Batch() + L1()).symmetry == (L1() + Batch()).symmetry == "scaling"
    assert (Batch() + (L1() + Penalty())).symmetry is None
    assert (L1() + KLSparsity()).symmetry == "permutation"


def test_the_domain_of_a_sum_is_the_intersection():
    assert (L1() + KLSparsity()).code_domain == (0, 1)
    assert (KLSparsity() + L1()).code_domain == (0, 1)
    assert (L1() + Decorrelation()).code_domain == (-np.inf, np.inf)


@pytest.mark.parametrize("other", [1, None, Gaussian()], ids=repr)
def test_only_penalties_are_added(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        L1() + other
    with pytest.raises(ValueError, match="'right' parameter of Sum must be"):
        Sum(L1(), other).validate()
