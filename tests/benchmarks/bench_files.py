"""Time to save and load estimators, and the size of their files.

`skae.save` and `skae.load`, beside pickle and joblib: medians over rounds in which each
runs once, of files on the disk, and bytes of the file beside those of its arrays.
Default settings, digits (1,797 x 64).

    python tests/benchmarks/bench_files.py [--rounds 15] [--threads 1]
"""

import argparse
import json
import os
import pickle
import statistics
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import joblib
import torch
from _timing import ignore_warnings
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import AutoencoderOutlierDetector, AutoencoderTransformer

ESTIMATORS = {
    "detector": AutoencoderOutlierDetector(random_state=0),
    "detector of five networks": AutoencoderOutlierDetector(
        n_estimators=5, random_state=0
    ),
    "transformer": AutoencoderTransformer(random_state=0),
    "pipeline": make_pipeline(
        StandardScaler(), AutoencoderOutlierDetector(random_state=0)
    ),
}


def dump(model, path):
    with open(path, "wb") as file:
        pickle.dump(model, file)


def undump(path):
    with open(path, "rb") as file:
        return pickle.load(file)


WAYS = {
    "skae": (skae.save, skae.load),
    "pickle": (dump, undump),
    "joblib": (joblib.dump, joblib.load),
}


def array_bytes(path):
    """Return how many bytes of a file of skae are those of arrays."""
    with zipfile.ZipFile(path) as file:
        data = file.read("arrays.safetensors")
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return max(entry["data_offsets"][1] for entry in header.values())


def timed(function, *args):
    started = time.perf_counter()
    function(*args)
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ignore_warnings()
    X = load_digits().data
    header = f"{'':28}{'':8}{'save, ms':>10}{'load, ms':>10}{'bytes':>12}"
    print(f"{header}{'of arrays':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, estimator in ESTIMATORS.items():
            model = estimator.fit(X)
            paths = {way: Path(folder) / way for way in WAYS}
            times = {way: ([], []) for way in WAYS}
            for _ in range(arguments.rounds):
                for way, (save, load) in WAYS.items():
                    times[way][0].append(timed(save, model, paths[way]))
                    times[way][1].append(timed(load, paths[way]))
            n_bytes = array_bytes(paths["skae"])
            for way, (saving, loading) in times.items():
                size = os.path.getsize(paths[way])
                print(
                    f"{name:28}{way:8}{statistics.median(saving):10.1f}"
                    f"{statistics.median(loading):10.1f}{size:12,}{n_bytes:12,}"
                    f"{size / n_bytes:8.3f}"
                )
                name = ""
