"""Tests of all components, alone and together."""

import itertools
import pickle

import pytest
import torch
from _components import BASES, CLASSES, CONCRETE, SETTINGS, of_kind
from sklearn.base import clone

from skae._component import Component, weakest
from skae.anomaly_scores import Reconstruction, Scorer, View
from skae.architectures import Architecture
from skae.bottlenecks import Bottleneck
from skae.losses import Loss, SquaredError, Trimmed
from skae.penalties import L1

all_components = pytest.mark.parametrize("component", SETTINGS, ids=repr)


def test_every_public_component_is_tested():
    assert set(CONCRETE) == set(CLASSES) - BASES


@all_components
def test_clone_copies_the_parameters(component):
    copy = clone(component)
    assert copy is not component
    assert repr(copy) == repr(component)


@pytest.mark.parametrize(
    "component", [c for c in SETTINGS if type(c).__name__ != "Custom"], ids=repr
)
def test_repr_is_the_call_that_makes_it(component):
    assert repr(eval(repr(component), dict(CLASSES))) == repr(component)


@all_components
def test_pickle_keeps_the_parameters(component):
    assert repr(pickle.loads(pickle.dumps(component))) == repr(component)


@all_components
def test_these_parameters_are_accepted(component):
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
    with pytest.raises(ValueError, match="'fraction' parameter of Trimmed must be"):
        Trimmed(Trimmed(SquaredError(), 1.0)).validate()


def test_a_component_without_constraints_is_accepted():
    class Free(Component):
        def __init__(self, anything=None):
            self.anything = anything

    Free(object()).validate()


# Modules


def _modules(component, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(component, Architecture):
        return component.build(6, 3, 3, generator)
    return [component.build(3, generator)]


all_builders = pytest.mark.parametrize(
    "component", of_kind((Architecture, Bottleneck), SETTINGS), ids=repr
)


@all_builders
def test_tensors_of_a_module_are_its_parameters_and_buffers(component):
    # Other tensors would not move to another device with the module.
    for module in _modules(component):
        for part in module.modules():
            registered = part._parameters.keys() | part._buffers.keys()
            loose = {
                name
                for name, value in vars(part).items()
                if isinstance(value, torch.Tensor) and name not in registered
            }
            assert not loose
        moved = module.to("meta")
        tensors = itertools.chain(moved.parameters(), moved.buffers())
        assert all(t.is_meta for t in tensors)


@all_builders
def test_a_module_is_built_from_the_generator_alone(component, seed):
    before = torch.get_rng_state()
    first, again = (_modules(component, seed) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for module, same in zip(first, again, strict=True):
        tensors, others = module.state_dict(), same.state_dict()
        assert tensors.keys() == others.keys()
        assert all(torch.equal(t, others[name]) for name, t in tensors.items())


# Symmetries


@pytest.mark.parametrize(
    ("symmetries", "expected"),
    [
        (("rotation", "rotation"), "rotation"),
        (("rotation", "scaling"), "scaling"),
        (("rotation", "permutation"), "permutation"),
        (("scaling", "permutation"), "permutation"),
        (("permutation", None), None),
        (("scaling", None), None),
        (("rotation", None), None),
        (("rotation", "permutation", None), None),
    ],
)
def test_the_weakest_symmetry_in_any_order(symmetries, expected):
    for order in itertools.permutations(symmetries):
        assert weakest(*order) == expected


# Scores


@pytest.mark.parametrize("loss", of_kind(Loss, SETTINGS), ids=repr)
def test_the_reconstruction_score_is_the_loss_per_feature(loss, generator):
    x, raw = torch.rand(2, 20, 5, generator=generator)
    scorer = Reconstruction().build(loss)
    assert isinstance(scorer, Scorer)
    view = View(x, raw, x - loss.inverse_link(raw), x[:, :2], x[:, 0])
    scorer.start(view, view)
    torch.testing.assert_close(scorer(view) * x.shape[1], loss(raw, x))
