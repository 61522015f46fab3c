"""What each tuned constant does, beside a few other values of it.

One table per constant: the values that were tried, figures of merit, and seconds of
the processor per run. Figures are means over tables and seeds, ± the standard deviation
over seeds of the mean over tables. "difference" is that of the first figure from the
chosen value, mean ± standard error, paired by seed. The chosen value is that of skae.

The published figures are of other tables. Those here are made by the script or come
with scikit-learn: patches of two photographs, diabetes; for AUROC also wine and breast
cancer, on which the other scripts measure only reconstruction and explanations. The
digits of scikit-learn are not used: they are in ADBench's optdigits. Columns are
standardised on the training rows. All parameters that are not named have their default.

_NEAR, _RELATIVE, _AROUND, _FAR, _UPPER, _WHITENING, _MAX_MEMORY, _SMALLEST_RESIDUAL
    AUROC in percent of a detector trained on 1,200 normal rows, or half of those there
    are, without and with 5 % outliers among them. Outliers are another class or
    photograph, a dense group between clusters, or rows with a third of their columns
    from another row. One network per table and seed: each value continues it for one
    epoch at a learning rate of 1e-12, which only builds the score again. `--data` adds
    the tables of ADBench in a folder of which bench_outliers.py has no AUROC.
_FEW, _ROWS_PER_COMPONENT, _ROWS_PER_COLUMN
    Detectors of 150, 300 and 700 normal rows, for the latter two of 600 and 1,500 rows
    of 100 columns: false alarms of `predict` in percent of 3,000 fresh normal rows,
    where 1 is the target, and AUROC.
_TAIL, _FARTHEST, _STRETCH
    Automatic thresholds of 100, 300 and 1,000 normal rows that a detector of 600 rows
    has not seen, 20 draws each: false alarms in percent of 4,000 fresh rows, where 1
    is the target. "contaminated": 3 % of the rows are outliers, half of them ten times
    as far out as any normal row; "found" is the percentage of the other half's kind.
_CLEAR, _TRUSTED
    Transformers of 250 and 450 rows, without structure beyond PCA (normal and
    heavy-tailed factor models) or with it: percentage of fits that leave PCA, that are
    then worse than PCA on 3,000 test rows (a third of the rows of diabetes), and the
    error over that of PCA. One training per table and seed is judged with each value.
_AT_LEAST
    Transformers of 100 and 180 rows of the same tables, trained: how many leave PCA,
    and the error over that of PCA.
_DEAD_SHARE
    Test error of vector quantisation in percent of the variance, and perplexity in
    percent of the codes: 256 codes, 1,500 rows, 15 epochs, started at PCA or at random.
_SINGLE_ERROR
    Error of the variances in single precision over the largest variance, for spectra
    from flat to a single axis and for columns of zeros and ones; in percent of the
    tables it is above the value. "excess" is what the value adds to the squared
    residual of eight axes, over that residual; 1e-4 is allowed.
_PACE, _WIDTHS, _DAMPING, lr, averaging
    Test error over that of PCA with as many components, geometric mean, of all rows and
    of the hundredth farthest out; 500 training rows, 3,000 test rows. The damping with
    two projection steps.

    python tests/benchmarks/bench_constants.py [--constants NAME ...] [--quick]
"""

import argparse
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from _data import load, standardised
from scipy.stats import gmean
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_sample_images,
    load_wine,
    make_blobs,
)
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data import principal_axes
from skae._outlier import _thresholds
from skae._training import selection
from skae.architectures import MLP
from skae.bottlenecks import VectorQuantized

# Where constants are; `lr` and `averaging` are parameters.
PLACES = {
    "_NEAR": ("skae.anomaly_scores._neighbors", "_NEAR"),
    "_FAR": ("skae.anomaly_scores._neighbors", "_FAR"),
    "_WHITENING": ("skae.anomaly_scores._neighbors", "_WHITENING"),
    "_MAX_MEMORY": ("skae.anomaly_scores._neighbors", "_MAX_MEMORY"),
    "_SMALLEST_RESIDUAL": ("skae.anomaly_scores._base", "_SMALLEST_RESIDUAL"),
    "_RELATIVE": ("skae.anomaly_scores._neighbors", "_RELATIVE"),
    "_AROUND": ("skae.anomaly_scores._neighbors", "_AROUND"),
    "_UPPER": ("skae.anomaly_scores._ranks", "_UPPER"),
    "_FEW": ("skae._outlier._ensemble", "FEW_ROWS"),
    "_ROWS_PER_COMPONENT": ("skae._outlier._cross_fitting", "_ROWS_PER_COMPONENT"),
    "_ROWS_PER_COLUMN": ("skae._outlier._cross_fitting", "_ROWS_PER_COLUMN"),
    "_TAIL": ("skae._outlier._thresholds", "_TAIL"),
    "_FARTHEST": ("skae._outlier._thresholds", "_FARTHEST"),
    "_STRETCH": ("skae._outlier._thresholds", "_STRETCH"),
    "_CLEAR": ("skae._training.selection", "_CLEAR"),
    "_TRUSTED": ("skae._training.selection", "_TRUSTED"),
    "_AT_LEAST": ("skae._training.plan", "_AT_LEAST"),
    "_DEAD_SHARE": ("skae.bottlenecks._quantized", "_DEAD_SHARE"),
    "_SINGLE_ERROR": ("skae._data.principal_axes", "_SINGLE_ERROR"),
    "_PACE": ("skae.architectures._networks", "_PACE"),
    "_WIDTHS": ("skae.architectures._mlp", "_WIDTHS"),
    "_DAMPING": ("skae._model.projection", "_DAMPING"),
}
VALUES = {
    "_WHITENING": [0.0, 0.25, 0.5, 0.75, 1.0],
    "_MAX_MEMORY": [64, 256, 512, 1024, 2048],
    "_NEAR": [1, 3, 5, 8],
    "_RELATIVE": [0.0, 0.25, 0.5, 0.75, 1.0],
    "_AROUND": [3, 5, 10, 20],
    "_UPPER": [0.05, 0.1, 0.15, 0.2, 0.3],
    "_FAR": [1 / 16, 1 / 8, 1 / 4],
    "_SMALLEST_RESIDUAL": [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    "_FEW": [0, 200, 500, 1000],
    "_ROWS_PER_COMPONENT": [0, 10, 20, 40],
    "_ROWS_PER_COLUMN": [0, 5, 10, 20],
    "_TAIL": [0.03, 0.05, 0.1, 0.2, 0.3],
    "_FARTHEST": [3.0, 5.0, 10.0, 20.0, np.inf],
    "_STRETCH": [1.0, 1.2, 1.35, 1.5, 2.0],
    "_CLEAR": [0.0, 1.0, 2.0, 3.0, 4.0],
    "_TRUSTED": [0.8, 0.9, 0.95, 0.99, 1.0],
    "_AT_LEAST": [(50,), (25, 50), (20, 50), (10, 50)],
    "_DEAD_SHARE": [0.0, 0.01, 0.03, 0.1, 0.3],
    "_SINGLE_ERROR": [1e-7, 4e-7, 1.6e-6, 6.4e-6],
    "_PACE": [0.0, 0.03, 0.1, 0.3, 1.0],
    "_WIDTHS": [(64, 256), (128, 256), (128, 512), (256, 512), (256, 1024)],
    "_DAMPING": [0.0, 1e-3, 1e-2, 0.1, 1.0],
    "lr": [1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2],
    "averaging": [0.0, 0.9, 0.98, 0.995, 0.998],
}
# Names of ADBench tables below 1,000 rows that bench_outliers.py has from ODDS.
PUBLISHED = {"glass", "ionosphere", "vertebral"}


@cache
def chosen(name):
    """Return the value that skae has."""
    if name == "lr":
        return AutoencoderTransformer().lr
    if name == "averaging":
        return AutoencoderTransformer(1, max_epochs=1).fit(np.eye(9)).net_.averaging
    module, attribute = PLACES[name]
    return getattr(import_module(module), attribute)


def tried(name):
    """Return the values of a constant by their names, the chosen one among them."""
    return {value: value for value in sorted({*VALUES[name], chosen(name)})}


@contextmanager
def changed(name, value):
    """Change a constant in all modules that have it, or yield it as a parameter."""
    if name not in PLACES:
        yield {"net_params": {name: value}} if name == "averaging" else {name: value}
        return
    attribute, before = PLACES[name][1], chosen(name)
    modules = [m for n, m in sys.modules.items() if n.startswith("skae.")]
    modules = [m for m in modules if getattr(m, attribute, None) is before]
    try:
        for module in modules:
            setattr(module, attribute, value)
        yield {}
    finally:
        for module in modules:
            setattr(module, attribute, before)


# Tables: functions that draw rows, the first numbers for what all rows share.


def factors(rng, n):
    loadings = rng.normal(size=(5, 20))
    return rng.normal(size=(n, 5)) @ loadings + rng.normal(size=(n, 20))


def heavy_factors(rng, n):
    loadings = rng.normal(size=(4, 12))
    rows = rng.standard_t(3, size=(n, 4)) @ loadings
    return rows + rng.standard_t(3, size=(n, 12))


def curve(rng, n):
    bend, t = rng.normal(size=(3, 12)), rng.uniform(0, 3 * np.pi, n)
    spiral = np.c_[t * np.cos(t), t * np.sin(t), t] / 3
    return spiral @ bend + 0.5 * rng.normal(size=(n, 12))


def heavy_curve(rng, n):
    straight, folded = rng.normal(size=(2, 3, 12))
    h = rng.standard_t(3, size=(n, 3))
    return h @ straight + np.abs(h) @ folded + 0.3 * rng.normal(size=(n, 12))


def blobs(rng, n):
    return make_blobs(n, 10, centers=8, center_box=(-5, 5), random_state=rng)[0]


def mixed_scales(rng, n):
    rows = factors(rng, n) / 2
    rows[:, 5:10], rows[:, 10:15] = np.exp(rows[:, 5:10]), np.round(rows[:, 10:15])
    return rows * 10.0 ** np.linspace(-3, 3, 20)


def patches(rng, n, picture=0, size=6):
    image = load_sample_images().images[picture].mean(axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    windows = windows.reshape(-1, size, size)
    return windows[rng.choice(len(windows), n)].reshape(n, -1)


def wide_patches(rng, n):
    return patches(rng, n, size=10)


def diabetes(rng, n):
    return rng.permutation(load_diabetes().data)


PLAIN = (factors, heavy_factors)
BENT = (curve, heavy_curve, blobs, mixed_scales, patches)


def drawn(table, seed, n_train, n_test=3000):
    """Return training and test rows of a table."""
    rows = table(np.random.RandomState(seed), n_train + n_test)
    n_train = min(n_train, 2 * len(rows) // 3)
    return standardised(rows[:n_train], rows[n_train:])


def with_outliers(table, seed, n_train, n_test):
    """Return training rows, normal test rows and a third as many outliers."""
    rng = np.random.RandomState(seed)
    rows = table(rng, n_train + n_test)
    normal, n, d = rows[n_train:], n_test // 3, rows.shape[1]
    if table is patches:
        outliers = patches(rng, n, picture=1)
    elif table is blobs:
        outliers = normal[:2].mean(axis=0) + 0.3 * rng.normal(size=(n, d))
    else:
        taken = rng.uniform(size=(n, d)).argsort(axis=1) < d // 3
        outliers = np.where(taken, normal[-n:], normal[:n])
    train, test = standardised(rows[:n_train], np.r_[normal, outliers])
    return train, test[:n_test], test[n_test:]


def by_class(X, y, seed):
    """Return half of the normal rows, the others, and outliers, labelled one."""
    rng = np.random.RandomState(seed)
    normal, outliers = (X[rng.permutation(np.flatnonzero(y == i))] for i in (0, 1))
    half = min(len(normal) // 2, 1200)
    train, test = standardised(normal[:half], np.r_[normal[half:], outliers])
    return train, test[: -len(outliers)], test[-len(outliers) :]


def one_class(seed, quick, data):
    """Yield training rows, normal test rows and outliers of tables, by name."""
    for table in BENT[-2:] if quick else (factors, *BENT):
        yield table.__name__, *with_outliers(table, seed, 1200, 900)
    X, y = load_wine(return_X_y=True)
    yield "wine", *by_class(X, y != 1, seed)
    X, y = load_breast_cancer(return_X_y=True)
    yield "breast cancer", *by_class(X, 1 - y, seed)
    for file in sorted(data.glob("*.npz")) if data else ():
        name, n_rows = file.stem.split("_", 1)[-1], len(load(file)[0])
        X, y = load(file, max_rows=20_000)
        published = name.lower() in PUBLISHED or 1_000 <= n_rows <= 50_000
        if not published and np.sum(y == 1) >= 20:
            yield name, *by_class(X, y, seed)


def fitted(estimator, X, name=None, value=None):
    """Return an estimator fitted with a value of a constant, and seconds."""
    begin = time.process_time()
    with changed(name, value) if name else nullcontext({}) as parameters:
        estimator.set_params(**parameters).fit(X)
    return estimator, time.process_time() - begin


def error(model, X):
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


def auroc(normal, outliers):
    labels = np.repeat([0, 1], [len(normal), len(outliers)])
    return 100 * roc_auc_score(labels, -np.r_[normal, outliers])


# Measurements yield the name of a value, figures, and seconds.


@cache
def detectors(seed, quick, data):
    """Return fitted detectors with training rows, normal test rows and outliers."""
    fitted = []
    for name, train, normal, outliers in one_class(seed, quick, data):
        n = min(len(train) // 20, len(outliers) // 2)
        mixed = np.r_[train[n:], outliers[:n]]
        for kind, rows in (("clean", train), ("contaminated", mixed)):
            detector = AutoencoderOutlierDetector(random_state=seed).fit(rows)
            detector.set_params(warm_start=True, max_epochs=1, lr=1e-12)
            fitted.append((kind, detector, rows, normal, outliers[n:]))
            tqdm.write(f"  fitted to {name}, {kind}", file=sys.stderr)
    return fitted


def ranking(name, seed, options):
    for kind, detector, train, *test in detectors(seed, options.quick, options.data):
        if name == "_MAX_MEMORY" and len(train) <= chosen(name):
            continue
        for label, value in tried(name).items():
            begin = time.process_time()
            with changed(name, value):
                detector.fit(train)
                found = auroc(*map(detector.score_samples, test))
            seconds = time.process_time() - begin
            yield label, {"AUROC": found, kind: found}, seconds


def few_rows(name, seed, options):
    tables, sizes = (curve, heavy_curve, patches), (150, 300, 700)
    if name != "_FEW":
        tables, sizes = (wide_patches,), (600, 1500)
    for table in tables:
        for n in sizes[:2] if options.quick else sizes:
            train, normal, outliers = with_outliers(table, seed, n, 3000)
            done = {}
            for value in tried(name):
                # Values of _FEW differ only by whether the rows are fewer.
                same = n < value if name == "_FEW" else value
                if same not in done:
                    model = AutoencoderOutlierDetector(random_state=seed)
                    model, seconds = fitted(model, train, name, value)
                    scores = model.score_samples(normal)
                    rate = 100 * np.mean(scores < model.offset_)
                    figures = {
                        "RMS error": rate - 1,
                        f"rate, {n} rows": rate,
                        "AUROC": auroc(scores, model.score_samples(outliers)),
                    }
                    done[same] = figures, seconds
                yield value, *done[same]


@cache
def scored(table, seed):
    """Return scores of unseen normal rows, of outliers, and of rows far out."""
    train, normal, outliers = with_outliers(table, seed, 600, 8_000)
    model = AutoencoderOutlierDetector(random_state=seed).fit(train)
    far = 10 * np.abs(normal).max() * np.sign(outliers)
    return tuple(map(model.score_samples, (normal, outliers, far)))


def false_alarms(name, seed, options):
    for table in BENT[-2:] if options.quick else (*PLAIN, *BENT):
        normal, outliers, far = scored(table, seed)
        pool, fresh = normal[:4000], normal[4000:]
        for label, value in tried(name).items():
            rng = np.random.RandomState(seed)
            for n in 20 * (100, 300, 1000):
                rows, n_bad = rng.choice(pool, n), max(1, round(0.015 * n))
                bad = np.r_[rng.choice(outliers, n_bad), rng.choice(far, n_bad)]
                begin = time.process_time()
                with changed(name, value):
                    clean = _thresholds.automatic(rows)
                    seconds = time.process_time() - begin
                    mixed = _thresholds.automatic(np.r_[rows[len(bad) :], bad])
                rates = [100 * np.mean(fresh < t) for t in (clean, mixed)]
                figures = {
                    "RMS error": np.subtract(rates, 1),
                    "clean: RMS error": rates[0] - 1,
                    "clean: rate": rates[0],
                    "contaminated: RMS error": rates[1] - 1,
                    "contaminated: rate": rates[1],
                    "contaminated: found": 100 * np.mean(outliers < mixed),
                }
                yield label, figures, seconds


@cache
def judged(table, seed, n):
    """Return gains of held-out rows, test error over that of PCA, and seconds."""
    train, test = drawn(table, seed, n)
    gains, decide, k = [], selection.is_clear_gain, train.shape[1] // 4
    selection.is_clear_gain = lambda g, weight=None: gains.append(g) is None
    try:
        model, seconds = fitted(AutoencoderTransformer(k, random_state=seed), train)
    finally:
        selection.is_clear_gain = decide
    return gains, error(model, test) / error(PCA(k).fit(train), test), seconds


def leaving_pca(name, seed, options):
    for table in (*PLAIN, *BENT, diabetes):
        for n in (250,) if options.quick else (250, 450):
            gains, trained, seconds = judged(table, seed, n)
            kind = "without" if table in PLAIN else "with"
            for label, value in tried(name).items():
                with changed(name, value):
                    left = bool(gains) and selection.is_clear_gain(gains[0])
                ratio = trained if left else 1.0
                figures = {
                    "error / PCA": ratio,
                    "largest error / PCA": ratio,
                    f"{kind} structure: leave": 100 * left,
                    f"{kind} structure: worse": 100 * (ratio > 1),
                }
                yield label, figures, seconds


def few_trained(name, seed, options):
    for table in (*PLAIN, *BENT, diabetes):
        train, test = drawn(table, seed, 250)
        for n in (180,) if options.quick else (100, 180):
            rows = train[:n]
            pca = PCA(2).fit(rows)
            for value in tried(name):
                model = AutoencoderTransformer(2, random_state=seed)
                model, seconds = fitted(model, rows, name, value)
                ratio = error(model, test) / error(pca, test)
                figures = {
                    "error / PCA": ratio,
                    "largest error / PCA": ratio,
                    "leave": 100 * (model.best_epoch_ > 0),
                }
                yield value, figures, seconds


def quantised(name, seed, options):
    for table in (heavy_factors, curve):
        train, test = drawn(table, seed, 1500)
        for start in ("pca", "random"):
            for value in tried(name):
                model = AutoencoderTransformer(
                    4,
                    architecture=MLP(start=start),
                    bottleneck=VectorQuantized(256),
                    max_epochs=5 if options.quick else 15,
                    random_state=seed,
                )
                model, seconds = fitted(model, train, name, value)
                left = 100 * error(model, test) / np.square(test).mean()
                figures = {
                    "error": left,
                    f"error, {start}": left,
                    f"perplexity, {start}": 100 * model.perplexity_ / 256,
                }
                yield value, figures, seconds


SPECTRA = {
    "flat": lambda j: j**0,
    "1 / j": lambda j: 1 / j,
    "exponential": lambda j: np.exp(-j / 8),
    "ten axes": lambda j: np.where(j <= 10, 1.0, 1e-4),
    "one axis": lambda j: np.where(j == 1, 1.0, 1e-5),
}


def spectral_tables(rng, n, d):
    """Yield names and tables of single precision."""
    rank = min(n, d, 400)
    axes = np.linalg.qr(rng.normal(size=(d, rank)))[0].T
    for name, variances in SPECTRA.items():
        spread = np.sqrt(variances(np.arange(1.0, rank + 1)))
        rows = (rng.normal(size=(n, rank)) * spread) @ axes
        yield name, (rows / rows.std()).astype(np.float32)
    for share in (0.3, 0.003):
        rows = (rng.uniform(size=(n, d)) < share).astype(float)
        yield f"ones: {share}", standardised(rows, rows)[0].astype(np.float32)


def single_precision(name, seed, options):
    rng = np.random.RandomState(seed)
    shapes = (20_000, 60), (6_000, 400), (200, 8_000), (1_200, 1_000)
    for n, d in shapes[:1] if options.quick else shapes:
        for spectrum, x in spectral_tables(rng, n, d):
            single, double = (
                principal_axes._spectrum(
                    x, None, dtype, None, np.random.RandomState(seed)
                )[2]
                for dtype in (np.float32, np.float64)
            )
            found = np.abs(single - double).max() / double[0]
            tqdm.write(f"  {n} x {d}, {spectrum}: {found:.1e}", file=sys.stderr)
            best = residual(x.astype(float), seed)[0]
            for value in tried(name):
                with changed(name, value):
                    left, seconds = residual(x, seed)
                figures = {
                    "errors above": 100 * (found > value),
                    "largest error": found,
                    "largest excess": left / best - 1,
                }
                yield value, figures, seconds


def residual(x, seed):
    """Return the sum of squares that eight axes leave of rows, and seconds."""
    begin = time.process_time()
    axes = principal_axes.PrincipalAxes(x, None, 8, np.random.RandomState(seed))
    seconds = time.process_time() - begin
    return np.square(axes.residual(x.astype(float))).sum(), seconds


def training(name, seed, options):
    for table in (patches, diabetes) if options.quick else (*BENT, diabetes):
        train, test = drawn(table, seed, 500)
        k, length = train.shape[1] // 4, np.square(test).sum(axis=1)
        pca, far = PCA(k).fit(train), test[length >= np.quantile(length, 0.99)]
        for value in tried(name):
            n_steps = 2 if name == "_DAMPING" else 0
            model = AutoencoderTransformer(
                k, n_projection_steps=n_steps, random_state=seed
            )
            with changed(name, value) as parameters:  # it may be one of inference
                model, seconds = fitted(model.set_params(**parameters), train)
                ratio = error(model, test) / error(pca, test)
                figures = {
                    "error / PCA": ratio,
                    "largest error / PCA": ratio,
                    "far out": error(model, far) / error(pca, far),
                }
            yield value, figures, seconds


# What measures each constant, and with how many seeds.
MEASURED = {
    **dict.fromkeys(["_NEAR", "_FAR", "_WHITENING", "_MAX_MEMORY"], (ranking, 3)),
    **dict.fromkeys(["_RELATIVE", "_AROUND", "_UPPER"], (ranking, 3)),
    "_SMALLEST_RESIDUAL": (ranking, 3),
    **dict.fromkeys(["_FEW", "_ROWS_PER_COMPONENT", "_ROWS_PER_COLUMN"], (few_rows, 3)),
    **dict.fromkeys(["_TAIL", "_FARTHEST", "_STRETCH"], (false_alarms, 3)),
    **dict.fromkeys(["_CLEAR", "_TRUSTED"], (leaving_pca, 6)),
    "_AT_LEAST": (few_trained, 3),
    "_DEAD_SHARE": (quantised, 2),
    "_SINGLE_ERROR": (single_precision, 2),
    **dict.fromkeys(["_PACE", "_WIDTHS", "_DAMPING", "lr", "averaging"], (training, 3)),
}


def gathered(figure, values):
    """Return one number for those of all tables."""
    if "largest" in figure:
        return np.max(values)
    if "RMS" in figure:
        return np.sqrt(np.mean(np.square(values)))
    return gmean(values) if figure in ("error / PCA", "far out") else np.mean(values)


def plus_minus(values, spread, sign=""):
    shown = format(values.mean(), f"{sign}.3g")
    return f"{shown} ± {spread:.1g}" if len(values) > 1 else shown


def report(name, records):
    """Print the table of a constant, given its figures by value and seed."""
    labels = list(tried(name))
    best = labels[list(tried(name).values()).index(chosen(name))]
    figures = list(dict.fromkeys(f for found, _ in records[best, 0] for f in found))
    n_seeds = len(records) // len(labels)

    def per_seed(label, figure):
        runs = [[f for f, _ in records[label, seed]] for seed in range(n_seeds)]
        return np.array(
            [gathered(figure, [f[figure] for f in run if figure in f]) for run in runs]
        )

    head = ["value", figures[0], "difference", *figures[1:], "seconds"]
    print(f"\n{name}, {n_seeds} seeds\n\n| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for label in labels:
        columns = [per_seed(label, figure) for figure in figures]
        cells = [plus_minus(c, c.std(ddof=min(1, n_seeds - 1))) for c in columns]
        gap = columns[0] - per_seed(best, figures[0])
        noise = gap.std(ddof=min(1, n_seeds - 1)) / np.sqrt(n_seeds)
        cells.insert(1, "chosen" if label == best else plus_minus(gap, noise, "+"))
        seconds = [s for seed in range(n_seeds) for _, s in records[label, seed]]
        print(f"| {label} | {' | '.join(cells)} | {np.mean(seconds):.2g} |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--constants", nargs="+", default=list(MEASURED), choices=MEASURED
    )
    parser.add_argument("--data", type=Path, help="folder of ADBench tables, for AUROC")
    parser.add_argument("--seeds", type=int, help="how many; else 2 to 6")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in options.constants:
        measure, n_seeds = MEASURED[name]
        records = {}
        for seed in range(options.seeds or (1 if options.quick else n_seeds)):
            progress = tqdm(measure(name, seed, options), f"{name}, seed {seed}")
            for label, figures, seconds in progress:
                records.setdefault((label, seed), []).append((figures, seconds))
        report(name, records)


if __name__ == "__main__":
    main()
