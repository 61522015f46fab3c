"""Fits that are killed at random points, and go on.

Each fit is killed with SIGKILL at random times, again and again, until it ends. Its
scores, its codes and its history are compared with those of a fit that was left alone.
Every epoch is written, so that many kills are within writing.

    python tests/safety/kills.py [--kills 100] [--seed 0]
"""

import argparse
import hashlib
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import skae
from skae._training import checkpoint
from skae.architectures import MLP
from skae.bottlenecks import BatchTopK, VectorQuantized
from skae.corruptions import Masking

X = load_digits().data
ESTIMATORS = {
    "transformer": (skae.AutoencoderTransformer(8, max_epochs=15), X),
    "transformer, random start": (
        skae.AutoencoderTransformer(2, max_epochs=15, corruption=Masking(0.2)),
        X,
    ),
    "transformer, few rows": (
        skae.AutoencoderTransformer(8, architecture=MLP(start="random")),
        X[:200],
    ),
    "codebook": (
        skae.AutoencoderTransformer(8, bottleneck=VectorQuantized(16), max_epochs=10),
        X,
    ),
    "sparse dictionary": (
        skae.AutoencoderTransformer(
            96, architecture=MLP(()), bottleneck=BatchTopK(5), max_epochs=10
        ),
        X,
    ),
    "ensemble of three": (
        skae.AutoencoderOutlierDetector(8, n_estimators=3, max_epochs=8),
        X,
    ),
    "cross-fitting": (
        skae.AutoencoderOutlierDetector(4, n_estimators=2, max_epochs=10),
        X[:300],
    ),
    "missing entries": (
        skae.AutoencoderTransformer(4, max_epochs=15),
        np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X),
    ),
}


def fit(model, X, folder, result):
    """Fit, and write a digest of what came out; in a process of its own."""
    warnings.simplefilter("ignore")
    checkpoint._SHARE = 1e9
    model.set_params(checkpoint=folder, random_state=0).fit(X)
    found = hashlib.sha256()
    for name, values in model.history_.items():
        if name != "seconds":
            found.update(values)
    for tensor in model.net_.module_.state_dict().values():
        found.update(tensor.numpy())
    found.update(np.ascontiguousarray(model.transform(X)))
    found.update(repr(model.diagnostics_).encode())
    if hasattr(model, "offset_"):
        found.update(np.append(model.score_samples(X), model.offset_))
    Path(result).write_text(found.hexdigest())


def start(*args):
    """Fit in a forked process; return its number."""
    process = os.fork()
    if process:
        return process
    try:
        fit(*args)
    except BaseException:
        os._exit(1)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    per_estimator = -(-args.kills // len(ESTIMATORS))
    print(f"{'':26} {'seconds':>7} {'kills':>6} {'ends':>5} {'equal':>6} {'left':>5}")
    sums = np.zeros(4, dtype=int)
    for name, (model, rows) in ESTIMATORS.items():
        with tempfile.TemporaryDirectory() as root:
            root = Path(root)
            begin = time.monotonic()
            # Also with a checkpoint: without, several networks are trained as a stack.
            process = start(model, rows, root / "other", root / "whole")
            assert os.waitpid(process, 0)[1] == 0
            seconds = time.monotonic() - begin
            expected = (root / "whole").read_text()
            counts = np.zeros(4, dtype=int)  # kills, ends, equal ends, files left
            while counts[0] < per_estimator:
                process = start(model, rows, root / "folder", root / "killed")
                time.sleep(rng.uniform(0, 0.6 * seconds))
                os.kill(process, signal.SIGKILL)
                _, status = os.waitpid(process, 0)
                if os.WIFSIGNALED(status):
                    counts[0] += 1
                if counts[0] < per_estimator and status != 0:
                    continue
                if status != 0:
                    # The last kill: let it end.
                    process = start(model, rows, root / "folder", root / "killed")
                    _, status = os.waitpid(process, 0)
                counts[1] += 1
                counts[2] += status == 0 and (root / "killed").read_text() == expected
                counts[3] += len(list((root / "folder").iterdir()))
                (root / "killed").unlink(missing_ok=True)
        sums += counts
        kills, ends, equal, left = counts
        print(f"{name:26} {seconds:7.1f} {kills:6} {ends:5} {equal:6} {left:5}")
    kills, ends, equal, left = sums
    print(f"{'all':26} {'':7} {kills:6} {ends:5} {equal:6} {left:5}")
    raise SystemExit(bool(equal != ends or left > 0))


if __name__ == "__main__":
    main()
