"""Values that no parameter takes: errors name the parameter, and what it takes."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import EpochTimer

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP, Conv
from skae.bottlenecks import TopK
from skae.penalties import Contractive

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture(scope="module")
def rows():
    return np.random.RandomState(0).normal(size=(300, 4))


def transformer(n_components=2, **params):
    return AutoencoderTransformer(
        n_components, **{"max_epochs": 2, "random_state": 0} | params
    )


@pytest.fixture(scope="module")
def fitted(rows):
    return transformer().fit(rows)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 10**9}, "n_components=1000000000 is too many for 4 features"),
        ({"n_components": 10**5}, "at most 32768"),
        ({"n_components": 10**9, "bottleneck": TopK(2)}, "at most 268435456"),
        ({"n_components": 2**70}, r"'n_components' .* less than 2\*\*63\. Got 11805"),
        ({"lr": 10**400}, "'lr' .* Got a longer integer"),
        ({"max_epochs": 2**63}, "'max_epochs' .* AutoencoderTransformer"),
        ({"penalty": Contractive(10**400)}, "'alpha' parameter of Contractive"),
        ({"architecture": MLP((2**64,))}, "'hidden_layer_sizes' parameter of MLP"),
        ({"architecture": MLP((10**9,))}, "too large: .* 4 inputs and 1000000000 out"),
        ({"architecture": Conv((1, 4), (10**9,))}, "architecture is too large"),
        ({"architecture": Conv((1, 4), (2,), hidden_layer_sizes=(10**9,))}, "too lar"),
        ({"net_params": {"averaging": "x"}}, r"net_params.*'averaging' in \[0, 1\)"),
        ({"net_params": {"averaging": -1}}, "'averaging'.* Got -1"),
        ({"net_params": {"averaging": np.nan}}, "'averaging'.* Got nan"),
        ({"net_params": {"averaging": 1.0}}, "'averaging'.* Got 1.0"),
        ({"net_params": {"averaging": True}}, "'averaging'.* Got True"),
        ({"net_params": {"callbacks": 3}}, "net_params.* list of callbacks .* Got 3"),
        # It would switch off the timer, whose times are in `history_`.
        ({"net_params": {"callbacks": "disable"}}, "list of callbacks"),
        ({"net_params": {"callbacks": [3]}}, "net_params.* callbacks of skorch"),
        ({"net_params": {"callbacks": [("a", None, 1)]}}, "callbacks of skorch"),
        ({"net_params": {1: 2}}, "net_params.* names as keys. Got 1"),
    ],
    ids=str,
)
def test_parameters(params, message, rows):
    model = transformer()
    model.set_params(**params)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(rows)
    assert vars(model) == before


@pytest.mark.parametrize("n_samples", [10**11, 2**47])
def test_more_rows_than_memory(n_samples, fitted):
    with pytest.raises(MemoryError, match=f"n_samples={n_samples} rows of 4 features"):
        fitted.sample(n_samples)


@pytest.mark.parametrize("callbacks", [None, [], [("timer", EpochTimer())]])
def test_callbacks_that_are_accepted(callbacks, rows):
    transformer(net_params={"callbacks": callbacks, "averaging": 0}).fit(rows)


def test_alerts_are_counted(rows):
    model = AutoencoderOutlierDetector(2, max_epochs=2, random_state=0)
    model.set_params(calibration_fraction=0.2).fit(rows)
    offset = model.offset_
    for wrong in (True, False, 1.5, -1):
        with pytest.raises(ValueError, match=f"'n_alerts' .* Got {wrong}"):
            model.calibrate(rows, n_alerts=wrong)
    assert model.offset_ == offset
    with pytest.raises(ValueError, match="n_samples"):
        transformer().fit(rows).sample(2**70)


METHODS = ["transform", "reconstruct", "reconstruction_error", "score", "impute"]


@pytest.mark.parametrize("method", [*METHODS, "inverse_transform"])
def test_tensors(method, fitted, rows):
    call = getattr(fitted, method)
    X = rows[:, :2] if method == "inverse_transform" else rows
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(call(x), call(X))
    # In half precision there are numbers of single precision.
    half = x.bfloat16()
    np.testing.assert_array_equal(call(half), call(half.float().numpy()))
    with pytest.raises(ValueError, match="requires a gradient"):
        call(x.clone().requires_grad_())
    with pytest.raises(ValueError, match="'meta' has no values"):
        call(x.to("meta"))


def test_tensors_to_fit(rows):
    with pytest.raises(ValueError, match="'meta' has no values"):
        transformer().fit(torch.empty(30, 4, device="meta"))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-320])
def test_weights_of_any_size(scale, rows):
    weight = np.linspace(0.1, 1.0, len(rows))
    model = transformer(architecture=MLP(()))
    usual = clone(model).fit(rows, sample_weight=weight)
    model.fit(rows, sample_weight=weight * scale)
    # Numbers of 1e-320 have few digits.
    rtol = 1e-9 if scale != 1e-320 else 1e-2
    np.testing.assert_allclose(model.mean_, usual.mean_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        model.score(rows, sample_weight=weight * scale),
        usual.score(rows, sample_weight=weight),
        rtol=rtol,
    )


def test_weights_that_are_negligible(rows):
    weight = np.ones(len(rows))
    weight[:40] = 1e-200
    model = transformer().fit(rows, sample_weight=weight)
    usual = transformer().fit(rows[40:])
    np.testing.assert_array_equal(model.transform(rows), usual.transform(rows))
    with pytest.raises(ValueError, match="not negligible for 1 rows: at least 2"):
        model.fit(rows, sample_weight=np.r_[np.full(len(rows) - 1, 1e-99), 1.0])


def test_weights_at_the_limit_of_numbers(rows):
    weight = np.linspace(1, 1.7e308, len(rows))
    model = AutoencoderOutlierDetector(2, max_epochs=2, random_state=0)
    model.fit(rows, sample_weight=weight)
    expected = np.average(rows, axis=0, weights=weight / 1.7e308)
    np.testing.assert_allclose(model.mean_, expected)
    assert np.isfinite(model.score(rows, sample_weight=weight))


@pytest.mark.parametrize(
    "architecture",
    [
        MLP((4,), norm="batch"),
        MLP((4,), norm="layer"),
        Conv((1, 4), norm="batch"),
        MLP((4,), norm="layer", start="random", linear_path=False),
    ],
    ids=repr,
)
def test_contractive_in_half_precision(architecture, rows):
    model = transformer(
        architecture=architecture,
        penalty=Contractive(0.1),
        precision="bf16",
        early_stopping=False,
    )
    exact = clone(model).set_params(precision="float32").fit(rows)
    model.fit(rows)
    losses = model.history_["train_loss"], exact.history_["train_loss"]
    np.testing.assert_allclose(*losses, rtol=0.05)


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_out_of_range():
    X = np.random.RandomState(0).normal(size=(60, 3))
    model = AutoencoderTransformer(1, max_epochs=1, warm_start=True, random_state=0)
    model.fit(1e-41 * X)
    with pytest.raises(ValueError, match="warm_start=True keeps the scaling"):
        model.fit(X)
