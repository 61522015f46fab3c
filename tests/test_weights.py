"""The weights in one buffer, against torch's own treatment of each parameter."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from skae._gradient.flat_weights import FlatWeights

ADAMS = [
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.Adam, {"fused": False}),
    (torch.optim.AdamW, {"fused": True, "weight_decay": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
]


@pytest.fixture
def module(generator):
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module


@pytest.fixture
def x(generator):
    return torch.randn(20, 4, generator=generator, dtype=torch.float64)


def _flat(module, decay=0.0):
    return FlatWeights(list(module.parameters()), decay)


def _attached(module):
    weights = _flat(module)
    weights.attach_gradient()
    return weights


def _joined(module, what="data"):
    """Return all numbers in the order of the buffer: weights of layers first."""
    parameters = sorted(module.parameters(), key=lambda p: p.ndim < 2)
    return torch.cat([getattr(p, what).flatten() for p in parameters])


def test_weights_keep_their_values_and_become_views(module):
    before = _joined(module).clone()
    weights = _flat(module)
    assert torch.equal(_joined(module), before)
    weights.flat.add_(1.0)
    assert torch.equal(_joined(module), before + 1)
    with torch.no_grad():
        module[0].bias.zero_()
    assert (weights.flat == 0).sum() == module[0].bias.numel()


def test_gradients_arrive_in_the_buffer(module, x):
    reference = deepcopy(module)
    flat = _attached(module).flat
    for network in (module, reference):
        network(x).square().sum().backward()
    assert torch.equal(flat.grad, _joined(reference, "grad"))


def test_forgetting_the_gradient_keeps_the_views(module, x):
    weights = _attached(module)
    flat = weights.flat
    for _ in range(2):
        weights.zero_gradient(None)
        assert not flat.grad.any()
        module(x).sum().backward()
    assert torch.equal(flat.grad, _joined(module, "grad"))


def _assert_same_steps(module, weights, flat, reference, each, x):
    """Check that steps on the buffer and on each parameter lead to the same weights."""
    for _ in range(5):
        weights.zero_gradient(flat)
        each.zero_grad()
        for network in (module, reference):
            network(x).square().sum().backward()
        flat.step()
        each.step()
    torch.testing.assert_close(_joined(module), _joined(reference))


@pytest.mark.parametrize(("optimizer", "kwargs"), ADAMS, ids=str)
def test_one_flat_step_is_a_step_of_each_parameter(optimizer, kwargs, module, x):
    reference = deepcopy(module)
    weights = _attached(module)
    flat = optimizer([weights.flat], lr=0.1, **kwargs)
    each = optimizer(reference.parameters(), lr=0.1, **kwargs)
    _assert_same_steps(module, weights, flat, reference, each, x)


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_clipping_is_that_of_torch(attached, max_norm, module, x):
    reference = deepcopy(module)
    weights = _flat(module)
    if attached:
        weights.attach_gradient()
    for network in (module, reference):
        network(x).square().sum().backward()
    weights.clip_gradient(max_norm)
    nn.utils.clip_grad_norm_(reference.parameters(), max_norm)
    torch.testing.assert_close(_joined(module, "grad"), _joined(reference, "grad"))


def test_the_average_remembers_up_to_its_decay(module, generator):
    weights = _flat(module, decay=0.5)
    weights.start_average()
    expected = weights.flat.detach().clone()
    for step in range(1, 31):
        weights.flat.add_(torch.randn(weights.flat.shape, generator=generator))
        weights.after_step()
        decay = min(0.5, step / (step + 10))
        expected = decay * expected + (1 - decay) * weights.flat
        with weights.averaged():
            torch.testing.assert_close(_joined(module), expected)


def test_averaged_weights_are_lent_only(module):
    weights = _flat(module, decay=0.9)
    weights.start_average()
    start = _joined(module).clone()
    weights.flat.add_(1.0)
    with weights.averaged():
        assert torch.equal(_joined(module), start)
    assert torch.equal(_joined(module), start + 1)


def test_weights_come_back_after_an_error(module):
    weights = _flat(module, decay=0.9)
    weights.start_average()
    weights.flat.add_(1.0)
    trained = _joined(module).clone()
    with pytest.raises(KeyboardInterrupt), weights.averaged():
        raise KeyboardInterrupt
    assert torch.equal(_joined(module), trained)


def test_without_decay_there_is_no_average(module):
    weights = _flat(module, decay=0.0)
    weights.start_average()
    weights.flat.add_(1.0)
    weights.after_step()
    trained = _joined(module).clone()
    with weights.averaged():
        assert torch.equal(_joined(module), trained)


def test_release_gives_every_parameter_its_own_memory(module, x):
    weights = _flat(module)
    weights.attach_gradient()
    module(x).sum().backward()
    before = _joined(module).clone()
    weights.release()
    weights.flat.zero_()
    assert torch.equal(_joined(module), before)
    for p in module.parameters():
        assert p.grad is None
        assert p.untyped_storage().nbytes() == p.numel() * p.element_size()


def test_weight_decay_is_for_the_weights_of_layers_only(module, x):
    reference = deepcopy(module)
    weights = _attached(module)
    decayed, others = (
        [p for _, p in group] for group in weights.groups(None, weight_decay=0.1)
    )
    flat = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=0.1,
        weight_decay=0.1,
    )
    of = {1: [], 2: []}
    for p in reference.parameters():
        of[p.ndim].append(p)
    each = torch.optim.AdamW(
        [{"params": of[2]}, {"params": of[1], "weight_decay": 0.0}],
        lr=0.1,
        weight_decay=0.1,
    )
    _assert_same_steps(module, weights, flat, reference, each, x)


@pytest.mark.parametrize("replace", ["data", "gradient", "no gradient"])
def test_what_replaced_a_view_is_taken_over(replace, module, x):
    weights = _attached(module)
    module(x).square().sum().backward()
    expected = weights.flat.detach().clone(), weights.flat.grad.clone()
    bias = module[0].bias
    if replace == "data":
        bias.data = bias.data + 1
        assert torch.equal(weights.flat, expected[0])
    elif replace == "gradient":
        bias.grad = bias.grad + 1
    else:
        module.zero_grad()
    weights.bind()
    assert torch.equal(weights.flat, _joined(module))
    assert torch.equal(weights.flat.grad, _joined(module, "grad"))
    changed = (
        (weights.flat != expected[0]).sum(),
        (weights.flat.grad != expected[1]).sum(),
    )
    n = bias.numel()
    assert [int(c) for c in changed] == {
        "data": [n, 0],
        "gradient": [0, n],
        "no gradient": [0, int((expected[1] != 0).sum())],
    }[replace]
    weights.flat.zero_()
    assert not bias.any()
