"""Many cycles of a life with estimators: growth of memory and of objects.

A cycle fits, scores, explains, saves, loads, pickles and forgets. Resident memory and
the number of objects that Python tracks are printed after each tenth of the cycles; the
growth is that from the second tenth, when all caches are full, to the last.

    python tests/safety/soak.py [--cycles 200]
"""

import argparse
import gc
import io
import os
import pickle
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_iris

import skae
from skae.bottlenecks import VectorQuantized

X = load_iris().data


def resident():
    """Return the resident memory of this process in MB, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cycle(number, folder):
    """Use estimators as a service does that is trained again and again."""
    rows = X + np.random.default_rng(number).normal(scale=0.01, size=X.shape)
    params = {"max_epochs": 2, "random_state": number, "checkpoint": folder}
    for model in (
        skae.AutoencoderOutlierDetector(2, contamination=0.1, **params),
        skae.AutoencoderTransformer(2, bottleneck=VectorQuantized(4), **params),
    ):
        model.fit(rows)
        file = io.BytesIO()
        skae.save(model, file)
        loaded = pickle.loads(pickle.dumps(skae.load(file)))
        loaded.transform(rows.astype(np.float32))
        loaded.to_torch("encoder")
        if hasattr(loaded, "explain"):
            loaded.explain(rows[:3])
            loaded.calibrate(rows)
        else:
            loaded.sample(3, random_state=0)
        try:
            loaded.fit(rows[:, :0])
        except ValueError:
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=200)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begin, found = time.monotonic(), []
    print("cycles  objects   tensors  memory [MB]")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, args.cycles + 1):
            cycle(number, folder)
            if number % (args.cycles // 10) == 0:
                gc.collect()
                objects = gc.get_objects()
                tensors = sum(issubclass(type(o), torch.Tensor) for o in objects)
                found.append((len(objects), tensors, resident()))
                del objects
                print(f"{number:6} {found[-1][0]:8,} {tensors:9,} {found[-1][2]:12.1f}")
                sys.stdout.flush()
    growth = np.subtract(found[-1], found[1])
    print(f"growth {growth[0]:8,.0f} {growth[1]:9,.0f} {growth[2]:12.1f}")
    print(f"{time.monotonic() - begin:.0f} s")
    raise SystemExit(bool(growth[0] > 1000 or growth[1] > 0 or growth[2] > 20))


if __name__ == "__main__":
    main()
