"""Which way a net takes to its gradient, and what of a GPU can be tried without one."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, _step
from skae._net import Net
from skae._step import CudaGraph
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import TopK, Variational
from skae.corruptions import Gaussian
from skae.exceptions import OutOfMemoryWarning
from skae.penalties import L1


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _fit(X, estimator=AutoencoderTransformer, **params):
    defaults = {"n_components": 2, "max_epochs": 5, "early_stopping": False}
    defaults |= {"architecture": MLP((8,)), "random_state": 0}
    return estimator(**(defaults | params)).fit(X)


def _linear(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


class _Listener(Callback):
    n_calls = 0

    def on_batch_end(self, net, y_pred, **kwargs):
        assert y_pred is not None
        type(self).n_calls += 1


# Which step


@pytest.mark.parametrize(
    ("params", "step"),
    [
        ({}, "closed form"),
        ({"corruption": Gaussian()}, "closed form"),
        ({"optimizer": "sgd"}, "closed form"),
        ({"optimizer": torch.optim.SGD}, "autograd"),
        ({"penalty": L1(0.01)}, "autograd"),
        ({"precision": "bf16"}, "autograd"),
        ({"bottleneck": Variational()}, "autograd"),
        ({"net_params": {"callbacks": [_Listener()]}}, "autograd"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_a_fit_reports_its_step(estimator, params, step, X):
    assert _fit(X, estimator, **params).diagnostics_["step"] == step


def test_callbacks_that_look_into_steps_see_what_passes(X):
    before = _Listener.n_calls
    model = _fit(X, net_params={"callbacks": [_Listener()]}, batch_size=50)
    assert _Listener.n_calls - before == 3 * model.n_iter_


# Recorded steps. There is no GPU where the tests run: instead of kernels, a recording
# here repeats the call, which shows whether buffers are filled and read as they must.


class _Recorder:
    """Stands for `record`: outputs keep their place in memory, as in a recording."""

    def __init__(self, wrong=False, fails=False):
        self.n_recorded = self.n_replayed = 0
        self.wrong, self.fails = wrong, fails

    def __call__(self, function):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.n_recorded += 1
        outputs = function()

        def replay():
            self.n_replayed += 1
            loss, _ = function()
            outputs[0].copy_(loss + 1 if self.wrong else loss)

        return replay, outputs


@pytest.fixture
def recorder(monkeypatch, request):
    recorder = _Recorder(**getattr(request, "param", {}))
    choose = _step.choose_step

    def choose_recorded(net):
        step = choose(net)
        return CudaGraph(step, net.weights_.flat.grad) if CudaGraph.suits(net) else step

    monkeypatch.setattr(_step, "record", recorder)
    monkeypatch.setattr("skae._net.choose_step", choose_recorded)
    return recorder


SUITED = [
    {},
    {"corruption": Gaussian()},
    {"architecture": MLP((8,), dropout=0.2)},
    {"architecture": MLP((8,), norm="layer"), "penalty": L1(0.01)},
    {"architecture": Conv((1, 6), (2,)), "gradient_clip": 1.0},
]


@pytest.mark.parametrize("params", SUITED, ids=str)
def test_replayed_steps_train_the_same_model(params, X, request):
    expected = _fit(X, batch_size=40, **params)
    recorder = request.getfixturevalue("recorder")
    model = _fit(X, batch_size=40, **params)
    name = expected.diagnostics_["step"]
    assert model.diagnostics_["step"] == f"{name} in a CUDA graph"
    # Of two sizes of batches each is recorded once.
    assert recorder.n_recorded == 2
    assert recorder.n_replayed >= 4 * model.n_iter_
    np.testing.assert_array_equal(model.transform(X), expected.transform(X))
    np.testing.assert_array_equal(
        model.history_["train_loss"], expected.history_["train_loss"]
    )


@pytest.mark.parametrize("recorder", [{"wrong": True}, {"fails": True}], indirect=True)
def test_what_cannot_be_recorded_well_is_computed(recorder, X, monkeypatch):
    model = _fit(X)
    assert recorder.n_replayed <= 2
    monkeypatch.undo()
    np.testing.assert_array_equal(model.transform(X), _fit(X).transform(X))


@pytest.mark.parametrize(
    "params",
    [
        {"bottleneck": Variational()},
        {"bottleneck": TopK(1), "n_components": 4},
        {"architecture": MLP((8,), norm="batch")},
        {"architecture": Custom(_linear, _linear)},
        {"optimizer": torch.optim.SGD},
        {"net_params": {"callbacks": [_Listener()]}},
    ],
    ids=str,
)
def test_what_changes_between_steps_is_not_recorded(params, recorder, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _fit(X, **params)
    assert recorder.n_recorded == 0


# Half precision


def test_half_precision_is_that_of_bfloat16(X):
    full, half = (_fit(X, precision=p, max_epochs=20) for p in ("float32", "bf16"))
    losses = [model.history_["train_loss"] for model in (full, half)]
    # 8 bits: not the same numbers, but the same training.
    assert not np.allclose(*losses, rtol=1e-5)
    np.testing.assert_allclose(*losses, rtol=0.05)
    assert all(p.dtype == torch.float32 for p in half.net_.module_.parameters())


def test_held_out_rows_are_judged_in_single_precision(X):
    model = AutoencoderTransformer(
        2, architecture=MLP((8,)), precision="bf16", max_epochs=5, random_state=0
    ).fit(X, X_val=X)
    x = torch.from_numpy((X - model.mean_) / model.scale_).float()
    with torch.no_grad():
        terms = model.net_.module_.eval()(x)[2].double().mean().item()
    assert model.diagnostics_["best_loss"] == pytest.approx(terms, rel=1e-5)


def test_an_unknown_precision_is_refused(X):
    with pytest.raises(ValueError, match=r"'precision' parameter .* Got 'half'"):
        _fit(X, precision="half")


# Out of memory


def _out_of_memory(monkeypatch, n_times):
    """Let so many steps of training fail, from the second on."""
    failed, train_step = [], Net.train_step

    def step(self, batch, **fit_params):
        if self.weights_.n_steps == 1 and len(failed) < n_times:
            failed.append(len(batch[0]))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return train_step(self, batch, **fit_params)

    monkeypatch.setattr(Net, "train_step", step)
    return failed


def test_out_of_memory_training_begins_anew_with_half_the_batch(X, monkeypatch):
    expected = _fit(X, batch_size=25)
    failed = _out_of_memory(monkeypatch, 1)
    with pytest.warns(OutOfMemoryWarning, match=r"=49 .*=25\.") as seen:
        model = _fit(X, batch_size=49)
    assert seen[0].filename == __file__
    assert failed == [38]
    assert model.diagnostics_["batch_size"] == 25
    np.testing.assert_array_equal(model.transform(X), expected.transform(X))


def test_out_of_memory_twice_is_an_error_and_leaves_nothing(X, monkeypatch):
    _out_of_memory(monkeypatch, 2)
    model = AutoencoderTransformer(2, max_epochs=5, early_stopping=False)
    with (
        pytest.warns(OutOfMemoryWarning),
        pytest.raises(torch.cuda.OutOfMemoryError),
    ):
        model.fit(X)
    assert not hasattr(model, "net_")


def test_a_batch_of_one_row_cannot_be_halved(X, monkeypatch):
    _out_of_memory(monkeypatch, 1)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        _fit(X, batch_size=1, max_epochs=1)
