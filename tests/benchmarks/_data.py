"""The real tables that the benchmarks run on, and how published protocols split them.

They are in the folder named by SKAE_DATA. A split has the training rows, the test rows
and the labels of the test rows, 1 for outliers.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

_LOGS = {
    "NSL-KDD": (
        "nsl_kdd.npz",
        "X_num, X_cat and y of the 20 % training part (_train20) and of the test part "
        "(_test), from https://www.unb.ca/cic/datasets/nsl.html",
    ),
    "credit card": (
        "creditcard_sample1722.npz",
        "X, y and names of columns: the 492 frauds of https://www.openml.org/d/1597 "
        "and 1,230 other payments",
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
            "mnist.npz, and for outliers odds/*.npz, oddbench/*.npz and logs; each is "
            "named if missing."
        )
    return Path(folder)


def adbench(least=0, most=np.inf):
    """Return the ADBench tables with so many rows at hand, a dict from name to file."""
    files = sorted((data_folder() / "adbench").glob("*.npz"))
    return {
        file.stem.split("_", 1)[1]: file
        for file in files
        if least <= _n_rows(file) <= most
    }


def _n_rows(file):
    with np.load(file, allow_pickle=True) as table:
        return len(table["y"])


def odds():
    """Return the tables of PyOD's benchmark at hand as a dict from name to file."""
    folder = data_folder() / "odds"
    files = sorted(folder.glob("*.npz"))
    if not files:
        print(f"Skipped: {folder} has no tables. They are PyOD's, in notebooks/data.")
    return {file.stem: file for file in files}


def oddbench(half):
    """Return half of the OddBench tables at hand as a dict from name to file.

    Options are chosen on the half "choose", figures are published of the half "report".
    A table's half follows from its name alone.
    """
    folder = data_folder() / "oddbench"
    files = sorted(folder.glob("*.npz"))
    if not files:
        print(
            f"Skipped: {folder} has no tables. They are those of OddBench (KDD 2026)."
        )
    halves = "choose", "report"
    return {
        file.stem: file
        for file in files
        if halves[int(hashlib.sha256(file.stem.encode()).hexdigest(), 16) % 2] == half
    }


def fixed_split(file):
    """Return the training rows, test rows and labels that OddBench prescribes."""
    with np.load(file, allow_pickle=True) as table:
        train, test, labels = table["X_train"], table["X_test"], table["y_test"]
    return *standardised(train.astype(float), test.astype(float)), labels


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


def standardised(train, test):
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def halved(X, y, normal):
    """Return the first half of the normal rows, and all others."""
    half = round(0.5 * len(normal))
    test = np.r_[normal[half:], np.flatnonzero(y == 1)]
    return *standardised(X[normal[:half]], X[test]), y[test]


def file_order(X, y, seed):
    return halved(X, y, np.flatnonzero(y == 0))


def shuffled(X, y, seed):
    rng = np.random.RandomState(seed)
    return halved(X, y, rng.permutation(np.flatnonzero(y == 0)))


def contaminated_by(share):
    """Return a split like `shuffled`, with a share of outliers in the training rows.

    At most half of the outliers train.
    """

    def split(X, y, seed):
        rng = np.random.RandomState(seed)
        normal = rng.permutation(np.flatnonzero(y == 0))
        outliers = rng.permutation(np.flatnonzero(y == 1))
        half = len(normal) // 2
        n_inside = min(round(share / (1 - share) * half), len(outliers) // 2)
        train = rng.permutation(np.r_[normal[:half], outliers[:n_inside]])
        test = np.r_[normal[half:], outliers[n_inside:]]
        return *standardised(X[train], X[test]), y[test]

    return split


def split_60_40(X, y, seed):
    """Return rows of both kinds to train on, and others."""
    rng = np.random.RandomState(seed)
    train, test, _, labels = train_test_split(X, y, test_size=0.4, random_state=rng)
    return *standardised(train, test), labels


def bootstrap(X, y, seed):
    """Return a bootstrap of all rows, and all of them."""
    X = StandardScaler().fit_transform(X)
    return X[np.random.RandomState(seed).choice(len(X), len(X))], X, y


def load_log(file):
    """Return counts of events, or features of payments, and labels."""
    with np.load(file) as archive:
        if "X_win10" in archive:
            return archive["X_win10"].astype(float), archive["y_win10"]
        # Time counts from the start of the recording: no property of a payment.
        first = int("names" in archive and archive["names"][0] == "Time")
        return archive["X"][:, first:].astype(float), archive["y"]


def network_traffic(file):
    """Return the normal training rows of NSL-KDD, the test rows and their labels.

    Numbers are standardised, words become indicators.
    """
    with np.load(file) as archive:
        normal = archive["y_train20"] == 0
        numbers = archive["X_num_train20"][normal], archive["X_num_test"]
        words = archive["X_cat_train20"][normal], archive["X_cat_test"]
        labels = archive["y_test"]
    # Bytes and seconds span many powers of ten.
    numbers = [np.sign(X) * np.log1p(np.abs(X.astype(float))) for X in numbers]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(words[0])
    train, test = (
        np.hstack([X, encoder.transform(W)])
        for X, W in zip(standardised(*numbers), words, strict=True)
    )
    return train, test, labels


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
