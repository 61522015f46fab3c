"""A fit that does not end well leaves nothing half done."""

import gc
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import make_swiss_roll
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._training import device
from skae._training.net import Net
from skae.anomaly_scores import AnomalyScore
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import BatchTopK, TopK, Variational, VectorQuantized
from skae.losses import Bernoulli, Huber, Poisson, Trimmed
from skae.penalties import L1, KLSparsity

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]
QUERIES = ["transform", "reconstruct", "reconstruction_error", "score"]


@cache
def _roll():
    return make_swiss_roll(300, random_state=0)[0]


@pytest.fixture
def roll():
    return _roll()


def wide(n_in, n_out):
    return torch.nn.Linear(n_in, n_out + 1)


def in_unit_interval(X):
    return (X - X.min()) / np.ptp(X)


class Interrupt(Callback):
    """The user loses patience in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


class Picky(AnomalyScore):
    """Only finds out late that it does not like the model."""

    def build(self, loss):
        raise ValueError("not this model")


class Strict(AnomalyScore):
    _parameter_constraints: dict = {"alpha": [float]}

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def build(self, loss):
        return torch.nn.Module()


def small(estimator, **params):
    return estimator(
        **{
            "n_components": 2,
            "architecture": MLP((8,), start="random"),
            "early_stopping": False,
            "max_epochs": 3,
            "random_state": 0,
        }
        | params
    )


@cache
def _fitted(estimator):
    return small(estimator).fit(_roll())


# Parameters, and arguments of fit made from good rows, that make it fail.
FAILURES = {
    "parameter": ({"lr": -1.0}, {}),
    "part": ({"penalty": L1(-1.0)}, {}),
    "interrupt": ({"net_params": {"callbacks": [("stop", Interrupt())]}}, {}),
    "net_params": ({"net_params": {"no_such_thing": 1}}, {}),
    "device": ({"device": "no such device"}, {}),
    "rows outside the domain": ({"loss": Bernoulli()}, {}),
    "negative counts": ({"loss": Trimmed(Poisson())}, {}),
    "validation rows outside the domain": (
        {"loss": Bernoulli()},
        {"X": in_unit_interval, "X_val": lambda X: X},
    ),
    "scaling of such rows": (
        {"loss": Bernoulli(), "scaling": "standard"},
        {"X": in_unit_interval},
    ),
    "shape of images": ({"architecture": Conv((1, 7))}, {}),
    "start without a linear path": (
        {"architecture": Conv((1, 3), linear_path=False)},
        {},
    ),
    "more components than there are": ({"bottleneck": TopK(3)}, {}),
    "more components than there are, of a batch": ({"bottleneck": BatchTopK(3)}, {}),
    "groups": ({"bottleneck": VectorQuantized(n_groups=3)}, {}),
    "code outside the domain of the penalty": ({"penalty": KLSparsity()}, {}),
    "the same, in a sum": (
        {"penalty": L1() + KLSparsity(), "bottleneck": Variational()},
        {},
    ),
    "network of another width": ({"architecture": Custom(wide, wide)}, {}),
    "no network": ({"architecture": Custom(dict, dict)}, {}),
    "part of a part": ({"loss": Trimmed(Huber(-1.0))}, {}),
    "weight": ({}, {"sample_weight": lambda X: -np.ones(len(X))}),
    "validation rows": ({}, {"X_val": lambda X: X[:, 1:]}),
    "NaN": ({}, {"X": lambda X: X * np.nan}),
    "narrow and weight": (
        {},
        {"X": lambda X: X[:, 1:], "sample_weight": lambda X: np.zeros(len(X))},
    ),
    "narrow and interrupt": (
        {"net_params": {"callbacks": [("stop", Interrupt())]}},
        {"X": lambda X: X[:, 1:]},
    ),
}
FAILURES_OF_THE_DETECTOR = {
    "anomaly score": ({"anomaly_score": Picky()}, {}),
    "parameter of the anomaly score": ({"anomaly_score": Strict(alpha="1")}, {}),
}
CASES = [
    pytest.param(estimator, *case, id=f"{estimator.__name__}-{name}")
    for estimator in ESTIMATORS
    for name, case in (
        FAILURES
        | (FAILURES_OF_THE_DETECTOR if estimator is AutoencoderOutlierDetector else {})
    ).items()
]


def fail(model, X, arguments):
    arguments = {"X": lambda X: X} | arguments
    with pytest.raises((ValueError, TypeError, KeyboardInterrupt)):
        model.fit(**{name: make(X) for name, make in arguments.items()})


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.parametrize(("estimator", "params", "arguments"), CASES)
def test_failed_first_fit_leaves_it_unfitted(roll, estimator, params, arguments):
    model = small(estimator, **params)
    fail(model, roll, arguments)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    with pytest.raises(NotFittedError):
        model.transform(roll)


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.parametrize(("estimator", "params", "arguments"), CASES)
def test_failed_refit_leaves_the_first(roll, estimator, params, arguments):
    model = deepcopy(_fitted(estimator))
    queries = [*QUERIES, "predict"] if hasattr(model, "predict") else QUERIES
    before = [getattr(model, query)(roll) for query in queries]
    learnt = {name: value for name, value in vars(model).items() if name.endswith("_")}
    fail(model.set_params(**params), roll, arguments)
    for query, value in zip(queries, before, strict=True):
        np.testing.assert_array_equal(getattr(model, query)(roll), value)
    for name, value in learnt.items():
        assert getattr(model, name) is value


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_failed_warm_refit_leaves_the_first(roll, estimator):
    model = small(estimator, warm_start=True).fit(roll)
    before = model.transform(roll)
    interrupted = {"net_params": {"callbacks": [("stop", Interrupt())]}}
    fail(model.set_params(**interrupted), roll, {})
    np.testing.assert_array_equal(model.transform(roll), before)


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
def test_refit_forgets_the_names_of_columns(roll):
    pd = pytest.importorskip("pandas")
    model = small(AutoencoderTransformer).fit(pd.DataFrame(roll, columns=list("abc")))
    assert not hasattr(model.fit(roll), "feature_names_in_")


SHARED = [
    "transform",
    "inverse_transform",
    "reconstruct",
    "reconstruction_error",
    "score",
    "get_feature_names_out",
    "quantize",
    "dequantize",
]


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        *((estimator, method) for estimator in ESTIMATORS for method in SHARED),
        (AutoencoderTransformer, "sample"),
        (AutoencoderOutlierDetector, "score_samples"),
        (AutoencoderOutlierDetector, "decision_function"),
        (AutoencoderOutlierDetector, "predict"),
    ],
)
def test_unfitted(X, estimator, method):
    model = estimator(bottleneck=VectorQuantized())
    without_rows = method in ("get_feature_names_out", "sample")
    with pytest.raises(NotFittedError):
        getattr(model, method)(*([] if without_rows else [X]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
def test_an_interrupt_is_over_when_it_is_caught(roll, monkeypatch):
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0).fit(roll)
    before = model.transform(roll)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Net, "pass_once", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(roll)
    # As in a notebook, which keeps the exception, and with it all frames.
    assert caught.value.__traceback__ is not None
    assert device._of_blas._running == {}
    np.testing.assert_array_equal(model.transform(roll), before)
    monkeypatch.undo()
    model.set_params(max_epochs=5).fit(roll)
    del caught
    gc.collect()
    assert model.max_epochs == 5
    assert model.n_iter_ == 5
