"""Where to compute, and with how many threads."""

import pickle

import numpy as np
import pytest
import torch
from skorch.exceptions import DeviceWarning
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from skae import AutoencoderTransformer
from skae._training.device import (
    multiplications,
    one_blas_thread,
    resolve_device,
    threads_for,
)

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")


@pytest.fixture
def n_devices(monkeypatch, request):
    """Pretend that the machine has as many CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")], ids=repr)
def test_the_processor_is_always_there(device):
    assert resolve_device(device) == "cpu"


@pytest.mark.parametrize(
    ("n_devices", "expected"), [(0, "cpu"), (2, "cuda")], indirect=["n_devices"]
)
def test_auto_takes_what_there_is(n_devices, expected):
    assert resolve_device("auto") == expected


@pytest.mark.parametrize("n_devices", [2], indirect=True)
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1", torch.device("cuda:1")])
def test_a_device_that_is_there_is_taken(n_devices, device):
    assert resolve_device(device) == str(device)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cpu0", "meta", "xpu"])
def test_an_unknown_device_is_named_with_what_is_accepted(device):
    message = rf"'device' parameter must be 'auto', 'cpu'.*Got '{device}' instead"
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


@pytest.mark.parametrize(
    ("n_devices", "device", "accepted"),
    [
        (0, "cuda", "'cpu' or 'auto'."),
        (0, "cuda:7", "'cpu' or 'auto'."),
        (2, "cuda:7", "'cuda:0' to 'cuda:1'"),
        (2, "cuda:2", "'cuda:0' to 'cuda:1'"),
    ],
    indirect=["n_devices"],
)
def test_a_missing_device_is_named_with_those_that_are_there(
    n_devices, device, accepted
):
    message = rf"device='{device}' was asked for, but torch finds {n_devices} CUDA.*"
    with pytest.raises(ValueError, match=message + accepted):
        resolve_device(device)


def test_missing_metal_is_named(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match="device='mps' was asked for, but torch finds no"
    ):
        resolve_device("mps")


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_work_is_counted_as_torch_counts_it(dim, transposed):
    name = f"Conv{'Transpose' if transposed else ''}{dim}d"
    side, channels = 8, 3
    module = nn.Sequential(
        nn.Unflatten(1, (channels, *[side] * dim)),
        getattr(nn, name)(channels, 4, 2, stride=2, bias=False),
        nn.Flatten(),
        nn.LazyLinear(5, bias=False),
    )
    x = torch.zeros(2, channels * side**dim)
    module(x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x[:1])
    flops = counter.get_total_flops()  # a product and a sum for each multiplication
    assert multiplications(module, x) == flops / 2
    assert not any(m._forward_hooks for m in module.modules())


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("work", "n_threads"), [(0, 1), (1000, 1), (2**25, 2), (2**40, 4)]
)
def test_threads_are_as_many_as_the_work_is_worth(work, n_threads):
    with threads_for(work):
        assert torch.get_num_threads() == n_threads
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_threads_are_given_back_after_an_error():
    with pytest.raises(RuntimeError, match="on purpose"), threads_for(0):
        raise RuntimeError("on purpose")
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_fits_that_overlap_all_go_back_to_what_the_first_found():
    first, second = threads_for(0), threads_for(2**25)
    first.__enter__()
    second.__enter__()
    assert torch.get_num_threads() == 2
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("n_devices", [0], indirect=True)
def test_a_pickle_from_cuda_opens_without_it(X, n_devices):
    # As if it had been fitted there: the device is in the state, and what holds tensors
    # is pickled so that it can be mapped to another one.
    model = AutoencoderTransformer(2, random_state=0).fit(X)
    code = model.transform(X)
    model.net_.device = "cuda"
    with pytest.warns(DeviceWarning):
        opened = pickle.loads(pickle.dumps(model))
    assert opened.device_ == "cpu"
    np.testing.assert_array_equal(opened.transform(X), code)


def _blas_threads():
    return {
        pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
    }


def test_numpy_gets_its_threads_back_when_the_last_fit_ends():
    with threadpool_limits(2, "blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert _blas_threads() == {1}
        second.__exit__(None, None, None)
        assert _blas_threads() == {2}
