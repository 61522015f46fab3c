"""Where training starts, what it may do to that, and tables of awkward shapes."""

import warnings

import numpy as np
import pytest
from _estimators import new
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits, load_iris, load_wine, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler, scale

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.corruptions import Gaussian
from skae.exceptions import (
    CollapsedCodeWarning,
    FitWarning,
    OvercompleteWarning,
    WorseThanPCAWarning,
)
from skae.penalties import L1

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

# Of a few epochs nothing good can be said.
any_outcome = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

# Fewer rows than this leave too few to hold out: the model stays where it starts.
FEWEST_TO_TRAIN = 80


def r2(X, reconstruction):
    return r2_score(X, reconstruction, multioutput="variance_weighted")


# The start


@pytest.mark.parametrize("hidden", ["auto", (), (8,), (16, 8, 16)])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_untrained_is_pca(X, k, hidden):
    X = X[: FEWEST_TO_TRAIN - 1]
    model = AutoencoderTransformer(k, architecture=MLP(hidden)).fit(X)
    pca = PCA(k).fit(X)
    code = pca.transform(X)
    atol = 1e-6 * np.ptp(X)  # the weights are single precision
    np.testing.assert_allclose(model.transform(X), code, atol=atol)
    np.testing.assert_allclose(
        model.inverse_transform(code), pca.inverse_transform(code), atol=atol
    )
    np.testing.assert_allclose(
        model.reconstruct(X), pca.inverse_transform(code), atol=atol
    )


@pytest.mark.parametrize("hidden", ["auto", ()])
@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_untrained_has_the_attributes_of_pca(load, hidden):
    X = load().data[::3]
    pca = PCA(3).fit(X)
    model = AutoencoderTransformer(3, architecture=MLP(hidden)).fit(X)
    np.testing.assert_allclose(model.mean_, pca.mean_)
    np.testing.assert_allclose(model.components_, pca.components_, atol=1e-5)
    np.testing.assert_allclose(
        model.explained_variance_ratio_, pca.explained_variance_ratio_, atol=1e-7
    )
    assert model.n_components_ == pca.n_components_
    assert (model.n_iter_, model.best_epoch_) == (0, 0)


def test_untrained_detector_is_pca_of_standardised_rows(X):
    scaler = StandardScaler()
    X = X[:79]
    code = PCA(2).fit_transform(scaler.fit_transform(X))
    model = AutoencoderOutlierDetector(2).fit(X)
    np.testing.assert_allclose(model.scale_, scaler.scale_)
    np.testing.assert_allclose(model.transform(X), code, atol=1e-5)


@pytest.mark.parametrize("k", [1, 4])
def test_pca_reconstruction_error_is_the_training_error_of_pca(X, k):
    pca = PCA(k).fit(X)
    error = np.square(X - pca.inverse_transform(pca.transform(X))).mean()
    # Also of a model that is something else.
    model = AutoencoderTransformer(
        k, architecture=MLP((4,), start="random"), early_stopping=False, max_epochs=1
    )
    with pytest.warns(WorseThanPCAWarning):
        model.fit(X)
    np.testing.assert_allclose(model.pca_reconstruction_error_, error, rtol=1e-5)


def test_few_rows_train_when_told_to(X):
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=20).fit(X)
    assert model.n_iter_ == 20
    assert model.reconstruction_error(X).mean() < model.pca_reconstruction_error_


@any_outcome
@pytest.mark.parametrize("k", [4, 16])
def test_training_does_not_lose_to_pca_on_new_rows(k, seed):
    X = load_digits().data
    X = X[np.random.RandomState(seed).permutation(len(X))[:900]]
    train, test = X[:600], X[600:]
    model = AutoencoderTransformer(k, max_epochs=15, random_state=seed)
    model.fit(train)
    pca = PCA(k).fit(train)
    assert model.best_epoch_ > 0
    assert r2(test, model.reconstruct(test)) > r2(
        test, pca.inverse_transform(pca.transform(test))
    )


@pytest.mark.slow
@any_outcome
@pytest.mark.parametrize(("n", "d"), [(90, 12), (300, 5)])
def test_training_on_noise_does_not_lose_to_pca_on_new_rows(n, d, seed):
    # Curved surfaces come closer to noise than planes do, but not with few rows.
    rng = np.random.RandomState(seed)
    X, new = rng.normal(size=(n, d)), rng.normal(size=(2000, d))
    model = AutoencoderTransformer(2, max_epochs=60, random_state=seed).fit(X)
    assert model.n_iter_ > 0
    pca = PCA(2).fit(X)
    expected = r2(new, pca.inverse_transform(pca.transform(new)))
    assert r2(new, model.reconstruct(new)) > expected - 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_random_linear_network_finds_pca(weighted):
    # Baldi & Hornik (1989): the principal subspace is the only minimum without saddle.
    X = scale(load_wine().data)
    weight, repeated = None, X
    if weighted:
        weight = np.arange(len(X)) % 3 + 1
        repeated = np.repeat(X, weight, axis=0)
    model = AutoencoderTransformer(
        3,
        architecture=MLP((), start="random"),
        early_stopping=False,
        lr=1e-2,
        tol=0,
        n_iter_no_change=50,
        max_epochs=800,
        random_state=0,
    ).fit(X, sample_weight=weight)
    pca = PCA(3).fit(repeated)
    error = np.square(repeated - pca.inverse_transform(pca.transform(repeated))).mean()
    ours = np.average(model.reconstruction_error(X), weights=weight)
    assert error * (1 - 1e-6) < ours < error * 1.001
    assert np.degrees(subspace_angles(model.components_.T, pca.components_.T)).max() < 1
    # The coordinates of the code are those of PCA too, whichever were trained.
    code = pca.transform(X)
    assert np.abs(model.transform(X) - code).max() < 0.05 * code.std()


@pytest.mark.parametrize("penalty", [None, L1(1e-2)])
def test_explained_variance_ratio_sums_to_the_score(penalty):
    X, _ = make_swiss_roll(300, random_state=0)
    model = AutoencoderTransformer(
        2, penalty=penalty, early_stopping=False, max_epochs=20, random_state=0
    ).fit(X)
    assert model.explained_variance_ratio_.shape == (2,)
    np.testing.assert_allclose(model.explained_variance_ratio_.sum(), model.score(X))


def test_components_only_of_linear_networks():
    X, _ = make_swiss_roll(300, random_state=0)
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=2)
    model.set_params(architecture=MLP(())).fit(X)
    move = model.inverse_transform(np.array([[1.0, 0.0]])) - model.inverse_transform(
        np.zeros((1, 2))
    )
    np.testing.assert_allclose(move[0], model.components_[0])
    assert not hasattr(model.set_params(architecture=MLP((8,))).fit(X), "components_")


# n_components


@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.9999, 0.9999999])
def test_float_n_components_is_that_of_pca(load, share):
    X = load().data[::3]
    model = AutoencoderTransformer(share).fit(X)
    assert model.n_components_ == PCA(share).fit(X).n_components_


@pytest.mark.parametrize("shape", [(150, 6), (150, 40), (10, 40), (150, 1), (2, 9)])
@pytest.mark.parametrize("decay", [1.0, 0.8])  # many components are needed, or few
def test_auto_n_components(shape, decay, seed):
    X = np.random.RandomState(seed).normal(size=shape) * decay ** np.arange(shape[1])
    needed = PCA(0.9).fit(X).n_components_ if shape[1] > 1 else 1
    expected = min(needed, max(1, min(shape) // 2))
    model = AutoencoderTransformer(n_iter_no_change=1).fit(X)
    assert model.n_components_ == expected


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8])
def test_n_components_of_any_integer_type(X, kind):
    model = AutoencoderTransformer(kind(3), n_iter_no_change=1).fit(X)
    assert model.n_components_ == 3
    assert model.transform(X).shape == (len(X), 3)


@pytest.mark.parametrize("kind", [float, np.float64])
def test_n_components_of_any_floating_type(X, kind):
    model = AutoencoderTransformer(kind(0.75)).fit(X)
    assert model.n_components_ == PCA(0.75).fit(X).n_components_


# Awkward tables


@any_outcome
@pytest.mark.parametrize("n_samples", [20, FEWEST_TO_TRAIN + 10])
def test_more_columns_than_rows(n_samples, seed):
    X = np.random.RandomState(seed).normal(size=(n_samples, 300))
    model = AutoencoderTransformer(5, max_epochs=3, random_state=seed).fit(X)
    pca = PCA(5).fit(X)
    assert model.score(X) > r2(X, pca.inverse_transform(pca.transform(X))) - 1e-6
    if n_samples < FEWEST_TO_TRAIN:
        np.testing.assert_allclose(model.transform(X), pca.transform(X), atol=1e-5)


@any_outcome
@pytest.mark.parametrize("n_samples", [2, 3, 31, 32, 33, 64, 65])
@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_no_number_of_rows_is_awkward(n_samples, n_features, seed):
    X = np.random.RandomState(seed).normal(size=(n_samples, n_features))
    model = AutoencoderTransformer(
        1, batch_size=32, early_stopping=False, max_epochs=3, random_state=seed
    ).fit(X)
    assert model.n_iter_ == 3
    assert np.isfinite(model.reconstruct(X)).all()


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
@pytest.mark.parametrize("scaling", ["auto", "global", "standard", "minmax", None])
def test_constant_column_comes_back(X, estimator, scaling):
    constant = np.full(len(X), 1234.5)
    X = np.c_[X[:, :3], constant, X[:, 3:]]
    model = new(estimator, 2, scaling=scaling).fit(X[: FEWEST_TO_TRAIN - 1])
    np.testing.assert_allclose(model.reconstruct(X)[:, 3], constant, rtol=1e-6)


@pytest.mark.parametrize("scaling", ["global", "standard", "minmax"])
def test_constant_column_does_not_matter(X, scaling):
    X = X[: FEWEST_TO_TRAIN - 1]
    code = AutoencoderTransformer(2, scaling=scaling).fit_transform(X)
    wider = np.c_[X, np.full(len(X), -7.0)]
    np.testing.assert_allclose(
        AutoencoderTransformer(2, scaling=scaling).fit_transform(wider), code, atol=1e-5
    )


def test_rows_that_do_not_vary():
    X = np.full((50, 3), 0.1)
    model = AutoencoderTransformer(1)
    with pytest.warns(CollapsedCodeWarning):
        model.fit(X)
    np.testing.assert_allclose(model.reconstruct(X), X, rtol=1e-6)
    assert model.score(X) == pytest.approx(1.0)


@pytest.mark.parametrize("n_samples", [100, 300])
def test_rank_below_n_components_warns(n_samples, seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n_samples, 2)) @ rng.normal(size=(2, 6))
    model = AutoencoderTransformer(4, architecture=MLP(()), random_state=seed)
    with pytest.warns(CollapsedCodeWarning, match=r"2 of the 4 .* n_components=2"):
        model.fit(X)
    np.testing.assert_allclose(model.reconstruct(X), X, atol=1e-4 * np.ptp(X))


@pytest.mark.parametrize("k", [6, 9])
def test_overcomplete_code_warns_unless_guarded(X, k):
    def categories(**params):
        model = AutoencoderTransformer(
            k, early_stopping=False, max_epochs=2, random_state=0, **params
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert model.fit_transform(X).shape == (len(X), k)
        return [w.category for w in caught]

    assert (OvercompleteWarning in categories()) == (k > X.shape[1])
    assert OvercompleteWarning not in categories(corruption=Gaussian())
    assert OvercompleteWarning not in categories(penalty=L1())


def test_worse_than_the_mean_warns(X):
    # The penalty makes the model give up the data, a step too long does the rest.
    model = AutoencoderTransformer(
        2,
        architecture=MLP((8,), start="random"),
        early_stopping=False,
        lr=10.0,
        max_epochs=1,
        random_state=0,
    )
    with pytest.warns(WorseThanPCAWarning, match="mean of the training rows"):
        model.fit(X)
    assert model.score(X) < 0


def test_one_filter_for_all_warnings():
    for category in (CollapsedCodeWarning, OvercompleteWarning, WorseThanPCAWarning):
        assert issubclass(category, FitWarning)
        assert issubclass(category, UserWarning)


# Epochs that are "auto"


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "expected"),
    [
        (1_460, "auto", 15),  # 23 steps, the fewest with larger batches than 32
        (1_024, "auto", 15),
        (400, "auto", 27),  # 13 steps, 345 / 13 epochs
        (60, "auto", 45),  # two steps, three times as many epochs at most
        (2_000, 1_000, 45),
    ],
)
def test_patience_is_a_number_of_steps(n_samples, batch_size, expected, rng):
    model = AutoencoderTransformer(
        1, architecture=MLP((4,)), batch_size=batch_size, early_stopping=False, tol=1e9
    ).fit(rng.normal(size=(n_samples, 3)))
    # Only the first epoch counts as an improvement.
    assert model.n_iter_ == 1 + expected


def test_few_steps_an_epoch_take_more_epochs(rng):
    model = AutoencoderTransformer(
        1, architecture=MLP((4,)), early_stopping=False, n_iter_no_change=10_000
    ).fit(rng.normal(size=(30, 3)))
    assert model.n_iter_ == 900
