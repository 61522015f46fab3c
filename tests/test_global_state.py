"""Settings of torch and NumPy around a call: no effect on it, and none left behind."""

import sys
import threading
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO

import numpy as np
import pytest
import torch
from _components import forgetful, small
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController, threadpool_limits

import skae
from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
)
from skae._global_state import in_default_state
from skae._training.device import one_blas_thread, threads_for
from skae.anomaly_scores import Mahalanobis, NegativeELBO
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import BatchTopK, FiniteScalar, Variational, VectorQuantized
from skae.corruptions import Masking
from skae.inspection import explain
from skae.losses import Bernoulli, Poisson
from skae.penalties import Contractive

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # What interrupts a finaliser is not raised, but reported.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def all_at_once():
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.inference_mode(),
        default_dtype(torch.float64),
        torch.device("meta"),
        deterministic(),
        np.errstate(all="raise"),
    ):
        yield


MODES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast in float16": lambda: torch.autocast("cpu", torch.float16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64": partial(default_dtype, torch.float64),
    "float16": partial(default_dtype, torch.float16),
    "bfloat16": partial(default_dtype, torch.bfloat16),
    "device meta": partial(torch.device, "meta"),
    "default device meta": partial(default_device, "meta"),
    "deterministic": deterministic,
    "errors raise": lambda: np.errstate(all="raise"),
    "all at once": all_at_once,
}

detector = partial(AutoencoderOutlierDetector, calibration_fraction=0.2)
MODELS = {
    "transformer": partial(AutoencoderTransformer),
    "detector": partial(detector),
    "imputer": partial(AutoencoderImputer, AutoencoderTransformer(2, max_epochs=2)),
    "cross-fitted": partial(AutoencoderOutlierDetector, anomaly_score=Mahalanobis()),
    "bf16": partial(
        AutoencoderTransformer, architecture=MLP(start="random"), precision="bf16"
    ),
    "variational": partial(detector, bottleneck=Variational()),
    "quantized": partial(AutoencoderTransformer, bottleneck=VectorQuantized(4)),
    "finite scalar": partial(AutoencoderTransformer, bottleneck=FiniteScalar()),
    "sparse": partial(
        AutoencoderTransformer, bottleneck=BatchTopK(1, sparse_output=True)
    ),
    "convolutions": partial(
        AutoencoderTransformer, architecture=Conv((1, 6), (3, 2), start="random")
    ),
    "custom": partial(detector, architecture=Custom(forgetful, small)),
    "batch norm": partial(AutoencoderTransformer, architecture=MLP((5,), norm="batch")),
    "contractive": partial(
        AutoencoderTransformer,
        architecture=MLP((5,), norm="layer"),
        penalty=Contractive(),
    ),
    "contractive in bf16": partial(
        AutoencoderTransformer, penalty=Contractive(), precision="bf16"
    ),
    "denoising": partial(detector, corruption=Masking()),
    "bernoulli": partial(detector, loss=Bernoulli()),
    "poisson": partial(
        detector,
        bottleneck=Variational(),
        loss=Poisson(),
        anomaly_score=NegativeELBO(),
    ),
    "other optimizer": partial(AutoencoderTransformer, optimizer=torch.optim.Rprop),
    "ensemble": partial(detector, n_estimators=2),
    "scaled": partial(AutoencoderTransformer, whiten=True, scaling="robust"),
}
# Models that are tried in the default run; the others are slow tests.
EVERY_MODE = {"detector"}


def make(name):
    model = MODELS[name](random_state=0)
    if name != "imputer":
        model.set_params(n_components=2, max_epochs=2)
    return model


def rows_of(name):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(90, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(90, 6))
    if name == "bernoulli":
        return 1 / (1 + np.exp(-X))
    if name == "poisson":
        return np.round(np.exp(X / 2))
    if name in ("imputer", "scaled"):
        X[::7, 1] = np.nan
    return X


METHODS = [
    *("transform", "reconstruct", "impute", "reconstruction_error", "score"),
    *("score_samples", "decision_function", "predict", "explain", "quantize"),
]


def results(name, model, X):
    """Return what all methods of a fitted model give, by name."""
    found = {}
    for dtype in (np.float64, np.float32):
        rows = X.astype(dtype)
        for method in METHODS:
            if hasattr(model, method):
                found[method, dtype] = getattr(model, method)(rows)
    if hasattr(model, "inverse_transform"):
        found["inverse_transform"] = model.inverse_transform(model.transform(X))
        found["per feature"] = model.reconstruction_error(X, per_feature=True)
        for part in model._torch_parts:
            if part != "score" or name != "imputer":
                found["to_torch", part] = tensors(model.to_torch(part))
    if hasattr(model, "quantize"):
        found["dequantize"] = model.dequantize(model.quantize(X))
    if hasattr(model, "sample"):
        found["sample"] = model.sample(5, random_state=0)
    if hasattr(model, "explain"):
        pipeline = make_pipeline(StandardScaler().fit(X), model)
        pipeline[0].mean_[:], pipeline[0].scale_[:] = 0.0, 1.0
        found["explain a pipeline"] = explain(pipeline, X)
    if hasattr(model, "calibrate"):
        twin = loaded(model)
        found["loaded"] = twin.score_samples(X)
        found["calibrated"] = twin.calibrate(X).offset_
        found["p_values"] = twin.p_values(X)
    else:
        found["loaded"] = loaded(model).transform(X)
    return found


def loaded(model):
    """Return a model that was saved and loaded."""
    trusted = {"forgetful": forgetful, "small": small, "Rprop": torch.optim.Rprop}
    file = BytesIO()
    skae.save(model, file, trusted=trusted)
    file.seek(0)
    twin = skae.load(file, trusted=trusted)
    assert_normal(twin)
    return twin


def tensors(module):
    # A module made in inference mode could not be trained.
    assert not any(t.is_inference() for t in module.state_dict().values())
    return {k: t.detach().cpu().numpy() for k, t in module.state_dict().items()}


def assert_normal(model):
    network = getattr(model, "autoencoder_", model)._model
    for tensor in network.state_dict().values():
        assert tensor.device.type == "cpu"
        assert not tensor.is_inference()
    assert all(p.dtype == torch.float32 for p in network.autoencoder.parameters())


def assert_equal(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif hasattr(a, "toarray"):
        np.testing.assert_array_equal(a.toarray(), b.toarray())
    else:
        assert type(a) is type(b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
        np.testing.assert_array_equal(a, b)


def learnt(model):
    model = getattr(model, "autoencoder_", model)
    return {
        "state": tensors(model._model),
        "losses": {k: v for k, v in model.history_.items() if k != "seconds"},
        "diagnostics": model.diagnostics_,
    }


@cache
def without(name):
    """Return a fitted model, what it has learnt, and its results."""
    X = rows_of(name)
    model = make(name).fit(X)
    return model, learnt(model), results(name, model, X)


CASES = [
    pytest.param(
        mode,
        name,
        marks=[] if name in EVERY_MODE else [pytest.mark.slow],
        id=f"{mode}-{name}",
    )
    for mode in MODES
    for name in MODELS
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), CASES)
def test_a_mode_around_a_call_changes_nothing(mode, name):
    model, expected, expected_results = without(name)
    X = rows_of(name)
    with MODES[mode]():
        found = results(name, model, X)
        other = make(name).fit(X)
        before = settings()
        found_of_other = results(name, other, X)
        assert settings() == before
    assert_normal(other)
    assert_equal(learnt(other), expected)
    assert_equal(found, expected_results)
    assert_equal(found_of_other, expected_results)
    # What was made in a mode can be used outside of it, and fitted again.
    assert_equal(results(name, other, X), expected_results)


# Nothing left behind


def settings():
    """Return what this file is about, as it is now."""
    made = torch.empty(1)
    return {
        "made": (made.dtype, made.device.type, made.is_inference()),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": [torch.is_autocast_enabled(d) for d in ("cpu", "cuda", "mps")],
        "autocast_dtype": torch.get_autocast_dtype("cpu"),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "modes": torch._C._len_torch_function_stack(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "errors": np.geterr(),
        "threads": torch.get_num_threads(),
    }


@pytest.mark.parametrize("mode", MODES)
def test_an_error_leaves_all_as_it_was(mode):
    with MODES[mode]():
        before = settings()
        with pytest.raises(ValueError, match="infinity"):
            make("detector").fit(np.full((50, 3), np.inf))
        assert settings() == before


# Where Python looks for signals: where a function begins, and where one in C has ended.
# Not before one in C, such as the __exit__ of a lock.
POINTS = ("call", "return", "c_return")


@contextmanager
def at_points(function):
    """Call a function at each such point, with the number of it."""
    count = 0

    def watch(frame, event, argument):
        nonlocal count
        if event in POINTS:
            count += 1
            function(count)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def n_points(function):
    numbers = []
    with at_points(numbers.append):
        function()
    return len(numbers)


def interrupted(function, n):
    """Raise KeyboardInterrupt at the n-th point, as Ctrl-C does."""

    def stop(number):
        if number == n:
            sys.setprofile(None)
            raise KeyboardInterrupt

    try:
        with at_points(stop):
            function()
    except KeyboardInterrupt as error:
        # It is kept, and with it all that its frames hold.
        return error
    return None


@pytest.mark.parametrize("mode", [None, "no_grad", "all at once"])
def test_ctrl_c_at_any_point_of_a_query_leaves_all_as_it_was(mode):
    model, X = without("transformer")[0], rows_of("transformer")[:1]
    with MODES.get(mode, lambda: np.errstate())():
        before = settings()
        query = partial(model.transform, X)
        expected = query()
        for n in range(1, n_points(query) + 1):
            error = interrupted(query, n)
            assert settings() == before, n
            del error
            assert settings() == before, n
        np.testing.assert_array_equal(query(), expected)


@pytest.mark.parametrize("mode", [None, pytest.param("all at once")])
@pytest.mark.parametrize(
    ("name", "n_tried"),
    [
        ("transformer", 5),
        ("bf16", 5),
        pytest.param("transformer", 400, marks=pytest.mark.slow),
        pytest.param("cross-fitted", 100, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_during_a_fit_leaves_all_as_it_was(mode, name, n_tried):
    X = rows_of(name)
    rng = np.random.RandomState(0)
    with MODES.get(mode, lambda: np.errstate())():
        before = settings()
        fit = lambda: make(name).fit(X)  # noqa: E731
        fit()
        total = n_points(fit)
        points = np.linspace(1, total, n_tried).astype(int)
        for n in points + rng.randint(-9, 9, size=n_tried):
            error = interrupted(fit, max(int(n), 1))
            assert settings() == before, n
            del error
            assert settings() == before, n


@pytest.mark.parametrize("mode", [None, "errors raise", "float64", "all at once"])
def test_ctrl_c_while_settings_change(mode):
    # Every point of the mechanism itself, in which a function leaves nothing as it was.
    @in_default_state
    def function():
        torch.set_grad_enabled(False)
        np.seterr(all="ignore")
        torch.set_autocast_enabled("cpu", True)
        raise KeyboardInterrupt

    with MODES.get(mode, lambda: np.errstate())():
        before = settings()
        with pytest.raises(KeyboardInterrupt):
            function()
        assert settings() == before
        empty = in_default_state(lambda: None)
        for n in range(1, n_points(empty) + 1):
            interrupted(empty, n)
            assert settings() == before, n


@cache
def blas():
    return ThreadpoolController().select(user_api="blas").lib_controllers


def blas_threads():
    return [library.get_num_threads() for library in blas()]


def test_ctrl_c_while_numbers_of_threads_change():
    @in_default_state
    def function():
        with one_blas_thread(), threads_for(0):
            assert torch.get_num_threads() == 1
            assert set(blas_threads()) == {1}

    with threadpool_limits(2, "blas"):
        torch.set_num_threads(2)
        try:
            before = torch.get_num_threads(), blas_threads()
            assert set(before[1]) == {2}
            function()
            for n in range(1, n_points(function) + 1):
                interrupted(function, n)
                assert (torch.get_num_threads(), blas_threads()) == before, n
                # Nothing is left of that call.
                torch.set_num_threads(3)
                function()
                assert torch.get_num_threads() == 3, n
                torch.set_num_threads(2)
        finally:
            torch.set_num_threads(1)


def test_calls_that_overlap_in_threads_share_the_default_dtype():
    # The first to end must not take float32 from the others.
    inside, done = threading.Barrier(2, timeout=30), threading.Event()
    seen = []

    @in_default_state
    def short():
        inside.wait()

    @in_default_state
    def long():
        inside.wait()
        done.wait(30)
        seen.append(torch.get_default_dtype())

    with default_dtype(torch.float64):
        threads = [threading.Thread(target=f) for f in (short, long)]
        for thread in threads:
            thread.start()
        threads[0].join(30)
        done.set()
        threads[1].join(30)
        assert seen == [torch.float32]
        assert torch.get_default_dtype() == torch.float64


def test_what_a_method_is_stays_in_sight():
    # For help(), for scikit-learn's metadata routing, and in documentation.
    from inspect import signature

    assert list(signature(AutoencoderTransformer.fit).parameters)[:3] == [
        *("self", "X", "y"),
    ]
    assert AutoencoderTransformer.transform.__doc__.startswith("Return the latent code")
