"""Held-out likelihood of counts and of binary data: skae's defaults beside PCA.

Counts are drawn around rates of low rank, each row multiplied by a total that differs
by factors (lognormal): ``total * mixture of profiles``. Binary data are drawn around
logits of low rank. Each table is split 70/30; figures are means over the held-out
entries, of the Poisson deviance for counts and of the log loss for binary data, one
line per table and seed. "PCA clipped" has a lower bound of the rate of 0.001, 0.01 or
0.1, whichever fits the training rows best; probabilities are clipped to [0.01, 0.99].
"PCA of roots" is PCA of the square roots, squared. The last column says whether the
reconstructions of the held-out rows times 100 and the scores of a detector for them
are finite (counts only). One thread.

    python tests/benchmarks/bench_counts.py
"""

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.decomposition import NMF, PCA
from sklearn.metrics import log_loss, mean_poisson_deviance
from sklearn.model_selection import train_test_split

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.losses import Bernoulli, Poisson

FLOORS = (1e-3, 1e-2, 1e-1)
# Rows, columns, rank, and the median of the totals.
COUNTS = [
    (400, 10, 3, 200),
    (3000, 512, 8, 500),
    (3000, 512, 8, 10_000),
]
BINARY = (2000, 60, 5)
COLUMNS = ["skae", "PCA clipped", "PCA of roots", "NMF", "mean"]


def counts(n, d, k, total, seed):
    rng = np.random.RandomState(seed)
    profiles = rng.dirichlet(np.full(d, 0.5), size=k)
    mixture = rng.dirichlet(np.full(k, 0.5), size=n)
    totals = rng.lognormal(np.log(total), 1.0, size=(n, 1))
    return rng.poisson(totals * (mixture @ profiles)).astype(float)


def binary(n, d, k, seed):
    rng = np.random.RandomState(seed)
    logits = rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + rng.normal(size=d)
    return (rng.uniform(size=(n, d)) < 1 / (1 + np.exp(-logits))).astype(float)


def deviance(X, rates):
    # The deviance of a rate of zero is infinite where there is a count.
    return mean_poisson_deviance(X.ravel(), np.maximum(rates, 1e-9).ravel())


def loss(X, probabilities):
    return log_loss(X.ravel(), probabilities.ravel())


def pca(train, k):
    fitted = PCA(k, svd_solver="full").fit(train)
    return lambda X: fitted.inverse_transform(fitted.transform(X))


def of_counts(train, test, k, seed):
    linear, roots = pca(train, k), pca(np.sqrt(train), k)

    def clipped(X, floor):
        return deviance(X, np.maximum(linear(X), floor))

    def squared(X, floor):
        return deviance(X, np.maximum(np.maximum(roots(np.sqrt(X)), 0) ** 2, floor))

    nmf = NMF(k, beta_loss="kullback-leibler", solver="mu", max_iter=500)
    nmf.set_params(random_state=seed).fit(train)
    begin = time.perf_counter()
    model = AutoencoderTransformer(k, loss=Poisson(), random_state=seed).fit(train)
    seconds = time.perf_counter() - begin
    detector = AutoencoderOutlierDetector(k, loss=Poisson(), random_state=seed)
    far = model.reconstruct(100 * test), detector.fit(train).score_samples(100 * test)
    return {
        "skae": deviance(test, model.reconstruct(test)),
        "PCA clipped": clipped(test, min(FLOORS, key=lambda f: clipped(train, f))),
        "PCA of roots": squared(test, min(FLOORS, key=lambda f: squared(train, f))),
        "NMF": deviance(test, nmf.transform(test) @ nmf.components_),
        "mean": deviance(test, np.broadcast_to(train.mean(axis=0), test.shape)),
        "s": seconds,
        "epoch": model.best_epoch_,
        "R2": model.diagnostics_["r2"],
        "far": all(np.isfinite(values).all() for values in far),
    }


def of_binary(train, test, k, seed):
    begin = time.perf_counter()
    model = AutoencoderTransformer(k, loss=Bernoulli(), random_state=seed).fit(train)
    seconds = time.perf_counter() - begin
    mean = train.mean(axis=0).clip(0.001, 0.999)
    return {
        "skae": loss(test, model.reconstruct(test)),
        "PCA clipped": loss(test, pca(train, k)(test).clip(0.01, 0.99)),
        "PCA of roots": np.nan,
        "NMF": np.nan,
        "mean": loss(test, np.broadcast_to(mean, test.shape)),
        "s": seconds,
        "epoch": model.best_epoch_,
        "R2": model.diagnostics_["r2"],
        "far": "",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'table':>28} {'seed':>4}", *(f"{name:>12}" for name in COLUMNS), end="")
    print(f" {'epoch':>5} {'R2':>5} {'s':>5} far")
    tables = [
        (f"counts {n} x {d}, median {t}", of_counts, counts, (n, d, k, t), k)
        for n, d, k, t in COUNTS
    ]
    n, d, k = BINARY
    tables.append((f"binary {n} x {d}", of_binary, binary, BINARY, k))
    for name, compare, draw, shape, k in tables:
        for seed in arguments.seeds:
            X = draw(*shape, seed)
            train, test = train_test_split(X, test_size=0.3, random_state=seed)
            row = compare(train, test, k, seed)
            print(f"{name:>28} {seed:4}", end=" ")
            print(*(f"{row[column]:12.4f}" for column in COLUMNS), end="")
            print(f" {row['epoch']:5} {row['R2']:5.2f} {row['s']:5.1f} {row['far']}")


if __name__ == "__main__":
    main()
