"""More rows than memory: peak memory, rows per second, and error beside rows in memory.

Tables of 30 columns are made chunk by chunk, or lie in files in a directory for
temporary ones. Every fit, of two epochs, runs in a process of its own. The memory is
the anonymous memory that it has added, which pages of files that the system may drop
are no part of. Seconds are those of processors, the making of rows included.

    python tests/benchmarks/bench_scale.py rows      # 1e5, 1e6, 1e7 rows
    python tests/benchmarks/bench_scale.py files     # the same rows in files
    SKAE_DATA=... python tests/benchmarks/bench_scale.py shuffling
    SKAE_DATA=... python tests/benchmarks/bench_scale.py partial_fit
    python tests/benchmarks/bench_scale.py workers   # of a local cluster of Dask
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _data import adbench, load, standardised
from _timing import ignore_warnings, in_fresh_process, memory_added, random_rows

from skae import AutoencoderTransformer
from skae._data import readers, stream
from skae.architectures import MLP

N_COLUMNS = 30
N_EPOCHS = 2
# Rows that are made at once.
STEP = 2**13


def made(number, n_rows):
    """Return a chunk of a table: 6 latent variables, and noise."""
    mixing = np.random.default_rng(0).normal(size=(12, N_COLUMNS)).astype(np.float32)
    rng = np.random.default_rng([1, number])
    z = rng.normal(size=(n_rows, 6)).astype(np.float32)
    x = np.hstack([z, np.sin(2 * z)]) @ mixing
    return x + 0.1 * rng.normal(size=x.shape).astype(np.float32)


class Made:
    """An array whose rows are made when they are read."""

    dtype = np.dtype(np.float32)
    chunks = (STEP, N_COLUMNS)

    def __init__(self, n_rows):
        self.shape = n_rows, N_COLUMNS

    def __getitem__(self, rows):
        numbers = range(rows.start // STEP, -(-rows.stop // STEP))
        return np.concatenate(
            [made(i, min(STEP, self.shape[0] - i * STEP)) for i in numbers]
        )


def table(kind, n_rows, directory):
    """Return a table of a kind."""
    if kind == "made":
        return Made(n_rows)
    path = Path(directory) / f"{kind}-{n_rows}"
    if kind == "memmap":
        if not path.exists():
            with open(path, "wb") as file:
                for start in range(0, n_rows, STEP):
                    made(start // STEP, min(STEP, n_rows - start)).tofile(file)
        return np.memmap(path, np.float32, "r", shape=(n_rows, N_COLUMNS))
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        names = [f"x{j}" for j in range(N_COLUMNS)]
        schema = pa.schema([(name, pa.float32()) for name in names])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, n_rows, 2**17):
                last = min(start + 2**17, n_rows)
                x = Made(n_rows)[start:last]
                writer.write_table(pa.table(list(x.T), names))
    return path


def one(kind, n_rows, directory, how):
    """Fit and transform once; return what it took."""
    X = table(kind, n_rows, directory)
    if how == "memory":
        X = np.array(X)
    else:
        readers.SMALL_TABLE = stream._FEW_ROWS = 0
    model = AutoencoderTransformer(6, max_epochs=N_EPOCHS, random_state=0)
    start = time.process_time()
    fit = memory_added(lambda: model.fit(X))
    middle = time.process_time()
    transform = memory_added(lambda: model.transform(X))
    return {
        "MB": fit / 1e6,
        "s": middle - start,
        "transform MB": transform / 1e6,
        "transform s": time.process_time() - middle,
        "r2": model.diagnostics_["r2"],
    }


def run(kind, n_rows, directory="", how="chunks"):
    """Fit in a process of its own, and print a line."""
    r = in_fresh_process(one, kind, n_rows, directory, how)
    size = n_rows * N_COLUMNS * 4 / 1e6
    print(
        f"{kind:8} {how:7} {n_rows:11,} {size:8,.0f} {r['MB']:8,.0f} {r['s']:8.1f} "
        f"{n_rows * N_EPOCHS / r['s']:9,.0f} {r['transform MB']:9,.0f} "
        f"{n_rows / r['transform s']:10,.0f} {r['r2']:7.4f}",
        flush=True,
    )
    return r


def header():
    print(
        f"{'table':8} {'how':7} {'rows':>11} {'MB':>8} {'fit MB':>8} {'fit s':>8} "
        f"{'rows/s':>9} {'transf MB':>9} {'rows/s':>10} {'R2':>7}"
    )


def rows(*numbers):
    """Memory and time by the number of rows: the slope of the logarithms."""
    header()
    numbers = [int(float(n)) for n in numbers or ("1e5", "1e6", "1e7")]
    found = [run("made", n) for n in numbers]
    x = np.log10(numbers)
    slope = np.polyfit(x, np.log10([r["s"] for r in found]), 1)[0]
    print(f"fit s ~ rows ** {slope:.2f}; fit MB {[round(r['MB']) for r in found]}")


def files(n_rows="3e6"):
    """The same rows in files, and in memory."""
    header()
    n_rows = int(float(n_rows))
    with tempfile.TemporaryDirectory() as directory:
        run("memmap", n_rows, directory, "memory")
        run("memmap", n_rows, directory)
        run("parquet", n_rows, directory)


def shuffling(n_seeds="3"):
    """Sorted tables through a buffer of a fifth of the rows, and of all of them."""
    ignore_warnings()
    print(f"{'table':12} {'rows':>7} {'held-out error, fifth / all':>28}")
    ratios = []
    # As many parts as there are in the buffer of a large table.
    n_parts = stream._BUFFER // readers._PART
    for name in ("ALOI", "celeba", "donors", "magic.gamma", "shuttle"):
        X, _ = load(adbench()[name], 22_000)
        n_new = len(X) // 10
        X, new = standardised(X[n_new:], X[:n_new])
        X, new = X.astype(np.float32), new.astype(np.float32)
        _, _, axes = np.linalg.svd(X[:5000], full_matrices=False)
        X = np.ascontiguousarray(X[np.argsort(X @ axes[0])])
        readers.SMALL_TABLE = stream._FEW_ROWS = 0
        errors = []
        for seed in range(int(n_seeds)):
            for share, n_of_buffer in (0.2, n_parts), (2.0, 20):
                stream._BUFFER = int(share * X.nbytes)
                readers._PART = stream._BUFFER // n_of_buffer
                model = AutoencoderTransformer(
                    0.5, max_epochs=15, early_stopping=False, random_state=seed
                )
                model.fit(Slices(X))
                errors.append(model.reconstruction_error(new).mean())
        fifth, whole = np.reshape(errors, (-1, 2)).T
        ratios.append(fifth.mean() / whole.mean())
        error = np.std(fifth / whole, ddof=1) / np.sqrt(len(whole))
        print(f"{name:12} {len(X):7,} {ratios[-1]:10.4f} +- {error:.4f}", flush=True)
    print(f"geometric mean {np.exp(np.mean(np.log(ratios))):.4f}")


def partial_fit(n_seeds="3"):
    """One pass by partial_fit over one epoch of fit, and over PCA; held-out errors.

    Of all rows, and of the 99 % with the smallest errors: in some tables a few rows
    have most of the error.
    """
    ignore_warnings()
    print(f"{'table':12} {'rows':>7} {'/ fit':>7} {'99 %':>7} {'/ PCA':>7} {'99 %':>7}")
    ratios = []
    names = "ALOI", "celeba", "donors", "http", "magic.gamma", "mnist", "optdigits"
    for name in (*names, "pendigits", "satellite", "shuttle"):
        X, _ = load(adbench()[name], 22_000)
        X = np.random.RandomState(0).permutation(X)  # some are sorted by class
        n_new = len(X) // 10
        X, new = standardised(X[n_new:], X[:n_new])
        errors = np.zeros((3, 2))
        for seed in range(int(n_seeds)):
            whole = AutoencoderTransformer(0.7, max_epochs=1, random_state=seed).fit(X)
            k = whole.n_components_
            parts = AutoencoderTransformer(k, random_state=seed)
            for chunk in np.array_split(X, 8):
                parts.partial_fit(chunk)
            linear = AutoencoderTransformer(k, architecture=MLP(()), max_epochs=1)
            for i, model in enumerate((parts, whole, linear.fit(X))):
                error = np.sort(model.reconstruction_error(new))
                usual = error[: round(0.99 * len(error))]
                errors[i] += error.mean(), usual.mean()
        ratios.append([*errors[0] / errors[1], *errors[0] / errors[2]])
        line = " ".join(f"{ratio:7.3f}" for ratio in ratios[-1])
        print(f"{name:12} {len(X):7,} {line}", flush=True)
    means = np.exp(np.mean(np.log(ratios), axis=0))
    print(f"geometric mean       {' '.join(f'{mean:7.3f}' for mean in means)}")


def workers(n_repeats="5"):
    """Rows per second of two workers beside one, each with one thread.

    ``apart`` is two local fits at the same time, of half the rows in half the batches:
    what two workers could do if they never waited for each other. Only epochs are
    timed, one kind of fit after the other in each repeat.
    """
    import dask.array as da
    from distributed import Client, LocalCluster

    from skae.dask import AutoencoderTransformer as OnCluster

    ignore_warnings()
    os.environ["OMP_NUM_THREADS"] = "1"  # before the workers start
    names = "weights", "batch", "one", "two", "apart", "two/one", "apart/one"
    print(f"{'hidden':>12}", *(f"{name:>9}" for name in names))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        addresses = sorted(client.nthreads())
        for hidden, batch_size, n_rows in (
            ((128, 128), 256, 2**14),
            ((512, 512), 1024, 2**14),
            ((1024, 1024), 2048, 2**13),
            ((1024, 1024), 8192, 2**14),
        ):
            table = random_rows(n_rows, 256)
            halves, whole = (
                [
                    client.scatter(part, workers=[address], hash=False)
                    for part, address in zip(parts, addresses, strict=False)
                ]
                for parts in (np.split(table, 2), [table])
            )
            on_one, on_two = (
                da.concatenate(
                    [da.from_delayed(f, f.result().shape, table.dtype) for f in those]
                )
                for those in (whole, halves)
            )
            settings = {
                "architecture": MLP(hidden, norm=None),
                "max_epochs": 3,
                "early_stopping": False,
                "random_state": 0,
            }
            rates = []
            for _ in range(int(n_repeats)):
                for rows in on_one, on_two:
                    model = OnCluster(16, batch_size=batch_size, **settings).fit(rows)
                    rates.append(_rate(model, n_rows))
                alone = AutoencoderTransformer(
                    16, batch_size=batch_size // 2, **settings
                )
                apart = [
                    client.submit(
                        _fit_rate,
                        alone,
                        half,
                        n_rows // 2,
                        workers=[address],
                        pure=False,
                    )
                    for half, address in zip(halves, addresses, strict=True)
                ]
                rates.append(sum(client.gather(apart)))
            one, two, apart = np.median(np.reshape(rates, (-1, 3)), axis=0)
            n_weights = sum(p.numel() for p in model.net_.module_.parameters())
            print(
                f"{hidden!s:>12} {n_weights:9,} {batch_size:9} {one:9,.0f} {two:9,.0f} "
                f"{apart:9,.0f} {two / one:9.2f} {apart / one:9.2f}",
                flush=True,
            )


def _rate(model, n_rows):
    return n_rows / np.median(model.history_["seconds"])


def _fit_rate(model, X, n_rows):
    ignore_warnings()
    return _rate(model.fit(X), n_rows)


class Slices:
    """An array of which only slices can be had."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, rows):
        return self._X[rows]


if __name__ == "__main__":
    what, *arguments = sys.argv[1:] or ["rows"]
    parts = {f.__name__: f for f in (rows, files, shuffling, partial_fit, workers)}
    parts[what](*arguments)
