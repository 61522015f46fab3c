"""Corruptions, penalties, losses, bottlenecks and scores, and what all parts share."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import (
    anomaly_scores,
    architectures,
    bottlenecks,
    corruptions,
    losses,
    penalties,
)
from skae._component import Component, weakest
from skae.anomaly_scores import Reconstruction
from skae.bottlenecks import Plain
from skae.corruptions import Gaussian
from skae.losses import SquaredError
from skae.penalties import L1, Penalty, Sum

MODULES = [anomaly_scores, architectures, bottlenecks, corruptions, losses, penalties]
CLASSES = {name: getattr(module, name) for module in MODULES for name in module.__all__}
# Those that cannot be built without arguments.
ARGUMENTS = {"Sum": {"left": L1(0.1), "right": L1(0.2)}}
CONCRETE = {
    name: cls(**ARGUMENTS.get(name, {}))
    for name, cls in CLASSES.items()
    if not cls.__abstractmethods__ and Component not in cls.__bases__
}
all_components = pytest.mark.parametrize(
    "component", CONCRETE.values(), ids=CONCRETE.keys()
)
all_corruptions = pytest.mark.parametrize(
    "corruption",
    [c for c in CONCRETE.values() if isinstance(c, corruptions.Corruption)],
    ids=repr,
)
all_penalties = pytest.mark.parametrize(
    "penalty", [c for c in CONCRETE.values() if isinstance(c, Penalty)], ids=repr
)
all_losses = pytest.mark.parametrize(
    "loss", [c for c in CONCRETE.values() if isinstance(c, losses.Loss)], ids=repr
)


def _rows(generator, n_rows=20, n_columns=5):
    # Within [0, 1], which every loss accepts.
    return torch.rand(n_rows, n_columns, generator=generator, dtype=torch.float64)


# What all parts share


@all_components
def test_clone_copies_the_parameters(component):
    copy = clone(component)
    assert copy is not component
    assert repr(copy) == repr(component)


@all_components
def test_repr_is_the_call_that_makes_it(component):
    assert repr(eval(repr(component), dict(CLASSES))) == repr(component)


@all_components
def test_pickle_keeps_the_parameters(component):
    assert repr(pickle.loads(pickle.dumps(component))) == repr(component)


@all_components
def test_default_parameters_are_accepted(component):
    component.validate()


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name, component in CONCRETE.items()
        for parameter in component.get_params(deep=False)
    ],
)
def test_an_error_names_component_and_parameter(name, parameter):
    component = clone(CONCRETE[name]).set_params(**{parameter: object()})
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of {name} must be"):
        component.validate()


def test_nested_components_are_validated():
    with pytest.raises(ValueError, match="'alpha' parameter of L1 must be"):
        (L1() + (L1() + L1(-1.0))).validate()


def test_a_component_without_constraints_is_accepted():
    class Free(Component):
        def __init__(self, anything=None):
            self.anything = anything

    Free(object()).validate()


# Symmetries


@pytest.mark.parametrize(
    ("symmetries", "expected"),
    [
        (("rotation", "rotation"), "rotation"),
        (("rotation", "permutation"), "permutation"),
        (("permutation", None), None),
        (("rotation", None), None),
        (("rotation", "permutation", None), None),
    ],
)
def test_the_weakest_symmetry_in_any_order(symmetries, expected):
    for order in itertools.permutations(symmetries):
        assert weakest(*order) == expected


# Losses


def test_squared_error_is_a_normal_likelihood(generator):
    x, raw = _rows(generator), _rows(generator)
    likelihood = torch.distributions.Normal(raw, 1.0).log_prob(x).sum(dim=1)
    constant = x.shape[1] / 2 * np.log(2 * np.pi)
    torch.testing.assert_close(SquaredError()(raw, x), -likelihood - constant)


@all_losses
def test_a_loss_is_per_row_and_a_sum_over_features(loss, generator):
    x, raw = _rows(generator), _rows(generator)
    per_row = loss(raw, x)
    assert per_row.shape == (len(x),)
    one_by_one = sum(loss(raw[:, [j]], x[:, [j]]) for j in range(x.shape[1]))
    torch.testing.assert_close(per_row, one_by_one)


@all_losses
def test_a_loss_is_smallest_where_the_link_gives_the_row(loss, generator):
    x = _rows(generator)
    raw = x.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss(raw, x).sum()
        total.backward()
        return total

    optimizer.step(closure)
    torch.testing.assert_close(loss.inverse_link(raw), x, rtol=0, atol=1e-3)


# Corruptions


@all_corruptions
def test_a_corruption_leaves_the_rows_alone(corruption, generator):
    x = _rows(generator).float()
    before = x.clone()
    corrupted = corruption(x, corruption.draw(x.shape, generator))
    assert corrupted.shape == x.shape
    assert torch.equal(x, before)
    assert not torch.equal(corrupted, before)


@all_corruptions
def test_draws_come_from_the_generator_alone(corruption, seed):
    before = torch.get_rng_state()
    x = torch.ones(20, 5)
    first, second = (
        corruption(x, corruption.draw(x.shape, torch.Generator().manual_seed(seed)))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_gaussian_noise_of_no_strength_changes_nothing(generator):
    x = _rows(generator)
    corruption = Gaussian(0.0)
    assert torch.equal(corruption(x, corruption.draw(x.shape, generator)), x)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_gaussian_noise_is_centred_with_its_scale(scale, generator):
    x = torch.full((100_000, 2), 5.0)
    corruption = Gaussian(scale)
    noise = corruption(x, corruption.draw(x.shape, generator)) - x
    error = scale / len(x) ** 0.5
    assert noise.mean(dim=0).abs().max() < 5 * error
    assert (noise.std(dim=0) - scale).abs().max() < 5 * error
    assert torch.corrcoef(noise.T)[0, 1].abs() < 5 / len(x) ** 0.5


# Penalties


def _price(penalty, code, draw=None):
    return penalty.per_sample(None, code, None, draw)


@all_penalties
def test_prices_have_their_shapes(penalty, generator):
    x = _rows(generator)

    def encode(x):
        return x[:, :3] ** 2

    draw = penalty.draw(x.shape, generator)
    per_sample = penalty.per_sample(x, encode(x), encode, draw)
    assert isinstance(per_sample, int) or per_sample.shape == (len(x),)
    per_batch = penalty.per_batch(encode(x), None)
    assert isinstance(per_batch, int) or per_batch.shape == ()


def test_l1_is_the_scaled_norm(generator):
    code = _rows(generator) - 0.5
    expected = 0.3 * torch.linalg.vector_norm(code, ord=1, dim=1)
    torch.testing.assert_close(_price(L1(0.3), code), expected)


def test_l1_of_no_strength_is_free(generator):
    assert not _price(L1(0.0), _rows(generator)).any()


class Batch(Penalty):
    """Charges the batch, and draws."""

    symmetry = "rotation"

    def draw(self, shape, generator):
        return torch.rand(shape[0], generator=generator)

    def per_sample(self, x, code, encode, draw):
        return draw

    def per_batch(self, code, weight):
        return code.mean(dim=0).square().sum()


def test_a_sum_charges_both_whatever_their_order(seed, generator):
    code = _rows(generator)
    left, right = L1(0.5), Batch()
    for penalty in (left + right, right + left):
        draw = penalty.draw(code.shape, torch.Generator().manual_seed(seed))
        drawn = right.draw(code.shape, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(
            _price(penalty, code, draw), _price(left, code) + drawn
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
    assert (Batch() + L1()).symmetry == (L1() + Batch()).symmetry == "permutation"
    assert (Batch() + (L1() + Penalty())).symmetry is None


@pytest.mark.parametrize("other", [1, None, Gaussian()], ids=repr)
def test_only_penalties_are_added(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        L1() + other
    with pytest.raises(ValueError, match="'right' parameter of Sum must be"):
        Sum(L1(), other).validate()


# Bottlenecks and scores


def test_the_plain_bottleneck_hands_on_for_free(generator):
    h = _rows(generator)
    code, cost = Plain().build(h.shape[1])(h)
    assert torch.equal(code, h)
    assert torch.equal(cost, torch.zeros(len(h), dtype=h.dtype))


@all_losses
def test_the_reconstruction_score_is_the_loss_per_feature(loss, generator):
    x, raw = _rows(generator), _rows(generator)
    score = Reconstruction().build(loss)(x, raw, None)
    torch.testing.assert_close(score * x.shape[1], loss(raw, x))
