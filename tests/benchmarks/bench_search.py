"""Time of a search over the size of the code: trained together and one by one.

Workloads, each a grid of sizes and another value, by cross-validation:

- digits: 1,797 x 64, sizes 2, 4, 8, 16, 32, two learning rates, 5 folds; networks
  64-32-k and back, batches of 32, 40 epochs
- table: 5,000 x 30 correlated rows, sizes 1, 2, 4, 8, 12, two learning rates, 5 folds;
  networks 30-64-32-k and back, batches of 128, 40 epochs
- images: 10,000 x 196 correlated rows, sizes 2, 4, 8, 12, 16, 24, 32, 48, 3 folds;
  networks 196-128-64-k and back, batches of 256, 10 epochs

Contenders, all with ReLU, the squared error, Adam, so many epochs and one torch thread:

- bare loop, skorch, PyOD: estimators around them in ``GridSearchCV(n_jobs=1)``; PyOD
  trains a network of its own making
- skae, GridSearchCV: the same network, ``n_jobs`` 1 and 2
- skae, AutoencoderSearchCV: the same, trained as stacks
- nested: ``Nested`` codes in AutoencoderSearchCV
- default: the default estimator but for its size, with its validation rows and early
  stopping, in ``GridSearchCV`` and AutoencoderSearchCV; stacked and nested
- PCA, for scale

The ratio is that to the bare loop in the same round. Below it: whether the search finds
the same parameters as GridSearchCV, and how much mean scores differ at most. For nested
codes, whether the best score is within one standard error of that of separate fits.

    python tests/benchmarks/bench_search.py [--workloads digits table images]
        [--rounds 3] [--default]
"""

import argparse
import warnings

import numpy as np
import torch
from _timing import (
    ignore_warnings,
    measure,
    network,
    print_ratios,
    random_rows,
    same_network,
    skorch_net,
    train_bare,
)
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer
from skae.bottlenecks import Nested
from skae.metrics import reconstruction_scorer
from skae.model_selection import AutoencoderSearchCV

RATES = [1e-3, 3e-3]
WORK = {
    "digits": (lambda: load_digits().data / 16, (32,), [2, 4, 8, 16, 32], RATES, 5),
    "table": (lambda: random_rows(5_000, 30), (64, 32), [1, 2, 4, 8, 12], RATES, 5),
    "images": (
        lambda: random_rows(10_000, 196, rank=64),
        (128, 64),
        [2, 4, 8, 12, 16, 24, 32, 48],
        RATES[:1],
        3,
    ),
}
BATCHES = {"digits": (32, 40), "table": (128, 40), "images": (256, 10)}


class Bare(BaseEstimator):
    """The loop of a tutorial, rows in one tensor, as an estimator."""

    def __init__(self, n_components=2, lr=1e-3, hidden=(), batch_size=32, epochs=10):
        self.n_components = n_components
        self.lr = lr
        self.hidden = hidden
        self.batch_size = batch_size
        self.epochs = epochs

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        self.module_ = network(X.shape[1], self.hidden, self.n_components)
        self.train(torch.from_numpy(np.asarray(X, dtype=np.float32)))
        return self

    def train(self, x):
        train_bare(self.module_, x, self.batch_size, self.epochs, self.lr)

    def score(self, X, y=None):
        with torch.inference_mode():
            left = X - self.module_(torch.from_numpy(np.float32(X))).numpy()
        return 1 - np.square(left).sum() / np.square(X - self.mean_).sum()


class Skorch(Bare):
    """skorch's net as documented."""

    def train(self, x):
        net = skorch_net(self.module_, self.batch_size, self.epochs, self.lr)
        net.fit(x, x)


class PyOD(Bare):
    """PyOD's autoencoder; it has no reconstruction to score."""

    def fit(self, X, y=None):
        from pyod.models.auto_encoder import AutoEncoder

        AutoEncoder(
            hidden_neuron_list=[*self.hidden, self.n_components],
            lr=self.lr,
            batch_size=self.batch_size,
            epoch_num=self.epochs,
            batch_norm=False,
            dropout_rate=0,
            verbose=0,
        ).fit(X)
        return self

    def score(self, X, y=None):
        return 0.0


def contenders(name, with_defaults):
    make, hidden, sizes, rates, n_folds = WORK[name]
    batch_size, epochs = BATCHES[name]
    X = make()
    grid = {"n_components": sizes, "lr": rates}
    found = {}

    def run(label, search, estimator, grid=grid, **params):
        def once():
            found[label] = search(
                estimator, grid, cv=n_folds, refit=False, **params
            ).fit(X)

        return {label: once}

    given = {"hidden": hidden, "batch_size": batch_size, "epochs": epochs}
    same = same_network(hidden, batch_size=batch_size, max_epochs=epochs)
    runs = run("bare loop", GridSearchCV, Bare(**given))
    runs |= run("skorch as documented", GridSearchCV, Skorch(**given))
    try:
        import pyod.models.auto_encoder  # noqa: F401

        runs |= run("PyOD", GridSearchCV, PyOD(**given))
    except ImportError as error:
        print(f"Left out: PyOD. {error}")
    by_size = {"n_components": sizes}
    runs |= run("PCA", GridSearchCV, PCA(), by_size, scoring=reconstruction_scorer)
    one, two = "skae, GridSearchCV(n_jobs=1)", "skae, GridSearchCV(n_jobs=2)"
    runs |= run(one, GridSearchCV, same)
    runs |= run(two, GridSearchCV, same, n_jobs=2)
    pairs = {"skae, AutoencoderSearchCV": one, "skae, nested": one}
    runs |= run("skae, AutoencoderSearchCV", AutoencoderSearchCV, same)
    nested = same_network(
        hidden, batch_size=batch_size, max_epochs=epochs, bottleneck=Nested()
    )
    runs |= run("skae, nested", AutoencoderSearchCV, nested)
    if with_defaults:
        grid = {"n_components": sizes, "lr": [5e-3, 2e-3][: len(rates)]}
        default = AutoencoderTransformer(random_state=0)
        nested = AutoencoderTransformer(bottleneck=Nested(), random_state=0)
        one = "default, GridSearchCV(n_jobs=1)"
        runs |= run(one, GridSearchCV, default, grid)
        runs |= run(
            "default, GridSearchCV(n_jobs=2)", GridSearchCV, default, grid, n_jobs=2
        )
        runs |= run("default, AutoencoderSearchCV", AutoencoderSearchCV, default, grid)
        runs |= run("default, nested", AutoencoderSearchCV, nested, grid)
        pairs |= dict.fromkeys(["default, AutoencoderSearchCV", "default, nested"], one)
    return runs, found, pairs


def compare(found, pairs):
    """Print how results of searches differ from those of GridSearchCV."""
    print("| | the same best | largest difference | within one standard error |")
    print("|---|---|---|---|")
    for label, other in pairs.items():
        own, plain = (found[name].cv_results_ for name in (label, other))
        scores, expected = own["mean_test_score"], plain["mean_test_score"]
        best = expected.argmax()
        folds = [
            plain[f"split{i}_test_score"][best] for i in range(found[other].n_splits_)
        ]
        error = np.std(folds, ddof=1) / np.sqrt(len(folds))
        print(
            f"| {label} | {scores.argmax() == best} | "
            f"{np.abs(scores - expected).max():.2g} | "
            f"{scores.max() >= expected[best] - error} |"
        )
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workloads", nargs="+", default=list(WORK), choices=WORK)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--default", action="store_true", help="the default estimator, too"
    )
    parser.add_argument("--without", nargs="*", default=[], help="labels to leave out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ignore_warnings()
    warnings.simplefilter("ignore", UserWarning)
    for name in arguments.workloads:
        print(f"{name}\n", flush=True)
        runs, found, pairs = contenders(name, arguments.default)
        runs = {
            label: run for label, run in runs.items() if label not in arguments.without
        }
        print_ratios(measure(runs, arguments.rounds, warm_up=False), "bare loop")
        compare(found, {k: v for k, v in pairs.items() if {k, v} <= set(found)})


if __name__ == "__main__":
    main()
