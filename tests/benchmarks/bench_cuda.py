"""What is said about CUDA, tried on a GPU: one table of claims, results and seconds.

Times are medians of rounds in which each contender runs once, the bare loop among them;
the device is waited for. The other claims are checked, and the table has the largest
difference that was found.

    python tests/benchmarks/bench_cuda.py [--rounds 3] [--only WORD ...]

``--device cpu`` tries the script itself where there is no GPU.
"""

import argparse
import os
import pickle
import subprocess
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from unittest import mock

# SciPy asks for it before it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import sklearn
import torch
from bench_fit import CONTENDERS, Work, r2
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.source import Scaled
from skae._gradient.cuda_graph import CudaGraph
from skae.anomaly_scores import (
    Combined,
    Mahalanobis,
    NegativeELBO,
    Neighbors,
    Reconstruction,
)
from skae.architectures import MLP, Conv
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Dropout, Gaussian, Masking, SaltAndPepper, Swap
from skae.exceptions import FitWarning, OutOfMemoryWarning
from skae.losses import AbsoluteError, Bernoulli, Huber, Poisson, Trimmed
from skae.losses import SquaredError as Squared
from skae.penalties import L1, Contractive, Decorrelation, KLSparsity

# Rows, columns, hidden layers, components, rows of a batch, epochs.
SIZES = {
    "small": (5_000, 30, (64, 32), 8, 128, 20),
    "middle": (60_000, 784, (128, 64), 32, 256, 10),
    "wide": (20_000, 2_000, (256,), 32, 512, 10),
}
COMPONENTS = [
    ("architecture", MLP((32,), norm="batch", dropout=0.1)),
    ("architecture", MLP((32,), norm="layer", start="random")),
    ("architecture", Conv((4, 5))),
    ("bottleneck", Plain("tanh")),
    ("bottleneck", Variational()),
    ("bottleneck", TopK(2)),
    ("bottleneck", BatchTopK(2)),
    ("bottleneck", VectorQuantized(8)),
    ("bottleneck", FiniteScalar()),
    ("corruption", Dropout()),
    ("corruption", Gaussian()),
    ("corruption", Masking()),
    ("corruption", SaltAndPepper()),
    ("corruption", Swap()),
    ("loss", AbsoluteError()),
    ("loss", Huber()),
    ("loss", Bernoulli()),
    ("loss", Poisson()),
    ("loss", Trimmed(Squared())),
    ("penalty", L1()),
    ("penalty", KLSparsity()),
    ("penalty", Contractive()),
    ("penalty", Decorrelation()),
]
SCORES = [Reconstruction(), NegativeELBO(), Mahalanobis(), Neighbors(), Combined()]
CLAIMS = {}


def claim(text):
    """Register a function of the options that returns what was found."""

    def register(function):
        CLAIMS[text] = function
        return function

    return register


def rows(n=2_000, d=20, seed=0):
    """Return rows on a curved surface with noise, float32."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(0).normal(size=(8, d))
    t = rng.normal(size=(n, 3))
    bent = np.c_[t, np.abs(t), t[:, :1] * t[:, 1:]] @ weights
    return (bent + 0.1 * rng.normal(size=(n, d))).astype(np.float32)


def model(options, **parameters):
    defaults = {"device": options.device, "random_state": 0, "max_epochs": 30}
    return AutoencoderTransformer(**{"n_components": 4, **defaults, **parameters})


def detector(options, **parameters):
    defaults = {"device": options.device, "random_state": 0, "max_epochs": 30}
    return AutoencoderOutlierDetector(**{**defaults, **parameters})


def far_apart(a, b):
    """Return the largest difference, as a share of the standard deviation."""
    a, b = (np.asarray(x, dtype=float) for x in (a, b))
    return np.abs(a - b).max() / max(a.std(), 1e-30)


def need(condition, found):
    if not condition:
        raise AssertionError(found)
    return found


def wait(options):
    if options.device == "cuda":
        torch.cuda.synchronize()


def timed(runs, options):
    """Return the median seconds of each run over interleaved rounds."""
    seconds = {name: [] for name in runs}
    for i in range(options.rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            wait(options)
            if i > 0:  # the first one loads kernels
                seconds[name].append(time.perf_counter() - begin)
    return {name: np.median(taken) for name, taken in seconds.items()}


def ratios(seconds, base):
    shown = (
        f"{name} {s:.2f} s" + (f" ({s / seconds[base]:.2f})" if name != base else "")
        for name, s in seconds.items()
    )
    return ", ".join(shown)


@contextmanager
def no_graphs():
    with mock.patch.object(CudaGraph, "suits", staticmethod(lambda module: False)):
        yield


def fit_times(size):
    def run(options):
        shape = SIZES[size] if options.device == "cuda" else SIZES["small"]
        work = Work(*shape, device=options.device)
        keys = ["bare", "skae", "skae-autograd", "skae-default"]
        if size != "small" and options.device == "cuda":
            keys.insert(1, "textbook")
        runs = {CONTENDERS[key][0]: CONTENDERS[key][1](work) for key in keys}
        return ratios(timed(runs, options), "bare loop")

    return run


for size, (n, d, hidden, k, batch, epochs) in SIZES.items():
    claim(
        f"seconds of a fit: {n:,} x {d}, {hidden}, {k} components, batches of {batch}, "
        f"{epochs} epochs"
    )(fit_times(size))


@claim("the whole fit, defaults, 60,000 x 784, 10 epochs: CPU beside CUDA")
def whole_fit(options):
    X = Work(*SIZES["middle"]).X[: 60_000 if options.device == "cuda" else 3_000]
    seconds = {}
    for device in (options.device, "cpu"):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model(options, device=device, n_components=32, max_epochs=10).fit(X)
        seconds[device] = time.perf_counter() - begin
    return ", ".join(f"{d} {s:.1f} s" for d, s in seconds.items())


@claim("captured graphs: the same result as single kernels, in less time")
def graphs(options):
    X, runs, found = rows(20_000), {}, {}
    for name, parts in {
        "default": {},
        "batch norm": {"architecture": MLP(norm="batch")},
        "variational": {"bottleneck": Variational()},
        "denoising": {"corruption": Gaussian()},
        "decorrelated": {"penalty": Decorrelation(0.1)},
    }.items():
        with no_graphs():
            plain = model(options, max_epochs=5, n_iter_no_change=99, **parts)
            begin = time.perf_counter()
            plain.fit(X)
            without = time.perf_counter() - begin
        begin = time.perf_counter()
        graph = clone(plain).fit(X)
        runs[name] = f"{(time.perf_counter() - begin) / without:.2f} of the seconds"
        gap = far_apart(plain.reconstruct(X), graph.reconstruct(X))
        found[name] = f"{name}: {graph.net_.step_name_}, {runs[name]}, {gap:.1e} apart"
        need(gap < 1e-2, found[name])
    return "; ".join(found.values())


@claim("the same seed on the CPU and on CUDA: R2 of new rows")
def same_quality(options):
    X, new = rows(), rows(seed=1)
    scores = [
        r2(model(options, device=d, max_epochs=100).fit(X), new)
        for d in ("cpu", options.device)
    ]
    return need(abs(scores[0] - scores[1]) < 0.02, "{:.4f}, {:.4f}".format(*scores))


@claim("the same seed twice on CUDA: largest difference")
def same_twice(options):
    X = rows()
    a, b = (model(options).fit(X).reconstruct(X) for _ in range(2))
    return f"{far_apart(a, b):.1e}"


@claim("every component fits, and transforms as its pickle on the CPU does")
def components(options):
    X, fitted, failed = np.abs(rows(600)), {}, []
    X = X / X.max(axis=0)
    for slot, component in COMPONENTS:
        given = {slot: component}
        if isinstance(component, KLSparsity):
            given["bottleneck"] = Plain("sigmoid")
        try:
            fitted[repr(component)] = model(options, max_epochs=3, **given).fit(X)
        except Exception as error:
            failed.append(f"{component!r}: {type(error).__name__}: {error}")
            traceback.print_exc()
    need(not failed, "; ".join(failed))
    codes = on_cpu(fitted, X, "transform")
    gaps = {name: far_apart(m.transform(X), codes[name]) for name, m in fitted.items()}
    worst = max(gaps, key=gaps.get)
    return need(gaps[worst] < 1e-2, f"{len(gaps)}, at most {gaps[worst]:.1e}: {worst}")


def on_cpu(fitted, X, method):
    """Return what a method of estimators returns in a process that sees no GPU."""
    code = (
        "import pickle, sys; fitted, x, method = pickle.load(sys.stdin.buffer); "
        "found = {name: getattr(m, method)(x) for name, m in fitted.items()}; "
        "sys.stdout.buffer.write(pickle.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((fitted, X, method)),
        stdout=subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    return pickle.loads(done.stdout)


@claim("every score: the same on CUDA, on its pickle on the CPU, and exported")
def scores(options):
    X, new = rows(800), np.r_[rows(100, seed=1), 5 * rows(20, seed=2)]
    fitted = {}
    for score in SCORES:
        given = {"anomaly_score": score, "max_epochs": 5}
        if isinstance(score, NegativeELBO):
            given["bottleneck"] = Variational()
        fitted[type(score).__name__] = detector(options, **given).fit(X)
    there, gaps = on_cpu(fitted, new, "score_samples"), {}
    for name, estimator in fitted.items():
        here = estimator.score_samples(new)
        with torch.no_grad():
            exported = estimator.to_torch("score")(
                torch.as_tensor(new, device=options.device)
            )
        gaps[name] = max(far_apart(here, there[name]), far_apart(here, exported.cpu()))
    found = ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items())
    return need(max(gaps.values()) < 1e-2, found)


@claim("reasons of the detector: as on the CPU")
def reasons(options):
    X, new = rows(800), 3 * rows(50, seed=1)
    fitted = detector(options, max_epochs=5).fit(X)
    there = on_cpu({"": fitted}, new, "explain")[""]
    gap = far_apart(fitted.explain(new).share, there.share)
    return need(gap < 1e-2, f"shares {gap:.1e} apart")


@claim("density of the code, sampling")
def density(options):
    fitted = model(options, max_epochs=5).fit(rows())
    drawn = fitted.sample(500, random_state=0)
    return need(np.isfinite(drawn).all(), f"{drawn.shape}")


@claim("small memory: half the batch, with a warning")
def out_of_memory(options):
    if options.device != "cuda":
        return "only on CUDA"
    X = rows(60_000, 64)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    wide = MLP((4096, 4096))
    # Four layers of 54,000 x 4,096 numbers, each as two signals and their gradients,
    # are 14 GB; those of half the batch are 7 GB.
    torch.cuda.set_per_process_memory_fraction(11e9 / total)
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            fitted = model(
                options, architecture=wide, batch_size=54_000, max_epochs=2
            ).fit(X)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    halved = [w for w in raised if issubclass(w.category, OutOfMemoryWarning)]
    return need(len(halved) == 1, f"{len(halved)} warnings, {fitted.net_.batch_size}")


@claim("rows that do not fit: copied batch by batch, the same result")
def streamed(options):
    X = rows(20_000)
    resident = model(options, max_epochs=5).fit(X)
    with mock.patch.object(Scaled, "_fits", return_value=False):
        begin = time.perf_counter()
        copied = model(options, max_epochs=5).fit(X)
        seconds = time.perf_counter() - begin
    gap = far_apart(resident.reconstruct(X), copied.reconstruct(X))
    epochs = resident.history_["seconds"].sum()
    return need(
        gap < 1e-2,
        f"{gap:.1e} apart, epochs {copied.history_['seconds'].sum():.2f} s beside "
        f"{epochs:.2f} s, fit {seconds:.2f} s",
    )


@claim("array API: tensors on the device through a Pipeline and back")
def array_api(options):
    X = rows()
    x = torch.as_tensor(X, device=options.device)
    with sklearn.config_context(array_api_dispatch=True):
        pipeline = make_pipeline(StandardScaler(), model(options, max_epochs=5)).fit(x)
        code = pipeline.transform(x)
        back = pipeline.inverse_transform(code)
        fitted = detector(options, max_epochs=5).fit(x)
        score = fitted.score_samples(x)
    kinds = {str(t.device.type) for t in (code, back, score)}
    need(kinds == {torch.device(options.device).type}, f"devices {kinds}")
    gap = far_apart(fitted.score_samples(X), score.cpu())
    return need(gap < 1e-3, f"all three on {kinds}, scores of NumPy rows {gap:.1e}")


@claim("bf16: seconds over float32, R2 of both (20,000 x 2,000, (2048, 2048))")
def bf16(options):
    n, d = (20_000, 2_000) if options.device == "cuda" else (500, 50)
    X, seconds, found = rows(n, d), {}, {}
    width = (2048, 2048) if options.device == "cuda" else (32,)
    for precision in ("float32", "bf16"):
        fitted = model(
            options,
            precision=precision,
            architecture=MLP(width),
            max_epochs=10,
            batch_size=1024,
            n_iter_no_change=99,
        ).fit(X)
        seconds[precision] = fitted.history_["seconds"][1:].sum()
        found[precision] = r2(fitted, X)
    ratio = seconds["bf16"] / seconds["float32"]
    return f"{ratio:.2f} of the seconds, " + ", ".join(
        f"R2 {score:.4f} ({name})" for name, score in found.items()
    )


@claim("warm start, then one on the CPU of a model that was trained on CUDA")
def warm(options):
    X = rows()
    fitted = model(options, max_epochs=5, warm_start=True).fit(X)
    before = r2(fitted, X)
    fitted.fit(X)
    on_device = r2(fitted, X)
    fitted.set_params(device="cpu").fit(X)
    found = f"{before:.4f}, {on_device:.4f}, {r2(fitted, X):.4f}"
    return need(min(on_device, r2(fitted, X)) > before - 0.02, found)


@claim("GridSearchCV on one GPU, n_jobs 1 and 2: seconds, largest difference")
def searching(options):
    X, done, seconds = rows(3_000), {}, {}
    grid = {"n_components": [2, 3, 4, 6]}
    for n_jobs in (1, 2, 2):
        begin = time.perf_counter()
        done[n_jobs] = GridSearchCV(
            model(options, max_epochs=20), grid, cv=3, n_jobs=n_jobs, refit=False
        ).fit(X)
        seconds[n_jobs] = time.perf_counter() - begin
    a, b = (done[n].cv_results_["mean_test_score"] for n in (1, 2))
    gap = np.abs(a - b).max()
    return need(
        gap < 1e-2, f"{seconds[1]:.1f} s, {seconds[2]:.1f} s (warm), {gap:.1e} apart"
    )


@claim("predictions of one row and of 100,000, CUDA beside the CPU")
def predictions(options):
    fitted = detector(options, max_epochs=3).fit(rows(3_000))
    other = clone(fitted).set_params(device="cpu").fit(rows(3_000))
    found = []
    for n in (1, 100_000):
        X = rows(n)
        runs = {
            options.device: lambda X=X: fitted.score_samples(X),
            "CPU": lambda X=X: other.score_samples(X),
        }
        taken = timed(runs, options)
        found.append(", ".join(f"{k} {1e3 * s:.2f} ms" for k, s in taken.items()))
    return "; ".join(found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device: nothing was measured")
    for category in (ConvergenceWarning, FitWarning):
        warnings.simplefilter("ignore", category)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| claim | found | seconds |\n|---|---|---|", flush=True)
    failed = 0
    chosen = [text for text in CLAIMS if any(word in text for word in options.only)]
    for text in tqdm(chosen):
        begin = time.perf_counter()
        try:
            found = CLAIMS[text](options)
        except Exception as error:
            traceback.print_exc()
            failed += 1
            found = f"**failed**: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - begin
        print(f"| {text} | {found} | {seconds:.0f} |", flush=True)
    sys.exit(f"{failed} of {len(chosen)} failed" if failed else 0)


if __name__ == "__main__":
    main()
