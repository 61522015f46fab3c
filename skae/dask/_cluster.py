"""Fits on the workers of a cluster: who has which rows, and what becomes of failures.

A fit is one task on each worker that has rows. The tasks meet at a store that the first
of them holds, at a port that the system has chosen, and connect with each other. So
several fits can run at once, in the same processes.
"""

import time
import warnings
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import dask
import numpy as np
from dask import array as da
from distributed import (
    Client,
    KilledWorker,
    fire_and_forget,
    get_client,
    get_worker,
    secede,
    wait,
)
from distributed.comm import get_address_host
from torch import distributed as c10d

from .._compat.torch import gloo_group
from .._training.workers import distributed
from .._warning import warn_user
from ..exceptions import WorkerError

__all__ = ["cluster_of", "fit_on_cluster", "is_frame", "is_lazy", "whole_rows"]

# Seconds between two looks at the workers, and how long a fit that has failed waits for
# the error that was the first.
_PATIENCE = 1.0
_LAST_WORDS = 5.0
# Fits on this worker, by their names.
_running: dict[str, object] = {}


class _Meeting:
    """Where the processes of a fit find each other; a copy of it is a guest there.

    Parameters
    ----------
    host : str
    port : int
        0 opens it, at a port that is free.
    """

    def __init__(self, host, port, timeout):
        self._host, self._timeout = host, timeout
        self._store = c10d.TCPStore(
            host,
            port,
            is_master=port == 0,
            timeout=timedelta(seconds=timeout),
            wait_for_workers=False,
        )

    def __reduce__(self):
        return _Meeting, (self._host, self._store.port, self._timeout)

    def group(self, host, rank, size):
        """Return a group of processes, of which this one is at ``host``."""
        if self._store.add(f"rank {rank}", 1) > 1:
            # Dask starts tasks again whose worker was lost.
            raise WorkerError(f"Worker {rank} of {size} was started anew.")
        try:
            return gloo_group(self._store, host, rank, size, self._timeout)
        except RuntimeError as error:
            raise WorkerError(
                f"Worker {rank} of {size} did not meet the others within "
                f"timeout={self._timeout:g} seconds. ({str(error).splitlines()[0]})"
            ) from error


def _open_meeting(timeout):
    return _Meeting(_own_host(), 0, timeout)


def _own_host():
    return get_address_host(get_worker().address)


def _fit_here(name, model, rank, size, meeting, parts, X_val):
    """Fit as one of several workers; return the model and its warnings."""
    # So that other tasks, those of another fit for example, can begin.
    secede()
    X, weight = _concatenated(parts)
    if rank and X_val is not None:
        X_val = X_val[:0]
    with (
        warnings.catch_warnings(record=True) as caught,
        distributed(meeting.group(_own_host(), rank, size)) as workers,
    ):
        warnings.simplefilter("always")
        _running[name] = workers
        try:
            model.fit(X, sample_weight=weight, X_val=X_val)
        finally:
            del _running[name]
    said = [(str(warning.message), warning.category) for warning in caught]
    return (model, said) if rank == 0 else None


def _stop(name):
    """Let a fit on this worker end with an error."""
    if name in _running:
        _running[name].close()


def _concatenated(parts):
    """Return the rows of some partitions, and their weights or None."""
    tables, weights = zip(*parts, strict=True)
    if hasattr(tables[0], "iloc"):
        import pandas as pd

        X = pd.concat(tables)
    else:
        X = np.concatenate(tables)
    return X, None if weights[0] is None else np.concatenate(weights)


def cluster_of(client):
    """Return a client of a cluster: the given one, or that which Dask uses."""
    client = get_client() if client is None else client
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(
            "client must be a distributed.Client that is not asynchronous. Got "
            f"{client!r}."
        )
    return client


def is_frame(X):
    """Return whether a table is a data frame of Dask."""
    return dask.is_dask_collection(X) and hasattr(X, "map_partitions")


def is_lazy(X):
    """Return whether a table is an array or a data frame of Dask."""
    return isinstance(X, da.Array) or is_frame(X)


def whole_rows(X):
    """Return an array whose blocks have all columns; data frames as they are."""
    if is_frame(X) or X.ndim != 2 or X.numblocks[1] == 1:
        return X
    return X.rechunk({1: -1})


def fit_on_cluster(model, client, timeout, X, sample_weight=None, X_val=None):
    """Fit a model where the partitions of the rows are.

    Parameters
    ----------
    model : BaseAutoencoder
        An estimator that is not one of Dask.
    client : distributed.Client
    timeout : float
    X : dask Array or DataFrame
    sample_weight : dask Array or Series, default=None
    X_val : array-like, default=None

    Returns
    -------
    BaseAutoencoder
        The same, fitted.
    """
    try:
        return _fit_on_cluster(model, client, timeout, X, sample_weight, X_val)
    except CancelledError as error:
        # So Dask ends what depends on rows that were lost with a worker.
        raise WorkerError(
            "A worker died that had rows of X, or the fit was cancelled."
        ) from error


def _fit_on_cluster(model, client, timeout, X, sample_weight, X_val):
    parts = client.compute(_partitions(X, sample_weight))
    wait(parts)
    for part in parts:
        if part.status == "error":
            part.result()  # raises it
    held = _by_worker(client, parts)
    name, size = f"skae-fit-{uuid4()}", len(held)
    where = {"allow_other_workers": False, "pure": False, "retries": 0}
    first = next(iter(held))
    meeting = client.submit(_open_meeting, timeout, workers=[first], **where)
    futures = {
        address: client.submit(
            _fit_here,
            name,
            model,
            rank,
            size,
            meeting,
            of_worker,
            X_val,
            key=f"{name}-{rank}",
            workers=[address],
            **where,
        )
        for rank, (address, of_worker) in enumerate(held.items())
    }
    try:
        model, said = _result(client, futures)
    except BaseException:
        client.cancel(list(futures.values()), force=True)
        # Not by `client.run`, which waits for workers that do not answer.
        for address in held.keys() & client.nthreads().keys():
            stop = client.submit(_stop, name, workers=[address], **where)
            fire_and_forget(stop)
        raise
    for message, category in said:
        warn_user(message, category)
    return model


def _partitions(X, sample_weight):
    """Return the partitions of rows, each with that of the weights or None."""
    X = whole_rows(X)
    parts = X.to_delayed().ravel() if isinstance(X, da.Array) else X.to_delayed()
    weights = [None] * len(parts)
    if sample_weight is not None:
        if not is_lazy(sample_weight):
            raise TypeError(
                "sample_weight must be an array or a series of Dask, with partitions "
                f"like those of X. Got {type(sample_weight).__name__}."
            )
        if isinstance(X, da.Array) and isinstance(sample_weight, da.Array):
            known = not np.isnan([*X.chunks[0], *sample_weight.chunks[0]]).any()
            if known and len(X) == len(sample_weight):
                sample_weight = sample_weight.rechunk((X.chunks[0],))
        weights = sample_weight.to_delayed()
        weights = list(weights.ravel() if hasattr(weights, "ravel") else weights)
        if len(weights) != len(parts):
            raise ValueError(
                f"sample_weight has {len(weights)} partitions, but X has {len(parts)}: "
                "both must have the same."
            )
    return [
        dask.delayed(_pair)(*pair, dask_key_name=f"skae-rows-{uuid4()}")
        for pair in zip(parts, weights, strict=True)
    ]


def _pair(X, weight):
    return X, weight


def _by_worker(client, parts):
    """Return the partitions that each worker holds, by its address."""
    held = {}
    who_has = client.who_has(parts)
    for part in parts:
        addresses = who_has[part.key]
        if not addresses:
            raise WorkerError("A worker died that had rows of X.")
        # Of several copies, the one on the worker that has the fewest partitions.
        address = min(addresses, key=lambda a: (len(held.get(a, ())), a))
        held.setdefault(address, []).append(part)
    return held


def _result(client, futures):
    """Return what the first worker returns, when all of them are done."""
    pending = list(futures.values())
    failed_at = None
    while pending:
        with suppress(TimeoutError):
            wait(pending, timeout=_PATIENCE, return_when="FIRST_COMPLETED")
        failures = [f.exception() for f in futures.values() if f.status == "error"]
        own = [e for e in failures if not isinstance(e, WorkerError | KilledWorker)]
        if own:
            raise own[0]
        if failures:
            failed_at = failed_at or time.monotonic()
        pending = [f for f in pending if not f.done()]
        lost = [a for a, f in futures.items() if f in pending]
        lost = [a for a in lost if a not in client.nthreads()]
        if lost:
            raise WorkerError(f"Worker {lost[0]} died during the fit.")
        if any(f.status in ("cancelled", "lost") for f in futures.values()):
            raise CancelledError
        if failures and (not pending or time.monotonic() - failed_at > _LAST_WORDS):
            raise WorkerError(str(failures[0])) from failures[0]
    return next(iter(futures.values())).result()
