"""Every parameter does something, and what it says."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_swiss_roll
from skorch.callbacks import Callback, EarlyStopping

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import AnomalyScore, Scorer
from skae.architectures import MLP
from skae.bottlenecks import Bottleneck, Plain
from skae.corruptions import Gaussian
from skae.losses import Loss
from skae.penalties import L1

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0]


def small(**params):
    """Return a transformer that trains in a moment and keeps what it learnt."""
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "early_stopping": False,
        "lr": 1e-2,
        "max_epochs": 5,
        "random_state": 0,
    }
    return AutoencoderTransformer(**defaults | params)


def weights(model):
    return torch.cat([p.flatten() for p in model.net_.module_.parameters()])


# What stands in for parts that do not come with the package


class AbsoluteError(Loss):
    def per_entry(self, raw, x):
        return (raw - x).abs()


class Squashed(Bottleneck):
    def build(self, n_components, generator):
        return _Squashed()


class _Squashed(torch.nn.Module):
    def forward(self, h):
        return h.tanh(), h.new_zeros(len(h))


class Distance(AnomalyScore):
    def build(self, loss):
        return _Distance()


class _Distance(Scorer):
    def forward(self, view):
        return view.code.square().sum(dim=1)


# Parameters


# Of every parameter: a base that lets it show, where the defaults do not, and another
# value. The threshold is set on a fifth of the rows: without, five more networks would
# be trained for it.
EFFECTS = {
    "n_components": ({}, 1),
    "contamination": ({}, 0.3),
    "anomaly_score": ({}, Distance()),
    "n_estimators": ({}, 2),
    "calibration_fraction": ({}, 0.3),
    "architecture": ({}, MLP((9,))),
    "bottleneck": ({}, Squashed()),
    "corruption": ({}, Gaussian(0.5)),
    "penalty": ({}, L1(0.1)),
    "loss": ({}, AbsoluteError()),
    "scaling": ({}, "minmax"),
    "optimizer": ({}, "nadam"),
    "lr": ({}, 1e-4),
    "weight_decay": ({}, 0.1),
    "gradient_clip": ({"optimizer": "sgd"}, 1e-3),
    "batch_size": ({}, 16),
    "max_epochs": ({}, 6),
    "early_stopping": ({}, True),
    "validation_fraction": (
        # With callbacks, few rows are not all trained on in the end.
        {
            "early_stopping": True,
            "architecture": MLP((8,), start="random"),
            "net_params": {"callbacks": []},
        },
        0.5,
    ),
    "validation_split": (
        {"early_stopping": True, "architecture": MLP((8,), start="random")},
        "last",
    ),
    "n_iter_no_change": ({"tol": 1.0}, 1),
    "tol": ({"n_iter_no_change": 2}, 1.0),
    "random_state": ({}, 1),
    "precision": ({}, "bf16"),
    "net_params": ({}, {"optimizer__betas": (0.5, 0.9)}),
}
# Shown elsewhere: a second fit, the output, a device that is not there, and categories.
WITHOUT_EFFECT_HERE = {
    *("warm_start", "verbose", "checkpoint", "device", "categorical_features"),
}


def test_effects_are_complete():
    parameters = set(AutoencoderOutlierDetector().get_params(deep=False))
    assert set(EFFECTS) | WITHOUT_EFFECT_HERE == parameters


@pytest.fixture(scope="module")
def outcome(roll):
    """Return what a detector says of rows, which is kept for the next test."""
    known = {}

    def of(**changed):
        key = repr(changed)
        if key not in known:
            params = small().get_params(deep=False) | {"calibration_fraction": 0.2}
            for name in set(params) - set(AutoencoderOutlierDetector().get_params()):
                del params[name]
            model = AutoencoderOutlierDetector(**params | changed).fit(roll)
            known[key] = model.decision_function(roll), model.n_iter_
        return known[key]

    return of


@pytest.mark.parametrize("name", EFFECTS)
def test_every_parameter_has_an_effect(outcome, name):
    base, value = EFFECTS[name]
    (before, n_before), (after, n_after) = (
        outcome(**base),
        outcome(**base | {name: value}),
    )
    assert n_before != n_after or not np.array_equal(before, after)


def test_no_effect_without_a_change(roll):
    """The test above must not pass by chance."""
    a, b = small().fit(roll), small().fit(roll)
    np.testing.assert_array_equal(a.reconstruct(roll), b.reconstruct(roll))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "radam", "sgd"])
def test_optimizers_lower_the_loss(roll, optimizer):
    loss = small(optimizer=optimizer, lr=1e-2, max_epochs=10).fit(roll).history_
    assert loss["train_loss"][-1] < loss["train_loss"][0]


def test_optimizer_class_equals_its_name(roll):
    # With a penalty gradients are computed in the same way for both, to the last bit.
    by_class = small(optimizer=torch.optim.AdamW, penalty=L1(1e-6)).fit(roll)
    by_name = small(optimizer="adamw", penalty=L1(1e-6)).fit(roll)
    np.testing.assert_allclose(
        by_class.reconstruct(roll), by_name.reconstruct(roll), rtol=1e-3, atol=1e-3
    )


def test_weight_decay_shrinks_the_weights(roll):
    free, decayed = (small(weight_decay=decay).fit(roll) for decay in (0.0, 10.0))
    assert weights(decayed).norm() < weights(free).norm()


def test_gradient_clip_bounds_the_path(roll):
    # One step of plain gradient descent in each of five epochs, of this length at most.
    lr, clip = 0.1, 1e-2
    model = small(
        optimizer="sgd",
        lr=lr,
        gradient_clip=clip,
        batch_size=len(roll),
    )
    start = weights(clone(model).set_params(lr=1e-30).fit(roll))
    assert (weights(model.fit(roll)) - start).norm() <= 5 * lr * clip * 1.01


def test_penalty_and_corruption_train_together(roll):
    model = small(penalty=L1(0.1) + L1(0.2), corruption=Gaussian(0.1)).fit(roll)
    other = small(penalty=L1(0.1) + L1(0.1), corruption=Gaussian(0.1)).fit(roll)
    equal = small(penalty=L1(0.2) + L1(0.1), corruption=Gaussian(0.1)).fit(roll)
    assert not np.array_equal(model.transform(roll), other.transform(roll))
    np.testing.assert_allclose(model.transform(roll), equal.transform(roll), rtol=1e-3)


def test_plain_parts_are_what_none_stands_for(roll):
    explicit = small(bottleneck=Plain()).fit(roll)
    np.testing.assert_array_equal(explicit.transform(roll), small().fit_transform(roll))


# net_params


class Recorder(Callback):
    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(len(net.history))


def test_callbacks_are_called(roll):
    recorder = Recorder()
    small(net_params={"callbacks": [("recorder", recorder)]}).fit(roll)
    assert recorder.epochs == [1, 2, 3, 4, 5]


def test_callback_of_skorch_stops_the_training(roll):
    stopping = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, sink=str)
    model = small(net_params={"callbacks": [("stop", stopping)]}, max_epochs=50)
    assert model.fit(roll).n_iter_ < 5


def test_net_params_are_not_changed(roll):
    params = {"optimizer__betas": (0.5, 0.9), "callbacks": []}
    small(net_params=params).fit(roll)
    assert params == {"optimizer__betas": (0.5, 0.9), "callbacks": []}


@pytest.mark.parametrize(
    "name", ["lr", "max_epochs", "module", "train_split", "device"]
)
def test_net_params_leave_what_fit_sets(roll, name):
    with pytest.raises(ValueError, match=f"'net_params' .* {name}"):
        small(net_params={name: 1}).fit(roll)


def test_unknown_net_params_are_refused(roll):
    with pytest.raises((TypeError, ValueError), match="no_such_thing"):
        small(net_params={"no_such_thing": 1}).fit(roll)


def test_numbers_of_numpy_are_those_of_python(roll):
    numbers = {"batch_size": 50, "max_epochs": 3, "n_iter_no_change": 2, "lr": 0.25}
    narrow = {name: np.int8(value) for name, value in numbers.items()}
    narrow["lr"] = np.float16(0.25)
    found, expected = (
        AutoencoderTransformer(2, random_state=0, optimizer="sgd", **given)
        .fit(roll)
        .transform(roll)
        for given in (narrow, numbers)
    )
    np.testing.assert_array_equal(found, expected)
