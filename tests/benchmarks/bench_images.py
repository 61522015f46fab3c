"""Images and spectrograms through a few numbers: the defaults beside PCA and textbook.

Figures are mean squared errors on test rows, divided by that of PCA with as many
components; a third column has the R² of the default. "textbook" is two hidden layers as
wide as those of the default, ReLU, torch's initial weights, no normalisation, no linear
path, at lr=5e-3; all else is the default, the stopping rule too. "Bernoulli" is the
default with ``loss=Bernoulli()``, for grey values in [0, 1]. One thread; seconds are of
fit.

MNIST: the first rows of the training part, all 10,000 test images. Digits (8 x 8, of
scikit-learn): 70 % train. Spectrograms (3,000 spoken digits, 40 x 48): the official
test part.

    SKAE_DATA=<folder> python tests/benchmarks/bench_images.py [--seeds 0 1 2]
        [--data digits ...] [--models skae textbook ...] [--jobs 2]
"""

import argparse
import time
import warnings

import joblib
import numpy as np
import torch
from _data import data_folder, mnist
from bench_reconstruction import MODELS as OF_TABLES
from bench_reconstruction import error
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.architectures import Conv
from skae.losses import Bernoulli


def small_mnist(seed):
    data = mnist(n_train=10_000).shrunk(2)
    return data.train, data.test


def large_mnist(seed):
    data = mnist(n_train=3000)
    return data.train, data.test


def digits(seed):
    return train_test_split(load_digits().data / 16, test_size=0.3, random_state=seed)


def spectrograms(seed):
    with np.load(data_folder() / "fsdd_logmel.npz") as archive:
        X = archive["X"].astype(np.float32).reshape(3000, -1)
        test = archive["index"] < 5
    return X[~test], X[test]


# Rows, code sizes, shape of a row.
DATA = {
    "digits": (digits, (2, 8, 32), (1, 8, 8)),
    "MNIST 14 x 14": (small_mnist, (16,), (1, 14, 14)),
    "MNIST 28 x 28": (large_mnist, (16, 32, 50), (1, 28, 28)),
    "spectrograms": (spectrograms, (8, 32), (1, 40, 48)),
}
MODELS = {
    "skae": lambda shape: {},
    "textbook": lambda shape: OF_TABLES["textbook"],
    "Bernoulli": lambda shape: {"loss": Bernoulli()},
    "Conv": lambda shape: {"architecture": Conv(shape)},
}


def run(name, seed, k, model):
    """Return error over PCA's, R², the last and the best epoch, and seconds."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows, _, shape = DATA[name]
    train, test = rows(seed)
    pca = PCA(k, random_state=0).fit(train)
    begin = time.perf_counter()
    fitted = AutoencoderTransformer(k, random_state=seed, **MODELS[model](shape))
    fitted.fit(train)
    seconds = time.perf_counter() - begin
    found = error(test, fitted)
    r2 = 1 - found / np.mean((test - train.mean(axis=0)) ** 2)
    epochs = f"{fitted.best_epoch_}/{fitted.n_iter_}"
    per_row = found * test.shape[1]
    figures = map(float, (found / error(test, pca), per_row, r2))
    return name, k, seed, model, *figures, epochs, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--models", nargs="+", default=list(MODELS)[:3], choices=MODELS)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    arguments = parser.parse_args()
    tasks = [
        joblib.delayed(run)(name, seed, k, model)
        for name in arguments.data
        for k in DATA[name][1]
        for seed in arguments.seeds
        for model in arguments.models
        # Log energies are not in [0, 1].
        if not (name == "spectrograms" and model == "Bernoulli")
    ]
    head = "data", "k", "seed", "model", "over PCA's", "per row", "R²", "epochs", "s"
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
    for row in joblib.Parallel(arguments.jobs, return_as="generator")(tasks):
        cells = [
            f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row
        ]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
