"""The real tables that the benchmarks run on, from the folder named by SKAE_DATA."""

import os
import sys
from pathlib import Path

import numpy as np


def data_folder():
    """Return the folder of the data, or end with a word on what is missing."""
    folder = os.environ.get("SKAE_DATA")
    if folder is None or not Path(folder).is_dir():
        sys.exit(
            "Nothing was run. Set SKAE_DATA to a folder with the tables of ADBench in "
            "adbench/*.npz (https://github.com/Minqi824/ADBench, 'Classical')."
        )
    return Path(folder)


def adbench():
    """Return the ADBench tables at hand as a dict from name to file."""
    files = sorted((data_folder() / "adbench").glob("*.npz"))
    return {file.stem.split("_", 1)[1]: file for file in files}


def load(file, max_rows=None, seed=0):
    """Return features and labels of a table, cut to ``max_rows`` seeded rows."""
    with np.load(file, allow_pickle=True) as table:
        X, y = table["X"].astype(float), table["y"]
    if max_rows is not None and len(X) > max_rows:
        rows = np.random.RandomState(seed).choice(len(X), max_rows, replace=False)
        X, y = X[rows], y[rows]
    return X, y
