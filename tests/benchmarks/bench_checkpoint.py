"""What checkpoints cost: time of writing as a share of the time of an epoch.

Every epoch is written, whatever it costs. Numbers of rows are such that an epoch takes
about a second.

    python tests/benchmarks/bench_checkpoint.py [--epochs 6] [--threads 1]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _timing import ignore_warnings

from skae import AutoencoderTransformer
from skae._training import checkpoint
from skae.architectures import MLP

# Columns, components, architecture, rows.
CASES = [
    (20, 4, MLP(), 60_000),
    (64, 8, MLP(), 30_000),
    (64, 8, MLP((256, 128)), 20_000),
    (300, 16, MLP((512, 256)), 7_000),
    (784, 32, MLP((512, 256)), 4_000),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ignore_warnings()
    checkpoint._SHARE = 1e9
    save, times, sizes = checkpoint.Checkpoint.save, [], []

    def timed(self, make_state, last=False):
        begin = time.perf_counter()
        save(self, make_state, last)
        times.append(time.perf_counter() - begin)
        sizes.append(self._path.stat().st_size)

    checkpoint.Checkpoint.save = timed
    rng = np.random.default_rng(0)
    print("columns  weights  epoch [s]  file [MB]  writing [ms]  share")
    for width, k, architecture, n_rows in CASES:
        X = rng.normal(size=(n_rows, width)).astype(np.float32)
        times.clear()
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            model = AutoencoderTransformer(
                k,
                architecture=architecture,
                early_stopping=False,
                max_epochs=args.epochs,
                random_state=0,
                checkpoint=folder,
            ).fit(X)
        n_weights = sum(p.numel() for p in model.net_.module_.parameters())
        epoch = statistics.median(model.history_["seconds"])
        writing = statistics.median(times)
        print(
            f"{width:7} {n_weights:8,} {epoch:10.2f} {sizes[-1] / 1e6:10.2f} "
            f"{1e3 * writing:13.1f} {writing / epoch:6.1%}"
        )


if __name__ == "__main__":
    main()
