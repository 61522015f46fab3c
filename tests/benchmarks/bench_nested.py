"""One nested fit against one fit for each size of the code, and against PCA.

Protocol: each table cut to at most 2,000 seeded rows, 70/30 split by the same seed,
standardised on the training part. Sizes 1, 2, 4, 8, 16 and half of the columns, as far
as they are not above that half. One nested fit of the largest size is truncated to the
others; "separate" is the default transformer, fitted for each size. Errors are mean
squares on the 30 %; seconds are those of fit, on one torch thread. "of the largest" is
the time of the nested fit as a multiple of that of the separate fit of its size, "of
all" of that of all separate fits.

Shares were chosen on other tables; that networks start at PCA by default was also
decided by "optdigits" and "satellite", on which those from random weights stay at PCA.

With ``--choose`` settings of `skae.bottlenecks.Nested` are compared on other tables:
the shares with which sizes are trained, and the networks. "with" columns are then
geometric means over the sizes of the nested error divided by the separate one.

    SKAE_DATA=<folder> python tests/benchmarks/bench_nested.py
    SKAE_DATA=<folder> python tests/benchmarks/bench_nested.py --choose
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _data import adbench, load
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import Nested, _nested

CHOOSE = ["cardio", "letter", "yeast", "pendigits"]
REPORT = ["breastw", "glass", "optdigits", "satellite", "WDBC", "Waveform"]
MAX_ROWS = 2000


def network(*sizes, activation="elu", norm=None, start="pca"):
    return MLP(sizes or "auto", activation=activation, norm=norm, start=start)


# By name: powers of the size and of the error of PCA, the share of whole codes, and
# the networks, None for the default.
SETTINGS = {
    "default": (-1, -1, 0.2, None),
    "uniform": (0, 0, 0, None),
    "by error": (0, -1, 0.2, None),
    "root of size": (-0.5, -1, 0.2, None),
    "steeper size": (-1.5, -1, 0.2, None),
    "steeper error": (-1, -1.5, 0.2, None),
    "no whole": (-1, -1, 0, None),
    "more whole": (-1, -1, 0.4, None),
    "512 units": (-1, -1, 0.2, network(512, 512)),
    "batch norm": (-1, -1, 0.2, network(norm="batch")),
    "layer norm": (-1, -1, 0.2, network(norm="layer")),
    "mixed start": (-1, -1, 0.2, network(norm="layer", start="mixed")),
    "relu": (-1, -1, 0.2, network(activation="relu")),
    "silu": (-1, -1, 0.2, network(activation="silu")),
}


def error(X, model):
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


def split(name, seed):
    X, _ = load(adbench()[name], max_rows=MAX_ROWS, seed=seed)
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def sizes_of(n_features):
    largest = max(2, n_features // 2)
    return sorted({k for k in (1, 2, 4, 8, 16) if k < largest} | {largest})


def timed(model, X):
    begin = time.perf_counter()
    return model.fit(X), time.perf_counter() - begin


def separate(train, test, seed):
    """Return errors of one fit for each size, those of PCA, and seconds."""
    errors, of_pca, seconds = [], [], []
    for k in sizes_of(train.shape[1]):
        model, took = timed(AutoencoderTransformer(k, random_state=seed), train)
        errors.append(error(test, model))
        of_pca.append(error(test, PCA(k, svd_solver="full").fit(train)))
        seconds.append(took)
    return np.array(errors), np.array(of_pca), np.array(seconds)


def nested(train, test, seed, setting="default"):
    """Return errors of one nested fit for each size, and its seconds."""
    size, of_error, whole, architecture = SETTINGS[setting]
    _nested._POWER_OF_SIZE, _nested._POWER_OF_ERROR = size, of_error
    _nested._WHOLE = whole
    sizes = sizes_of(train.shape[1])
    model, took = timed(
        AutoencoderTransformer(
            sizes[-1],
            architecture=architecture,
            bottleneck=Nested(),
            random_state=seed,
        ),
        train,
    )
    errors = [error(test, model.truncate(k)) for k in sizes]
    return np.array(errors), took, model.best_epoch_


def report(names, seed):
    columns = ("table", "rows", "d", "k", "separate/PCA", "nested/PCA")
    print("{:>10} {:>5} {:>3} {:>3} {:>12} {:>10}".format(*columns), end="")
    print("  nested/separate  of the largest  of all")
    ratios, above, times = [], [], []
    for name in names:
        train, test = split(name, seed)
        errors, of_pca, seconds = separate(train, test, seed)
        found, took, _ = nested(train, test, seed)
        times.append((took / seconds[-1], took / seconds.sum()))
        for i, k in enumerate(sizes_of(train.shape[1])):
            ratios.append(found[i] / errors[i])
            above.append(found[i] / of_pca[i])
            print(
                f"{name:>10} {len(train):5} {train.shape[1]:3} {k:3} "
                f"{errors[i] / of_pca[i]:12.3f} {above[-1]:10.3f} {ratios[-1]:16.3f}",
                end="",
            )
            print(f" {times[-1][0]:15.2f} {times[-1][1]:7.2f}" if i == 0 else "")
    ratios, above, times = map(np.array, (ratios, above, times))
    print(
        f"\nnested/separate: median {np.median(ratios):.3f}, geometric mean "
        f"{np.exp(np.log(ratios).mean()):.3f}; at most 1.03 in "
        f"{(ratios <= 1.03).sum()} of {len(ratios)}"
        f"\nnested/PCA: median {np.median(above):.3f}, largest {above.max():.3f}; "
        f"above 1.005 in {(above > 1.005).sum()} of {len(above)}"
        f"\ntime: median {np.median(times[:, 0]):.2f} of the fit of the largest size, "
        f"{np.median(times[:, 1]):.2f} of all fits"
    )


def choose(names, settings, seed):
    print(f"{'':>14}" + "".join(f"{name:>12} epoch" for name in names) + "   mean")
    tables = [split(name, seed) for name in names]
    reference = [separate(*table, seed)[0] for table in tables]
    for setting in settings:
        means = []
        print(f"{setting:>14}", end="")
        for table, errors in zip(tables, reference, strict=True):
            found, _, epoch = nested(*table, seed, setting)
            means.append(np.log(found / errors).mean())
            print(f"{np.exp(means[-1]):12.3f} {epoch:5}", end="", flush=True)
        print(f" {np.exp(np.mean(means)):6.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--choose", action="store_true", help="compare settings")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    parser.add_argument("--tables", nargs="+", help="names; of ADBench")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.choose:
        choose(arguments.tables or CHOOSE, arguments.settings, arguments.seed)
    else:
        report(arguments.tables or REPORT, arguments.seed)


if __name__ == "__main__":
    main()
