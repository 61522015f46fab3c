"""Held-out reconstruction of skae's defaults against PCA with as many components.

Protocol: each table cut to at most 20,000 seeded rows, 70/30 split by the same seed,
standardised on the training part as a user would, code sizes 2, d/4 and d/2. Figures
are mean squared errors on the 30 %, divided by that of PCA; "textbook" is a network of
the same widths as one would write it: ReLU, torch's initial weights, no normalisation
and no linear path, at the learning rate that suits it best of 1e-3, 5e-3 and 1e-2 (by
search_default.py); all else default, the stopping rule too. "projected" is skae with
two projection steps, "encoder" with the encoder trained alone for up to 4,000 steps,
"both" with both. "by hand" is the network of textbooks without skae: Adam with a
learning rate of 1e-3 in a bare loop, a tenth of the training rows held out, up to 15
epochs after their lowest error, at most 1,000. One torch thread per process; seconds
are those of fit.

    SKAE_DATA=<folder> python tests/benchmarks/bench_reconstruction.py --jobs 2
"""

import argparse
import time
import warnings
from functools import partial

import joblib
import numpy as np
import torch
from _data import adbench, load
from _timing import hidden_widths, train_by_hand
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.architectures import MLP

MODELS = {
    "skae": {},
    "projected": {"n_projection_steps": 2},
    "encoder": {"max_encoder_steps": 4000},
    "both": {"max_encoder_steps": 4000, "n_projection_steps": 2},
    "textbook": {
        "architecture": MLP(
            activation="relu", norm=None, linear_path=False, start="random"
        ),
        "lr": 5e-3,
    },
}


BY_HAND = "by hand"


def error(X, model):
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


def fit_skae(model, k, train, test, seed):
    """Return the error on test rows, the best and the last epoch, and seconds."""
    begin = time.perf_counter()
    fitted = AutoencoderTransformer(k, random_state=seed, **MODELS[model]).fit(train)
    seconds = time.perf_counter() - begin
    return error(test, fitted), (fitted.best_epoch_, fitted.n_iter_), seconds


def fit_by_hand(k, train, test, seed):
    """Return what `fit_skae` does."""
    # The widths and the batch size of the default.
    default = AutoencoderTransformer(k, max_epochs=1, random_state=seed).fit(train)
    torch.manual_seed(seed)
    parts = train_test_split(train, test_size=0.1, random_state=seed)
    batch_size = default.diagnostics_["batch_size"]
    reconstruct, seconds, errors = train_by_hand(
        *parts, hidden_widths(default), k, batch_size
    )
    epochs = (int(np.argmin(errors)) + 1, len(errors))
    return np.mean((test - reconstruct(test)) ** 2), epochs, seconds[-1]


def run(name, file, seed, models):
    """Return one row of figures per code size."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, _ = load(file, max_rows=20_000, seed=seed)
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    d = X.shape[1]
    rows = []
    for k in sorted({min(2, d), max(1, d // 4), max(1, d // 2)}):
        pca = error(test, PCA(k, svd_solver="full").fit(train))
        row = {"table": name, "n": len(train), "d": d, "k": k, "seed": seed}
        for model in models:
            fit = fit_by_hand if model == BY_HAND else partial(fit_skae, model)
            found, epochs, seconds = fit(k, train, test, seed)
            row[model] = found / pca
            row[f"{model} epochs"], row[f"{model} s"] = epochs, seconds
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--tables", nargs="+", help="names; all that are there if absent"
    )
    names = [*MODELS, BY_HAND]
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    arguments = parser.parse_args()
    tables = adbench()
    names = arguments.tables or list(tables)
    models = arguments.models

    print(f"{'table':>12} {'n':>6} {'d':>4} {'k':>3} {'seed':>4}", end="")
    print("".join(f" | {m:>9} {'epochs':>8} {'s':>6}" for m in models))
    tasks = (
        joblib.delayed(run)(name, tables[name], seed, models)
        for name in names
        for seed in arguments.seeds
    )
    collected = []
    for rows in joblib.Parallel(n_jobs=arguments.jobs, return_as="generator")(tasks):
        for row in rows:
            print(
                f"{row['table']:>12} {row['n']:6} {row['d']:4} {row['k']:3} "
                f"{row['seed']:4}",
                end="",
            )
            for model in models:
                best, last = row[f"{model} epochs"]
                print(
                    f" | {row[model]:9.4f} {best:4}/{last:<3} {row[f'{model} s']:6.1f}",
                    end="",
                )
            print(flush=True)
        collected += rows
    print()
    for model in models:
        ratios = np.array([row[model] for row in collected])
        seconds = np.array([row[f"{model} s"] for row in collected])
        print(
            f"{model:>9}: geometric mean {np.exp(np.log(ratios).mean()):.4f}, "
            f"largest {ratios.max():.4f}, above 1.005 in {(ratios > 1.005).sum()} of "
            f"{len(ratios)}, median fit {np.median(seconds):.1f} s, "
            f"all fits {seconds.sum():.0f} s"
        )
    own = np.array([row[models[0]] for row in collected])
    for model in models[1:]:
        over = own / np.array([row[model] for row in collected])
        print(
            f"{models[0]} over {model}: geometric mean "
            f"{np.exp(np.log(over).mean()):.4f}, above 1.02 in {(over > 1.02).sum()} "
            f"of {len(over)}"
        )


if __name__ == "__main__":
    main()
