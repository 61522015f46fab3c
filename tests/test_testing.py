"""check_component: passes for valid components, and names the mistake of others."""

import pytest
import torch
from _components import CONCRETE, SETTINGS
from _others import RIGHT, WRONG, Careless, Forgetful, Global, GlobalOfNumpy, Shift
from torch import nn

from skae.anomaly_scores import AnomalyScore
from skae.architectures import MLP, Custom
from skae.corruptions import Gaussian
from skae.penalties import L1
from skae.testing import check_component

# Codes as wide as X, and fits of two epochs, are warned about.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


@pytest.mark.parametrize(
    "component",
    [
        component
        if component in CONCRETE.values()
        else pytest.param(component, marks=pytest.mark.slow)
        for component in SETTINGS
    ],
    ids=repr,
)
def test_public_components_pass(component, monkeypatch):
    stacked = []
    stack = torch.func.stack_module_state
    monkeypatch.setattr(
        torch.func, "stack_module_state", lambda m: stacked.append(m) or stack(m)
    )
    check_component(component)
    # Dropout of torch is drawn from a seed, which cannot differ among stacked models.
    assert bool(stacked) is not isinstance(component, Custom | AnomalyScore)


@pytest.mark.parametrize(("n_features", "n_components"), [(1, 1), (12, 10)])
@pytest.mark.parametrize("component", [MLP(), Gaussian(), L1()], ids=repr)
def test_other_widths_may_be_asked_for(component, n_features, n_components):
    check_component(component, n_features=n_features, n_components=n_components)


# From elsewhere


@pytest.mark.parametrize("component", RIGHT, ids=repr)
def test_components_from_elsewhere_pass(component):
    check_component(component)


@pytest.mark.parametrize(("message", "component"), WRONG.items(), ids=WRONG.keys())
def test_what_is_wrong_is_said(message, component):
    with pytest.raises(AssertionError) as raised:
        check_component(component)
    assert str(raised.value) == f"{component!r}: {message}"


@pytest.mark.parametrize("component", [Global(), GlobalOfNumpy()], ids=repr)
def test_global_generators_must_be_left_alone(component):
    with pytest.raises(AssertionError):
        check_component(component)


def test_a_component_is_a_value():
    with pytest.raises((AssertionError, RuntimeError), match=r"[Cc]annot clone|clone"):
        check_component(Forgetful())
    with pytest.raises(ValueError, match="'size' parameter of Careless must be"):
        check_component(Careless())


def test_a_component_can_be_pickled():
    class Local(Shift):
        pass

    for component in (Local(), Custom(lambda a, b: nn.Linear(a, b), nn.Linear)):
        with pytest.raises(AssertionError, match="it cannot be pickled: define its"):
            check_component(component)


@pytest.mark.parametrize("other", [None, Shift, nn.ReLU(), "L1", 3], ids=repr)
def test_what_is_no_component_is_a_type_error(other):
    with pytest.raises(TypeError, match="check_component takes an instance of"):
        check_component(other)
