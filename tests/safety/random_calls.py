"""Random calls of both estimators, and what went wrong.

A round draws an estimator, parameters and components, fits it to a random table (shape,
dtype, layout, kind of values, missing entries, weights, pairs) and calls methods with
further tables. A few percent of all arguments are ones that must be refused. Counted
are:

- foreign: exceptions that are no ValueError or TypeError of this package or of
  scikit-learn's validation: without a message, or of another kind;
- not finite: NaN from rows without missing entries, or infinity from rows of moderate
  size, without an error;
- warnings: of a category that is not documented;
- half-set: an estimator that is not what it was before after a fit that failed, or
  whose parameters were changed by a call.

    python tests/safety/random_calls.py [--calls 20000] [--seed 0] [--round N]

Each finding is printed with the number of its round, which ``--round`` repeats alone.
"""

import argparse
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
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
    Nested,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Dropout, Gaussian, Masking, SaltAndPepper, Swap
from skae.exceptions import FitWarning
from skae.losses import (
    AbsoluteError,
    Bernoulli,
    Huber,
    Poisson,
    SquaredError,
    Trimmed,
)
from skae.penalties import L1, Contractive, Decorrelation, KLSparsity

DOCUMENTED = (FitWarning, ConvergenceWarning)
# Where squares still are numbers, in single precision.
MODERATE = 1e15


class Draw:
    """Random values, from one generator."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def chance(self, p):
        return self.rng.random() < p

    def of(self, *values):
        """Return one of some values; of a function what it returns."""
        value = values[self.rng.integers(len(values))]
        return value() if type(value).__name__ in ("function", "method") else value

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def wrong(self):
        """Return what few parameters accept."""
        return self.of(
            *(-1, 0, 1.5, -0.5, np.nan, np.inf, -np.inf, 2**40, 2**70, 10**400),
            *("x", "", b"x", True, (), [], {}, {1: 2}, object(), [1, "a"], 1e300),
            *(5e-324, np.float32(0.5), np.int8(2), np.array([1, 2]), "auto", len),
        )

    # Tables

    def shape(self):
        n_rows = self.of(
            lambda: self.number(2, 12), lambda: self.number(20, 90), lambda: 110
        )
        return n_rows, self.of(1, 2, 3, 5, 8)

    def values(self, n_rows, width):
        rng = self.rng
        kind = self.of(
            *("low rank", "low rank", "low rank", "normal", "counts", "binary"),
            *("constant", "duplicates", "units", "large", "tiny", "heavy", "collinear"),
            *("extreme cell", "integers", "outlier"),
        )
        X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, width))
        X += 0.1 * rng.normal(size=X.shape)
        if kind == "normal":
            X = rng.normal(size=X.shape)
        elif kind == "counts":
            X = rng.poisson(3, size=X.shape).astype(float)
        elif kind == "binary":
            X = (X > 0).astype(float)
        elif kind == "constant":
            X[:, rng.random(width) < 0.6] = rng.normal()
        elif kind == "duplicates":
            X = X[rng.integers(min(2, n_rows), size=n_rows)]
        elif kind == "units":
            X *= 10.0 ** rng.integers(-12, 13, size=width)
        elif kind == "large":
            X *= 10.0 ** rng.integers(10, 38)
        elif kind == "tiny":
            X *= 10.0 ** -rng.integers(10, 44).astype(float)
        elif kind == "heavy":
            X = rng.standard_cauchy(size=X.shape)
        elif kind == "collinear":
            X = X[:, :1] * np.ones(width)
        elif kind == "extreme cell":
            X[rng.integers(n_rows), rng.integers(width)] = self.of(
                9.97e36, 3.4e38, -3.4e38, 1e20, -1e30
            )
        elif kind == "integers":
            X = (10 * X).round()
        elif kind == "outlier":
            X[0] *= 1e6
        return X

    def table(self, shape, sparse_too=True):
        """Return a table, of any kind that is accepted and of some that are not."""
        X = self.values(*shape)
        if self.chance(0.1):
            X[self.rng.random(X.shape) < self.of(0.02, 0.3)] = np.nan
        if self.chance(0.02):
            X.flat[0] = self.of(np.inf, -np.inf, 1.7e308)
        dtype = self.of("f8", "f8", "f4", "f4", "f2", "i4", "i8", "u1", "?", ">f8", "O")
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X = X.astype(dtype)
        layout = self.of(
            *("C", "C", "C", "F", "view", "list", "frame", "read-only", "sparse"),
            *("torch", "polars", "strided"),
        )
        if layout == "F":
            return np.asfortranarray(X)
        if layout == "view":
            return np.repeat(X, 2, axis=0)[::2][::-1]
        if layout == "strided":
            return np.repeat(X, 2, axis=1)[:, ::2]
        if layout == "list":
            return X.tolist()
        if layout == "read-only":
            X.flags.writeable = False
        if layout == "frame":
            pandas = __import__("pandas")
            return pandas.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
        if layout == "polars" and X.dtype.kind == "f" and X.dtype.itemsize > 2:
            polars = __import__("polars")
            return polars.DataFrame(
                X.astype(X.dtype.newbyteorder("=")),
                schema=[f"c{j}" for j in range(X.shape[1])],
            )
        if layout == "sparse" and sparse_too and X.dtype.kind == "f":
            if X.dtype.itemsize > 2:
                return sparse.csr_array(X.astype(X.dtype.newbyteorder("=")))
        if layout == "torch" and X.dtype.kind == "f" and X.dtype.isnative:
            return torch.from_numpy(X.copy())
        return X

    # Estimators

    def parameters(self, kind, width):
        k = self.of(1, 2, width, width + 2, 0.9, "auto", None)
        bottleneck = self.of(
            *(None, None, None, Plain(self.of("tanh", "relu", "sigmoid"))),
            lambda: Variational(self.of(0.1, 1.0), warm_up=self.of(0.0, 0.5)),
            lambda: VectorQuantized(self.of(2, 8)),
            lambda: FiniteScalar(self.of(2, 5)),
            lambda: TopK(self.of(1, 2), sparse_output=self.chance(0.5)),
            lambda: BatchTopK(self.of(1, 2)),
            lambda: Nested(),
        )
        loss = self.of(
            *(None, None, None, None, SquaredError(), AbsoluteError(), Huber(0.5)),
            *(Bernoulli(), Poisson(), Trimmed(SquaredError(), 0.1)),
        )
        params = {
            "n_components": k,
            "architecture": self.of(
                *(None, None, MLP(()), MLP((5,), activation="relu", norm="layer")),
                *(MLP((4,), start="random", dropout=0.2), MLP((6, 3), norm="batch")),
                lambda: Conv((1, width), channels=(2,)),
            ),
            "bottleneck": bottleneck,
            "corruption": self.of(
                *(None, None, None, Masking(0.3), Gaussian(0.1), Dropout(0.2)),
                *(Swap(0.2), SaltAndPepper(0.1)),
            ),
            "penalty": self.of(
                *(None, None, None, L1(0.1), Contractive(0.1), Decorrelation(0.1)),
                lambda: L1(0.1) + Decorrelation(0.1),
                KLSparsity(alpha=0.1),
            ),
            "loss": loss,
            "scaling": self.of(*("auto",) * 4, "standard", "minmax", "robust", None),
            "optimizer": self.of("adamw", "adamw", "sgd", "radam", torch.optim.Adagrad),
            "lr": self.of(5e-3, 5e-3, 1e-4, 10.0),
            "weight_decay": self.of(0.0, 0.0, 0.1),
            "gradient_clip": self.of(1.0, None),
            "batch_size": self.of("auto", "auto", 1, 7, 1000),
            "max_epochs": self.of(1, 2, 4),
            "early_stopping": self.chance(0.6),
            "validation_fraction": self.of(0.1, 0.5),
            "precision": self.of("float32", "float32", "float32", "bf16"),
            "net_params": self.of(None, None, {"averaging": 0.0}),
            "random_state": self.number(0, 9),
        }
        if kind is AutoencoderOutlierDetector:
            params |= {
                "contamination": self.of("auto", 0.1, 0.1, 0.5),
                "n_estimators": self.of(1, 1, 2),
                "calibration_fraction": self.of(0.0, 0.0, 0.3),
                "anomaly_score": self.of(
                    *(None, None, Reconstruction(), Mahalanobis(), NegativeELBO()),
                    *(Neighbors(2), Neighbors(1, space="data"), Combined()),
                ),
            }
        else:
            params["whiten"] = self.chance(0.2)
            params["n_projection_steps"] = 2 if self.chance(0.2) else 0
            params["max_encoder_steps"] = 20 if self.chance(0.5) else 0
        # Most of them have their defaults.
        kept = [n for n in params if self.chance(0.35)]
        always = ["n_components", "max_epochs", "random_state"]
        params = {n: params[n] for n in dict.fromkeys(always + kept)}
        if self.chance(0.08):
            name = self.of(*kind().get_params(deep=False))
            params[name] = self.wrong()
            if name in ("max_epochs", "n_estimators") and params[name] in (
                2**40,
                2**70,
            ):
                params[name] = 3  # or it would train for years
        return params


class Round:
    """The calls of one seed."""

    def __init__(self, seed, number, found, verbose=False):
        self.draw = Draw([seed, number])
        self.number, self.found, self.verbose = number, found, verbose
        self.n_calls = 0

    def report(self, what, text):
        self.found[what] += 1
        print(f"round {self.number}: {what}: {text}", flush=True)

    def call(self, name, function, *args, check=(), **kwargs):
        """Call, and return the result; None after an error that is documented."""
        self.n_calls += 1
        self.found["calls"] += 1
        result = None
        if self.verbose:
            print(
                name,
                [_short(a) for a in args],
                {n: _short(v) for n, v in kwargs.items()},
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = function(*args, **kwargs)
            except (ValueError, TypeError, NotFittedError, AttributeError) as error:
                self.found["refused"] += 1
                if self.verbose:
                    traceback.print_exc()
                if not _is_named(error):
                    self.report("foreign", f"{name}: {type(error).__name__}: {error}")
            except MemoryError as error:
                if "n_samples=" not in str(error):
                    self.report("foreign", f"{name}: MemoryError: {error}")
            except Exception as error:
                if self.verbose:
                    traceback.print_exc()
                self.report("foreign", f"{name}: {type(error).__name__}: {error}")
        for warning in caught:
            text = str(warning.message)
            # scikit-learn's own, and one that torch gives for itself.
            known = "feature names" in text or text.startswith("`torch.jit.script`")
            if not issubclass(warning.category, DOCUMENTED) and not known:
                text = f"{warning.category.__name__}: {warning.message}"
                self.report("warnings", f"{name}: {text}"[:200])
        for X in check:
            self.check(name, result, X)
        return result

    def check(self, name, result, X):
        """Report results that are not finite though the rows are."""
        if result is None:
            return
        try:
            rows = _dense(X).astype(np.float64)
            values = _dense(result)
            if values.dtype == object:
                return
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            return
        if np.isnan(rows).any() or not np.isfinite(rows).all():
            return
        if name in ("score_samples", "decision_function"):
            # A row that cannot be scored is an outlier.
            values[values == -np.inf] = 0.0
        bad = np.isnan(values).sum()
        if np.abs(rows).max(initial=0) < self.limit:
            bad = (~np.isfinite(values)).sum()
        if bad:
            self.report("not finite", f"{name}: {bad} of {values.size}")

    def run(self):
        draw = self.draw
        kind = draw.of(AutoencoderTransformer, AutoencoderOutlierDetector)
        shape = draw.shape()
        params = draw.parameters(kind, shape[1])
        try:
            model = kind(**params)
        except TypeError:
            return
        X = draw.table(shape)
        extra = {}
        if draw.chance(0.2):
            weight = draw.of(
                lambda: draw.rng.random(shape[0]),
                lambda: draw.rng.integers(0, 3, shape[0]),
                lambda: 10.0 ** draw.rng.integers(-300, 300, shape[0]),
                lambda: np.zeros(shape[0]),
                lambda: -np.ones(shape[0]),
                lambda: np.ones(shape[0] + 1),
            )
            extra["sample_weight"] = weight
        if draw.chance(0.1):
            extra["X_val"] = draw.table((draw.number(1, 30), shape[1]))
        if draw.chance(0.1):
            extra["X_target"] = draw.table(shape)
        if draw.chance(0.05):
            extra["groups"] = draw.rng.integers(1, 9, shape[0])
        if draw.chance(0.05):
            extra["y"] = draw.of(draw.wrong, lambda: np.arange(shape[0]))
        if self.verbose:
            print(model, shape, type(X), getattr(X, "dtype", ""))
        self.fit(model, X, extra)
        if not hasattr(model, "_model"):
            return
        # Rows as large as those that it was fitted to are of moderate size.
        try:
            fitted = _dense(extra.get("X_target", X)).astype(np.float64)
            largest = np.nan_to_num(np.abs(fitted)).max()
        except (TypeError, ValueError):
            largest = 0.0
        self.limit = MODERATE if largest < MODERATE else 0.0
        for _ in range(draw.number(10, 25)):
            self.query(model, shape[1])
        if draw.chance(0.2):
            X = draw.table((draw.number(1, 60), shape[1]))
            self.fit(model.set_params(warm_start=draw.chance(0.5)), X, {})

    def fit(self, model, X, extra):
        before = dict(vars(model))
        fitted = self.call(f"{type(model).__name__}.fit", model.fit, X, **extra)
        after = vars(model)
        if fitted is None and (
            after.keys() != before.keys()
            or any(after[n] is not before[n] for n in after)
        ):
            self.report("half-set", f"fit: {set(after) ^ set(before)}")
        for name in model.get_params(deep=False):
            if getattr(model, name) is not before[name]:
                self.report("half-set", f"fit changed {name}")

    def query(self, model, width):
        draw = self.draw
        if draw.chance(0.05):
            width += draw.of(1, -1)
        X = draw.table((draw.of(1, 2, 7, 40), max(width, 1)))
        codes = draw.table((draw.of(1, 5), model.n_components_ + draw.chance(0.05)))
        before = dict(vars(model))
        calls = {
            "transform": (X,),
            "reconstruct": (X,),
            "impute": (X,),
            "reconstruction_error": (X, draw.chance(0.5)),
            "score": (X,),
            "inverse_transform": (codes,),
            "to_torch": (draw.of("encoder", "decoder", "autoencoder", draw.wrong),),
            "get_feature_names_out": (),
        }
        if isinstance(model, AutoencoderTransformer):
            calls |= {"sample": (draw.of(1, 7, draw.wrong), draw.of(0, None))}
        else:
            calls |= {
                "score_samples": (X,),
                "decision_function": (X,),
                "predict": (X,),
                "p_values": (X,),
                "explain": (X,),
                "calibrate": (draw.of(X, None),),
            }
        if hasattr(model, "quantize"):
            calls["quantize"] = (X,)
        name = draw.of(*calls)
        kwargs = {}
        if name == "calibrate":
            kwargs = draw.of(
                {},
                {"quantile": draw.of(0.1, 0.5, draw.wrong)},
                {"false_positive_rate": draw.of(0.2, 0.5, draw.wrong)},
                {"n_alerts": draw.of(0, 1, draw.wrong)},
                {"rule": draw.of(lambda: np.min, lambda: np.max, draw.wrong)},
            )
        checked = {"inverse_transform": (codes,), "sample": (np.zeros(1),)}
        if name in ("explain", "calibrate", "to_torch", "get_feature_names_out"):
            checked[name] = ()
        # A score may be -inf: a row that cannot be scored is an outlier.
        limit = self.limit
        if name in ("score_samples", "decision_function"):
            self.limit = min(self.limit, 1e10)
        if name in ("inverse_transform", "sample", "reconstruction_error", "score"):
            # Codes of any size decode to rows of any size, and squares are larger.
            self.limit = min(self.limit, 1e10) if name != "inverse_transform" else 0.0
        if name == "reconstruction_error" and not self.has_small_residuals(model, X):
            self.limit = 0.0
        method = getattr(model, name)
        result = self.call(
            name, method, *calls[name], **kwargs, check=checked.get(name, (X,))
        )
        self.limit = limit
        if name == "explain" and result is not None:
            shares = np.column_stack([result.share, result.code_share])
            if not np.allclose(shares.sum(axis=1), 1):
                self.report("not finite", "explain: shares do not sum to one")
        changed = [n for n, v in vars(model).items() if before.get(n, v) is not v]
        allowed = {"offset_", "_reference", "calibration_scores_"}
        if name != "calibrate":
            allowed = set()
        if changed and not set(changed) <= allowed:
            self.report("half-set", f"{name} changed {changed}")

    def has_small_residuals(self, model, X):
        """Return whether squared residuals are numbers in single precision."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                residual = _dense(X).astype(float) - _dense(model.reconstruct(X))
        except Exception:  # found where the method itself is called
            return False
        return bool(np.abs(residual.astype(float)).max(initial=0) < 1e19)


def _is_named(error):
    """Return whether an error says what is wrong, as those of this package do."""
    text = str(error)
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    if "/torch/" in raised:
        return False
    if isinstance(error, AttributeError):
        return "has no attribute" in text and "/skae/" in raised
    return len(text) > 10


def _dense(X):
    if hasattr(X, "toarray"):
        X = X.toarray()
    return np.asarray(X)


def _short(value):
    text = repr(value).replace("\n", " ")
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{shape} {text[:60]}" if shape else text[:60]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first round")
    parser.add_argument("--round", type=int, help="repeat one round, and print it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = Counter()
    if args.round is not None:
        Round(args.seed, args.round, found, verbose=True).run()
        return
    number, begin = args.first, time.monotonic()
    while found["calls"] < args.calls:
        Round(args.seed, number, found).run()
        number += 1
    seconds = time.monotonic() - begin
    print(f"rounds {args.first} to {number - 1} of seed {args.seed}, {seconds:.0f} s")
    names = ["calls", "refused", "foreign", "not finite", "warnings", "half-set"]
    print("".join(f"{name:>12}" for name in names))
    print("".join(f"{found[name]:12,}" for name in names))
    raise SystemExit(any(found[name] for name in names[2:]))


if __name__ == "__main__":
    main()
