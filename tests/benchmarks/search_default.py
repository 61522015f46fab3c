"""The search for the default network: each choice beside others, on inner splits.

Candidates differ from the default of skae in what their names say. All are trained
on 70 % of the *training part* of a table, as bench_reconstruction.py splits it, and
judged on the other 30 % of that part: the test part is never seen. Tables of ADBench by
name, tables of OddBench by name (normal rows of its training part), and "mnist", whose
images are shrunk to 14 x 14; code sizes 2, a quarter and half of the columns, for
images 16. Figures are squared errors divided by those of PCA with as many components:
geometric mean over tables and seeds, the largest, that of the hundredth of the rows
that are farthest out, and seconds of the processor for all fits. One thread per
process. ``--rows`` limits the rows to train on, and has other tables by default.

    SKAE_DATA=<folder> python tests/benchmarks/search_default.py [--jobs 2]
        [--tables yeast cardio ...] [--rows 300] [--seeds 0 ...]
        [--candidates default ...]
"""

import argparse
import time
import warnings

import joblib
import numpy as np
import torch
from _data import adbench, fixed_split, load, mnist, oddbench
from bench_reconstruction import error
from scipy.stats import gmean
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from skae import AutoencoderTransformer
from skae._training import encoder_stage
from skae.architectures import MLP, Conv, _networks

TABLES = ["yeast", "cardio", "satellite", "optdigits", "magic.gamma", "mnist"]
# Of OddBench; those that the number of epochs of few rows was chosen on, with --rows.
OF_FEW_ROWS = [
    *("DialogueIllocution", "EmployeeTurnover", "EnvironmentalFlux"),
    *("ErrorEventCategories", "ExaminationOutcomes", "GPUPowerProfile"),
    *("GameItemPassive", "HardwareDesignMetrics", "MassSpectrometryAnalysis"),
    *("MineralAnomaly", "MusicStreamingBehavior", "ProstateCancerTreatment"),
    *("SoftwareQualityMetrics", "SpecPowerModel"),
]


def mlp(**parameters):
    """Return parameters of the estimator, given those of `MLP` and others."""
    names = MLP().get_params()
    network = {name: parameters.pop(name) for name in [*parameters] if name in names}
    return {"architecture": MLP(**network), **parameters}


TEXTBOOK = {
    "activation": "relu",
    "norm": None,
    "start": "random",
    "linear_path": False,
}
RANDOM = {"norm": None, "start": "random"}
STAGE = {"max_encoder_steps": 4000}
CANDIDATES = {
    "default": mlp(),
    "tanh": mlp(activation="tanh"),
    "gelu": mlp(activation="gelu"),
    "relu": mlp(activation="relu"),
    "silu": mlp(activation="silu"),
    'norm="batch"': mlp(norm="batch"),
    "norm=None": mlp(norm=None),
    "norm=None, lr=5e-3": mlp(norm=None, lr=5e-3),
    'norm="layer"': mlp(norm="layer"),
    "lr=2.5e-3": mlp(lr=2.5e-3),
    "lr=5e-3": mlp(lr=5e-3),
    "lr=2e-2": mlp(lr=2e-2),
    "weight_decay=.01": mlp(weight_decay=0.01),
    "weight_decay=.05": mlp(weight_decay=0.05),
    "weight_decay=.2": mlp(weight_decay=0.2),
    "1 x 512": mlp(hidden_layer_sizes=(512,)),
    "2 x 256": mlp(hidden_layer_sizes=(256, 256)),
    "2 x 512": mlp(hidden_layer_sizes=(512, 512)),
    "3 x 128": mlp(hidden_layer_sizes=(128, 128, 128)),
    "3 x 256": mlp(hidden_layer_sizes=(256, 256, 256)),
    "batch_size=64": mlp(batch_size=64),
    "batch_size=256": mlp(batch_size=256),
    "gradient_clip=None": mlp(gradient_clip=None),
    "gradient_clip=.3": mlp(gradient_clip=0.3),
    "gradient_clip=5": mlp(gradient_clip=5.0),
    "averaging=.98": mlp(net_params={"averaging": 0.98}),
    "averaging=.998": mlp(net_params={"averaging": 0.998}),
    "n_iter_no_change=15": mlp(n_iter_no_change=15, max_epochs=300),
    "n_iter_no_change=30": mlp(n_iter_no_change=30),
    "from PCA": mlp(start="pca"),
    "from PCA, batch": mlp(start="pca", norm="batch"),
    "from PCA, batch, tanh": mlp(start="pca", norm="batch", activation="tanh"),
    "mixed": mlp(start="mixed"),
    "mixed, norm=None": mlp(start="mixed", norm=None),
    "mixed, norm=None, lr=5e-3": mlp(start="mixed", norm=None, lr=5e-3),
    "linear path at full pace": mlp() | {"_PACE": 1.0},
    "encoder stage": mlp(**STAGE),
    "1,000 encoder steps": mlp(max_encoder_steps=1000),
    "generated, no noise": mlp(**STAGE) | {"_NOISE": 0.0},
    "generated, noise of .5": mlp(**STAGE) | {"_NOISE": 0.5},
    "generated, residuals times 1": mlp(**STAGE) | {"_RESIDUALS": 1.0},
    "generated, residuals times 3": mlp(**STAGE) | {"_RESIDUALS": 3.0},
    "encoder stage, averaging=.995": mlp(**STAGE) | {"_AVERAGING": 0.995},
    "encoder stage, batches of 64": mlp(**STAGE) | {"_BATCH": 64},
    "encoder stage, batches of 256": mlp(**STAGE) | {"_BATCH": 256},
    "random, relu": mlp(**RANDOM, activation="relu", lr=5e-3, n_iter_no_change=30),
    "random, relu, lr=2.5e-3": mlp(
        **RANDOM, activation="relu", lr=2.5e-3, n_iter_no_change=30
    ),
    "random, elu": mlp(**RANDOM, activation="elu", lr=5e-3, n_iter_no_change=30),
    "random, relu, batch": mlp(
        start="random", norm="batch", activation="relu", lr=5e-3, n_iter_no_change=30
    ),
    "no linear path": mlp(start="random", linear_path=False),
    "textbook, lr=1e-3": mlp(lr=1e-3, **TEXTBOOK),
    "textbook, lr=5e-3": mlp(lr=5e-3, **TEXTBOOK),
    "textbook": mlp(**TEXTBOOK),
    # For images only.
    "Conv": {"architecture": Conv((1, 14, 14))},
    "Conv, norm=None": {"architecture": Conv((1, 14, 14), norm=None)},
    "Conv, lr=5e-3": {"architecture": Conv((1, 14, 14)), "lr": 5e-3},
    "Conv, elu": {"architecture": Conv((1, 14, 14), activation="elu")},
}


# Constants of skae that candidates change, and their modules.
CONSTANTS = {
    "_PACE": _networks,
    "_NOISE": encoder_stage,
    "_RESIDUALS": encoder_stage,
    "_AVERAGING": encoder_stage,
    "_BATCH": encoder_stage,
}


def set_constants(values):
    """Give constants of skae other values, by name."""
    for name, value in values.items():
        setattr(CONSTANTS[name], name, value)


def images(seed, n_train=5000, n_judged=3000):
    """Return shrunk images of the training set of MNIST."""
    X = mnist(n_test=1).shrunk(2).train
    order = np.random.RandomState(seed).permutation(len(X))
    return X[order[:n_train]], X[order[n_train : n_train + n_judged]]


def inner_split(table, seed, n_rows=None):
    """Return rows to train on and rows to judge by, both of the training part."""
    if table == "mnist":
        return images(seed)
    if table in adbench():
        X, _ = load(adbench()[table], max_rows=20_000, seed=seed)
        part, _ = train_test_split(X, test_size=0.3, random_state=seed)
    else:
        part, *_ = fixed_split((oddbench("choose") | oddbench("report"))[table])
    train, judged = train_test_split(part, test_size=0.3, random_state=seed)
    train = train[:n_rows]  # shuffled
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(judged)


def run(candidate, table, seed, n_rows=None):
    """Return one row of figures per code size."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parameters = dict(CANDIDATES[candidate])
    changed = {n: parameters.pop(n) for n in [*parameters] if n in CONSTANTS}
    chosen = {name: getattr(CONSTANTS[name], name) for name in changed}
    train, judged = inner_split(table, seed, n_rows)
    length = np.square(judged - train.mean(axis=0)).sum(axis=1)
    far = judged[length >= np.quantile(length, 0.99)]
    rows = []
    d = train.shape[1]
    for k in [16] if table == "mnist" else sorted({2, max(1, d // 4), d // 2}):
        pca = PCA(k).fit(train)
        begin = time.process_time()
        set_constants(changed)
        try:
            model = AutoencoderTransformer(k, random_state=seed, **parameters)
            model.fit(train)
        finally:
            set_constants(chosen)
        seconds = time.process_time() - begin
        row = {"candidate": candidate, "table": table, "k": k, "seconds": seconds}
        row["error"] = error(judged, model) / error(judged, pca)
        row["far out"] = error(far, model) / error(far, pca)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--rows", type=int, help="rows to train on, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    arguments = parser.parse_args()
    tables = arguments.tables or (OF_FEW_ROWS if arguments.rows else TABLES)
    tasks = [
        joblib.delayed(run)(candidate, table, seed, arguments.rows)
        for seed in arguments.seeds
        for table in tables
        for candidate in arguments.candidates
        if table == "mnist" or "Conv" not in candidate
    ]
    parallel = joblib.Parallel(arguments.jobs, return_as="generator_unordered")
    rows = [row for found in tqdm(parallel(tasks), total=len(tasks)) for row in found]
    cells = sorted({(row["table"], row["k"]) for row in rows})
    head = ["candidate", "error", "largest", "far out", "seconds"]
    head += [f"{table}, {k}" for table, k in cells]
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
    for candidate in arguments.candidates:
        own = [row for row in rows if row["candidate"] == candidate]
        if not own:
            continue
        errors = np.array([row["error"] for row in own])
        shown = [
            f"{gmean(errors):.4f}",
            f"{errors.max():.3f}",
            f"{gmean([row['far out'] for row in own]):.3f}",
            f"{sum(row['seconds'] for row in own):.0f}",
        ]
        for cell in cells:
            one = [row["error"] for row in own if (row["table"], row["k"]) == cell]
            shown.append(f"{gmean(one):.3f}" if one else "")
        print("|", " | ".join([candidate, *shown]), "|", flush=True)


if __name__ == "__main__":
    main()
