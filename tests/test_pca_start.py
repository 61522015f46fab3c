"""Principal axes, against scikit-learn's PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes, _unseen
from skae._data.source import Dense, Resident
from skae.architectures import MLP
from skae.losses import Poisson


def _residual(axes, X):
    """Return the residual of PCA with these axes."""
    found = axes.statistics(Dense(X)).axes.numpy()
    X = X - axes.mean
    return X - X @ found.T @ found


def _statistics(X, n_components, weight=None, random_state=None):
    axes = PrincipalAxes(Dense(X), weight, n_components, random_state)
    return axes.statistics(Resident(torch.from_numpy(X)))


def _tall(rng):
    return rng.normal(size=(80, 6)) * [9, 5, 3, 2, 1, 0.5] + rng.normal(size=6)


def _wide(rng):
    return _tall(rng).T @ rng.normal(size=(80, 40))


def _deficient(rng):
    return rng.normal(size=(80, 3)) * [9, 5, 2] @ rng.normal(size=(3, 6)) + 1.0


def _constant_column(rng):
    X = _tall(rng)
    X[:, 1] = 3.0
    return X


def _off_the_origin(rng):
    return _tall(rng) + 1e6


TABLES = [_tall, _wide, _deficient, _constant_column, _off_the_origin]
all_tables = pytest.mark.parametrize("table", TABLES)


@all_tables
@pytest.mark.parametrize("n_components", [1, 3])
def test_axes_are_those_of_pca_signs_included(table, n_components, rng):
    X = table(rng)
    pca = PCA(n_components, svd_solver="full").fit(X)
    statistics = _statistics(X, n_components)
    n = len(X)
    np.testing.assert_allclose(statistics.mean, pca.mean_)
    np.testing.assert_allclose(statistics.axes, pca.components_, atol=1e-7)
    expected = pca.explained_variance_ * (n - 1) / n
    np.testing.assert_allclose(statistics.variances, expected)


@all_tables
def test_residual_is_what_pca_does_not_reconstruct(table, rng):
    X = table(rng)
    pca = PCA(2, svd_solver="full").fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    residual = _residual(PrincipalAxes(Dense(X), None, 2, None), X)
    np.testing.assert_allclose(residual, X - expected, atol=1e-8)


@all_tables
def test_noise_variance_is_that_of_probabilistic_pca(table, rng):
    X = table(rng)
    n = len(X)
    # All axes are left out of the noise but two, those without any variance included.
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T))[:-2] * (n - 1) / n
    statistics = _statistics(X, 2)
    assert statistics.noise_variance == pytest.approx(eigenvalues.mean(), rel=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
@all_tables
def test_a_share_takes_as_many_components_as_in_pca(table, share, rng):
    X = table(rng)
    axes = PrincipalAxes(Dense(X), None, share, None)
    assert axes.n_components == PCA(share, svd_solver="full").fit(X).n_components_


def test_auto_is_a_share_of_nine_tenths_at_most_half_of_the_smaller_side(rng):
    explained = rng.normal(size=(200, 10)) * np.r_[9, 5, np.full(8, 0.1)]
    alike = rng.normal(size=(200, 10))
    assert PrincipalAxes(Dense(explained), None, "auto", None).n_components == 2
    assert PrincipalAxes(Dense(alike), None, 0.9, None).n_components > 5
    assert PrincipalAxes(Dense(alike), None, "auto", None).n_components == 5
    assert PrincipalAxes(Dense(alike[:, :1]), None, "auto", None).n_components == 1


@pytest.mark.parametrize("dtype", [int, np.int64, np.int32])
def test_a_number_of_components_may_be_any_integer(dtype, rng):
    # np.arange in the grid of a search gives NumPy's.
    assert PrincipalAxes(Dense(_tall(rng)), None, dtype(2), None).n_components == 2


@pytest.mark.parametrize("table", [_tall, _wide])
def test_integer_weights_are_repeated_rows(table, rng):
    X = table(rng)
    weight = rng.randint(1, 5, size=len(X))
    mean_one = weight / weight.mean()
    weighted, repeated = (
        _statistics(X, 2, mean_one),
        _statistics(np.repeat(X, weight, axis=0), 2),
    )
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    for name in ("axes", "variances", "noise_variance"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), atol=1e-8
        )
    weighted = PrincipalAxes(Dense(X), mean_one, 2, None)
    repeated = PrincipalAxes(Dense(np.repeat(X, weight, axis=0)), None, 2, None)
    np.testing.assert_allclose(
        weighted.residual_variance, repeated.residual_variance, atol=1e-8
    )
    assert weighted.total_variance == pytest.approx(repeated.total_variance)


@pytest.mark.parametrize(("table", "rank"), [(_tall, 6), (_wide, 5), (_deficient, 3)])
def test_rank_counts_the_directions_in_which_rows_vary(table, rank, rng):
    assert PrincipalAxes(Dense(table(rng)), None, 2, None).rank == rank


def _few(rng):
    return rng.normal(size=(12, 30)) * np.linspace(2, 0.5, 30)


def _two_constant_columns(rng):
    X = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 10)) + 1.0
    X[:, [2, 7]] = 5.0
    return X


@pytest.mark.parametrize(
    ("table", "rank"), [(_deficient, 3), (_few, 11), (_two_constant_columns, 3)]
)
def test_axes_beyond_the_rank_are_orthonormal_without_variance(table, rank, rng):
    X = table(rng)
    for n_components in range(rank + 1, X.shape[1] + 1):
        statistics = _statistics(X, n_components)
        axes = statistics.axes.numpy()
        np.testing.assert_allclose(axes @ axes.T, np.eye(n_components), atol=1e-12)
        np.testing.assert_allclose((X - X.mean(axis=0)) @ axes[rank:].T, 0, atol=1e-9)
        assert not statistics.variances[rank:].any()
        # The others are what they are without these.
        expected = _statistics(X, rank).axes
        np.testing.assert_array_equal(axes[:rank], expected)
    residual = PrincipalAxes(Dense(X), None, n_components, None).residual_variance
    np.testing.assert_allclose(residual, 0, atol=1e-12)


def test_axes_beyond_the_columns_are_zero(rng):
    axes = _statistics(_deficient(rng), 8).axes.numpy()
    np.testing.assert_allclose(axes[:6] @ axes[:6].T, np.eye(6), atol=1e-12)
    assert not axes[6:].any()


def test_columns_that_were_constant_have_every_second_of_the_further_axes(rng):
    axes = _statistics(_two_constant_columns(rng), 7).axes.numpy()
    np.testing.assert_allclose(axes[[3, 5]], np.eye(10)[[2, 7]], atol=1e-12)
    np.testing.assert_allclose(axes[[4, 6]][:, [2, 7]], 0, atol=1e-12)


def test_a_relation_that_one_row_made_goes_before_those_of_many(rng):
    # Column 1 equals column 0, in all rows; columns 4 and 5 were zero in all but one.
    X = rng.normal(size=(60, 6))
    X[:, 1] = X[:, 0]
    X[:, 4:] = 0
    X[17, 4:] = 0.5, 1.0
    added = np.abs(_statistics(X, 5).axes.numpy()[4])
    np.testing.assert_allclose(added[:4], 0, atol=1e-9)
    # Orthogonal to what the row had.
    np.testing.assert_allclose(added[4:], np.array([1.0, 0.5]) / 1.25**0.5)


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_outside_of_the_span_of_others_are_found_as_by_leaving_them_out(
    weighted, rng
):
    X = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 12))
    X[3] += rng.normal(size=12)
    X[20] += rng.normal(size=12)
    counts = rng.uniform(0.5, 2, 30) if weighted else np.ones(30)
    counts /= counts.mean()
    weight = counts if weighted else None
    mean = np.average(X, axis=0, weights=counts)
    rows = np.sqrt(counts)[:, None] * (X - mean)
    expected = np.zeros(12)
    for i in range(30):
        others = np.delete(X, i, axis=0)
        others = others - np.average(others, axis=0, weights=np.delete(counts, i))
        _, singular, axes = np.linalg.svd(others, full_matrices=False)
        axes = axes[singular > 1e-9 * singular[0]]
        residual = rows[i] / counts[i] ** 0.5
        residual = residual - residual @ axes.T @ axes
        # About the mean of the others, which the row itself has not moved.
        residual /= 1 - counts[i] / 30
        expected += counts[i] * np.square(residual) / 30
    _, singular, axes = np.linalg.svd(rows, full_matrices=False)
    kept = singular > 1e-9 * singular[0]
    found = _unseen(Dense(X), weight, mean, axes[kept], singular[kept] ** 2 / 30)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("n_components", [2, 0.9, "auto"])
def test_rows_that_do_not_vary_have_the_axes_of_columns(n_components):
    X = np.full((20, 4), 0.5)
    axes = PrincipalAxes(Dense(X), None, n_components, None)
    assert axes.rank == 0
    assert axes.n_components == (2 if n_components == 2 else 1)
    statistics = axes.statistics(Resident(torch.from_numpy(X)))
    np.testing.assert_array_equal(statistics.axes, np.eye(4)[: axes.n_components])
    assert not statistics.variances.any()
    assert not axes.residual_variance.any()


def test_the_rows_are_left_alone(rng):
    X = _tall(rng)
    before = X.copy()
    PrincipalAxes(Dense(X), rng.uniform(size=len(X)), 2, None)
    assert np.array_equal(X, before)


@pytest.mark.parametrize(("n_rows", "n_kept"), [(10, 10), (4096, 4096), (9000, 4096)])
def test_some_rows_are_shown_in_their_order(n_rows, n_kept):
    X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
    shown = _statistics(X, 1).rows.numpy()
    assert shown.shape == (n_kept, 2)
    rows = (shown[:, 0] / 2).astype(int)
    assert np.array_equal(X[rows], shown)
    # One of each stratum, whose first row may be shared with the one before.
    strata = np.arange(n_kept + 1) * n_rows / n_kept
    assert (np.floor(strata[:-1]) <= rows).all()
    assert (rows < strata[1:]).all()


def test_data_large_both_ways_get_the_same_axes(seed, rng):
    signal = rng.normal(size=(1030, 4)) * [9, 6, 4, 2] @ rng.normal(size=(4, 1010))
    X = signal + 1e-6 * rng.normal(size=signal.shape)
    # Of the signal alone, whose spectrum a thin decomposition gives at once.
    centered = signal - signal.mean(axis=0)
    basis, _ = np.linalg.qr(centered.T @ rng.normal(size=(1030, 4)))
    _, singular, axes = np.linalg.svd(centered @ basis, full_matrices=False)
    axes = axes @ basis.T
    found = _statistics(X, 3, random_state=np.random.RandomState(seed))
    np.testing.assert_allclose(found.variances, singular[:3] ** 2 / 1030, rtol=1e-6)
    cosines = np.abs(np.sum(found.axes.numpy() * axes[:3], axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    largest = np.abs(found.axes.numpy()).argmax(axis=1)
    assert (found.axes.numpy()[range(3), largest] > 0).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_start_at_axes_weighted_by_their_noise(weighted, rng):
    totals = rng.lognormal(4.0, 1.0, size=(300, 1))
    mixture = rng.dirichlet(np.full(3, 0.5), size=300)
    X = rng.poisson(totals * mixture @ rng.uniform(size=(3, 8))).astype(float)
    sample_weight = rng.uniform(0.5, 2, size=300) if weighted else None
    model = AutoencoderTransformer(
        2,
        loss=Poisson(),
        architecture=MLP(()),
        early_stopping=False,
        max_epochs=1,
        lr=1e-12,
        random_state=0,
    ).fit(X, sample_weight=sample_weight)
    weight = np.ones(300) if sample_weight is None else sample_weight
    mean = np.average(X, axis=0, weights=weight)
    noise = X.sum(axis=1) + 0.1 * X.sum(axis=1).mean()
    covariance = np.cov((X / np.sqrt(mean)).T, aweights=weight / noise)
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, -2:]
    autoencoder = model._model.autoencoder
    # From the units of the link, whose means are of a sample of the rows, to these.
    units = 2 * autoencoder.link.slope * autoencoder.link.log_unit.exp()
    found = (units[:, None] * autoencoder.decoder.affine.weight).detach().numpy()
    found /= np.sqrt(mean)[:, np.newaxis]
    found, _ = np.linalg.qr(found)
    np.testing.assert_allclose(found @ found.T, axes @ axes.T, atol=1e-4)
