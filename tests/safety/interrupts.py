"""Ctrl-C at random points of all methods, and which global settings it changes.

Each call runs once to the end, to find how long it takes, and then again and again with
an interrupt at a random time. After each, all settings of torch, NumPy and the thread
pools are compared with those before, and so are the attributes of the estimator.

    python tests/safety/interrupts.py [--interrupts 200] [--seed 0]
"""

import argparse
import random
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_info

import skae
from skae.architectures import MLP, Custom
from skae.bottlenecks import VectorQuantized

X = load_digits().data[:300]


def network(n_in, n_out):
    """Return a network that draws from torch's global generator."""
    return torch.nn.Sequential(torch.nn.Linear(n_in, n_out), torch.nn.Dropout(0.2))


def settings():
    """Return all global settings that a call may change, by name."""
    found = {
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.empty(0).device),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "autocast depth": (
            torch.autocast_increment_nesting(),
            torch.autocast_decrement_nesting(),
        ),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads of torch": torch.get_num_threads(),
        "generator of torch": torch.get_rng_state().numpy().tobytes(),
        "generator of NumPy": str(np.random.get_state()),
        "generator of Python": random.getstate(),
        "errors of NumPy": np.geterr(),
        "filters of warnings": tuple(map(str, warnings.filters)),
    }
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            found[f"threads of {Path(pool['filepath']).name}"] = pool["num_threads"]
    return found


def calls(folder):
    """Return functions without arguments, and the estimator that each may change."""
    params = {"max_epochs": 5, "random_state": 0}
    transformer = skae.AutoencoderTransformer(8, **params).fit(X)
    detector = skae.AutoencoderOutlierDetector(8, n_estimators=2, **params).fit(X)
    new = skae.AutoencoderTransformer
    to_fit = {
        "fit": new(8, **params),
        "fit, checkpoint": new(8, checkpoint=folder / "checkpoint", **params),
        "fit, autograd": new(8, architecture=Custom(network, network), **params),
        "fit, bf16": new(8, precision="bf16", architecture=MLP((32,)), **params),
        "fit, codebook": new(8, bottleneck=VectorQuantized(8), **params),
        "fit, few rows": skae.AutoencoderOutlierDetector(4, **params),
        "refit": transformer,
    }
    table = {
        name: (lambda m=m, n=name: m.fit(X[:90] if "few" in n else X), m)
        for name, m in to_fit.items()
    }
    file = folder / "model.skae"
    for name in ("transform", "reconstruct", "reconstruction_error", "score"):
        table[name] = (lambda n=name: getattr(transformer, n)(X)), transformer
    for name in ("score_samples", "predict", "explain"):
        table[name] = (lambda n=name: getattr(detector, n)(X)), detector
    table["calibrate"] = (lambda: detector.calibrate(X)), detector
    table["sample"] = (lambda: transformer.sample(500, random_state=0)), transformer
    table["to_torch"] = (lambda: detector.to_torch("score")), detector
    table["save"] = (lambda: skae.save(detector, file)), detector
    table["load"] = (lambda: skae.load(file)), detector
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interrupts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    # So that a call that leaves its own numbers behind is seen.
    torch.set_num_threads(2)
    rng = np.random.default_rng(args.seed)

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    total, changes, half_set = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        table = calls(Path(folder))
        print(
            f"{'':22} {'seconds':>8} {'interrupts':>11} {'changes':>8} {'half-set':>9}"
        )
        for name, (call, estimator) in table.items():
            begin = time.perf_counter()
            call()
            seconds = time.perf_counter() - begin
            counts = np.zeros(3, dtype=int)
            while counts[0] < -(-args.interrupts // len(table)):
                before, attributes = settings(), dict(vars(estimator))
                try:
                    try:
                        delay = max(rng.uniform(0, seconds), 1e-6)
                        signal.setitimer(signal.ITIMER_REAL, delay)
                        call()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    counts[0] += 1
                    after = settings()
                    changed = [n for n in before if before[n] != after[n]]
                    if changed:
                        counts[1] += 1
                        print(f"{name}: changed {changed}")
                        torch.set_num_threads(2)
                    now = vars(estimator)
                    same = now.keys() == attributes.keys()
                    # `calibrate` may have ended before the interrupt was raised.
                    if name != "calibrate" and not (
                        same and all(now[n] is attributes[n] for n in now)
                    ):
                        counts[2] += 1
                        print(f"{name}: half-set {set(now) ^ set(attributes)}")
            n, *others = counts
            print(
                f"{name:22} {seconds:8.2f} {n:11} {others[0]:8} {others[1]:9}",
                flush=True,
            )
            total, changes, half_set = (
                total + n,
                changes + others[0],
                half_set + others[1],
            )
    print(f"{'all':22} {'':8} {total:11} {changes:8} {half_set:9}")
    raise SystemExit(bool(changes + half_set > 0))


if __name__ == "__main__":
    main()
