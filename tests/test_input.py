"""What is taken and what is refused, and in which words."""

import _estimators
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import Reconstruction
from skae.architectures import MLP
from skae.bottlenecks import Plain
from skae.corruptions import Gaussian
from skae.losses import Loss, SquaredError
from skae.penalties import L1

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]


def new(estimator, *args, **params):
    """Return an estimator that trains for few epochs: what matters is what goes in."""
    params = {"n_iter_no_change": 2} | params
    return _estimators.new(estimator, *args, **params)


both = pytest.mark.parametrize("estimator", ESTIMATORS)

METHODS = ["transform", "reconstruct", "reconstruction_error", "score"]


class UnitInterval(Loss):
    """A loss of data between 0 and 1."""

    domain = (0.0, 1.0)

    def per_entry(self, raw, x):
        return (raw - x).square()


# Rows that are refused


def _with(X, value):
    X = X.copy()
    X[3, 1] = value
    return X


BAD_ROWS = {
    "infinity": (lambda X: _with(X, np.inf), ValueError, "contains infinity"),
    "sparse infinity": (
        lambda X: sp.csr_array(_with(X, np.inf)),
        ValueError,
        "contains infinity",
    ),
    "strings": (
        lambda X: np.full(X.shape, "a"),
        ValueError,
        "columns that are not numbers",
    ),
    "complex": (lambda X: X + 1j, ValueError, "Complex data not supported"),
    "a vector": (lambda X: X[:, 0], ValueError, "Expected 2D array, got 1D"),
    "three dimensions": (lambda X: X[None], ValueError, "one flat row"),
    "no rows": (lambda X: X[:0], ValueError, "0 sample"),
    "no columns": (lambda X: X[:, :0], ValueError, "0 feature"),
    "None": (lambda X: None, ValueError, "Expected 2D array"),
}


@both
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_fit_refuses(X, estimator, kind):
    make, error, message = BAD_ROWS[kind]
    with pytest.raises(error, match=message):
        estimator().fit(make(X))


@both
def test_queries_refuse(X, estimator):
    model = new(estimator, 2).fit(X)
    for kind in set(BAD_ROWS) - {"no columns"}:
        make, error, message = BAD_ROWS[kind]
        for method in METHODS:
            with pytest.raises(error, match=message):
                getattr(model, method)(make(X))


@both
def test_one_row_is_too_few_to_fit(X, estimator):
    with pytest.raises(ValueError, match="1 sample"):
        estimator(1).fit(X[:1])


@both
def test_one_row_is_enough_for_the_rest(X, estimator):
    model = new(estimator, 2).fit(X)
    for method in METHODS:
        assert np.isfinite(getattr(model, method)(X[:1])).all(), method


@both
@pytest.mark.parametrize("method", METHODS)
def test_wrong_width(X, estimator, method):
    model = new(estimator, 2).fit(X)
    with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
        getattr(model, method)(X[:, :5])


@both
@pytest.mark.parametrize("method", METHODS)
def test_wrong_feature_names(X, estimator, method):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = new(estimator, 2).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(model, method)(frame[list("bacdef")])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        getattr(model, method)(X)


@both
@pytest.mark.parametrize("width", [1, 3, 6])
def test_inverse_transform_of_the_wrong_width(X, estimator, width):
    model = new(estimator, 2).fit(X)
    with pytest.raises(ValueError, match=f"X has {width} columns.* n_components_=2"):
        model.inverse_transform(X[:, :width])


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inverse_transform_of_codes_that_are_none(X, estimator, value):
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        new(estimator, 2).fit(X).inverse_transform([[0.0, value]])


# X_val


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda X: X[:, :5], ValueError, "X_val has 5 features, but X has 6"),
        (lambda X: _with(X, np.inf), ValueError, "X_val contains infinity"),
        (lambda X: X[:0], ValueError, "0 sample"),
        (lambda X: X[0], ValueError, "Expected 2D array, got 1D"),
        (lambda X: sp.csr_array(X[:, :5]), ValueError, "X_val has 5 features, but X"),
    ],
)
def test_x_val_is_checked(X, make, error, message):
    with pytest.raises(error, match=message):
        AutoencoderTransformer(2).fit(X, X_val=make(X))


def test_x_val_with_other_feature_names(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(ValueError, match="feature names should match"):
        AutoencoderTransformer(2).fit(frame, X_val=frame[list("bacdef")])


# Parameters


@both
@pytest.mark.parametrize(
    "value", [0, -1, 1.0, 1.5, 0.0, -0.5, "many", "mle", False, [2], np.nan]
)
def test_n_components_that_cannot_be(X, estimator, value):
    with pytest.raises((ValueError, TypeError), match="'n_components' parameter of"):
        estimator(value).fit(X)


@both
@pytest.mark.parametrize("n_samples", [4, 79])
def test_n_components_of_none_are_all(X, estimator, n_samples):
    model = estimator(None, random_state=0).fit(X[:n_samples])
    assert model.n_components_ == min(n_samples, 6)
    np.testing.assert_allclose(
        model.reconstruct(X[:n_samples]), X[:n_samples], atol=1e-4
    )


SLOTS = {
    "architecture": (MLP, "skae.architectures"),
    "bottleneck": (Plain, "skae.bottlenecks"),
    "corruption": (Gaussian, "skae.corruptions"),
    "penalty": (L1, "skae.penalties"),
    "loss": (SquaredError, "skae.losses"),
    "anomaly_score": (Reconstruction, "skae.anomaly_scores"),
}


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("kind", ["string", "class", "another part", "number"])
def test_slots_take_instances_only(X, slot, kind):
    component, module = SLOTS[slot]
    value = {
        "string": component.__name__.lower(),
        "class": component,
        "another part": L1() if slot != "penalty" else Gaussian(),
        "number": 1e-3,
    }[kind]
    expected = f"'{slot}' parameter of .*component of {module}: .* Got "
    with pytest.raises(ValueError, match=expected):
        AutoencoderOutlierDetector(**{slot: value}).fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": L1(-1.0)}, "'alpha' parameter of L1"),
        ({"penalty": L1() + L1("strong")}, "'alpha' parameter of L1"),
        ({"corruption": Gaussian(-0.1)}, "'scale' parameter of Gaussian"),
        ({"architecture": MLP(activation="linear")}, "'activation' parameter of MLP"),
        ({"architecture": MLP((8, 0))}, "'hidden_layer_sizes' parameter of MLP"),
        ({"architecture": MLP((8, 2.5))}, "'hidden_layer_sizes' parameter of MLP"),
        ({"architecture": MLP((8,), linear_path=False, start="pca")}, "start='random'"),
    ],
)
def test_parameters_of_parts_are_checked(X, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        AutoencoderTransformer(2, **params).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scaling", "quantile"),
        ("optimizer", "lbfgs"),
        ("lr", 0),
        ("lr", "0.1"),
        ("weight_decay", -1.0),
        ("gradient_clip", 0.0),
        ("batch_size", 0),
        ("max_epochs", "sometimes"),
        ("batch_size", 2.5),
        ("max_epochs", 0),
        ("early_stopping", "yes"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("tol", -1e-3),
        ("random_state", "seed"),
        ("verbose", -1),
        ("device", 0),
        ("net_params", [("callbacks", [])]),
        ("contamination", 0.6),
        ("contamination", "legacy"),
    ],
)
def test_parameters_that_cannot_be(X, name, value):
    with pytest.raises(
        ValueError, match=f"'{name}' parameter of Auto.* must be .* Got "
    ):
        AutoencoderOutlierDetector(**{name: value}).fit(X)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "meta", "cpu:banana", "xla"])
def test_unknown_device(X, device):
    with pytest.raises(ValueError, match=r"'device' parameter must be .* Got "):
        AutoencoderTransformer(2, device=device).fit(X)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", torch.device("cuda")])
def test_cuda_that_is_not_there(X, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device=.*cuda.* finds 0 CUDA .*'cpu'"):
        AutoencoderTransformer(2, device=device).fit(X)


def test_auto_device_is_the_cpu_without_cuda(X, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert AutoencoderTransformer(2, device="auto").fit(X).device_ == "cpu"


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_device_of_any_kind(X, device):
    assert AutoencoderTransformer(2, device=device).fit(X).device_ == "cpu"


# The domain of a loss


@both
def test_loss_refuses_rows_outside_its_domain(X, estimator):
    inside = (X - X.min()) / np.ptp(X)
    model = new(estimator, 2, loss=UnitInterval(), early_stopping=False, max_epochs=5)
    for outside in (inside + 0.1, inside - 0.1):
        with pytest.raises(ValueError, match=r"UnitInterval .*\[0.0, 1.0\].* X ranges"):
            model.fit(outside)
        with pytest.raises(ValueError, match=r"UnitInterval .* X_val ranges"):
            model.fit(inside, X_val=outside)
    assert model.fit(inside).score(inside) > 0


@both
def test_bounded_loss_is_not_scaled(X, estimator):
    inside = (X - X.min()) / np.ptp(X)
    for scaling in ("global", "standard", "minmax"):
        message = f"UnitInterval .* scaling .* Got '{scaling}'"
        with pytest.raises(ValueError, match=message):
            new(estimator, 2, loss=UnitInterval(), scaling=scaling).fit(inside)
    model = new(estimator, 2, loss=UnitInterval(), early_stopping=False, max_epochs=9)
    model.fit(inside)
    np.testing.assert_array_equal(model.scale_, np.ones(6))


# Rows that are taken


def _strided(X):
    return np.repeat(X, 2, axis=1)[:, ::2]


def _backwards(X):
    return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


SAME_ROWS = {
    "integer": lambda X: X.astype(np.int64),
    "small integer": lambda X: X.astype(np.int8),
    "Fortran-ordered": np.asfortranarray,
    "strided": _strided,
    "negative strides": _backwards,
    "read-only": _read_only,
    "lists": lambda X: X.tolist(),
    "object": lambda X: X.astype(object),
    "big-endian": lambda X: X.astype(">f8"),
}


@pytest.mark.slow
@both
def test_same_rows_give_the_same_result(X, estimator):
    X = np.round(10 * X)
    expected = new(estimator, 2).fit(X)
    results = {method: getattr(expected, method)(X) for method in METHODS}
    for kind, make in SAME_ROWS.items():
        same = make(X)
        model = new(estimator, 2).fit(same)
        for method, result in results.items():
            # Sums over rows go in the order of memory, hence not bit for bit.
            for rows in (same, X):
                np.testing.assert_allclose(
                    getattr(model, method)(rows),
                    result,
                    rtol=1e-9,
                    atol=1e-9,
                    err_msg=kind,
                )


@both
def test_boolean_rows(X, estimator):
    X = X[:79] > 0
    expected, model = new(estimator, 2).fit(X.astype(float)), new(estimator, 2).fit(X)
    np.testing.assert_array_equal(model.transform(X), expected.transform(X * 1.0))


@both
def test_rows_in_a_file(X, estimator, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    same = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected, model = new(estimator, 2).fit(X), new(estimator, 2).fit(same)
    np.testing.assert_array_equal(model.transform(same), expected.transform(X))


@both
def test_rows_in_a_frame(X, estimator):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = new(estimator, 2).fit(frame)
    assert model.feature_names_in_.tolist() == list("abcdef")
    expected = new(estimator, 2).fit(X).transform(X)
    np.testing.assert_allclose(model.transform(frame), expected, rtol=1e-9, atol=1e-9)


@both
@pytest.mark.parametrize("method", METHODS)
def test_rows_are_not_changed(X, estimator, method):
    before = X.copy()
    getattr(new(estimator, 2).fit(X), method)(X)
    np.testing.assert_array_equal(X, before)


@both
def test_single_precision(X, estimator):
    single = X.astype(np.float32)
    model, expected = new(estimator, 3).fit(single), new(estimator, 3).fit(X)
    code = model.transform(single)
    assert code.dtype == model.inverse_transform(code).dtype == np.float32
    assert model.reconstruct(single).dtype == np.float32
    assert model.transform(X).dtype == np.float64
    atol = 1e-5 * np.ptp(X)
    np.testing.assert_allclose(code, expected.transform(X), atol=atol)
    np.testing.assert_allclose(model.transform(X), code, atol=atol)
    np.testing.assert_allclose(
        model.reconstruct(single), model.reconstruct(X), atol=atol
    )


@both
def test_y_is_ignored(X, estimator):
    expected = new(estimator, 2).fit(X)
    code, score = expected.transform(X), expected.score(X)
    labels = np.array(["a"] * 150)
    for y in ("a string", np.nan, [1, 2], labels, sp.csr_array((3, 3)), object()):
        assert expected.score(X, y) == score
        np.testing.assert_array_equal(new(estimator, 2).fit_transform(X, y), code)
    np.testing.assert_array_equal(new(estimator, 2).fit(X, labels).transform(X), code)


@both
def test_huge_offset_is_not_rounded_away(X, estimator):
    # Seconds since 1970 say nothing in single precision before they are centred.
    moved = X + 1.7e9
    code = new(estimator, 2).fit_transform(X)
    np.testing.assert_allclose(new(estimator, 2).fit_transform(moved), code, atol=1e-4)


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_negative_weights_are_refused_by_score(estimator, X):
    model = new(estimator, 2, max_epochs=1).fit(X[:79])
    with pytest.raises(ValueError, match="Negative values in data passed to"):
        model.score(X, sample_weight=-np.ones(len(X)))
