"""Both estimators with parts of every kind: what holds for all of them."""

import pickle

import numpy as np
import pytest
from _components import forgetful, of_kind, small
from sklearn.datasets import load_digits

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP, Architecture, Conv, Custom
from skae.bottlenecks import (
    BatchTopK,
    Bottleneck,
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Corruption, Masking
from skae.losses import Bernoulli, Loss, Trimmed
from skae.penalties import Contractive, Decorrelation, KLSparsity, Penalty

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

VARIANTS = {
    "batch norm": {"architecture": MLP((8,), norm="batch", dropout=0.2)},
    "layer norm": {"architecture": MLP((8,), norm="layer")},
    "conv": {"architecture": Conv((1, 8, 8), (4,))},
    "custom": {"architecture": Custom(forgetful, small)},
    "tanh": {"bottleneck": Plain("tanh")},
    "relu": {"bottleneck": Plain("relu"), "penalty": Decorrelation()},
    "variational": {"bottleneck": Variational(warm_up=0.5, free_bits=0.1)},
    "top k": {"bottleneck": TopK(2)},
    "batch top k": {"bottleneck": BatchTopK(2)},
    "codebook": {"bottleneck": VectorQuantized(16, n_groups=2)},
    "levels": {"bottleneck": FiniteScalar(4)},
    "sparse": {"bottleneck": Plain("sigmoid"), "penalty": KLSparsity()},
    "contractive": {"penalty": Contractive(), "corruption": Masking()},
    "grey": {"loss": Trimmed(Bernoulli())},
}
all_variants = pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:400] / 16


def _model(params, cls=AutoencoderTransformer, **others):
    settings = {
        "architecture": MLP((8,)),
        "max_epochs": 3,
        "random_state": 0,
        **params,
        **others,
    }
    return cls(6, **settings)


@pytest.mark.slow
@all_variants
def test_fits_with_held_out_rows_repeat_bit_by_bit(params, digits):
    first, again = (_model(params).fit(digits) for _ in range(2))
    assert np.array_equal(first.transform(digits), again.transform(digits))
    assert np.array_equal(first.history_["valid_loss"], again.history_["valid_loss"])


@all_variants
def test_held_out_rows_meet_the_same_draws_each_time(params, digits):
    # Weights that do not move: what is judged twice is judged alike. A codebook and a
    # threshold are learnt all the same.
    learns_otherwise = isinstance(params.get("bottleneck"), VectorQuantized | BatchTopK)
    model = _model(params, optimizer="sgd", lr=1e-30).fit(digits)
    losses = {model.diagnostics_["initial_loss"], *model.history_["valid_loss"]}
    assert (len(losses) > 1) is learns_otherwise


@pytest.mark.slow
@all_variants
def test_a_warm_start_goes_on_from_what_was_learnt(params, digits):
    model = _model(params, early_stopping=False, max_epochs=10, warm_start=True)
    before = model.fit(digits).reconstruct(digits)
    error = np.square(digits - before).mean()
    model.set_params(lr=1e-12, max_epochs=1, random_state=1).fit(digits)
    after = model.reconstruct(digits)
    # Only what is learnt without a gradient has moved on, by one epoch.
    assert np.square(after - before).mean() < 0.1 * error


@all_variants
def test_precisions_agree(params, digits):
    model = _model(params).fit(digits)
    wide = model.reconstruct(digits)
    narrow = model.reconstruct(digits.astype(np.float32))
    assert narrow.dtype == np.float32
    # But for rows that lie between two codes.
    off = np.abs(wide - narrow).max(axis=1)
    assert (off < 1e-4).mean() > 0.97


@pytest.mark.slow
@all_variants
def test_the_detector_scores_rows_alike_in_any_company(params, digits):
    # With rows of its own for the threshold: no networks are trained for that alone.
    detector = _model(params, AutoencoderOutlierDetector, calibration_fraction=0.2)
    detector.fit(digits)
    scores = detector.score_samples(digits)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(detector.score_samples(digits[:3]), scores[:3])
    copy = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(copy.predict(digits), detector.predict(digits))
    # Rows of noise are no digits.
    noise = np.random.RandomState(0).uniform(size=digits.shape)
    assert detector.score_samples(noise).mean() < scores.mean()


@pytest.mark.slow
@all_variants
def test_weights_count_and_rows_of_weight_zero_do_not(params, digits):
    weight = np.r_[np.zeros(100), np.ones(150), np.full(150, 2.0)]
    model = _model(params, early_stopping=False)
    weighted = model.fit(digits, sample_weight=weight).transform(digits)
    dropped = model.fit(digits[100:], sample_weight=weight[100:]).transform(digits)
    assert np.array_equal(weighted, dropped)
    equal = model.fit(digits[100:]).transform(digits)
    assert not np.array_equal(weighted, equal)


SLOTS = {
    Architecture: "architecture",
    Bottleneck: "bottleneck",
    Corruption: "corruption",
    Loss: "loss",
    Penalty: "penalty",
}


@pytest.mark.parametrize("component", of_kind(tuple(SLOTS)), ids=repr)
def test_a_component_serves_many_fits(component, X, rng):
    # It is a value: what one fit learns is nothing to the next.
    slot = next(SLOTS[kind] for kind in SLOTS if isinstance(component, kind))
    rows = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    parts = {slot: component}
    if slot == "penalty":
        parts["bottleneck"] = Plain("sigmoid")

    def fitted(rows):
        model = AutoencoderTransformer(
            3, **parts, max_epochs=1, early_stopping=False, random_state=0
        )
        return model.fit(rows).reconstruct(rows)

    before = fitted(rows)
    fitted(rng.uniform(size=(40, 6)))
    assert np.array_equal(fitted(rows), before)
