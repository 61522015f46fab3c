"""The promise itself: on rows that were not trained on, never worse than PCA."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense
from skae.anomaly_scores import Mahalanobis, Neighbors, Reconstruction
from skae.architectures import MLP

TABLES = [load_breast_cancer, load_diabetes, load_digits, load_wine]
# The others are slow.
USUAL = [(load_diabetes, 0)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("load", "split"),
    [
        pytest.param(
            load,
            split,
            marks=[] if (load, split) in USUAL else pytest.mark.slow,
            id=f"{load.__name__}-{split}",
        )
        for load in TABLES
        for split in (0, 1, 2)
    ],
)
def test_held_out_error_is_not_above_that_of_pca(load, split):
    train, test = train_test_split(load().data, test_size=0.3, random_state=split)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    for n_components in (2, train.shape[1] // 2):
        pca = PCA(n_components).fit(train)
        error = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
        model = AutoencoderTransformer(n_components, random_state=split).fit(train)
        assert model.reconstruction_error(test).mean() <= 1.005 * error


def _constant_in_training(rng):
    X = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 20))
    X[:150, 14:] = 3.0
    X[150:, 14:] += 3.0
    return X[:150], X[150:], 7


def _fewer_rows_than_columns(rng):
    X = rng.normal(size=(330, 60)) * np.linspace(2, 0.2, 60)
    return X[:30], X[30:], 30


def _few_rows_and_constant_columns(rng):
    train, test, n_components = _fewer_rows_than_columns(rng)
    train[:, 45:] = 0.0
    return train, test, n_components


def _rare_entries(rng):
    X = (rng.uniform(size=(400, 150)) < 0.6 / (1 + np.arange(150))).astype(float)
    rank = np.linalg.matrix_rank(X[:200] - X[:200].mean(axis=0))
    return X[:200], X[200:], (2 * rank + 150) // 3


BEYOND = [
    _constant_in_training,
    _fewer_rows_than_columns,
    _few_rows_and_constant_columns,
    _rare_entries,
]


# Every table, precision and scale by default; together they are slow.
@pytest.mark.parametrize(
    ("table", "dtype", "standard"),
    [
        pytest.param(
            table,
            dtype,
            standard,
            marks=[] if (n % 4) == 2 * n_dtype + standard else pytest.mark.slow,
        )
        for n, table in enumerate(BEYOND)
        for n_dtype, dtype in enumerate([np.float64, np.float32])
        for standard in (False, True)
    ],
)
def test_beyond_the_rank_the_start_is_not_above_pca_either(
    table, dtype, standard, seed
):
    # The further axes of PCA are arbitrary: they are lucky with some tables.
    ratios = []
    for draw in range(20):
        train, test, n_components = table(np.random.RandomState([seed, draw]))
        scale = train.std(axis=0) if standard else np.ones(train.shape[1])
        scale[scale == 0] = 1.0
        train, test = (train / scale).astype(dtype), (test / scale).astype(dtype)
        pca = PCA(n_components, svd_solver="full").fit(train)
        error = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
        axes = PrincipalAxes(Dense(train), None, n_components, None)
        assert axes.rank < n_components
        axes = axes.statistics(Dense(train)).axes.numpy()
        test = test - train.mean(axis=0, dtype=np.float64)
        ratios.append(np.square(test - test @ axes.T @ axes).mean() / error)
    assert np.mean(ratios) <= 1.005


@pytest.mark.filterwarnings("ignore::skae.exceptions.CollapsedCodeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scaling", ["global", "standard", "minmax", None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_new_values_in_constant_columns_come_back(dtype, scaling, rng):
    train, test, _ = (
        part.astype(dtype) if isinstance(part, np.ndarray) else part
        for part in _constant_in_training(rng)
    )
    # All six columns have an axis, in turn with relations of the others.
    model = AutoencoderTransformer(16, scaling=scaling, max_epochs=3).fit(train)
    np.testing.assert_allclose(model.reconstruction_error(train), 0, atol=1e-6)
    back = model.inverse_transform(model.transform(test))
    np.testing.assert_allclose(back, test, atol=1e-4)
    pca = PCA(16, svd_solver="full").fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
    assert model.reconstruction_error(test).mean() <= 1.005 * error
    # Components that do not vary have coordinates of unit length, like the others.
    if scaling in ("global", None):
        affine = AutoencoderTransformer(
            16, architecture=MLP(hidden_layer_sizes=()), scaling=scaling, max_epochs=1
        ).fit(train)
        axes = affine.components_
        np.testing.assert_allclose(axes @ axes.T, np.eye(16), atol=1e-5)


@pytest.mark.filterwarnings("ignore::skae.exceptions.CollapsedCodeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("score", [None, Mahalanobis(), Neighbors(), Reconstruction()])
def test_scores_see_new_values_in_constant_columns(score, rng):
    X = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 20))
    X[:250, 14:] = 3.0
    train, usual, new = X[:200], X[200:250], X[250:]
    detector = AutoencoderOutlierDetector(
        7, anomaly_score=score, max_epochs=3, random_state=0
    ).fit(train)
    scores = detector.score_samples(new)
    assert np.isfinite(scores).all()
    assert scores.max() < detector.score_samples(usual).min()
    explanation = detector.explain(new)
    total = explanation.share.sum(axis=1) + explanation.code_share
    np.testing.assert_allclose(total, 1)


def test_rows_far_outside_are_reconstructed_as_by_pca():
    # By the linear path of the detector's network, which learns slowly.
    X = load_digits().data[:300]
    pca = PCA(2).fit(X)
    model = AutoencoderOutlierDetector(
        2,
        scaling="global",
        max_epochs=50,
        n_iter_no_change=50,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    far = X.mean(axis=0) + 100 * (X - X.mean(axis=0))
    error = np.square(far - pca.inverse_transform(pca.transform(far))).mean()
    assert model.reconstruction_error(far).mean() <= 1.05 * error
    assert model.score(X) > 1.3 * model.diagnostics_["pca_r2"]  # and it did train
