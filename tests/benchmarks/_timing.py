"""Timing of things beside each other, in processes that keep to some of the cores.

And what is timed: rows, and the same network written by hand and in skae.
"""

import copy
import gc
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.exceptions import FitWarning

LR = 1e-3
# Epochs without a lower error on held-out rows, after which training stops.
PATIENCE = 15


def random_rows(n_samples, n_features, rank=16):
    """Return correlated rows, float32: of low rank with noise."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((rank, n_features), dtype=np.float32)
    X = rng.standard_normal((n_samples, rank), dtype=np.float32) @ loadings
    X += rng.standard_normal(X.shape, dtype=np.float32)
    return X / np.float32(np.sqrt(rank + 1))


def half_network(widths):
    """Return layers with ReLU between them, the last one linear."""
    layers = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return layers[:-1]


def network(n_features, hidden, n_components):
    """Return an autoencoder as one would write it by hand."""
    widths = [n_features, *hidden, n_components]
    return nn.Sequential(*half_network(widths), *half_network(widths[::-1]))


def train_bare(model, x, batch_size, epochs, lr=LR):
    """Train in a loop without anything that it does not need: rows in one tensor."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        train_epoch(model, optimizer, x, batch_size)


def train_epoch(model, optimizer, x, batch_size):
    """Take a step with each of the batches that the rows are divided into."""
    for index in torch.randperm(len(x), device=x.device).split(batch_size):
        batch = x.index_select(0, index)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(batch), batch).backward()
        optimizer.step()


def train_by_hand(train, held_out, hidden, n_components, batch_size, max_epochs=1000):
    """Train a network of textbooks until its held-out error no longer falls.

    Returns
    -------
    model : callable
        With the weights of its best epoch: returns reconstructed rows.
    seconds : ndarray of shape (n_epochs,)
        To the end of each epoch; the time to measure errors is not counted.
    errors : ndarray of shape (n_epochs,)
        Mean squared errors on the held-out rows.
    """
    x, y = (torch.from_numpy(rows.astype(np.float32)) for rows in (train, held_out))
    center = x.mean(dim=0)
    x, y = x - center, y - center
    begin = time.perf_counter()
    model = network(x.shape[1], hidden, n_components)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    seconds, errors, elapsed, best = [], [], time.perf_counter() - begin, None
    for _ in range(max_epochs):
        begin = time.perf_counter()
        train_epoch(model, optimizer, x, batch_size)
        elapsed += time.perf_counter() - begin
        with torch.inference_mode():
            parts = zip(y.split(1000), map(model, y.split(1000)), strict=True)
            squares = sum((a - b).square().sum().item() for a, b in parts)
        seconds.append(elapsed)
        errors.append(squares / y.numel())
        if np.argmin(errors) == len(errors) - 1:
            best = copy.deepcopy(model.state_dict())
        if len(errors) - np.argmin(errors) > PATIENCE:
            break
    model.load_state_dict(best)

    @torch.inference_mode()
    def reconstruct(X):
        rows = torch.from_numpy(X.astype(np.float32)) - center
        return (model(rows) + center).numpy()

    return reconstruct, np.array(seconds), np.array(errors)


def hidden_widths(fitted):
    """Return the widths of the hidden layers of a fitted encoder."""
    stages = fitted.net_.module_.encoder.branch.hidden
    return [stage.layer.out_features for stage in stages]


def skorch_net(module, batch_size, epochs, lr=LR):
    """Return a net of skorch as documented."""
    return NeuralNet(
        module,
        criterion=nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=lr,
        batch_size=batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def train_textbook(model, X, batch_size, epochs, device="cpu"):
    """Train as tutorials do."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    rows = TensorDataset(torch.from_numpy(X))
    loader = DataLoader(rows, batch_size=batch_size, shuffle=True)
    for _ in range(epochs):
        for (batch,) in loader:
            x = batch.to(device)
            loss = nn.functional.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def same_network(hidden, **parameters):
    """Return a transformer that trains the same network in the same way."""
    return AutoencoderTransformer(
        architecture=MLP(
            hidden, activation="relu", norm=None, linear_path=False, start="random"
        ),
        scaling=None,
        optimizer="adam",
        lr=LR,
        early_stopping=False,
        random_state=0,
        **parameters,
    )


class Watch(Callback):
    """Looks into one layer of a net, so that its steps are left to torch."""

    def on_train_begin(self, net, **kwargs):
        net.module_.encoder.branch.last.register_forward_hook(lambda *args: None)


def ignore_warnings():
    """Ignore that models are not trained to the end."""
    for category in (ConvergenceWarning, FitWarning):
        warnings.simplefilter("ignore", category)


def measure(contenders, rounds, warm_up=True, wait=lambda: None):
    """Time every contender once a round, each round beginning with another one.

    Parameters
    ----------
    contenders : dict
        Functions without arguments, by name. One that returns a dict has further
        times by name in it: of parts of what it did.
    rounds : int
    warm_up : bool or set of str, default=True
        Which contenders run once before, untimed.
    wait : callable, default=None
        Waits for a device at the end of each run.

    Returns
    -------
    dict of ndarray of shape (rounds,)
        Seconds of each, in the order of the contenders.
    """
    names = list(contenders)
    for name in names:
        if warm_up is True or (warm_up and name in warm_up):
            contenders[name]()
    seconds = {name: [] for name in names}
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            begin = time.perf_counter()
            parts = contenders[name]()
            wait()
            seconds[name].append(time.perf_counter() - begin)
            for part, taken in parts.items() if isinstance(parts, dict) else ():
                seconds.setdefault(part, []).append(taken)
    return {name: np.array(taken) for name, taken in seconds.items()}


def print_ratios(seconds, base, unit=1.0, unit_name="seconds"):
    """Print medians over the rounds, and of the ratios to ``base`` in the same round.

    Parameters
    ----------
    seconds : dict of ndarray of shape (rounds,)
    base : str
    unit : float, default=1.0
        In seconds.
    unit_name : str, default="seconds"
    """
    print(f"| | ratio | lowest to highest | {unit_name} |")
    print("|---|---|---|---|")
    for name, taken in seconds.items():
        ratio = taken / seconds[base]
        print(
            f"| {name} | {np.median(ratio):.3g} | {ratio.min():.3g} to "
            f"{ratio.max():.3g} | {np.median(taken) / unit:.4g} |"
        )
    print(flush=True)


def run_again(arguments, threads=None, pinned=True):
    """Run this script once more, in a process that has so many threads.

    Libraries look at the variables and at the cores when they are loaded, some of them
    never again.

    Parameters
    ----------
    arguments : list of str
    threads : int, default=None
        None changes nothing.
    pinned : bool, default=True
        Whether the process keeps to as many cores, where the system can do that, and
        says so to libraries that start processes of their own.
    """
    environment, before = dict(os.environ), None
    if threads is not None and pinned:
        for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
            environment[f"{name}_NUM_THREADS"] = str(threads)
        if threads == 1:
            flags = os.environ.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            before = partial(os.sched_setaffinity, 0, cores)
    done = subprocess.run(
        [sys.executable, sys.argv[0], *arguments], env=environment, preexec_fn=before
    )
    if done.returncode:
        sys.exit(f"Failed: {' '.join(arguments)}")


def run_with_threads(option, part, arguments, more=(), pinned=True):
    """Run a part of this script once more with each number of threads, under a title.

    Parameters
    ----------
    option, part : str
        The option that chooses parts, and the part.
    arguments : argparse.Namespace
        Has ``threads`` and ``rounds``.
    more : list of str, default=()
        Further arguments.
    pinned : bool, default=True
        As `run_again` takes it.
    """
    for threads in arguments.threads:
        load = f"load of the machine {os.getloadavg()[0]:.1f}"
        print(f"{part}, threads: {threads}, {load}\n", flush=True)
        again = f"--inside {option} {part} --threads {threads}".split()
        again += ["--rounds", str(arguments.rounds), *more]
        run_again(again, threads, pinned)


def in_fresh_process(function, *arguments):
    """Return what a function returns in a process of its own, begun for it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=ignore_warnings) as pool:
        return pool.submit(function, *arguments).result()


def memory_added(run, interval=1e-3):
    """Run a function; return the bytes it added at its peak to those of the process.

    On Linux these are anonymous pages, looked at every ``interval`` seconds: pages of
    files that are mapped into memory can be dropped at any time. Elsewhere it is the
    highest resident memory so far, pages of files included.
    """
    gc.collect()
    before = peak = _memory()
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(interval):
            peak = max(peak, _memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kept = run()
        peak = max(peak, _memory())
    finally:
        done.set()
        watcher.join()
    del kept
    return peak - before


def _memory():
    try:
        with open("/proc/self/status") as status:
            anonymous = next(line for line in status if line.startswith("RssAnon"))
        return int(anonymous.split()[1]) * 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
