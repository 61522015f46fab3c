"""What users of PCA, Keras and skorch write first: it works, or a message says how."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Checkpoint, EarlyStopping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import Combined
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import Plain, TopK
from skae.corruptions import Gaussian
from skae.exceptions import DecoderRangeWarning, WorseThanPCAWarning
from skae.losses import Bernoulli
from skae.penalties import L1, Contractive

DIGITS = load_digits().data[:200]
IMAGES = load_digits().images[:200]


def transformer(**params):
    """Return a transformer that is fitted in a moment."""
    quick = {"architecture": MLP((8,)), "max_epochs": 2, "random_state": 0}
    return AutoencoderTransformer(4, **quick | params)


def detector(**params):
    return AutoencoderOutlierDetector(4, max_epochs=2, random_state=0, **params)


def layers(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.ReLU(), nn.Linear(8, n_out))


def ending_in(activation):
    """Return a function that builds layers and an activation after the last one."""
    return lambda n_in, n_out: nn.Sequential(layers(n_in, n_out), activation())


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def shifted(n_in, n_out):
    """Return layers whose output is far from the rows."""
    module = layers(n_in, n_out)
    nn.init.constant_(module[-1].bias, 100.0)
    return module


class First(nn.Module):
    """Keep the first columns, and fill up with zeros."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.n_out = n_out

    def forward(self, x):
        missing = max(self.n_out - x.shape[1], 0)
        return nn.functional.pad(x, (0, missing))[:, : self.n_out]


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
    "fit(images)": (
        lambda: fit(transformer(), IMAGES),
        r"X has shape \(200, 8, 8\), .* pass X.reshape\(200, -1\), and "
        r"architecture=Conv\(\(1, 8, 8\)\)",
    ),
    "fit(list of images)": (
        lambda: fit(transformer(), list(IMAGES)),
        r"X has shape \(200, 8, 8\), .* pass X.reshape\(200, -1\)",
    ),
    "fit(images), Conv in use": (
        lambda: fit(transformer(architecture=Conv((1, 8, 8))), IMAGES),
        r"pass X.reshape\(200, -1\)\.$",
    ),
    "fit(channels last)": (
        lambda: fit(transformer(), np.stack(3 * [IMAGES], axis=-1)),
        r"np.moveaxis\(X, -1, 1\).reshape\(200, -1\), and "
        r"architecture=Conv\(\(3, 8, 8\)\)",
    ),
    "fit(channels first)": (
        lambda: fit(transformer(), np.stack(3 * [IMAGES], axis=1)),
        r"pass X.reshape\(200, -1\), and architecture=Conv\(\(3, 8, 8\)\)",
    ),
    "fit(signals of Keras)": (
        lambda: fit(transformer(), DIGITS[..., np.newaxis]),
        r"pass X.reshape\(200, -1\), and architecture=Conv\(\(1, 64\)\)",
    ),
    "X_val=images": (
        lambda: fit(transformer(), DIGITS, X_val=IMAGES),
        r"X_val has shape \(200, 8, 8\), .* pass X_val.reshape\(200, -1\)",
    ),
    "transform(images)": (
        lambda: fit(transformer()).transform(IMAGES),
        r"X has shape \(200, 8, 8\), .* pass X.reshape\(200, -1\)\.$",
    ),
    # Files
    "fit('rows.parquet')": (
        lambda: fit(transformer(), "rows.parquet"),
        r"A string is no table: .* pass pathlib.Path\('rows.parquet'\)",
    ),
    "transform('rows.parquet')": (
        lambda: fit(transformer()).transform("rows.parquet"),
        r"A string is no table: .* pass pathlib.Path\('rows.parquet'\)",
    ),
    # Callbacks of skorch
    "EarlyStopping, few rows": (
        lambda: fit(
            transformer(
                bottleneck=TopK(2), net_params={"callbacks": [EarlyStopping()]}
            ),
            DIGITS[:60],
        ),
        r"EarlyStopping monitors 'valid_loss', but .*too few rows .* pass X_val to "
        r"fit, or EarlyStopping\(monitor='train_loss'\)",
    ),
    "Checkpoint, early_stopping=False": (
        lambda: fit(
            transformer(early_stopping=False, net_params={"callbacks": [Checkpoint()]})
        ),
        r"Checkpoint monitors 'valid_loss_best', but .* early_stopping=False",
    ),
    # Networks of one's own
    "Custom(module, module)": (
        lambda: fit(transformer(architecture=Custom(nn.Linear(64, 4), layers))),
        r"'encoder' parameter of Custom must be a function that returns",
    ),
    "Custom(lambda: ...)": (
        lambda: fit(transformer(architecture=Custom(lambda: nn.Linear(64, 4), layers))),
        r"'encoder' parameter of Custom must be a function of two numbers, "
        r"\(n_in, n_out\). Got one of \(\) instead",
    ),
    "Custom, another width": (
        lambda: fit(
            transformer(
                architecture=Custom(layers, lambda n_in, n_out: nn.Linear(5, n_out))
            )
        ),
        r"'decoder' parameter .* shape \(n_rows, 4\) to one .* It failed: .*2x4 and 5",
    ),
    "Custom, a tuple": (
        lambda: fit(transformer(architecture=Custom(Pair, layers))),
        r"'encoder' parameter of Custom must return .* type tuple instead",
    ),
    "Custom with BatchNorm1d, Contractive": (
        lambda: fit(
            transformer(
                architecture=Custom(
                    lambda n_in, n_out: nn.Sequential(
                        nn.BatchNorm1d(n_in), nn.Linear(n_in, n_out)
                    ),
                    layers,
                ),
                penalty=Contractive(),
            )
        ),
        r"penalty=Contractive\(\) needs an encoder that .*: use torch.nn.LayerNorm",
    ),
    "Conv((8, 8, 3))": (
        lambda: fit(
            transformer(architecture=Conv((8, 8, 3))), np.repeat(DIGITS, 3, axis=1)
        ),
        r"channels first: \(3, 8, 8\) \(and rows in that order: np.moveaxis",
    ),
}


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
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
    # That of the detector has settings of its own.
    assert model.architecture.hidden_layer_sizes == (9,)
    assert model.architecture.activation == "tanh"
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


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
@pytest.mark.parametrize("shape", [(8, 1, 8), (1, 8, 8), (2, 32), (2, 2, 16)])
def test_shapes_with_the_channels_first_are_accepted(shape):
    model = fit(transformer(architecture=Conv(shape, channels=(2,))))
    assert model.reconstruct(DIGITS).shape == DIGITS.shape


def test_a_plateau_is_watched_without_validation_rows():
    scheduler = LRScheduler(ReduceLROnPlateau)
    model = transformer(
        bottleneck=TopK(2), net_params={"callbacks": [("rate", scheduler)]}
    )
    assert fit(model, DIGITS[:60]).n_iter_ == 2


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_no_callback_is_refused_where_nothing_is_trained():
    model = transformer(net_params={"callbacks": [EarlyStopping()]})
    assert fit(model, DIGITS[:60]).n_iter_ == 0


# What is fitted, and warned about


def warnings_of(estimator, X=DIGITS):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X)
    return {warning.category: str(warning.message) for warning in caught}


@pytest.mark.parametrize(
    ("activation", "scaling", "says"),
    [
        (nn.Sigmoid, "auto", r"\[0, 1\] .*'global' .*loss=Bernoulli\(\).*scaling=None"),
        (nn.Sigmoid, "minmax", r"\[0, 1\] .*'minmax' .* or pass scaling=None"),
        (nn.ReLU, "standard", r"\[0, inf\] .*'standard' .* or pass scaling=None"),
        (nn.Tanh, "standard", r"\[-1, 1\] .*'standard' .* or pass scaling='minmax'"),
    ],
)
def test_a_decoder_that_cannot_reach_the_rows_is_named(activation, scaling, says):
    architecture = Custom(layers, ending_in(activation))
    model = transformer(architecture=architecture, scaling=scaling)
    said = warnings_of(model, DIGITS / 16)
    assert set(said) == {DecoderRangeWarning}
    assert re.search(says, said[DecoderRangeWarning])


@pytest.mark.parametrize(
    ("activation", "scaling"),
    [
        (nn.Sigmoid, None),
        (nn.ReLU, None),
        (nn.Tanh, "minmax"),
        (nn.Identity, "auto"),
        (nn.LeakyReLU, "auto"),
    ],
)
def test_a_decoder_that_can_reach_the_rows_is_not(activation, scaling):
    architecture = Custom(layers, ending_in(activation))
    model = transformer(architecture=architecture, scaling=scaling)
    assert DecoderRangeWarning not in warnings_of(model, DIGITS / 16)


def test_a_bounded_hidden_layer_does_not_bound_the_output():
    def saturating(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))

    model = transformer(architecture=Custom(layers, saturating))
    assert DecoderRangeWarning not in warnings_of(model)


def test_two_sigmoids_are_one_too_many():
    architecture = Custom(layers, ending_in(nn.Sigmoid))
    model = transformer(architecture=architecture, loss=Bernoulli())
    said = warnings_of(model, DIGITS / 16)[DecoderRangeWarning]
    assert "Bernoulli takes any number and applies an activation itself" in said


@pytest.mark.parametrize(
    ("params", "has", "has_not"),
    [
        (
            {"architecture": MLP((8,)), "early_stopping": False, "lr": 1.0},
            ["early_stopping=True", "max_epochs", "lower lr"],
            ["start='pca'", "architecture"],
        ),
        (
            {"architecture": MLP((8,), start="random")},
            ["MLP(start='pca')"],
            ["early_stopping", "linear_path"],
        ),
        (
            {"architecture": MLP((8,), start="random", linear_path=False)},
            ["MLP(linear_path=True, start='pca')"],
            ["early_stopping"],
        ),
        (
            # Of the initial weights that are kept another warning says the same.
            {"architecture": MLP((8,), start="random"), "lr": 1e-12},
            ["raise lr"],
            ["lower lr"],
        ),
        (
            {"architecture": Custom(layers, layers)},
            ["as architecture=None does and Custom does not"],
            ["MLP"],
        ),
        (
            {"architecture": Custom(layers, layers), "n_iter_no_change": 1, "tol": 1.0},
            ["Train longer (n_iter_no_change)"],
            ["max_epochs"],
        ),
        (
            {"architecture": Custom(First, First)},
            ["No network has weights to train"],
            ["max_epochs", "lower lr"],
        ),
    ],
)
def test_advice_names_what_is_not_so_already(params, has, has_not):
    said = warnings_of(transformer(**params))[WorseThanPCAWarning]
    assert all(words in said for words in has), said
    assert not any(words in said for words in has_not), said


def test_what_there_is_not_is_not_to_be_weakened():
    model = transformer(architecture=Custom(layers, layers), lr=1e-12)
    model.set_params(penalty=L1(100.0), architecture=Custom(layers, shifted))
    said = warnings_of(model)[WorseThanPCAWarning]
    assert "worse than the mean" in said
    assert "weaken the penalty" in said
    assert "corruption" not in said


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_loss_curves_are_named_as_those_of_scikit_learn():
    model = transformer()
    assert not hasattr(model, "loss_curve_")
    fit(model)
    np.testing.assert_array_equal(model.loss_curve_, model.history_["train_loss"])
    np.testing.assert_array_equal(
        model.validation_loss_curve_, model.history_["valid_loss"]
    )
    fit(model.set_params(early_stopping=False))
    assert len(model.loss_curve_) == model.n_iter_
    with pytest.raises(AttributeError, match="only if there were any"):
        model.validation_loss_curve_  # noqa: B018
