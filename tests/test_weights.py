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


def _joined(module, what="data"):
    return torch.cat([getattr(p, what).flatten() for p in module.parameters()])


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
    flat = _flat(module).attach_gradient()
    for network in (module, reference):
        network(x).square().sum().backward()
    assert torch.equal(flat.grad, _joined(reference, "grad"))


def test_forgetting_the_gradient_keeps_the_views(module, x):
    weights = _flat(module)
    flat = weights.attach_gradient()
    for _ in range(2):
        weights.zero_gradient(None)
        assert not flat.grad.any()
        module(x).sum().backward()
    assert torch.equal(flat.grad, _joined(module, "grad"))


@pytest.mark.parametrize(("optimizer", "kwargs"), ADAMS, ids=str)
def test_one_flat_step_is_a_step_of_each_parameter(optimizer, kwargs, module, x):
    reference = deepcopy(module)
    weights = _flat(module)
    flat = optimizer([weights.attach_gradient()], lr=0.1, **kwargs)
    each = optimizer(reference.parameters(), lr=0.1, **kwargs)
    for _ in range(5):
        weights.zero_gradient(flat)
        each.zero_grad()
        for network in (module, reference):
            network(x).square().sum().backward()
        flat.step()
        each.step()
    torch.testing.assert_close(_joined(module), _joined(reference))


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
