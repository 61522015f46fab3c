"""Missing values: imputation beside scikit-learn's imputers, and detection.

Imputation: cells are removed at random (10 and 30 %), or by blocks: in 30 % of the rows
a third of the columns. The error is the root mean square over the removed cells of
standardised columns, divided by that of the mean of the column.

Detection: half of the normal rows train, the others and the outliers are scored, as in
`shuffled` of `_data`; AUROC of complete rows, of rows with 10 % of the cells missing in
training and test, and in the test only; and the share of normal test rows that are
flagged if they are complete, and if the sensor of one column is dead.

    SKAE_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_missing.py

The constants of `_data/missing.py` and `_training/batches.py` were chosen on the four
tables of ``CHOSEN_ON``, which are not among the others.
"""

import argparse
import time
import warnings
from functools import partial

import numpy as np
import torch
from _data import adbench, load, shuffled
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import roc_auc_score

from skae import AutoencoderImputer, AutoencoderOutlierDetector

CHOSEN_ON = ["glass", "cardio", "WDBC", "vertebral"]
TABLES = [
    "satellite",
    "pendigits",
    "yeast",
    "magic.gamma",
    "Ionosphere",
    "letter",
    "Waveform",
    "wine",
]
IMPUTERS = {
    "skae": partial(AutoencoderImputer, random_state=0),
    "KNN": KNNImputer,
    "iterative": partial(IterativeImputer, random_state=0),
    "mean": SimpleImputer,
}


def removed(shape, how, rng):
    """Return which cells are removed, a boolean array; of no row all."""
    if how == "blocks":
        rows = rng.uniform(size=shape[0]) < 0.3
        columns = rng.uniform(size=shape).argsort(axis=1)
        return rows[:, None] & (columns < max(1, shape[1] // 3))
    missing = rng.uniform(size=shape) < how
    missing[missing.all(axis=1), 0] = False
    return missing


def impute(file, how, max_rows):
    X, _ = load(file, max_rows)
    X = X[:, np.ptp(X, axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    missing = removed(X.shape, how, np.random.RandomState(0))
    given = np.where(missing, np.nan, X)
    errors, seconds = {}, {}
    for name, make in IMPUTERS.items():
        start = time.perf_counter()
        filled = make().fit_transform(given)
        seconds[name] = time.perf_counter() - start
        errors[name] = np.sqrt(np.square((filled - X)[missing]).mean())
    return {name: error / errors["mean"] for name, error in errors.items()}, seconds


def detect(file, max_rows):
    X, y = load(file, max_rows)
    train, test, labels = shuffled(X, y, 0)
    rng = np.random.RandomState(0)
    thinned = [np.where(removed(Z.shape, 0.1, rng), np.nan, Z) for Z in (train, test)]
    complete = AutoencoderOutlierDetector(random_state=0).fit(train)
    missing = AutoencoderOutlierDetector(random_state=0).fit(thinned[0])
    dead = test[labels == 0].copy()
    dead[:, train.std(axis=0).argmax()] = np.nan
    return {
        "complete": roc_auc_score(labels, -complete.score_samples(test)),
        "10 % missing": roc_auc_score(labels, -missing.score_samples(thinned[1])),
        "in test only": roc_auc_score(labels, -complete.score_samples(thinned[1])),
        "flagged": np.mean(complete.predict(test[labels == 0]) == -1),
        "dead sensor": np.mean(complete.predict(dead) == -1),
    }


def table(title, rows):
    """Print one line per table and one for the mean."""
    names = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':24s}" + "".join(f"{name:>14s}" for name in names))
    mean = {name: np.mean([row[name] for row in rows.values()]) for name in names}
    for key, row in {**rows, "mean": mean}.items():
        print(f"{key:24s}" + "".join(f"{row[name]:14.3f}" for name in names))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-rows", type=int, default=1000)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--part", choices=["impute", "detect"], default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    files = {name: adbench()[name] for name in args.tables}
    if args.part != "detect":
        errors, seconds = {}, {}
        for how in (0.1, 0.3, "blocks"):
            for name, file in files.items():
                key = f"{name} {how}"
                errors[key], seconds[key] = impute(file, how, args.max_rows)
                print(key, {n: round(float(e), 3) for n, e in errors[key].items()})
        table("RMSE of what was removed, over that of the mean", errors)
        table("Seconds", seconds)
    if args.part != "impute":
        found = {name: detect(file, 2 * args.max_rows) for name, file in files.items()}
        table("Detection: AUROC, and shares of normal rows flagged", found)


if __name__ == "__main__":
    main()
