"""Outliers of the table that the detector is fitted to, and what a second fit changes.

Five entries of a table are shifted by a number of standard deviations, at random. The
detector is fitted to all rows; then the twentieth of the rows with the lowest scores is
left out, and it is fitted again. Printed are means over tables and seeds, of both fits:
how many of the five rows are among the ten with the lowest scores, and in how many the
shifted column has the largest share of `explain`. Tables of scikit-learn, and normal
rows of two of ADBench; all columns, or the first six.

    SKAE_DATA=<folder> python tests/benchmarks/bench_one_table.py
"""

import numpy as np
import torch
from _data import adbench, load
from _timing import ignore_warnings
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector

N_ROWS, N_FAULTS, N_LOWEST, LEFT_OUT = 1000, 5, 10, 0.05


def tables():
    """Yield tables."""
    yield load_wine().data
    yield load_breast_cancer().data
    yield load_diabetes(scaled=False).data
    for name in ("cardio", "satellite"):
        X, y = load(adbench()[name], 1500)
        yield X[y == 0][:N_ROWS]


def figures(detector, X, rows, columns):
    """Return the share of rows that are found, and of columns that are named."""
    lowest = np.argsort(detector.score_samples(X))[:N_LOWEST]
    named = detector.explain(X[rows]).share.argmax(axis=1) == columns
    return np.isin(rows, lowest).mean(), named.mean()


def one(X, shift, seed):
    """Return the figures of a table, of the first fit and of the second."""
    rng = np.random.default_rng(seed)
    X = StandardScaler().fit_transform(X)
    rows = rng.choice(len(X), N_FAULTS, replace=False)
    columns = rng.integers(X.shape[1], size=N_FAULTS)
    X[rows, columns] += shift * rng.choice([-1, 1], N_FAULTS)
    detector = AutoencoderOutlierDetector(random_state=seed).fit(X)
    first = figures(detector, X, rows, columns)
    scores = detector.score_samples(X)
    detector.fit(X[scores > np.quantile(scores, LEFT_OUT)])
    return first, figures(detector, X, rows, columns)


def main():
    torch.set_num_threads(1)
    ignore_warnings()
    print("columns  shift   found: one fit  two   named: one fit  two")
    for n_columns in (None, 6):
        for shift in (4, 12):
            found = [
                one(X[:, :n_columns], shift, seed) for X in tables() for seed in (0, 1)
            ]
            (a, b), (c, d) = np.mean(found, axis=0)
            line = f"{shift:6} {a:16.2f} {c:4.2f} {b:16.2f} {d:4.2f}"
            print(f"{n_columns or 'all':>7} {line}")


if __name__ == "__main__":
    main()
