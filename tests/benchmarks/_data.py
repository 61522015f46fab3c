"""The real tables that the benchmarks run on, from the folder named by SKAE_DATA."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LOGS = {
    "NSL-KDD": (
        "nsl_kdd.npz",
        "X_num, X_cat and y of the 20 % training part (_train20) and of the test part "
        "(_test), from https://www.unb.ca/cic/datasets/nsl.html",
    ),
    "credit card": (
        "creditcard_sample1722.npz",
        "X, Time first, and y: the 492 frauds of https://www.openml.org/d/1597 among "
        "1,230 other payments",
    ),
    "HDFS": (
        "hdfs_deeplog_counts.npz",
        "X, counts of events per session, and y, from "
        "https://github.com/wuyifan18/DeepLog",
    ),
    "BGL": (
        "bgl_2k.npz",
        "X_win10, counts of events per ten lines, and y_win10, from "
        "https://github.com/logpai/loghub",
    ),
}


def data_folder():
    """Return the folder of the data, or end with a word on what is missing."""
    folder = os.environ.get("SKAE_DATA")
    if folder is None or not Path(folder).is_dir():
        sys.exit(
            "Nothing was run. Set SKAE_DATA to a folder with the tables of ADBench in "
            "adbench/*.npz (https://github.com/Minqi824/ADBench, 'Classical'), "
            "mnist.npz, and for outliers odds/*.npz and logs; each is named if missing."
        )
    return Path(folder)


def adbench():
    """Return the ADBench tables at hand as a dict from name to file."""
    files = sorted((data_folder() / "adbench").glob("*.npz"))
    return {file.stem.split("_", 1)[1]: file for file in files}


def odds():
    """Return the tables of PyOD's benchmark at hand as a dict from name to file."""
    folder = data_folder() / "odds"
    files = sorted(folder.glob("*.npz"))
    if not files:
        print(f"Skipped: {folder} has no tables. They are PyOD's, in notebooks/data.")
    return {file.stem: file for file in files}


def logs():
    """Return the labelled logs at hand as a dict from name to file."""
    at_hand = {}
    for name, (file, contents) in _LOGS.items():
        if (data_folder() / file).is_file():
            at_hand[name] = data_folder() / file
        else:
            print(f"Skipped: {file} is missing, an archive with {contents}.")
    return at_hand


def load(file, max_rows=None, seed=0):
    """Return features and labels of a table, cut to ``max_rows`` seeded rows."""
    with np.load(file, allow_pickle=True) as table:
        X, y = table["X"].astype(float), table["y"]
    if max_rows is not None and len(X) > max_rows:
        rows = np.random.RandomState(seed).choice(len(X), max_rows, replace=False)
        X, y = X[rows], y[rows]
    return X, y


@dataclass
class Images:
    """Images as rows, grey values in [0, 1]."""

    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray

    def shrunk(self, factor):
        """Return the images of 28 x 28 with squares of pixels averaged."""
        size = 28 // factor
        small = [
            X.reshape(-1, size, factor, size, factor).mean(axis=(2, 4))
            for X in (self.train, self.test)
        ]
        train, test = (X.reshape(len(X), -1) for X in small)
        return Images(train, self.y_train, test, self.y_test)


def mnist(n_train=60_000, n_test=10_000):
    """Return the first images of each part of MNIST."""
    file = data_folder() / "mnist.npz"
    if not file.is_file():
        sys.exit(
            f"Nothing was run. {file} is missing: an archive with X_train of shape "
            "(60000, 28, 28), y_train, X_test and y_test, in the original order."
        )
    with np.load(file) as archive:
        X, X_test = (
            (archive[name][:n].reshape(n, -1) / 255).astype(np.float32)
            for name, n in (("X_train", n_train), ("X_test", n_test))
        )
        return Images(
            X, archive["y_train"][:n_train], X_test, archive["y_test"][:n_test]
        )
