"""Device and number of threads of the computations."""

from contextlib import contextmanager
from functools import cache
from threading import Lock, get_ident

import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from .._global_state import at_interrupt

__all__ = ["multiplications", "one_blas_thread", "resolve_device", "threads_for"]

# Multiplications in a forward pass of a batch for which one thread is used. With twice
# as many, a second thread brings a factor of 1.5 to 1.8 if a core is free. If none is,
# two threads take several times as long as one, and more so for less work.
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
    """Return the name of an available device.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` for CUDA if available and else the CPU, or a device of
        :class:`torch.device`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the device is unknown or not available on this machine.
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
    """Return the approximate number of multiplications of a module per row.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    x : Tensor of shape (n_samples, n_features)
        Rows. The first one is passed through the module if it has convolutions.

    Returns
    -------
    int
    """
    count = sum(p.numel() for p in module.parameters())
    kernels = [m for m in module.modules() if isinstance(m, _CONVOLUTIONS)]
    if not kernels:
        return count

    def add(kernel, inputs, output):
        # Each weight of a kernel is used once per position of the smaller image.
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


class _Threads:
    """A number of threads that is changed while any fit is in progress.

    It is partly global. If several fits run at the same time in threads, the last one
    to end restores what the first one found. An interrupt may come between any two
    steps: what is to be restored is noted before it is changed, and restoring it twice
    does no harm.
    """

    def __init__(self):
        self._lock = Lock()
        self._before = None
        self._running = {}
        at_interrupt(self._restore_in_this_thread)

    def limit(self, fit, read, restore):
        """Note what to restore, until `restore` is called with the same fit.

        Returns
        -------
        object
            What the first of the fits in progress has read.
        """
        with self._lock:
            if not self._running:
                self._before = read()
            self._running[fit] = get_ident(), restore
            return self._before

    def restore(self, fit):
        """End a fit."""
        with self._lock:
            if fit not in self._running:
                return
            _, restore = self._running[fit]
            restore(self._before, last=len(self._running) == 1)
            del self._running[fit]

    def _restore_in_this_thread(self):
        for fit, (thread, _) in list(self._running.items()):
            if thread == get_ident():
                self.restore(fit)


_of_torch, _of_blas = _Threads(), _Threads()


@contextmanager
def threads_for(work):
    """Limit the threads of torch to a number suited to the work per step.

    Parameters
    ----------
    work : int
        Multiplications per step.
    """
    # In each thread torch has a number of its own, besides the common one.
    fit = object()
    before = _of_torch.limit(
        fit, torch.get_num_threads, lambda n, last: torch.set_num_threads(n)
    )
    try:
        torch.set_num_threads(max(1, min(before, work // _WORK_PER_THREAD)))
        yield
    finally:
        _of_torch.restore(fit)


@cache
def _blas():
    # Cached, because finding the libraries takes as long as an epoch on a small table.
    # Those of NumPy and SciPy have been loaded since this package was imported.
    return ThreadpoolController().select(user_api="blas").lib_controllers


def _numbers():
    return [library.get_num_threads() for library in _blas()]


def _set_numbers(numbers, last=True):
    if last:
        for library, number in zip(_blas(), numbers, strict=True):
            library.set_num_threads(number)


@contextmanager
def one_blas_thread():
    """Limit the BLAS libraries of NumPy and SciPy to one thread.

    The order of summation, and with it the last bits of a sum, depends on the number of
    threads. With one thread results are the same inside and outside of joblib workers.
    """
    fit = object()
    before = _of_blas.limit(fit, _numbers, _set_numbers)
    try:
        _set_numbers([1] * len(before))
        yield
    finally:
        _of_blas.restore(fit)
