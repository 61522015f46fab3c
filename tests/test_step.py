"""Which way a net takes to its gradient, and what of a GPU can be tried without one."""

import warnings
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
import torch
from _components import named
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, Freezer

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._gradient import cuda_graph
from skae._gradient.step import choose_step
from skae._training.net import Net
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Corruption, Gaussian
from skae.exceptions import FitWarning, OutOfMemoryWarning
from skae.losses import AbsoluteError, Bernoulli, Poisson, SquaredError, Trimmed
from skae.penalties import L1, Contractive, KLSparsity


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FitWarning)
        yield


def _fit(X, estimator=AutoencoderTransformer, **params):
    defaults = {"n_components": 2, "max_epochs": 5, "early_stopping": False}
    defaults |= {"architecture": MLP((8,)), "random_state": 0}
    return estimator(**(defaults | params)).fit(X)


@named
def _linear(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


class _Listener(Callback):
    n_calls = 0

    def __repr__(self):
        return "_Listener()"  # the same in all processes

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
        ({"penalty": L1(0.01)}, "autograd, with networks in closed form"),
        ({"architecture": MLP((8,), norm="layer")}, "autograd"),
        ({"precision": "bf16"}, "autograd"),
        ({"bottleneck": Variational()}, "autograd, with networks in closed form"),
        ({"net_params": {"callbacks": [_Listener()]}}, "autograd"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_a_fit_reports_its_step(estimator, params, step, X):
    if estimator is AutoencoderOutlierDetector:
        params = {"calibration_fraction": 0.2} | params  # else it trains five more
    assert _fit(X, estimator, **params).diagnostics_["step"] == step


def test_callbacks_that_look_into_steps_see_what_passes(X):
    before = _Listener.n_calls
    model = _fit(X, net_params={"callbacks": [_Listener()]}, batch_size=50)
    assert _Listener.n_calls - before == 3 * model.n_iter_


# Recorded steps. There is no GPU where the tests run: instead of kernels, a recording
# here repeats the call, which shows whether buffers are filled and read as they must.


class _Recorder:
    """Stands for `capture`: the result keeps its place in memory, as in a recording."""

    def __init__(self, wrong=False, empty=False, fails=False):
        self.n_recorded = self.n_replayed = 0
        self.wrong, self.empty, self.fails = wrong, empty, fails

    def __call__(self, function):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.n_recorded += 1
        result = function().clone()

        def replay():
            self.n_replayed += 1
            if not self.empty:
                result.copy_(function() + self.wrong)

        return replay, result


@pytest.fixture
def recorder(monkeypatch, request):
    recorder = _Recorder(**getattr(request, "param", {}))

    class Net:
        """A net that says it is on a GPU."""

        device = "cuda"

        def __init__(self, net):
            self.net = net

        def __getattr__(self, name):
            return getattr(self.net, name)

    monkeypatch.setattr(cuda_graph, "capture", recorder)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(
        "skae._training.net.choose_step",
        lambda net, *others: choose_step(Net(net), *others),
    )
    return recorder


SUITED = [
    {"architecture": MLP((8,), norm="batch")},
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


@pytest.mark.parametrize(
    "recorder", [{"wrong": True}, {"empty": True}, {"fails": True}], indirect=True
)
def test_what_cannot_be_recorded_well_is_computed(recorder, X, monkeypatch):
    model = _fit(X)
    assert recorder.n_replayed <= 2
    assert model.diagnostics_["step"] == "closed form"
    monkeypatch.undo()
    np.testing.assert_array_equal(model.transform(X), _fit(X).transform(X))


@pytest.mark.parametrize(
    "params",
    [
        {"bottleneck": Variational()},
        {"bottleneck": TopK(1), "n_components": 4},
        {"architecture": Custom(_linear, _linear)},
        {"optimizer": torch.optim.SGD},
        {"net_params": {"callbacks": [_Listener()]}},
    ],
    ids=str,
)
def test_what_changes_between_steps_is_not_recorded(params, recorder, X):
    _fit(X, **params)
    assert recorder.n_recorded == 0


class _Number(Corruption):
    """Draws a number that is no tensor."""

    def draw(self, shape, generator):
        return float(torch.rand((), generator=generator))

    def __call__(self, x, draw):
        return x * draw


class _Pair(Corruption):
    """Draws a tuple with names."""

    class Draw(NamedTuple):
        factor: torch.Tensor
        nothing: None

    def draw(self, shape, generator):
        return self.Draw(torch.rand((), generator=generator), None)

    def __call__(self, x, draw):
        return x * draw[0]


@pytest.mark.parametrize("corruption", [_Number(), _Pair()])
def test_what_is_drawn_is_never_that_of_the_recording(corruption, X, request):
    expected = _fit(X, corruption=corruption)
    recorder = request.getfixturevalue("recorder")
    model = _fit(X, corruption=corruption)
    assert (recorder.n_recorded > 0) == isinstance(corruption, _Pair)
    np.testing.assert_array_equal(
        model.history_["train_loss"], expected.history_["train_loss"]
    )


# Whoever looks into a step, or has a say in it


class _Hooked(Callback):
    """Registers a hook when training begins, or later, and counts its calls."""

    def __init__(self, register, epoch=0):
        self.register, self.epoch = register, epoch

    def on_train_begin(self, net, **kwargs):
        self.n_calls = 0

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch + 1:
            self.register(net.module_.encoder.branch.last, self._count)

    def _count(self, *args):
        self.n_calls += 1


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize(
    "register",
    [
        lambda layer, hook: layer.register_forward_pre_hook(hook),
        lambda layer, hook: layer.register_forward_hook(hook),
        lambda layer, hook: layer.register_full_backward_pre_hook(hook),
        lambda layer, hook: layer.register_full_backward_hook(hook),
        lambda layer, hook: layer.weight.register_hook(hook),
        lambda layer, hook: layer.weight.register_post_accumulate_grad_hook(hook),
    ],
    ids=["before", "after", "before back", "back", "gradient", "gradient added"],
)
def test_hooks_of_modules_and_gradients_are_called(register, epoch, X):
    hooked = _Hooked(register, epoch)
    model = _fit(X, net_params={"callbacks": [("hooked", hooked)]}, batch_size=50)
    (hooked,) = (cb for name, cb in model.net_.callbacks_ if name == "hooked")
    assert hooked.n_calls >= 3 * (5 - epoch)
    assert model.diagnostics_["step"] == "autograd"


def test_global_hooks_and_replaced_methods_are_called(X):
    calls = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda *args: calls.append(1)
    )
    try:
        assert _fit(X).diagnostics_["step"] == "autograd"
    finally:
        handle.remove()
    assert calls

    class Replace(Callback):
        def on_train_begin(self, net, **kwargs):
            last, forward = net.module_.encoder.branch.last, torch.nn.Linear.forward
            last.forward = lambda x: calls.append(x) or forward(last, x)

        def on_train_end(self, net, **kwargs):
            del net.module_.encoder.branch.last.forward

    calls.clear()
    model = _fit(X, net_params={"callbacks": [Replace()]})
    assert model.diagnostics_["step"] == "autograd"
    assert len(calls) >= model.n_iter_


class _Disturb(Callback):
    """Replaces gradients or weights by equal ones, at the beginning of every epoch."""

    def __init__(self, what):
        self.what = what

    def on_epoch_begin(self, net, **kwargs):
        if self.what == "zero_grad":
            net.module_.zero_grad()
        else:
            for p in net.module_.parameters():
                p.data = p.data.clone()


class _DisturbBatches(_Disturb):
    def on_batch_begin(self, net, **kwargs):
        self.on_epoch_begin(net)


@pytest.mark.parametrize("what", ["zero_grad", "data"])
@pytest.mark.parametrize("kind", [_Disturb, _DisturbBatches])
@pytest.mark.parametrize("penalty", [None, L1(0.01)])
def test_training_goes_on_where_gradients_or_weights_are_replaced(
    penalty, kind, what, X
):
    # Closed form and autograd round differently: by less with this network.
    network = MLP((8,), activation="tanh", norm=None)
    params = {"architecture": network, "lr": 5e-3, "penalty": penalty}
    before = _fit(X, net_params={"callbacks": [_Listener()]}, **params)
    model = _fit(X, net_params={"callbacks": [kind(what)]}, **params)
    losses = [m.history_["train_loss"] for m in (before, model)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[1][-1] < losses[1][0]


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_frozen_weights_stay_as_they_are(at, weight_decay, X):
    seen = []

    class Watch(Callback):
        def on_epoch_begin(self, net, **kwargs):
            weights = net.module_.state_dict()
            seen.append({name: t.clone() for name, t in weights.items()})

    callbacks = [("freezer", Freezer("encoder.*", at=at)), ("watch", Watch())]
    # Statistics of batch normalisation are of the averaged weights, which still move.
    params = {"architecture": MLP((8,), norm=None), "weight_decay": weight_decay}
    _fit(X, net_params={"callbacks": callbacks}, **params)
    for name, frozen in seen[at - 1].items():
        moved = not torch.equal(seen[-1][name], frozen)
        trained = name.startswith("decoder") and "start" not in name
        assert moved == (trained and "pace" not in name), name
    if at == 3:
        name = "encoder.branch.last.weight"
        assert not torch.equal(seen[0][name], seen[at - 1][name])


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


BOTTLENECKS = [
    None,
    Plain("sigmoid"),
    Variational(),
    TopK(2),
    BatchTopK(2),
    VectorQuantized(4),
    FiniteScalar(),
]


NORMS = [None, "batch", "layer"]


@pytest.mark.parametrize(
    ("bottleneck", "norm"),
    [
        pytest.param(
            bottleneck, norm, marks=[] if (i + j) % 3 == 0 else pytest.mark.slow
        )
        for i, bottleneck in enumerate(BOTTLENECKS)
        for j, norm in enumerate(NORMS)
    ],
    ids=repr,
)
def test_half_precision_works_with_all_that_stands_in_the_middle(bottleneck, norm, X):
    architecture = MLP((8,), norm=norm)
    model = _fit(
        X,
        precision="bf16",
        bottleneck=bottleneck,
        architecture=architecture,
        n_components=4,
    )
    assert np.isfinite(model.transform(X).sum())
    assert not model.diagnostics_["diverged"]


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (AbsoluteError(), None),
        (Bernoulli(), KLSparsity(0.1)),
        (Poisson(), None),
        (Trimmed(SquaredError()), Contractive(0.1)),
    ],
    ids=repr,
)
def test_half_precision_works_with_losses_and_penalties(loss, penalty, X):
    X = (X - X.min()) / np.ptp(X)
    bottleneck = Plain("sigmoid")
    model = _fit(X, precision="bf16", loss=loss, penalty=penalty, bottleneck=bottleneck)
    assert np.isfinite(model.reconstruct(X)).all()


def test_an_unknown_precision_is_refused(X):
    with pytest.raises(ValueError, match=r"'precision' parameter .* Got 'half'"):
        _fit(X, precision="half")


# Out of memory


def _out_of_memory(monkeypatch, n_times, more_than=0):
    """Let so many steps on so many rows fail, each the second of a training."""
    failed, train_step = [], Net.train_step

    def step(self, batch, **fit_params):
        too_many = len(batch[0]) > more_than and len(failed) < n_times
        if self.weights_.n_steps == 1 and too_many:
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


def test_the_warning_names_the_line_that_asked(X, monkeypatch):
    _out_of_memory(monkeypatch, 1)
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=2)
    with pytest.warns(OutOfMemoryWarning) as seen:
        make_pipeline(StandardScaler(), model).fit_transform(X)
    assert [w.filename for w in seen if w.category is OutOfMemoryWarning] == [__file__]


def test_further_networks_do_not_try_in_vain(X, monkeypatch):
    failed = _out_of_memory(monkeypatch, 99, more_than=30)
    with pytest.warns(OutOfMemoryWarning) as seen:
        _fit(X, AutoencoderOutlierDetector, n_estimators=3, batch_size=50)
    assert len(failed) == 1
    assert sum(w.category is OutOfMemoryWarning for w in seen) == 1


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
