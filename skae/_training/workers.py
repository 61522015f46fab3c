"""Processes that train one network together, each on its own rows.

All of them run the same fit. They agree on statistics, average gradients, and take the
decisions of the first one. What they send is sums, samples of rows and gradients.
"""

import os
import pickle
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import numpy as np
import torch
from torch import distributed as c10d

from .._compat.torch import has_own_backend
from ..exceptions import WorkerError

__all__ = ["Workers", "current_workers", "distributed"]

_current = ContextVar("workers", default=None)


class Workers:
    """The processes of a group, as seen by one of them.

    All methods but `seed` are to be called by all of them, in the same order.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup
        For tensors on the CPU and, where networks are on another device, for those.

    Attributes
    ----------
    rank, size : int
        Number of this process, from zero, and of all.
    """

    def __init__(self, group):
        self._group = group
        self.rank, self.size = group.rank(), group.size()

    @property
    def is_first(self):
        """Whether this process is the one that decides."""
        return self.rank == 0

    def seed(self, seed):
        """Return a seed of this process; that of the first one stays as it is."""
        if self.is_first:
            return seed
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def add(self, tensor):
        """Replace a tensor by the sum over all processes, and return it."""
        sent = self._sent(tensor)
        self._call("allreduce", [sent])
        return tensor if sent is tensor else tensor.copy_(sent)

    def sums(self, *numbers):
        """Return sums of numbers, as floats."""
        return self.add(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def copy_first(self, *tensors):
        """Overwrite tensors by those of the first process."""
        for tensor in tensors:
            sent = self._sent(tensor)
            self._call("broadcast", [sent], c10d.BroadcastOptions())
            if sent is not tensor:
                tensor.copy_(sent)

    def of_first(self, value):
        """Return a value of the first process; what the others pass is ignored."""
        data = pickle.dumps(value) if self.is_first else b""
        size = torch.tensor([len(data)])
        self.copy_first(size)
        buffer = _bytes(data, int(size)) if self.is_first else _bytes(b"", int(size))
        self.copy_first(buffer)
        return value if self.is_first else pickle.loads(buffer.numpy().tobytes())

    def of_all(self, value):
        """Return the values of all processes, by their numbers."""
        data = pickle.dumps(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._call("allgather", [sizes], [torch.tensor([len(data)])])
        sizes = [int(size) for size in sizes]
        buffers = [_bytes(b"", max(sizes)) for _ in sizes]
        self._call("allgather", [buffers], [_bytes(data, max(sizes))])
        return [
            pickle.loads(buffer[:size].numpy().tobytes())
            for buffer, size in zip(buffers, sizes, strict=True)
        ]

    @contextmanager
    def agreed(self):
        """Raise what one process raises inside, in all of them."""
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        failures = self.of_all(_portable(failure))
        if failure is not None:
            raise failure
        for rank, other in enumerate(failures):
            if other is not None:
                other.add_note(f"Raised by worker {rank} of {self.size}.")
                raise other

    def _sent(self, tensor):
        """Return a tensor where the group can send it."""
        device = torch.device(tensor.device.type)
        there = device.type == "cpu" or has_own_backend(self._group, device)
        return tensor if there else tensor.cpu()

    def close(self):
        """Leave: what is sent from now on is an error, here and where it is awaited."""
        self._group = None

    def _call(self, name, *args):
        if self._group is None:
            raise WorkerError("The fit was stopped.")
        try:
            getattr(self._group, name)(*args).wait()
        except RuntimeError as error:
            raise WorkerError(
                f"Worker {self.rank} of {self.size} lost the others: one of them died, "
                f"failed, or did not answer in time. ({str(error).splitlines()[0]})"
            ) from error


def _bytes(data, size):
    """Return a tensor that begins with data."""
    buffer = torch.zeros(size, dtype=torch.uint8)
    if data:
        buffer[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return buffer


def _portable(error):
    """Return an error that can be pickled, or None of None."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")
    return error


def current_workers():
    """Return the `Workers` that a fit belongs to, or None where it is alone."""
    return _current.get()


@contextmanager
def distributed(group=None, *, timeout=300.0):
    """Let several processes fit one model, each to its own rows.

    Every process calls ``fit`` inside of the context with the rows that it has. All of
    them return the same model, which is an ordinary one: that of all rows. Start the
    processes with ``torchrun``, or make a process group. Clusters of Dask need none of
    this: :mod:`skae.dask`.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, default=None
        The processes. It must be able to send tensors that are on the CPU, by Gloo for
        example. None is the default group. If there is none, it is made of the
        variables that ``torchrun`` has set, and closed at the end.
    timeout : float, default=300.0
        Seconds after which a process that waits for another one raises an error. It
        must be longer than what one of them may need more than another for a pass over
        its rows. A group that is there already has a time-out of its own.

    Yields
    ------
    workers : object
        With the attributes ``rank``, the number of this process, and ``size``, that of
        processes.

    Raises
    ------
    RuntimeError
        If there is no group, and none of the variables of ``torchrun``.
    skae.exceptions.WorkerError
        By ``fit``, if another process died, or did not answer within the time-out. The
        estimator is then unchanged.

    Notes
    -----
    A script for ``torchrun --nproc-per-node=2 script.py``:

    .. code-block:: python

        import numpy as np
        import skae

        with skae.distributed() as workers:
            X = np.load(f"rows-{workers.rank}.npy", mmap_mode="r")
            model = skae.AutoencoderTransformer(8, random_state=0).fit(X)
        if workers.rank == 0:
            skae.save(model, "model.skae")

    Examples
    --------
    With a group that is there already, here of one process:

    >>> import numpy as np
    >>> import torch.distributed
    >>> import skae
    >>> store = torch.distributed.HashStore()
    >>> torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    >>> X = np.random.default_rng(0).normal(size=(1000, 5))
    >>> with skae.distributed():
    ...     model = skae.AutoencoderTransformer(2, random_state=0).fit(X)
    >>> model.transform(X).shape
    (1000, 2)
    >>> torch.distributed.destroy_process_group()
    """
    made = group is None and not c10d.is_initialized()
    if made:
        if "RANK" not in os.environ:
            raise RuntimeError(
                "skae.distributed() needs several processes: start them with torchrun, "
                "call torch.distributed.init_process_group, or pass group. For a "
                "cluster of Dask, use skae.dask."
            )
        c10d.init_process_group(timeout=timedelta(seconds=timeout))
    workers = Workers(c10d.group.WORLD if group is None else group)
    # The workers alone keep the group, whose connections end with it.
    group = None
    token = _current.set(workers)
    try:
        yield workers
    finally:
        _current.reset(token)
        workers.close()
        if made:
            c10d.destroy_process_group()
