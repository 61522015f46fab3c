"""Everything works together with everything else."""

import itertools
import pickle

import numpy as np
import pytest
from _components import forgetful, small
from scipy import sparse
from sklearn.base import clone

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Nested,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Dropout, Gaussian, Masking, SaltAndPepper, Swap
from skae.losses import (
    AbsoluteError,
    Bernoulli,
    Huber,
    Poisson,
    SquaredError,
    Trimmed,
)
from skae.penalties import L1, Contractive, Decorrelation, KLSparsity

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ARCHITECTURES = [
    MLP((6,), norm="batch"),
    Conv((1, 3, 4), (3, 2)),
    Custom(forgetful, small),
    MLP((6, 5), norm="layer", dropout=0.2, activation="relu"),
    Conv((2, 6), (3,), upsampling="resize", start="random", linear_path=False),
    MLP(()),
    Conv((1, 1, 4, 3), (2,), hidden_layer_sizes=(5,)),
    MLP((6,), norm="batch", dropout=0.2, start="random", linear_path=False),
]
BOTTLENECKS = [
    None,
    Plain("relu"),
    Plain("sigmoid"),
    Plain("tanh"),
    Variational(),
    Variational(2.0, warm_up=0.5, free_bits=0.1, decoder_variance=0.3),
    TopK(2),
    BatchTopK(2, sparse_output=True),
    VectorQuantized(8, n_groups=2),
    FiniteScalar(4),
    Nested(),
]
CORRUPTIONS = [None, Gaussian(), Masking(), SaltAndPepper(), Dropout(), Swap()]
PENALTIES = [
    None,
    L1(),
    Contractive(),
    Decorrelation(),
    L1() + Contractive(),
    KLSparsity(),
]
LOSSES = [
    SquaredError(),
    Bernoulli(),
    Huber(),
    Poisson(),
    AbsoluteError(),
    Trimmed(SquaredError()),
    Trimmed(Bernoulli(), 0.3),
]
SLOTS = {
    "architecture": ARCHITECTURES,
    "bottleneck": BOTTLENECKS,
    "corruption": CORRUPTIONS,
    "penalty": PENALTIES,
    "loss": LOSSES,
}


def _combinations():
    """Return all triples of three slots, with the other two in turn."""
    triples = itertools.product(BOTTLENECKS, PENALTIES, ARCHITECTURES)
    for n, (bottleneck, penalty, architecture) in enumerate(triples):
        turn = n // 2
        yield {
            "architecture": architecture,
            "bottleneck": bottleneck,
            "corruption": CORRUPTIONS[(turn + n // 48) % len(CORRUPTIONS)],
            "penalty": penalty,
            "loss": LOSSES[turn % len(LOSSES)],
        }


def _suits(parts):
    """Return whether a penalty that wants codes in [0, 1] gets them."""
    sigmoid = getattr(parts["bottleneck"], "activation", None) == "sigmoid"
    return sigmoid or not isinstance(parts["penalty"], KLSparsity)


def _pairs(parts):
    """Return all pairs of two slots in a combination."""
    return {
        (first, second, id(parts[first]), id(parts[second]))
        for first, second in itertools.combinations(SLOTS, 2)
    }


def _few(combinations):
    """Return the numbers of a few combinations in which all pairs occur.

    The combination with most pairs that are missing comes next (greedy set cover).
    Pairs in combinations that train come first: others are refused by `fit`.
    """
    pairs = [_pairs(parts) for parts in combinations]
    trains = [n for n, parts in enumerate(combinations) if _suits(parts)]
    chosen = []
    for candidates in (trains, range(len(combinations))):
        missing = set().union(*(pairs[n] for n in candidates))
        missing -= set().union(*(pairs[n] for n in chosen))
        while missing:
            chosen.append(max(candidates, key=lambda n: len(pairs[n] & missing)))
            missing -= pairs[chosen[-1]]
    return chosen


COMBINATIONS = list(_combinations())
# With all pairs; the first of them have most.
USUAL = _few(COMBINATIONS)
FIRST = set(USUAL[:20])


def test_all_pairs_are_tried():
    for (first, ones), (second, others) in itertools.combinations(SLOTS.items(), 2):
        tried = {
            (id(COMBINATIONS[n][first]), id(COMBINATIONS[n][second])) for n in USUAL
        }
        wanted = set(itertools.product(map(id, ones), map(id, others)))
        assert tried == wanted, (first, second)


@pytest.fixture(scope="module")
def rows():
    # In [0, 1], which every loss accepts.
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(60, 3)) @ rng.uniform(size=(3, 12))
    return X / X.max()


def _check(model, X):
    code, reconstruction = model.transform(X), model.reconstruct(X)
    width = model.n_components_
    assert sparse.issparse(code) is bool(
        model.bottleneck and model.bottleneck.sparse_output
    )
    dense = code.toarray() if sparse.issparse(code) else code
    assert dense.shape == (len(X), width)
    assert reconstruction.shape == X.shape
    assert np.isfinite(dense).all()
    assert np.isfinite(reconstruction).all()
    assert np.isfinite(model.history_["train_loss"]).all()
    np.testing.assert_allclose(
        model.inverse_transform(code), reconstruction, rtol=1e-6, atol=1e-6
    )
    # In all kinds of models the gains of components sum to what the model explains.
    total = model.explained_variance_ratio_.sum()
    np.testing.assert_allclose(total, model.score(X), atol=1e-6)
    # No row sees another in inference.
    alone = model.reconstruct(X[:1])
    np.testing.assert_allclose(alone, reconstruction[:1], rtol=1e-9, atol=1e-9)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.reconstruct(X), reconstruction)
    low, high = model.loss.domain
    assert low <= reconstruction.min()
    assert reconstruction.max() <= high


@pytest.mark.parametrize(
    "number",
    [
        # The others are slow.
        n if n in FIRST else pytest.param(n, marks=pytest.mark.slow)
        for n in range(len(COMBINATIONS))
    ],
)
def test_a_combination_trains(number, rows):
    parts = COMBINATIONS[number]
    # The other settings in turn too: codes of few and of many components, for one.
    cls = (AutoencoderTransformer, AutoencoderOutlierDetector)[number // 8 % 2]
    model = cls(
        (4, 10)[number // 16 % 2],
        **parts,
        batch_size=32,
        max_epochs=2,
        early_stopping=number % 3 == 0,
        validation_fraction=0.85,
        random_state=0,
    )
    if not _suits(parts):
        with pytest.raises(ValueError, match=r"is for codes in \[0\.0, 1\.0\]"):
            model.fit(rows)
        return
    assert repr(clone(model)) == repr(model)
    _check(model.fit(rows), rows)
    if cls is AutoencoderTransformer:
        samples = model.sample(3, random_state=0)
        assert samples.shape == (3, 12)
        assert np.isfinite(samples).all()
    else:
        assert np.isfinite(model.score_samples(rows)).all()
