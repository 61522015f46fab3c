"""What users of PCA, Keras and skorch write first: it works, or a message says how."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import Combined
from skae.architectures import MLP, Conv
from skae.bottlenecks import Plain
from skae.corruptions import Gaussian
from skae.penalties import L1

DIGITS = load_digits().data[:200]


def transformer(**params):
    """Return a transformer that is fitted in a moment."""
    quick = {"architecture": MLP((8,)), "max_epochs": 2, "random_state": 0}
    return AutoencoderTransformer(4, **quick | params)


def detector(**params):
    return AutoencoderOutlierDetector(4, max_epochs=2, random_state=0, **params)


def fit(estimator, X=DIGITS, *args, **kwargs):
    """Fit; that two epochs are too few is not what is tested here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_epochs=2 was reached")
        return estimator.fit(X, *args, **kwargs)


# What is refused, and what the message says

REFUSED = {
    # Components by class, by name, and in other forms
    "architecture=MLP": (
        lambda: fit(transformer(architecture=MLP)),
        r"None or a component of skae.architectures: Conv\(input_shape=...\), "
        r"Custom\(encoder=..., decoder=...\) or MLP\(\). Got the class MLP, not M",
    ),
    "architecture='conv'": (
        lambda: fit(transformer(architecture="conv")),
        r"skae.architectures: Conv\(input_shape=...\), .* Got 'conv' instead",
    ),
    "architecture=(64, 32)": (
        lambda: fit(transformer(architecture=(64, 32))),
        r"or MLP\(\). Got \(64, 32\) instead",
    ),
    "architecture=module": (
        lambda: fit(transformer(architecture=nn.Linear(64, 4))),
        r"Custom\(encoder=..., decoder=...\)",
    ),
    "loss='mse'": (
        lambda: fit(transformer(loss="mse")),
        r"component of skae.losses: AbsoluteError\(\), .*SquaredError\(\)",
    ),
    "loss=MSELoss()": (
        lambda: fit(transformer(loss=nn.MSELoss())),
        r"component of skae.losses: .*SquaredError\(\)",
    ),
    "corruption=0.3": (
        lambda: fit(transformer(corruption=0.3)),
        r"component of skae.corruptions: .*Gaussian\(\), Masking\(\)",
    ),
    "penalty=L1": (
        lambda: fit(transformer(penalty=L1)),
        r"L1\(\) or Sum\(left=..., right=...\). Got the class L1, not L1\(\)",
    ),
    "bottleneck='variational'": (
        lambda: fit(transformer(bottleneck="variational")),
        r"component of skae.bottlenecks: .*Variational\(\)",
    ),
    "anomaly_score='mse'": (
        lambda: fit(detector(anomaly_score="mse")),
        r"component of skae.anomaly_scores: Combined\(\), .*Reconstruction\(\)",
    ),
    # Parameters of components that are not there
    "corruption__scale": (
        lambda: transformer().set_params(corruption__scale=0.1),
        r"corruption=None has no parameter 'scale': .* for example Gaussian\(\)",
    ),
    "grid over corruption__scale": (
        lambda: GridSearchCV(
            transformer(), {"corruption__scale": [0.1]}, error_score="raise"
        ).fit(DIGITS),
        r"corruption=None has no parameter 'scale': .* for example Gaussian\(\)",
    ),
    "penalty__alpha": (
        lambda: transformer().set_params(penalty__alpha=0.1),
        r"penalty=None has no parameter 'alpha': .* L1\(\)",
    ),
    "bottleneck__k": (
        lambda: transformer().set_params(bottleneck__k=2),
        r"which stands for Plain\(\), has no parameter 'k': .* TopK\(k=...\)",
    ),
    "loss__delta": (
        lambda: transformer().set_params(loss__delta=2.0),
        r"which stands for SquaredError\(\), has no parameter 'delta': .* Huber\(\)",
    ),
    # Images
    "Conv((8, 8, 1))": (
        lambda: fit(transformer(architecture=Conv((8, 8, 1)))),
        r"channels first: \(1, 8, 8\). Got \(8, 8, 1\)",
    ),
    "Conv((8, 8))": (
        lambda: fit(transformer(architecture=Conv((8, 8)))),
        r"\(1, 8, 8\) for a grey image. Got \(8, 8\) .* pass \(8, 1, 8\)",
    ),
    "Conv((64, 1))": (
        lambda: fit(transformer(architecture=Conv((64, 1)))),
        r"channels first: \(1, 64\)",
    ),
    "Conv((8, 8, 3))": (
        lambda: fit(
            transformer(architecture=Conv((8, 8, 3))), np.repeat(DIGITS, 3, axis=1)
        ),
        r"channels first: \(3, 8, 8\) \(and rows in that order: np.moveaxis",
    ),
}


@pytest.mark.parametrize("written", REFUSED)
def test_the_message_says_what_to_write_instead(written):
    try_it, match = REFUSED[written]
    with pytest.raises((ValueError, TypeError), match=match) as raised:
        try_it()
    said = str(raised.value)
    assert not re.search(r"skae\.(\w+\.)*_|has no attribute", said)


# What works


def test_parameters_of_the_default_architecture_are_searched():
    search = GridSearchCV(
        transformer(architecture=None, early_stopping=False),
        {"architecture__hidden_layer_sizes": [(3,), (9,)]},
        cv=2,
    )
    fit(search)
    best = search.best_estimator_
    # It was trained with what the search says, and the base is as it was.
    hidden = best.architecture.hidden_layer_sizes
    assert search.best_params_ == {"architecture__hidden_layer_sizes": hidden}
    assert {len(p) for p in best.net_.module_.parameters() if p.ndim == 1} >= {*hidden}
    assert search.estimator.architecture is None


def test_parameters_of_what_none_stands_for_are_set():
    model = detector().set_params(
        architecture__hidden_layer_sizes=(9,),
        bottleneck__activation="relu",
        anomaly_score__scores=None,
    )
    assert repr(model.architecture) == "MLP(hidden_layer_sizes=(9,))"
    assert isinstance(model.bottleneck, Plain)
    assert isinstance(model.anomaly_score, Combined)
    assert model.loss is model.corruption is model.penalty is None
    assert repr(clone(model)) == repr(model)


def test_a_component_that_is_set_at_once_is_the_one_that_is_meant():
    model = transformer().set_params(corruption=Gaussian(), corruption__scale=0.3)
    assert model.corruption.scale == 0.3
    model.set_params(corruption__scale=0.4)
    assert model.corruption.scale == 0.4
    # None at once stands for the plain one, whatever was there.
    model.set_params(architecture=None, architecture__activation="relu")
    assert repr(model.architecture) == "MLP(activation='relu')"


def test_a_wrong_name_is_told_beside_the_right_ones():
    with pytest.raises(ValueError, match=r"for estimator MLP\(\). Valid .*'dropout'"):
        transformer(architecture=None).set_params(architecture__hidden=3)


@pytest.mark.parametrize("shape", [(8, 1, 8), (1, 8, 8), (2, 32), (2, 2, 16)])
def test_shapes_with_the_channels_first_are_accepted(shape):
    model = fit(transformer(architecture=Conv(shape, channels=(2,))))
    assert model.reconstruct(DIGITS).shape == DIGITS.shape
