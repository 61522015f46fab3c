"""Tests with array API dispatch, which must be known before SciPy is imported.

`test_array_api` runs them, with SCIPY_ARRAY_API=1, in a process of their own.
"""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import (
    get_namespace,
    move_estimator_to,
    yield_namespace_device_dtype_combinations,
)
from sklearn.utils.estimator_checks import (
    _yield_array_api_checks,
    check_array_api_input_and_values,
)

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._model.model import Model
from skae.anomaly_scores import Mahalanobis
from skae.architectures import MLP
from skae.bottlenecks import TopK, VectorQuantized
from skae.losses import Bernoulli

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SETTINGS = {"architecture": MLP((8,)), "max_epochs": 3, "random_state": 0}
TRANSFORMER = AutoencoderTransformer(3, **SETTINGS)
DETECTOR = AutoencoderOutlierDetector(3, calibration_fraction=0.2, **SETTINGS)
QUANTIZED = clone(TRANSFORMER).set_params(bottleneck=VectorQuantized(5))
ESTIMATORS = {
    "transformer": TRANSFORMER,
    "quantized": QUANTIZED,
    "detector": DETECTOR,
    "ensemble": clone(DETECTOR).set_params(n_estimators=2),
}
# The others are slow.
USUAL = {"transformer", "detector"}
MARKS = {name: [] if name in USUAL else pytest.mark.slow for name in ESTIMATORS}
all_estimators = pytest.mark.parametrize(
    "estimator",
    [pytest.param(e, id=name, marks=MARKS[name]) for name, e in ESTIMATORS.items()],
)
DTYPES = [np.float64, np.float32]
METHODS = [
    "transform",
    "inverse_transform",
    "reconstruct",
    "reconstruction_error",
    "quantize",
    "score_samples",
    "decision_function",
    "predict",
    "p_values",
]


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


def _checks(estimator):
    assert estimator.__sklearn_tags__().array_api_support
    yield from _yield_array_api_checks(estimator)
    for namespace, device, dtype in yield_namespace_device_dtype_combinations():
        yield partial(
            check_array_api_input_and_values,
            array_namespace=namespace,
            device_name=device,
            dtype_name=dtype or "float64",
            check_sample_weight=True,
        )


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(e, check, marks=MARKS[name])
        for name, e in ESTIMATORS.items()
        for check in _checks(e)
    ],
)
def test_scikit_learn_checks(estimator, check):
    with config_context(array_api_dispatch=False):
        check(type(estimator).__name__, clone(estimator))


def test_sparse_codes_are_not_for_other_libraries(X):
    model = clone(TRANSFORMER).set_params(bottleneck=TopK(2, sparse_output=True))
    assert not model.__sklearn_tags__().array_api_support


def _results(model, X):
    """Return what all methods say of rows, by their names."""
    given = {"inverse_transform": model.transform(X)}
    return {
        name: getattr(model, name)(given.get(name, X))
        for name in METHODS
        if hasattr(model, name)
    }


@all_estimators
@pytest.mark.parametrize("dtype", DTYPES)
def test_methods_return_what_they_do_of_numpy_arrays(estimator, X, dtype):
    X = X.astype(dtype)
    tensor = torch.from_numpy(X)
    expected = _results(clone(estimator).fit(X), X)
    found = _results(clone(estimator).fit(tensor), tensor)
    assert found.keys() == expected.keys()
    for name in found:
        assert isinstance(found[name], torch.Tensor)
        result = found[name].numpy()
        assert result.dtype == expected[name].dtype
        np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-5)
        # One with which others go on.
        assert not found[name].is_inference()


def test_symbols_come_back(X):
    tensor = torch.from_numpy(X)
    model = clone(QUANTIZED).fit(tensor)
    back = model.dequantize(model.quantize(tensor))
    torch.testing.assert_close(back, model.reconstruct(tensor))


@pytest.mark.parametrize("dtype", DTYPES)
def test_score_is_a_float(X, rng, dtype):
    X = X.astype(dtype)
    weight = rng.uniform(size=len(X))
    model, other = clone(TRANSFORMER).fit(X), clone(TRANSFORMER)
    other.fit(torch.from_numpy(X))
    for weights in ((None, None), (weight, torch.from_numpy(weight))):
        expected = model.score(X, sample_weight=weights[0])
        found = other.score(torch.from_numpy(X), sample_weight=weights[1])
        assert type(found) is float
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_calibrate_and_explain_take_tensors(X):
    tensor = torch.from_numpy(X)
    model = clone(DETECTOR).fit(X).calibrate(X, quantile=0.3)
    other = clone(DETECTOR).fit(tensor).calibrate(tensor, quantile=0.3)
    assert other.offset_ == pytest.approx(model.offset_)
    np.testing.assert_allclose(other.p_values(tensor).numpy(), model.p_values(X))
    found, expected = other.explain(tensor), model.explain(X)
    np.testing.assert_allclose(found.share, expected.share)
    assert isinstance(found.value, np.ndarray)


def test_rows_outside_the_domain_are_refused(X):
    model = clone(DETECTOR).set_params(loss=Bernoulli(), calibration_fraction=0)
    tensor = torch.from_numpy((X - X.min()) / np.ptp(X))
    model.fit(tensor)
    with pytest.raises(ValueError, match=r"in \[0.0, 1.0\], but X ranges from 0 to 2"):
        model.score_samples(2 * tensor)


@all_estimators
def test_fit_takes_weights_and_validation_rows(estimator, X, rng):
    weight = rng.uniform(size=100)
    if isinstance(estimator, AutoencoderOutlierDetector):
        estimator = clone(estimator).set_params(calibration_fraction=0)
    given = X[:100], None, weight, X[100:]
    expected = clone(estimator).fit(*given).transform(X)
    tensors = (None if a is None else torch.from_numpy(a) for a in given)
    found = clone(estimator).fit(*tensors).transform(torch.from_numpy(X))
    assert np.array_equal(found.numpy(), expected)


def test_warm_starts_go_on(X):
    tensor = torch.from_numpy(X)
    model, other = (clone(TRANSFORMER).set_params(warm_start=True) for _ in range(2))
    expected = model.fit(X).fit(X).transform(X)
    found = other.fit(tensor).fit(tensor).transform(tensor)
    assert np.array_equal(found.numpy(), expected)


def test_chunks_make_one_tensor(X, monkeypatch):
    from skae._data import source

    tensor = torch.from_numpy(X)
    model = clone(TRANSFORMER).fit(tensor)
    expected, score = model.transform(tensor), model.score(tensor)
    monkeypatch.setattr(source, "chunk_rows", lambda *args: 7)
    torch.testing.assert_close(model.transform(tensor), expected)
    assert model.score(tensor) == pytest.approx(score)


def test_rows_are_left_as_they_are(X):
    rows = torch.from_numpy(X).float()
    model = clone(TRANSFORMER).set_params(scaling=None).fit(rows)
    model._model.map(lambda module, x: x.mul_(2.0), rows)
    assert np.array_equal(rows.numpy(), X.astype(np.float32))


# Where tensors are


@pytest.fixture
def no_host(monkeypatch):
    def forbidden(self, *args, **kwargs):
        raise AssertionError("a tensor was brought to the host")

    for name in ("cpu", "numpy", "tolist", "__array__", "__dlpack__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)


def test_a_pipeline_stays_on_the_device(X, request):
    # Those parts that use NumPy on a processor would not elsewhere.
    settings = {**SETTINGS, "architecture": MLP((8,), activation="relu")}
    settings["anomaly_score"] = Mahalanobis()
    tensor = torch.from_numpy(X)
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderOutlierDetector(3, **settings)
    ).fit(tensor)
    request.getfixturevalue("no_host")
    for name in ("transform", "score_samples", "decision_function", "predict"):
        assert isinstance(getattr(pipeline, name)(tensor), torch.Tensor)
    assert isinstance(
        pipeline.inverse_transform(pipeline.transform(tensor)), type(tensor)
    )


def test_the_model_goes_where_rows_are(X):
    # On this device there are no numbers, so that none can come from elsewhere.
    model = clone(TRANSFORMER).fit(X)._model
    model.completion = None  # it looks at the numbers to decide what to do
    rows = torch.empty(9000, 6, device="meta")
    for dtype in (torch.float32, torch.float64):
        results = (
            model.map(Model.encode, rows.to(dtype)),
            model.map(Model.forward, rows.to(dtype)),
        )
        for result, n_columns in zip(results, (3, 6), strict=True):
            assert result.device.type == "meta"
            assert result.dtype == dtype
            assert result.shape == (9000, n_columns)
    # The network itself stays where it was, and copies are made once.
    assert model.in_precision(torch.float32) is model
    there = [model.in_precision(torch.float32, rows.device) for _ in range(2)]
    assert there[0] is there[1]
    here = torch.device("cpu")
    assert model.in_precision(torch.float32, here) is model


@all_estimators
def test_estimators_move(estimator, X):
    tensor = torch.from_numpy(X)
    model = clone(estimator).fit(X)
    xp, _ = get_namespace(tensor)
    moved = move_estimator_to(model, xp, tensor.device)
    back = move_estimator_to(moved, get_namespace(X)[0], "cpu")
    for name, expected in _results(model, X).items():
        given = moved.transform(tensor) if name == "inverse_transform" else tensor
        found = getattr(moved, name)(given)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)
    assert isinstance(model.mean_, np.ndarray)
    assert np.array_equal(back.transform(X), model.transform(X))


@all_estimators
def test_rows_must_come_from_where_those_of_fit_came_from(estimator, X):
    tensor = torch.from_numpy(X)
    by_numpy, by_torch = clone(estimator).fit(X), clone(estimator).fit(tensor)
    for name in METHODS:
        if not hasattr(by_numpy, name):
            continue
        given = X, tensor
        if name == "inverse_transform":
            given = by_numpy.transform(X), by_torch.transform(tensor)
        for model, rows in ((by_numpy, given[1]), (by_torch, given[0])):
            with pytest.raises(ValueError, match="same namespace and the same device"):
                getattr(model, name)(rows)


def test_fitted_arrays_follow_the_rows_and_serve_without_dispatch(X):
    tensor = torch.from_numpy(X)
    model = clone(DETECTOR).fit(tensor)
    for name in ("mean_", "scale_", "explained_variance_ratio_", "calibration_scores_"):
        assert isinstance(getattr(model, name), torch.Tensor)
    model = pickle.loads(pickle.dumps(model))
    expected = clone(DETECTOR).fit(X)
    with config_context(array_api_dispatch=False):
        for rows in (X, tensor, X[:5]):
            found = model.score_samples(rows)
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, expected.score_samples(X)[: len(rows)])
        assert model.score(X) == pytest.approx(expected.score(X))
        np.testing.assert_allclose(model.p_values(X), expected.p_values(X))
        model.calibrate(quantile=0.1)


# Refusals


@pytest.mark.parametrize("name", ["transform", "reconstruct", "score"])
def test_gradients_are_for_modules(name, X):
    tensor = torch.from_numpy(X)
    model = clone(TRANSFORMER).fit(tensor)
    with pytest.raises(ValueError, match=r"requires a gradient.* to_torch"):
        getattr(model, name)(tensor.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"requires a gradient.* to_torch"):
        clone(TRANSFORMER).fit(tensor.clone().requires_grad_())


def test_what_is_wrong_is_said(X):
    tensor = torch.from_numpy(X)
    with pytest.raises(NotFittedError):
        clone(TRANSFORMER).transform(tensor)
    with pytest.raises(NotFittedError):
        clone(DETECTOR).predict(tensor)
    model = clone(TRANSFORMER).fit(tensor)
    with pytest.raises(ValueError, match="X has 5 features"):
        model.transform(tensor[:, :5])
    with pytest.raises(ValueError, match="X has 2 columns"):
        model.inverse_transform(tensor[:, :2])
    broken = tensor.clone()
    broken[3, 2] = torch.inf
    for rows in (broken, broken[:5]):
        with pytest.raises(ValueError, match="infinity"):
            model.transform(rows)
        with pytest.raises(ValueError, match="infinity"):
            clone(TRANSFORMER).fit(rows)


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_is_where_it_was(X, whiten):
    # A linear network that stays at its start is PCA, for tensors too.
    tensor = torch.from_numpy(X)
    linear = AutoencoderTransformer(
        2, whiten=whiten, architecture=MLP(()), max_epochs=1
    ).fit(tensor)
    pca = PCA(2, whiten=whiten).fit(tensor)
    close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-3)
    close(linear.transform(tensor), pca.transform(tensor))
    for name in ("explained_variance_", "singular_values_", "components_"):
        close(getattr(linear, name), getattr(pca, name))


@all_estimators
def test_callbacks_get_a_model_for_the_rows_that_they_get(estimator, X):
    heard = []

    class Listener:
        def setup(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def teardown(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
            heard.append(fitted_estimator.reconstruct(X))

    tensor = torch.from_numpy(X)
    model = clone(estimator).set_callbacks(Listener()).fit(tensor)
    expected = clone(estimator).fit(tensor).reconstruct(tensor)
    assert torch.equal(model.reconstruct(tensor), expected)
    assert all(isinstance(rows, np.ndarray) for rows in heard)


def test_samples_do_not_need_dispatch_to_be_off(X):
    model = clone(TRANSFORMER).fit(torch.from_numpy(X))
    with config_context(array_api_dispatch=False):
        expected = clone(TRANSFORMER).fit(X).sample(5, random_state=0)
    np.testing.assert_array_equal(model.sample(5, random_state=0), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_too_short_is_computed_in_double_precision(dtype, X):
    short = torch.from_numpy(X).to(dtype)
    model = clone(TRANSFORMER).fit(short)
    code = model.transform(short)
    assert code.dtype == torch.float64
    torch.testing.assert_close(code, model.transform(short.double()))
    assert model.inverse_transform(code.to(dtype)).dtype == torch.float64


def test_sparse_codes_have_a_way_back(X):
    tensor = torch.from_numpy(X)
    sparse = clone(TRANSFORMER).set_params(bottleneck=TopK(2, sparse_output=True))
    model = sparse.fit(tensor)
    back = model.inverse_transform(model.transform(tensor))
    np.testing.assert_allclose(back, model.reconstruct(tensor).numpy(), rtol=1e-6)


def test_calibration_scores_follow_the_rows(X):
    tensor = torch.from_numpy(X)
    model = clone(DETECTOR).fit(tensor).calibrate(tensor)
    assert torch.equal(model.calibration_scores_, model.score_samples(tensor))
