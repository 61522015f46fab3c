"""The skorch net: its loop, its callbacks and what it leaves behind."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from torch import nn

from skae import AutoencoderTransformer
from skae._data.source import Resident
from skae._model.autoencoder import Objective, Parts
from skae._training.batches import Data, Rows
from skae._training.net import OPTIMIZERS, Net
from skae.architectures import MLP
from skae.bottlenecks import Plain
from skae.corruptions import Gaussian
from skae.losses import SquaredError
from skae.penalties import L1

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

N_FEATURES, N_COMPONENTS = 6, 2


def _net(*, corruption=None, penalty=None, **kwargs):
    """Return a net that starts at random, as most tests here need."""
    architecture = MLP((8,), norm=None, start="random")
    parts = Parts(architecture, Plain(), SquaredError(), corruption, penalty)
    defaults = {"max_epochs": 4, "batch_size": 32, "verbose": 0, "lr": 0.01}
    return Net(
        parts.build,
        module__n_features=N_FEATURES,
        module__n_components=N_COMPONENTS,
        module__seed=0,
        criterion__loss=parts.loss,
        criterion__penalty=parts.penalty,
        **(defaults | kwargs),
    )


@pytest.fixture
def data(X):
    x = torch.from_numpy(X / X.std()).float()
    return Data(Rows(Resident(x[:100])), Rows(Resident(x[100:])))


def _fit(net, data):
    return net.initialize().partial_fit(data)


def _weights(net):
    return nn.utils.parameters_to_vector(net.module_.parameters()).detach()


# Losses and history


def test_history_has_one_record_per_epoch_and_nothing_per_batch(data):
    history = _fit(_net(max_epochs=15, lr=0.1, averaging=0), data).history
    for number, record in enumerate(history, start=1):
        assert record["epoch"] == number
        assert record["dur"] > 0
        assert not any(record["batches"])
    assert len(history) == 15


def test_history_says_which_epochs_were_the_best_so_far(data):
    history = _fit(_net(max_epochs=15, lr=0.1, averaging=0), data).history
    for name in ("train_loss", "valid_loss"):
        losses = history[:, name]
        expected = [
            loss < min(losses[:i], default=np.inf) for i, loss in enumerate(losses)
        ]
        assert history[:, f"{name}_best"] == expected
    assert not all(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_recorded_losses_are_means_over_rows(weighted, data, rng):
    if weighted:
        weights = rng.uniform(0, 2, size=150).astype(np.float32)
        data = Data(
            Rows(
                data.train.source,
                torch.from_numpy(weights[:100] / weights[:100].mean()),
            ),
            Rows(data.validation.source, torch.from_numpy(weights[100:])),
        )
    # Steps too small to change anything: all batches meet the same weights.
    net = _fit(_net(optimizer="sgd", lr=1e-30, max_epochs=1, penalty=L1(0.1)), data)
    objective = Objective(SquaredError())
    for name, rows in zip(("train_loss", "valid_loss"), data[:2], strict=True):
        output = net.module_(rows.source.x, {"penalty": None})
        terms = objective.per_sample(output).detach().numpy()
        expected = np.average(terms, weights=rows.weight)
        assert net.history[-1, name] == pytest.approx(expected, rel=1e-5)


def test_without_held_out_rows_there_is_no_held_out_loss(data):
    net = _fit(_net(), Data(data.train))
    assert "valid_loss" not in net.history[-1]
    assert net.best_epoch_ == net.history[-1, "epoch"]


def test_held_out_rows_are_judged_by_the_same_draws_each_time(data):
    losses = {}
    for corruption in (None, Gaussian(1.0)):
        net = _fit(_net(optimizer="sgd", lr=1e-30, corruption=corruption), data)
        losses[corruption] = {net.initial_loss_, *net.history[:, "valid_loss"]}
        assert len(losses[corruption]) == 1
    assert losses[None] != losses[corruption]


def test_the_weights_kept_are_the_best_of_all_epochs(data):
    net = _fit(_net(max_epochs=30, lr=0.1, averaging=0), data)
    losses = [net.initial_loss_, *net.history[:, "valid_loss"]]
    assert net.best_epoch_ == np.argmin(losses)
    assert net.best_loss_ == min(losses)
    assert net.evaluate(data.validation).mean() == pytest.approx(net.best_loss_)


def test_without_early_stopping_the_last_weights_are_kept(data):
    class Spoil(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                net.weights_.flat.mul_(3.0)

    net = _fit(_net(early_stopping=False, averaging=0, callbacks=[Spoil()]), data)
    losses = net.history[:, "valid_loss"]
    assert losses[-1] > min(losses)
    assert net.best_epoch_ == 4
    assert net.evaluate(data.validation).mean() == pytest.approx(losses[-1])


def test_training_stops_when_held_out_rows_no_longer_gain(data):
    net = _fit(_net(optimizer="sgd", lr=1e-30, max_epochs=50, n_iter_no_change=3), data)
    assert len(net.history) == 3
    assert not net.unfinished_


@pytest.mark.parametrize("held_out", [True, False])
def test_divergence_ends_training_with_finite_weights(held_out, data):
    data = data if held_out else Data(data.train)
    net = _fit(_net(optimizer="sgd", lr=1e20, max_epochs=50), data)
    assert net.diverged_
    assert len(net.history) < 50
    assert torch.isfinite(_weights(net)).all()


def test_a_held_out_loss_that_is_not_finite_is_divergence_too(data):
    x = torch.full_like(data.validation.source.x, 1e30)
    far_out = Rows(Resident(x))
    net = _fit(_net(), Data(data.train, far_out))
    assert net.diverged_
    assert len(net.history) == 1


class _SpoilOnce(Callback):
    """Make the weights of one epoch NaN; keep those that each epoch has led to."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.reached, self.begun = [], []

    def on_epoch_begin(self, net, **kwargs):
        self.begun.append(_weights(net).clone())
        if len(net.history) == self.epoch:
            net.weights_.flat.fill_(torch.nan)

    def on_epoch_end(self, net, **kwargs):
        self.reached.append(_weights(net).clone())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", torch.optim.Adam])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_after_divergence_training_goes_on_from_the_best_weights(
    data, early_stopping, optimizer
):
    spoil = _SpoilOnce(4)
    params = {"max_epochs": 12, "averaging": 0.5, "early_stopping": early_stopping}
    net = _net(optimizer=optimizer, callbacks=[spoil], **params).initialize()
    group = net.optimizer_.param_groups[0]
    net.partial_fit(data)
    assert net.divergences_ == [4]
    assert net.diverged_
    losses = np.array(net.history[:, "valid_loss"])
    assert np.flatnonzero(np.isnan(losses)).tolist() == [3]
    best = int(np.argmin(losses[:3])) if early_stopping else 2
    torch.testing.assert_close(spoil.begun[4], spoil.reached[best], rtol=0, atol=0)
    assert group["lr"] == pytest.approx(0.001)
    # It has not only begun again, but learnt.
    assert net.best_epoch_ > 4
    assert losses[4:].min() < losses[:3].min()
    assert net.history[-1, "valid_loss_best"]


def test_before_the_first_good_epoch_it_goes_back_to_the_start(data):
    spoil = _SpoilOnce(1)
    net = _fit(_net(callbacks=[spoil]), data)
    torch.testing.assert_close(spoil.begun[1], spoil.begun[0], rtol=0, atol=0)
    assert net.best_epoch_ > 1


def test_a_second_divergence_ends_training(data):
    net = _fit(_net(optimizer="sgd", lr=1e20, max_epochs=50), data)
    assert net.divergences_ == [1, 2]
    assert net.stop_reason_ == "diverged"
    assert net.best_epoch_ == 0


# Steps


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, torch.optim.Rprop], ids=str)
def test_every_optimizer_lowers_the_objective(optimizer, data):
    net = _net(optimizer=optimizer, max_epochs=20, averaging=0)
    _fit(net, data)
    assert net.history[-1, "train_loss"] < 0.95 * net.history[0, "train_loss"]


def test_a_class_of_the_users_gets_the_parameters_themselves(data):
    seen = []

    class Own(torch.optim.SGD):
        def __init__(self, params, **kwargs):
            super().__init__(params, **kwargs)
            seen.extend(p for group in self.param_groups for p in group["params"])

    net = _fit(_net(optimizer=Own), data)
    assert list(map(id, seen)) == list(map(id, net.module_.parameters()))


def test_further_parameters_reach_the_optimizer(data):
    net = _net(optimizer="adam", optimizer__betas=(0.5, 0.6)).initialize()
    assert net.optimizer_.param_groups[0]["betas"] == (0.5, 0.6)
    assert net.optimizer_.param_groups[0]["lr"] == 0.01


def test_gradient_clip_bounds_a_step(data):
    net = _net(optimizer="sgd", lr=1.0, gradient_clip=1e-3, averaging=0)
    net.set_params(batch_size=100, max_epochs=1, early_stopping=False).initialize()
    before = _weights(net).clone()
    net.partial_fit(data)
    assert torch.linalg.vector_norm(_weights(net) - before).item() == pytest.approx(
        1e-3, rel=1e-3
    )


def test_progress_goes_to_one_over_the_planned_steps(data):
    net = _net(max_epochs=3).initialize()
    told = []
    net.module_.bottleneck.after_step = told.append
    net.partial_fit(data)
    np.testing.assert_allclose(told, np.arange(1, 13) / 12)


@pytest.mark.parametrize("corruption", [None, Gaussian()])
def test_the_seed_settles_everything(corruption, data):
    first, again, other = (
        _weights(_fit(_net(corruption=corruption, seed=seed), data))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_global_randomness_alone(data):
    before = torch.get_rng_state(), str(np.random.get_state())
    _fit(_net(corruption=Gaussian()), data)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


# Callbacks


def test_early_stopping_of_skorch_ends_training(data):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.999)
    ended = []

    class End(Callback):
        def on_train_end(self, net, **kwargs):
            ended.append(net)

    callbacks = [stop, ("end", End())]
    net = _net(max_epochs=50, callbacks=callbacks, n_iter_no_change=50)
    try:
        _fit(net, data)
    except KeyboardInterrupt:  # would end the whole run of the tests
        pytest.fail("the way in which skorch stops reached the caller")
    assert len(net.history) < 10
    assert ended == [net]


def test_a_callback_may_end_training_by_a_flag(data):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.stop_training_ = len(net.history) == 2

    net = _fit(_net(max_epochs=50, callbacks=[Stop()]), data)
    assert len(net.history) == 2
    assert not net.unfinished_


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end"]
)
def test_an_interruption_reaches_the_caller(hook, data):
    class Interrupt(Callback):
        pass

    def interrupt(self, net, **kwargs):
        raise KeyboardInterrupt

    setattr(Interrupt, hook, interrupt)
    with pytest.raises(KeyboardInterrupt):
        _fit(_net(callbacks=[Interrupt()]), data)


def test_an_lr_scheduler_schedules(data):
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.1)
    net = _fit(_net(callbacks=[scheduler], lr=0.1), data)
    np.testing.assert_allclose(net.history[:, "event_lr"], [0.1, 0.01, 1e-3, 1e-4])


@pytest.mark.parametrize("monitor", ["valid_loss_best", "train_loss_best", None])
def test_a_checkpoint_can_be_loaded(monitor, data, tmp_path):
    # The first is what skorch watches unless told otherwise.
    checkpoint = Checkpoint(monitor=monitor, dirname=tmp_path)
    net = _fit(_net(callbacks=[checkpoint], early_stopping=False), data)
    assert {"params.pt", "optimizer.pt", "history.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    fresh = _net().initialize()
    fresh.load_params(f_params=tmp_path / "params.pt")
    # Every epoch gained: the last one was saved, and is what the net has.
    for name in ("train_loss", "valid_loss"):
        assert (np.diff(net.history[:, name]) < 0).all()
    assert torch.equal(_weights(fresh), _weights(net))


def test_hooks_of_steps_are_called_where_somebody_listens(data):
    calls = {"on_batch_begin": 0, "on_grad_computed": 0, "on_batch_end": 0}

    class Listener(Callback):
        def on_batch_begin(self, net, batch, training, **kwargs):
            assert training
            assert len(batch[0]) == 25
            calls["on_batch_begin"] += 1

        def on_grad_computed(self, net, named_parameters, **kwargs):
            assert all(p.grad.any() for _, p in named_parameters)
            calls["on_grad_computed"] += 1

        def on_batch_end(self, net, loss, y_pred, **kwargs):
            assert loss.shape == ()
            assert y_pred[0].shape == (25, N_FEATURES)
            calls["on_batch_end"] += 1

    _fit(_net(callbacks=[Listener()], max_epochs=3), data)
    assert set(calls.values()) == {3 * 4}


def test_what_is_judged_is_the_running_average_of_the_weights(data):
    class Average(Callback):
        def on_train_begin(self, net, **kwargs):
            self.expected, self.n_steps = _weights(net).clone(), 0

        def on_batch_end(self, net, **kwargs):
            self.n_steps += 1
            decay = min(0.6, self.n_steps / (self.n_steps + 10))
            self.expected = decay * self.expected + (1 - decay) * _weights(net)

        def on_epoch_end(self, net, **kwargs):
            torch.testing.assert_close(_weights(net), self.expected)

    _fit(_net(averaging=0.6, callbacks=[Average()], max_epochs=8), data)


def test_callbacks_see_the_weights_that_were_judged(data):
    losses = []

    class Judge(Callback):
        def on_epoch_end(self, net, **kwargs):
            losses.append(net.evaluate(data.validation).mean())

    net = _fit(_net(callbacks=[Judge()]), data)
    np.testing.assert_allclose(losses, net.history[:, "valid_loss"])


# What is left


def test_a_fitted_net_has_dropped_what_only_training_needs(data):
    net = _fit(_net(), data)
    assert net.optimizer_ is None
    assert not {"generator_", "selection_", "weights_"} & set(vars(net))
    for p in net.module_.parameters():
        assert p.grad is None
        assert p.untyped_storage().nbytes() == p.numel() * p.element_size()


def test_a_pickled_net_is_the_same(data):
    net = _fit(_net(), data)
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(_weights(again), _weights(net))
    x = data.validation.source.x
    assert torch.equal(again.module_(x)[0], net.module_(x)[0])


def test_net_and_model_share_their_weights_after_pickling(X):
    model = AutoencoderTransformer(2, architecture=MLP((8,)), max_epochs=2).fit(X[:79])
    again = pickle.loads(pickle.dumps(model))
    assert again._model.autoencoder is again.net_.module_
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    assert len(pickle.dumps(model)) < 3 * 4 * n_weights + 20_000
