"""Time until the default network is as good as one that is written by hand ever is.

By hand: ReLU, layers of the same widths as the default, random initial weights, Adam
with a learning rate of 1e-3, the batch size of the default, a bare loop over rows that
are one tensor. After each epoch its error on the held-out rows is measured, which its
clock does not count; it stops 15 epochs after the lowest. skae has its defaults, the
held-out rows as ``X_val``, and so stops by the same rule. Its time to an epoch is all
that `fit` does outside of the epochs, before and after them, and the epochs up to it.

Tables: random rows of low rank, 5,000 x 30; MNIST, with ``--mnist`` rows, in [0, 1];
and three tables of ADBench, standardised. A quarter of the columns are the components,
on MNIST 32. Errors are squared, on the held-out rows, relative to those of PCA.

    SKAE_DATA=<folder> python tests/benchmarks/bench_time_to_quality.py
        [--mnist 60000] [--seed 0]
"""

import argparse
import time

import numpy as np
import torch
from _data import adbench, load, mnist, standardised
from _timing import hidden_widths, ignore_warnings, random_rows, train_by_hand
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer


def tables(n_mnist, seed):
    """Yield the name, training rows, held-out rows and code size of each table."""
    rows = train_test_split(random_rows(7_000, 30), train_size=5_000, random_state=seed)
    yield "random 5,000 x 30", *rows, 8
    files = adbench()
    for name in ("cardio", "satellite", "magic.gamma"):
        X, _ = load(files[name], max_rows=20_000, seed=seed)
        rows = train_test_split(X, test_size=0.3, random_state=seed)
        yield f"ADBench {name}", *standardised(*rows), X.shape[1] // 4
    data = mnist(n_mnist)
    yield f"MNIST {len(data.train):,} x 784", data.train, data.test, 32


def by_skae(model, train, test):
    """Fit, and return seconds to the end of each epoch, and the error after it.

    The first of both are those of the initial weights.
    """
    begin = time.perf_counter()
    model.fit(train, X_val=test)
    total = time.perf_counter() - begin
    durations, loss = (model.history_[name] for name in ("seconds", "valid_loss"))
    loss = np.append(model.diagnostics_["initial_loss"], loss)
    seconds = total - np.sum(durations) + np.append(0, np.cumsum(durations))
    # In the loss's unit, that of the scaled rows, errors have another factor.
    unit = np.mean(model.reconstruction_error(test)) / loss[model.best_epoch_]
    return seconds, unit * loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", type=int, default=60_000, help="training images")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ignore_warnings()
    # The first fit of a process loads libraries.
    AutoencoderTransformer(1, max_epochs=1).fit(random_rows(200, 10))
    print("| table | by hand: error | s | skae: error | s | as good after s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, train, test, k in tables(arguments.mnist, arguments.seed):
        torch.manual_seed(arguments.seed)
        pca = PCA(k, svd_solver="full").fit(train)
        unit = np.mean((test - pca.inverse_transform(pca.transform(test))) ** 2)
        model = AutoencoderTransformer(k, random_state=arguments.seed)
        own, errors = by_skae(model, train, test)
        hidden, batch_size = hidden_widths(model), model.diagnostics_["batch_size"]
        _, other, theirs = train_by_hand(train, test, hidden, k, batch_size)
        best = int(np.argmin(theirs))
        reached = np.flatnonzero(errors <= theirs[best])
        needed = own[reached[0]] if len(reached) else np.inf
        print(
            f"| {name}, {k} components, {hidden} | {theirs[best] / unit:.4f} "
            f"| {other[best]:.1f} | {errors.min() / unit:.4f} | {own[-1]:.1f} "
            f"| {needed:.1f} | {needed / other[best]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
