"""Time and memory of a fitted model, and memory of a fit.

- row: `transform` of one row, float32 and float64, beside a call of the model's own
  module, of its encoder written by hand, both in the same precision, and beside PCA
- rows: `transform` and `reconstruct` of 1,000,000 x 30 rows, float32, beside the module
  called on all of them at once; time, and memory added at the peak, the output included
- scores: `score_samples` of 40,000 x 30 rows, after a fit to 10,000 others, beside
  IsolationForest and the distance to five neighbours
- projection: `transform` with 1, 2 and 5 projection steps beside none, default network,
  10,000 x 30 rows and 8 components, 1,500 x 784 and 30
- memory: what a fit with default settings adds to the process, of rows in a file of
  1 GB that is mapped into memory, 500,000 x 500, float32; one epoch, hidden layer of
  64; beside an epoch of the loop of tutorials, a ``DataLoader`` over a
  ``TensorDataset``

The network of the first two is 30-64-32-8 and back, ReLU. Calls of modules are in
``torch.inference_mode``. Ratios are medians over rounds of those to the first line, in
the same round. Memory is that of anonymous pages, each case in a process of its own.

    python tests/benchmarks/bench_predict.py [--parts row rows ...]
        [--threads 1 2] [--rounds 5]
"""

import argparse
import copy
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _timing import (
    half_network,
    ignore_warnings,
    in_fresh_process,
    measure,
    memory_added,
    network,
    print_ratios,
    random_rows,
    run_with_threads,
    same_network,
    train_textbook,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from torch import nn

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP

N_FEATURES, HIDDEN, N_COMPONENTS = 30, (64, 32), 8
MEGABYTE = 1e6


def fitted():
    """Return a model that has hardly been trained: what it says does not matter."""
    model = same_network(HIDDEN, n_components=N_COMPONENTS, max_epochs=1)
    return model.fit(random_rows(2_000, N_FEATURES))


@torch.inference_mode()
def call(module, X):
    return module(torch.from_numpy(X)).numpy()


def row(rounds, n_calls=1_000):
    model = fitted()
    for dtype in (torch.float32, torch.float64):
        X = random_rows(2_000, N_FEATURES).astype(str(dtype).removeprefix("torch."))
        functions = {
            "its module": partial(call, encoder(model, dtype)),
            "module by hand": partial(call, encoder_by_hand().to(dtype).eval()),
            "skae, transform": model.transform,
            "scikit-learn PCA, transform": PCA(N_COMPONENTS).fit(X).transform,
        }
        runs = {
            name: partial(often, function, X[:1], n_calls)
            for name, function in functions.items()
        }
        print(f"{X.dtype}\n")
        seconds = measure(runs, rounds)
        print_ratios(seconds, "its module", unit=1e-6 * n_calls, unit_name="us")


def encoder(model, dtype):
    return copy.deepcopy(model.net_.module_).to(dtype).eval().encode


def encoder_by_hand():
    return nn.Sequential(*half_network([N_FEATURES, *HIDDEN, N_COMPONENTS]))


def often(function, X, n_calls):
    for _ in range(n_calls):
        function(X)


def on_many(what):
    """Return functions of rows: of the module on all at once, and of skae."""
    model = fitted()
    method = {"transform": "encode", "reconstruct": "reconstruct"}[what]
    function = getattr(model.net_.module_.eval(), method)
    return {
        f"its module, {method}": partial(call, function),
        f"skae, {what}": getattr(model, what),
    }


def memory_on_many(what, name, n_rows):
    X, function = random_rows(n_rows, N_FEATURES), on_many(what)[name]
    output = function(X[:1000])
    return memory_added(partial(function, X)), output.nbytes * n_rows // 1000


def rows(rounds, n_rows=1_000_000):
    X = random_rows(n_rows, N_FEATURES)
    for what in ("transform", "reconstruct"):
        runs = {name: partial(f, X) for name, f in on_many(what).items()}
        print_ratios(measure(runs, rounds), next(iter(runs)))
        for name in runs:
            added, output = in_fresh_process(memory_on_many, what, name, n_rows)
            print(
                f"- {name}: {added / MEGABYTE:.0f} MB at the peak, "
                f"{output / MEGABYTE:.0f} MB of them the output"
            )
        print(flush=True)


def scores(rounds):
    X = random_rows(50_000, N_FEATURES)
    train, test = X[:10_000], X[10_000:]
    forest = IsolationForest(random_state=0).fit(train)
    neighbors = NearestNeighbors(n_neighbors=5).fit(train)
    detector = AutoencoderOutlierDetector(random_state=0, max_epochs=5).fit(train)
    runs = {
        "IsolationForest": partial(forest.score_samples, test),
        "five neighbours": partial(neighbors.kneighbors, test),
        "skae": partial(detector.score_samples, test),
    }
    print_ratios(measure(runs, rounds), "IsolationForest")


def projection(rounds):
    for n_rows, n_features, k in ((10_000, N_FEATURES, N_COMPONENTS), (1_500, 784, 30)):
        rng = np.random.RandomState(0)
        code = rng.normal(size=(3_000 + n_rows, k))
        rows = np.tanh(code @ rng.normal(size=(k, n_features)))
        rows = (rows + 0.1 * rng.normal(size=rows.shape)).astype(np.float32)
        runs = {}
        for n_steps in (0, 1, 2, 5):
            model = AutoencoderTransformer(
                k,
                n_projection_steps=n_steps,
                max_epochs=3,
                early_stopping=False,
                random_state=0,
            ).fit(rows[:3_000])
            runs[f"{n_steps} steps"] = partial(model.transform, rows[3_000:])
        print(f"{n_rows:,} x {n_features}, {k} components\n")
        print_ratios(measure(runs, rounds), "0 steps")


def write_rows(file, n_rows, n_features, chunk=10_000):
    for i in range(0, n_rows, chunk):
        random_rows(min(chunk, n_rows - i), n_features).tofile(file)


def mapped(path, n_features):
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, n_features)


def timed(run):
    """Return memory and time."""
    begin = time.perf_counter()
    return memory_added(run), time.perf_counter() - begin


def memory_of_fit(path, n_features):
    X = mapped(path, n_features)
    model = AutoencoderTransformer(
        N_COMPONENTS, architecture=MLP((64,)), max_epochs=1, random_state=0
    )
    # What is loaded at the first fit is no part of it.
    model.fit(X[:1_000])
    return timed(partial(model.fit, X))


def memory_of_textbook(path, n_features):
    X = mapped(path, n_features)
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    train = partial(train_textbook, network(n_features, (64,), N_COMPONENTS))
    train(X[:1_000], 256, epochs=1)
    return timed(partial(train, X, 256, epochs=1))


def memory(n_rows=500_000, n_features=500):
    cases = {"textbook loop": memory_of_textbook, "skae, default fit": memory_of_fit}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.f32"
        with path.open("wb") as file:
            write_rows(file, n_rows, n_features)
        print(f"One epoch of a file of {path.stat().st_size / MEGABYTE:.0f} MB\n")
        print("| | MB added | seconds |")
        print("|---|---|---|")
        for name, case in cases.items():
            added, taken = in_fresh_process(case, path, n_features)
            print(f"| {name} | {added / MEGABYTE:.0f} | {taken:.0f} |", flush=True)


PARTS = {"row": row, "rows": rows, "scores": scores, "projection": projection}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = [*PARTS, "memory"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ignore_warnings()
    for name in arguments.parts:
        if name == "memory":
            memory()
        elif arguments.inside:
            torch.set_num_threads(arguments.threads[0])
            PARTS[name](arguments.rounds)
        else:
            run_with_threads("--parts", name, arguments)


if __name__ == "__main__":
    main()
