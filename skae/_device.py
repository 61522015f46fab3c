"""Where to compute, and with how many threads."""

from contextlib import contextmanager
from threading import Lock

import torch
from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread", "resolve_device", "threads_for"]

# Multiplications per training step below which a further thread costs more than it
# brings: handing out work takes longer than doing it.
_WORK_PER_THREAD = 2**27


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


_limits: list[threadpool_limits] = []  # one per fit under way, the first of them counts


@contextmanager
def one_blas_thread():
    """Give NumPy one thread, in a worker of joblib as outside of one.

    In which order numbers are summed, and so the last bits of the sum, depends on how
    many threads there are.
    """
    with _lock:
        _limits.append(_limits[0] if _limits else threadpool_limits(1, "blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()
