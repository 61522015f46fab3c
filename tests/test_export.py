"""Modules that leave: what they compute, what they are, what they owe to the model."""

import io
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.export import Dim

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import (
    AnomalyScore,
    Combined,
    Mahalanobis,
    Scorer,
)
from skae.architectures import MLP, Architecture, Conv
from skae.bottlenecks import BatchTopK, Bottleneck, Plain, TopK, VectorQuantized
from skae.losses import Bernoulli, Loss

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SLOTS = {
    Architecture: "architecture",
    Bottleneck: "bottleneck",
    Loss: "loss",
    AnomalyScore: "anomaly_score",
}
METHODS = {
    "encoder": "transform",
    "decoder": "inverse_transform",
    "autoencoder": "reconstruct",
    "score": "score_samples",
}
# One of each class, and as slow tests all settings.
CHOSEN = of_kind(tuple(SLOTS))
COMPONENTS = [
    component
    if component in CHOSEN
    else pytest.param(component, marks=pytest.mark.slow)
    for component in of_kind(tuple(SLOTS), SETTINGS)
]


def _detector(rows, **parts):
    settings = {"architecture": MLP((8,)), "max_epochs": 3, "early_stopping": False}
    # No networks for the threshold alone, which no module has.
    settings |= {"calibration_fraction": 0.2}
    settings = {"n_components": 3, "random_state": 0, **settings, **parts}
    return AutoencoderOutlierDetector(**settings).fit(rows)


def _parts_of(component):
    kind = next(kind for kind in SLOTS if isinstance(component, kind))
    return {SLOTS[kind]: component}


@pytest.fixture
def rows(X):
    """Rows that suit every loss, and of which some were not trained on."""
    X = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    return X[:120], X[60:]


def _inputs(model, X):
    code = model.transform(X)
    code = code.toarray() if hasattr(code, "toarray") else code
    return {part: code if part == "decoder" else X for part in METHODS}


def _run(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("component", COMPONENTS, ids=repr)
def test_a_module_computes_what_the_method_does(component, rows):
    X_train, X = rows
    model = _detector(X_train, **_parts_of(component))
    for part, x in _inputs(model, X).items():
        module = model.to_torch(part)
        expected = getattr(model, METHODS[part])(x)
        expected = expected.toarray() if hasattr(expected, "toarray") else expected
        scale = max(1.0, np.abs(expected).max())
        x32 = x.astype(np.float32)
        found = _run(module, x32)
        assert found.dtype == np.float32
        narrow = getattr(model, METHODS[part])(x32)
        narrow = narrow.toarray() if hasattr(narrow, "toarray") else narrow
        np.testing.assert_allclose(found, narrow, rtol=0, atol=1e-5 * scale)
        found = _run(module.double(), x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
        # Tensors without data can be read by PyTorch alone.
        shape = module.to("meta")(torch.empty(x.shape, device="meta").double()).shape
        assert shape == expected.shape


def test_every_member_of_an_ensemble_counts(rows):
    X_train, X = rows
    model = _detector(X_train, n_estimators=3)
    assert len({m.scale for m in model._ensemble.members}) == 3
    found = _run(model.to_torch("score").double(), X)
    np.testing.assert_allclose(found, model.score_samples(X), rtol=1e-10)


@pytest.mark.parametrize("bottleneck", [TopK(3), Plain("relu")], ids=repr)
def test_components_keep_their_order(bottleneck, rows):
    X_train, X = rows
    model = _detector(X_train, bottleneck=bottleneck, n_components=12)
    # Not its own inverse, as that of few components may be.
    order = model._model.coordinates.order.numpy()
    assert not np.array_equal(order[order], np.arange(12))
    code = model.transform(X)
    for part, x in ("encoder", X), ("decoder", code):
        found = _run(model.to_torch(part).double(), x)
        np.testing.assert_allclose(found, getattr(model, METHODS[part])(x), rtol=1e-9)


@pytest.mark.parametrize("part", ["encoder", "decoder", "autoencoder"])
def test_numpy_has_no_part_in_inference_mode(part, rows, monkeypatch):
    model = _detector(rows[0], architecture=MLP((8,), activation="tanh"))
    x = torch.from_numpy(_inputs(model, rows[1])[part]).float()
    module = model.to_torch(part)
    expected = module(x)
    monkeypatch.setattr(torch.Tensor, "numpy", None, raising=False)
    with torch.inference_mode():
        found = module(x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("part", METHODS)
def test_rows_far_from_the_origin_keep_double_precision(part, X):
    X = 1e4 + 1e-2 * X
    model = _detector(X)
    x = _inputs(model, X)[part]
    expected = getattr(model, METHODS[part])(x)
    found = _run(model.to_torch(part).double(), x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.ptp(expected))


@pytest.mark.parametrize("part", METHODS)
def test_a_module_goes_to_double_precision_and_back(part, rows):
    model = _detector(rows[0], architecture=MLP((8,), norm="batch"))
    x = torch.from_numpy(_inputs(model, rows[1])[part]).float()
    module = model.to_torch(part)
    expected = module(x)
    assert module.double()(x.double()).dtype == torch.float64
    assert torch.equal(module.float()(x), expected)


@pytest.mark.parametrize("part", METHODS)
def test_a_module_is_ready_for_use(part, rows):
    model = _detector(rows[0], architecture=MLP((8,), norm="batch", dropout=0.5))
    # Whatever has become of the network since.
    model.net_.module_.train()
    module = model.to_torch(part)
    assert not any(m.training for m in module.modules())
    tensors = module.state_dict().values()
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    constants = {b.dtype for b in module.buffers() if b.is_floating_point()}
    # Scaling and coordinates keep their precision; batch norm has that of the weights.
    assert constants <= {torch.float32, torch.float64}
    assert {str(t.device) for t in tensors} == {model.device_}
    assert all("skorch" not in type(m).__module__ for m in module.modules())


@pytest.mark.parametrize("part", ["encoder", "decoder", "autoencoder"])
def test_a_part_has_only_its_own_weights(part, rows):
    model = _detector(rows[0])
    n_weights = {
        name: sum(p.numel() for p in getattr(model.net_.module_, name).parameters())
        for name in ("encoder", "decoder")
    }
    n_weights["autoencoder"] = sum(n_weights.values())
    found = sum(p.numel() for p in model.to_torch(part).parameters())
    assert found == n_weights[part]


@pytest.mark.parametrize("part", METHODS)
def test_module_and_estimator_owe_each_other_nothing(part, rows):
    X_train, X = rows
    model = _detector(X_train, warm_start=True, calibration_fraction=0.0)
    x = _inputs(model, X)[part]
    module, other = model.to_torch(part), model.to_torch(part)
    found, expected = _run(module.double(), x), getattr(model, METHODS[part])(x)
    # Whatever is done to one of two modules...
    for tensor in [*other.parameters(), *other.buffers()]:
        tensor.data.zero_()
    assert np.array_equal(_run(module, x), found)
    assert np.array_equal(getattr(model, METHODS[part])(x), expected)
    # ... or to the estimator.
    for tensor in [*model.net_.module_.parameters(), *model.net_.module_.buffers()]:
        tensor.data.add_(1)
    model.set_params(lr=0.1).fit(X_train[::2])
    assert np.array_equal(_run(module, x), found)


@pytest.mark.slow
@pytest.mark.parametrize("part", METHODS)
@pytest.mark.parametrize(
    "parts",
    [{}, {"architecture": Conv((1, 6), (4,))}, {"anomaly_score": Mahalanobis()}],
    ids=["default", "conv", "mahalanobis"],
)
def test_gradients_flow_through(part, parts, rows):
    X_train, X = rows
    model = _detector(X_train, **parts)
    # New rows: at a training row the score, which is piecewise smooth, has a kink.
    x = torch.from_numpy(_inputs(model, X)[part][-5:]).requires_grad_()
    module = model.to_torch(part).double()
    assert torch.autograd.gradcheck(module, x)
    module(x).sum().backward()
    unused = [name for name, p in module.named_parameters() if p.grad is None]
    assert unused == []


def test_training_goes_on(rows):
    X_train, _ = rows
    model = _detector(X_train)
    module = model.to_torch("autoencoder").train()
    x = torch.from_numpy(X_train.astype(np.float32))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    errors = []
    for _ in range(50):
        error = nn.functional.mse_loss(module(x), x.flip(1))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("part", METHODS)
def test_modules_are_kept_in_files(part, rows):
    X_train, X = rows
    model = _detector(X_train, bottleneck=VectorQuantized(5, n_groups=3))
    other = _detector(X_train[::-1], bottleneck=VectorQuantized(5, n_groups=3))
    x = _inputs(model, X)[part].astype(np.float32)
    module, again = model.to_torch(part), other.to_torch(part)
    expected = _run(module, x)
    assert not np.array_equal(_run(again, x), expected)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    copies = again, pickle.loads(pickle.dumps(module)), deepcopy(module)
    for copy in copies:
        assert np.array_equal(_run(copy, x), expected)


# Out of Python

EXPORTED = [
    *((component, "autoencoder") for component in of_kind(Architecture)),
    *((component, "encoder") for component in of_kind(Bottleneck)),
    *((component, "decoder") for component in (TopK(2), Plain("tanh"), Bernoulli())),
    *((component, "autoencoder") for component in of_kind(Loss)),
    *((component, "score") for component in of_kind(AnomalyScore)),
]
IN_ONNX = [
    (Conv((1, 1, 2, 3), channels=(4,)), "autoencoder"),
    (BatchTopK(2), "encoder"),
    (VectorQuantized(5, n_groups=3), "encoder"),
    (Bernoulli(), "decoder"),
    (Combined(), "score"),
]


def _module_and_rows(component, part, rows):
    X_train, X = rows
    model = _detector(X_train, **_parts_of(component))
    x = _inputs(model, X)[part].astype(np.float32)
    return model.to_torch(part), x


@pytest.mark.parametrize(
    ("component", "part"),
    [
        case if n % 5 == 0 else pytest.param(*case, marks=pytest.mark.slow)
        for n, case in enumerate(EXPORTED)
    ],
    ids=repr,
)
def test_torch_export_takes_any_number_of_rows(component, part, rows):
    module, x = _module_and_rows(component, part, rows)
    example = (torch.from_numpy(x[:5]),)
    file = io.BytesIO()
    torch.export.save(
        torch.export.export(module, example, dynamic_shapes=({0: Dim("rows")},)), file
    )
    file.seek(0)
    again = torch.export.load(file).module()
    for n_rows in (2, 90):
        np.testing.assert_allclose(
            _run(again, x[:n_rows]), _run(module, x[:n_rows]), rtol=1e-5, atol=1e-6
        )


# Both are noisy about themselves.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("component", "part"), IN_ONNX, ids=repr)
def test_onnx_computes_the_same(component, part, rows, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, x = _module_and_rows(component, part, rows)
    path = tmp_path / "module.onnx"
    torch.onnx.export(
        module,
        (torch.from_numpy(x[:5]),),
        path,
        dynamo=True,
        dynamic_shapes=({0: "rows"},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    for n_rows in (1, 2, 90):
        expected = _run(module, x[:n_rows])
        (found,) = session.run(None, {name: x[:n_rows]})
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


# Refusals


@pytest.mark.parametrize(
    ("estimator", "part"),
    [
        (AutoencoderTransformer, "score"),
        (AutoencoderTransformer, None),
        (AutoencoderOutlierDetector, "code"),
        (AutoencoderOutlierDetector, ["score"]),
    ],
)
def test_other_parts_are_refused(estimator, part, X):
    model = estimator(2, architecture=MLP(()), random_state=0).fit(X)
    accepted = "'encoder', 'decoder', 'autoencoder'"
    if estimator is AutoencoderOutlierDetector:
        accepted += ", 'score'"
    with pytest.raises(ValueError, match=f"'part'.* one of {accepted}. Got ") as error:
        model.to_torch(part)
    assert repr(part) in str(error.value)


def test_not_before_fit():
    with pytest.raises(NotFittedError):
        AutoencoderTransformer().to_torch()


class _Elsewhere(Scorer):
    def forward(self, view):
        return torch.from_numpy(np.abs(view.residual.detach().cpu().numpy()).max(1))


class Elsewhere(AnomalyScore):
    def build(self, loss):
        return _Elsewhere()


def test_a_score_that_leaves_pytorch_is_refused(rows):
    model = _detector(rows[0], anomaly_score=Elsewhere())
    with pytest.raises(ValueError, match=r"part='score'.* _Elsewhere"):
        model.to_torch("score")
    # What surrounds it can still be had.
    model.to_torch("autoencoder")


@pytest.mark.parametrize("part", METHODS)
def test_scales_beyond_single_precision_come_through_in_double(part, X):
    X = 1e40 * (X + 10)
    model = _detector(X)
    x = _inputs(model, X)[part]
    expected = getattr(model, METHODS[part])(x)
    found = _run(model.to_torch(part).double(), x)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.ptp(expected))
