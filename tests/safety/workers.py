"""Fits of several processes on a cluster of Dask, under faults.

Workers are killed or stopped at random times, have rows that are refused, or none; fits
are cancelled, or run two at a time. Each fit must end, with the model that it has
without a fault or with an error that has a name, and leave the estimator as it was if
it is an error. The next fit on the same cluster must work.

    python tests/safety/workers.py [--fits 50] [--seed 0]
"""

import argparse
import os
import signal
import threading
import time
import warnings
from collections import Counter

import dask.array as da
import numpy as np
import torch
from distributed import Client, Future, LocalCluster
from sklearn.datasets import load_digits

from skae.dask import AutoencoderTransformer
from skae.exceptions import WorkerError

X = load_digits().data
# Seconds that workers wait for each other; and after which a fit counts as hanging.
TIMEOUT, HANGS = 10, 120
PARAMETERS = {
    "n_components": 4,
    "max_epochs": 100,
    "early_stopping": False,
    "timeout": TIMEOUT,
    "random_state": 0,
}


def digest(model):
    """Return the weights of a fitted model."""
    tensors = model.net_.module_.state_dict().values()
    return np.concatenate([tensor.numpy().ravel() for tensor in tensors])


def rows_on(client, tables):
    """Return an array of which each worker holds a table."""
    workers = sorted(client.nthreads())
    parts = []
    for worker, table in zip(workers, tables, strict=True):
        future = client.scatter(table, workers=[worker], hash=False)
        parts.append(da.from_delayed(future, table.shape, table.dtype))
    return da.concatenate(parts)


class Fit(threading.Thread):
    """A fit in a thread, and what became of it."""

    def __init__(self, rows):
        super().__init__(daemon=True)
        self.model = AutoencoderTransformer(**PARAMETERS)
        self.rows, self.error = rows, None
        self.start()

    def run(self):
        try:
            self.model.fit(self.rows)
        except BaseException as error:
            self.error = error


def killed(client, rng, signum):
    """Send a signal to a worker at a random time of a fit."""
    pids = list(client.run(os.getpid).values())
    fit = Fit(rows_on(client, [X[:600], X[600:]]))
    time.sleep(rng.uniform(0, 2))
    pid = pids[rng.integers(2)]
    os.kill(pid, signum)
    fit.join(HANGS)
    if signum == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
    return [fit]


def kill(client, rng):
    return killed(client, rng, signal.SIGKILL)


def stop(client, rng):
    return killed(client, rng, signal.SIGSTOP)


def wrong_rows(client, rng):
    table = X[600:].copy()
    table[rng.integers(len(table)), rng.integers(64)] = np.inf
    return [Fit(rows_on(client, [X[:600], table]))]


def no_rows(client, rng):
    return [Fit(rows_on(client, [X, X[:0]]))]


def two_at_once(client, rng):
    rows = rows_on(client, [X[:600], X[600:]])
    return [Fit(rows), Fit(rows)]


def cancelled(client, rng):
    fit = Fit(rows_on(client, [X[:600], X[600:]]))
    time.sleep(rng.uniform(0, 2))
    keys = client.run_on_scheduler(_keys)
    client.cancel([Future(key, client=client) for key in keys], force=True)
    return [fit]


def _keys(dask_scheduler):
    return [key for key in dask_scheduler.tasks if str(key).startswith("skae-fit-")]


# The one that leaves a single worker comes last.
FAULTS = wrong_rows, no_rows, two_at_once, cancelled, stop, kill


def judged(fit, fault, expected):
    """Return what became of a fit, in words."""
    if fit.is_alive():
        return "hangs"
    if fit.error is None:
        found = digest(fit.model)
        known = expected.setdefault(fault is no_rows, found)
        return "the model" if np.array_equal(found, known) else "another model"
    if set(vars(fit.model)) != set(fit.model.get_params(deep=False)):
        return "half fitted"
    if isinstance(fit.error, WorkerError | ValueError):
        return type(fit.error).__name__
    return f"unnamed: {fit.error!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    counts, longest, n_fits, expected = Counter(), 0.0, 0, {}
    while n_fits < args.fits:
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            # Imports take longer than a fit.
            Fit(rows_on(client, [X[:600], X[600:]])).join(HANGS)
            for fault in FAULTS:
                begin = time.monotonic()
                for fit in fault(client, rng):
                    fit.join(HANGS)
                    seconds = time.monotonic() - begin
                    what = judged(fit, fault, expected)
                    n_fits, longest = n_fits + 1, max(longest, seconds)
                    counts[what] += 1
                    print(f"{n_fits:3} {fault.__name__:12} {seconds:6.1f} s  {what}")
                again = Fit(da.from_array(X, chunks=(600, 64)))
                again.join(HANGS)
                works = again.error is None and not again.is_alive()
                counts["next fit works" if works else "next fit fails"] += 1
    print(f"{n_fits} fits: {dict(counts)}; the longest took {longest:.0f} s")


if __name__ == "__main__":
    main()
