"""The bar, and callbacks of skorch: what is seen of a fit while it goes on."""

import numpy as np
import pytest
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EpochScoring,
    LRScheduler,
    PassthroughScoring,
)

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture
def X(rng):
    t = rng.uniform(-3, 3, size=(600, 1))
    return np.hstack([t, np.sin(t), np.cos(t), t**2]) + 0.1 * rng.normal(size=(600, 4))


def small(estimator=AutoencoderTransformer, **params):
    defaults = {
        "n_components": 1,
        "architecture": MLP((8,), start="random"),
        "max_epochs": 4,
        "random_state": 0,
        "verbose": 1,
    }
    return estimator(**defaults | params)


def last_line(capfd):
    """Return what stays on the screen: one line, that the last state is written to."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    states = [state.rstrip() for state in err.split("\r") if state.strip()]
    # Where there is no terminal, the bar itself has ten characters; one is enough.
    assert max(map(len, states)) - 9 <= 79
    return states[-1]


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.stop_training_ = True


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_all_epochs(X, capfd):
    model = small().fit(X)
    line = last_line(capfd)
    assert line.startswith("100%")
    assert "epoch 4/4" in line
    assert line.endswith(f"valid_loss={model.diagnostics_['best_loss']:.4g}]")


def test_no_gain(X, capfd):
    model = small(max_epochs=200, n_iter_no_change=3, lr=0.02).fit(X)
    line = last_line(capfd)
    n = model.n_iter_
    assert 0 < model.best_epoch_ < n < 200
    assert line.startswith("100%")
    assert f"epoch {n}/{n} " in line
    loss = model.diagnostics_["best_loss"]  # after the second stage
    assert loss <= model.history_["valid_loss"][model.best_epoch_ - 1]
    assert f"valid_loss={loss:.4g}, no gain since epoch {model.best_epoch_}]" in line


def test_no_gain_at_all(X, capfd):
    model = small(architecture=None, lr=1e-12, max_epochs=50).fit(X)
    assert model.best_epoch_ == 0
    line = last_line(capfd)
    assert line.endswith(" initial weights: lr too low]")


def test_no_judges(X, capfd):
    model = small(early_stopping=False).fit(X)
    assert f"train_loss={model.history_['train_loss'][-1]:.4g}]" in last_line(capfd)


def test_no_epochs(X, capfd):
    AutoencoderTransformer(1, verbose=1, random_state=0).fit(X[:79])
    line = last_line(capfd)
    assert line.endswith(" initial weights: too few rows to validate]")


def test_a_loss_that_is_not_finite(X, capfd):
    small(lr=1e30, optimizer="sgd", architecture=MLP((), start="random")).fit(X)
    line = last_line(capfd)
    assert line.startswith("100%")
    assert "loss not finite" in line


def test_stopped(X, capfd):
    small(net_params={"callbacks": [("stop", Stop())]}).fit(X)
    line = last_line(capfd)
    assert "epoch 1/1 " in line
    assert "stopped by a callback" in line


def test_interrupted(X, capfd):
    model = small(net_params={"callbacks": [("interrupt", Interrupt())]})
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert "epoch 0/4" in last_line(capfd)


@pytest.mark.parametrize(
    ("n_rows", "n_estimators", "networks"),
    [
        (600, 3, ["1/3", "2-3/3"]),
        # The members of a fold, each time of five folds at once.
        (150, 1, ["1/6", "2-6/6"]),
        (150, 2, ["1/12", "2/12", "3-7/12", "8-12/12"]),
    ],
)
def test_several_networks_leave_one_line(X, capfd, n_rows, n_estimators, networks):
    detector = small(AutoencoderOutlierDetector, n_estimators=n_estimators)
    detector.fit(X[:n_rows])
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1
    for name in networks:
        assert f"network {name}" in shown
    last = shown.rstrip().rpartition("\r")[2]
    assert last.startswith(f"network {networks[-1]}")
    assert "epoch 4/4 " in last


# Callbacks of skorch


def test_a_scheduler_changes_the_rate(X):
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.1)
    model = small(verbose=0, net_params={"callbacks": [("lr", scheduler)]}).fit(X)
    rates = [epoch["event_lr"] for epoch in model.net_.history]
    np.testing.assert_allclose(rates, model.lr * 0.1 ** np.arange(4))


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_checkpoint_can_be_the_whole_net(X, tmp_path, verbose):
    checkpoint = Checkpoint(
        monitor="valid_loss_best",
        f_params=None,
        f_optimizer=None,
        f_criterion=None,
        f_history=None,
        f_pickle="net.pkl",
        dirname=tmp_path,
    )
    params = {"callbacks": [("checkpoint", checkpoint)]}
    model = small(verbose=verbose, net_params=params).fit(X)
    assert model.n_iter_ == 4
    assert (tmp_path / "net.pkl").stat().st_size > 0


@pytest.mark.parametrize(
    "scoring",
    [
        EpochScoring("neg_mean_squared_error"),
        BatchScoring("neg_mean_squared_error"),
        PassthroughScoring("valid_loss"),
    ],
)
def test_scores_of_outputs_that_are_not_there(X, scoring):
    model = small(verbose=0, net_params={"callbacks": [("score", scoring)]})
    with pytest.raises(ValueError, match=f"{type(scoring).__name__} needs outputs"):
        model.fit(X)


def test_a_score_of_ones_own(X):
    def n_epochs(net, X, y):
        return len(net.history)

    scoring = EpochScoring(n_epochs, name="n", lower_is_better=False)
    model = small(verbose=0, net_params={"callbacks": [("score", scoring)]}).fit(X)
    assert [epoch["n"] for epoch in model.net_.history] == [1, 2, 3, 4]
