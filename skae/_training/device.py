"""Where to compute, and with how many threads."""

from contextlib import contextmanager
from functools import cache
from threading import Lock

import torch
from threadpoolctl import ThreadpoolController
from torch import nn

__all__ = ["multiplications", "one_blas_thread", "resolve_device", "threads_for"]

# Multiplications of a forward pass over a batch that are worth a thread. A second one
# then brings a factor of 1.5 to 1.8 where a core is free; where none is, the two take
# several times as long as one, the more so the less there is to do.
_WORK_PER_THREAD = 2**24

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def resolve_device(device):
    """Return the name of a device that is there.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"``, or what :class:`torch.device` understands.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such device, on this machine or at all.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    accepted = "'auto', 'cpu', 'cuda', 'cuda:<index>' or 'mps'"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The 'device' parameter must be {accepted}. Got {device!r} instead."
        ) from error
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= n_devices:
            raise ValueError(
                f"device={device!r} was asked for, but torch finds {n_devices} CUDA "
                "devices on this machine. Accepted here: 'cpu' or 'auto'"
                + (f", 'cuda:0' to 'cuda:{n_devices - 1}'." if n_devices else ".")
            )
    elif resolved.type == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError(
                f"device={device!r} was asked for, but torch finds no Metal device on "
                "this machine. Accepted here: 'cpu' or 'auto'."
            )
    elif resolved.type != "cpu":
        raise ValueError(
            f"The 'device' parameter must be {accepted}. Got {device!r} instead."
        )
    return str(resolved)


@torch.no_grad()
def multiplications(module, x):
    """Return about how many multiplications a module takes for each row.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    x : Tensor of shape (n_samples, n_features)
        Rows, the first of which is passed through.
    """
    count = sum(p.numel() for p in module.parameters())
    kernels = [m for m in module.modules() if isinstance(m, _CONVOLUTIONS)]
    if not kernels:
        return count

    def add(kernel, inputs, output):
        # Each number of a kernel is used once for each place of the smaller image.
        nonlocal count
        places = min(inputs[0][0, 0].numel(), output[0, 0].numel())
        count += kernel.weight.numel() * (places - 1)

    handles = [kernel.register_forward_hook(add) for kernel in kernels]
    try:
        module(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return count


_lock = Lock()
_inside: list[int] = []  # thread counts to go back to, one per fit under way


@contextmanager
def threads_for(work):
    """Use as many of torch's threads as ``work`` multiplications per step are worth.

    The count is in part global: of fits that overlap in several threads, all go back
    to what the first one found.
    """
    with _lock:
        before = _inside[0] if _inside else torch.get_num_threads()
        _inside.append(before)
    torch.set_num_threads(max(1, min(before, work // _WORK_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        with _lock:
            _inside.pop()


_limits: list = []  # one per fit under way, the first of them counts


@cache
def _blas():
    # Finding the libraries takes as long as training a small table for an epoch. Those
    # of NumPy and SciPy are there since this package was imported.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread():
    """Give NumPy one thread, in a worker of joblib as outside of one.

    In which order numbers are summed, and so the last bits of the sum, depends on how
    many threads there are.
    """
    with _lock:
        _limits.append(_limits[0] if _limits else _blas().limit(limits=1))
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()
