"""Networks that are trained as a stack, against the same ones trained alone."""

import warnings

import numpy as np
import pytest
import torch
from _components import SETTINGS
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._component import Affine
from skae._gradient.closed_form import ClosedForm
from skae._gradient.flat_weights import FlatWeights
from skae._gradient.stacked import StackedForm, parts_of, shape_of, stacked
from skae._model.autoencoder import Parts
from skae._training.batches import Batch
from skae._training.together import run, together
from skae.architectures import MLP, Architecture
from skae.bottlenecks import Bottleneck, Nested, Plain
from skae.corruptions import Corruption, Gaussian, Masking
from skae.exceptions import DivergenceWarning, FitWarning
from skae.losses import Loss
from skae.penalties import Penalty

N_FEATURES = 6


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FitWarning)
        yield


# Gradients, in double precision


def _modules(architecture, sizes, bottleneck=None, corruption=None):
    """Return models away from their start, with gradients."""
    modules = []
    for seed, size in enumerate(sizes):
        parts = Parts.of(
            architecture=architecture, bottleneck=bottleneck, corruption=corruption
        )
        module = parts.build(N_FEATURES, size, seed).double().train()
        for network in (module.encoder, module.decoder):
            if hasattr(network, "start"):
                weight = network.linear.weight.detach()
                network.start(Affine(weight + 0.3, torch.full_like(weight[:, 0], 0.1)))
        generator = torch.Generator().manual_seed(100 + seed)
        weights = FlatWeights(list(module.parameters()), 0.0)
        weights.attach_gradient()
        drawn = torch.randn(
            weights.flat.shape, generator=generator, dtype=torch.float64
        )
        weights.flat.data.copy_(drawn)
        modules.append(module)
    return modules


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("architecture", "bottleneck", "corruption"),
    [
        (MLP(()), None, None),
        *[
            (MLP((7, 5), activation=activation, norm=norm), None, None)
            for activation in ("elu", "gelu", "relu", "sigmoid", "silu", "tanh")
            for norm in (None, "batch")
        ],
        (MLP((7,), linear_path=False, start="random"), None, Gaussian(0.5)),
        (MLP((7,), dropout=0.3, norm="batch"), None, Masking()),
        (MLP((7,), start="mixed"), None, None),
        (MLP((7, 5), norm="batch"), Nested(), None),
    ],
    ids=repr,
)
def test_gradients_of_a_stack(architecture, bottleneck, corruption, weighted):
    sizes = [3, 3, 3] if bottleneck is not None else [2, 4, 3]
    modules = _modules(architecture, sizes, bottleneck, corruption)
    assert len({shape_of(module) for module in modules}) == 1
    whole = stacked(modules)
    weights = FlatWeights(list(whole.parameters()), 0.0, ndim=3)
    weights.attach_gradient()
    weights.flat.grad.fill_(torch.nan)
    form = StackedForm(modules, whole)
    generator = torch.Generator().manual_seed(0)
    # Buffers are shared by steps: nothing may be left in them.
    for n_rows in (9, 8, 9):
        shape = len(modules), n_rows, N_FEATURES
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        weight = None
        if weighted:
            weight = torch.rand(shape[:2], generator=generator, dtype=torch.float64)
        mask = torch.rand(shape, generator=generator) < 0.8
        draws = [module.draw(shape[1:], generator) for module in modules]
        objectives = form(Batch(x, weight, mask), draws)
        for i, module in enumerate(modules):
            row_weight = None if weight is None else weight[i]
            alone, _ = ClosedForm(module)(Batch(x[i], row_weight, mask[i]), draws[i])
            torch.testing.assert_close(objectives[i], alone)
            for (name, joint), p in zip(
                whole.named_parameters(), module.parameters(), strict=True
            ):
                part = parts_of(joint.grad, [p] * len(modules))[i]
                torch.testing.assert_close(part, p.grad, msg=name)
                # What a smaller code lacks has no gradient.
                left = joint.grad[i].clone()
                left[tuple(map(slice, p.shape))] = 0
                assert not left.any()


# Whole fits


def _rows(rng, n_rows=200):
    """Return rows of three factors, with no column that is constant."""
    factors = rng.uniform(-2, 2, size=(n_rows, 3))
    X = np.sin(factors @ rng.normal(size=(3, N_FEATURES)))
    return X + 0.1 * rng.normal(size=X.shape)


def _trained(estimators, X, **params):
    """Return estimators fitted alone, and their clones fitted together."""
    alone = [clone(estimator).fit(X, **params) for estimator in estimators]
    joint = [clone(estimator) for estimator in estimators]
    run(together(estimator._fitting(X, **params) for estimator in joint))
    return alone, joint


def _assert_same(alone, joint, X, atol=1e-4):
    for one, other in zip(alone, joint, strict=True):
        assert other.n_iter_ == one.n_iter_
        assert other.best_epoch_ == one.best_epoch_
        codes = (model.transform(X) for model in (other, one))
        codes = (code.toarray() if issparse(code) else code for code in codes)
        np.testing.assert_allclose(*codes, atol=atol)
        np.testing.assert_allclose(other.reconstruct(X), one.reconstruct(X), atol=atol)
        for name, curve in one.history_.items():
            if name != "seconds":
                np.testing.assert_allclose(other.history_[name], curve, rtol=1e-4)


SLOTS = {
    Architecture: "architecture",
    Bottleneck: "bottleneck",
    Corruption: "corruption",
    Loss: "loss",
    Penalty: "penalty",
}


def _slot(component):
    return next((n for cls, n in SLOTS.items() if isinstance(component, cls)), None)


@pytest.mark.slow
@pytest.mark.parametrize("component", [c for c in SETTINGS if _slot(c)], ids=repr)
def test_every_component(component, rng, stacks):
    params = {_slot(component): component}
    X = _rows(rng, 520)
    if not isinstance(component, (Loss, Penalty)):
        pass
    elif isinstance(component, Loss) and component.domain[0] == 0:
        X = np.clip(np.abs(X), 0, 1)
    elif getattr(component, "code_domain", (-1,))[0] >= 0:
        params["bottleneck"] = Plain("sigmoid")
    params.setdefault("architecture", MLP((8,)))
    models = [
        AutoencoderTransformer(3, max_epochs=3, random_state=seed, **params)
        for seed in (0, 1)
    ]
    alone, joint = _trained(models, X)
    _assert_same(alone, joint, X)
    closed = alone[0].diagnostics_["step"] == "closed form"
    assert (stacks[:1] == [2]) == closed


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "radam", "sgd"])
def test_every_optimizer_with_rates_and_decays_of_each(optimizer, rng):
    X = _rows(rng, 600)
    models = [
        AutoencoderTransformer(
            3,
            architecture=MLP((8,)),
            max_epochs=4,
            optimizer=optimizer,
            lr=lr,
            weight_decay=decay,
            random_state=0,
        )
        for lr in (1e-3, 3e-3)
        for decay in (0.0, 0.1)
    ]
    _assert_same(*_trained(models, X), X)


def test_codes_of_several_sizes(rng):
    # Zeros beside a smaller code change the order of sums. Adam makes steps of one
    # size out of gradients that are rounding, momentum does not.
    X = _rows(rng, 600)
    models = [
        AutoencoderTransformer(
            size,
            architecture=MLP((8,), start="random", activation="tanh"),
            max_epochs=10,
            optimizer="sgd",
            lr=0.1,
            net_params={"optimizer__momentum": 0.9},
            random_state=0,
        )
        for size in (1, 2, 4)
    ]
    _assert_same(*_trained(models, X), X)


@pytest.fixture
def stacks(monkeypatch):
    """Record the number of nets in each stack that is built."""
    from skae._training import together as module

    class Recorded(module._Stack):
        def __init__(self, nets, before=None):
            sizes.append(len(nets))
            super().__init__(nets, before)

    sizes = []
    monkeypatch.setattr(module, "_Stack", Recorded)
    return sizes


@pytest.mark.slow
def test_nets_leave_the_stack_when_they_stop(rng, stacks):
    X = _rows(rng, 600)
    models = [
        AutoencoderTransformer(
            2,
            architecture=MLP((8,)),
            max_epochs=60,
            n_iter_no_change=patience,
            tol=0.05,
            random_state=0,
        )
        for patience in (1, 3, 60)
    ]
    alone, joint = _trained(models, X)
    _assert_same(alone, joint, X, atol=1e-2)
    lengths = [model.n_iter_ for model in joint]
    assert len(set(lengths)) == 3
    assert stacks == [3, 2, 1]


def test_sample_weights_and_missing_values(rng, stacks):
    X = _rows(rng, 600)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    models = [
        AutoencoderTransformer(
            3, architecture=MLP((8,)), max_epochs=12, random_state=seed
        )
        for seed in (0, 1)
    ]
    weight = rng.uniform(0.5, 2, size=len(X))
    _assert_same(*_trained(models, X, sample_weight=weight), X)
    assert stacks == [2]


def test_another_net_diverges(rng):
    X = _rows(rng, 600)
    models = [
        AutoencoderTransformer(
            3,
            architecture=MLP((8,)),
            optimizer="sgd",
            gradient_clip=None,
            max_epochs=8,
            lr=lr,
            random_state=0,
        )
        for lr in (0.05, 1e12, 0.1)
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alone, joint = _trained(models, X)
    of_divergence = [w for w in caught if w.category is DivergenceWarning]
    assert len(of_divergence) == 2  # alone and together
    assert joint[1].net_.divergences_ == alone[1].net_.divergences_ != []
    _assert_same(alone, joint, X)


def test_a_fit_that_fails_leaves_the_others_alone(rng):
    X = _rows(rng)
    good = AutoencoderTransformer(2, max_epochs=2, random_state=0)
    bad = AutoencoderTransformer(2, net_params={"optimizer__nonsense": 1})

    def attempt(estimator):
        try:
            return (yield from estimator._fitting(X))
        except TypeError as error:
            return error

    fitted, failure = run(together(map(attempt, (good, bad))))
    assert fitted is good
    assert "nonsense" in str(failure)
    assert not hasattr(bad, "n_iter_")


@pytest.mark.parametrize(
    ("n_rows", "n_estimators", "sizes"),
    [
        (600, 4, [3]),
        # Members of five folds, of four fifths of the rows each, and members of all.
        (205, 1, [5]),
    ],
)
def test_ensembles_and_folds_are_stacks(rng, stacks, n_rows, n_estimators, sizes):
    detector = AutoencoderOutlierDetector(
        3,
        architecture=MLP((8,), start="random"),
        max_epochs=4,
        n_estimators=n_estimators,
        random_state=0,
    ).fit(_rows(rng, n_rows))
    assert stacks[:1] == sizes
    assert np.isfinite(detector.offset_)


@pytest.mark.slow
def test_callbacks_and_large_networks_are_trained_alone(rng, stacks):
    from skorch.callbacks import EarlyStopping

    X = _rows(rng)
    with_callback = AutoencoderTransformer(
        2, max_epochs=2, net_params={"callbacks": [EarlyStopping("train_loss")]}
    )
    large = AutoencoderTransformer(2, architecture=MLP((4096, 4096)), max_epochs=1)
    for model in (with_callback, large):
        run(together(clone(model)._fitting(X) for _ in range(2)))
    assert stacks == []
