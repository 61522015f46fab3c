"""Sparse rows: the results of dense rows, without a dense copy of the table."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderImputer, AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data import principal_axes, source
from skae._data.affine import AffineMap
from skae._data.principal_axes import PrincipalAxes
from skae._data.scaling import fit_scaling
from skae._data.source import Dense, Resident, Scaled, Sparse, Subset
from skae._data.sparse_table import SparseTable, canonical
from skae._data.winsorizing import winsorized
from skae.anomaly_scores import Mahalanobis, Reconstruction
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, TopK, Variational
from skae.corruptions import Masking, Swap
from skae.inspection import explain
from skae.losses import Bernoulli, Poisson
from skae.metrics import reconstruction_scorer
from skae.penalties import L1

FORMATS = {
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csc_array": sp.csc_array,
    "csc_matrix": sp.csc_matrix,
    "coo_array": sp.coo_array,
    "lil_matrix": sp.lil_matrix,
    "dok_array": sp.dok_array,
}


def new(kind, *args, **params):
    return kind(*args, **{"max_epochs": 3, "random_state": 0, **params})


def dense(result):
    return result.toarray() if sp.issparse(result) else np.asarray(result)


def assert_close(actual, expected, rtol=1e-5):
    actual, expected = dense(actual), dense(expected)
    assert actual.dtype == expected.dtype
    atol = rtol * np.nanmax(np.abs(expected), initial=1e-12)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


# Three epochs are too few to end by themselves, and of some models to beat PCA.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
]


@pytest.fixture(scope="module")
def X():
    """Counts of a few topics: 8 of 10 entries are zero."""
    rng = np.random.RandomState(0)
    topics = rng.dirichlet(np.full(30, 0.1), size=4)
    mixtures = rng.dirichlet(np.full(4, 0.3), size=300)
    return rng.poisson(8 * mixtures @ topics).astype(float)


METHODS = {
    AutoencoderTransformer: [
        "transform",
        "reconstruct",
        "reconstruction_error",
        "impute",
        "score",
    ],
    AutoencoderOutlierDetector: [
        "transform",
        "reconstruct",
        "reconstruction_error",
        "impute",
        "score",
        "score_samples",
        "decision_function",
        "predict",
    ],
}

MODELS = {
    "defaults": {},
    "auto": {"n_components": "auto"},
    "linear": {"architecture": MLP(())},
    "standard": {"scaling": "standard"},
    "minmax": {"scaling": "minmax"},
    "robust": {"scaling": "robust"},
    "unscaled": {"scaling": None},
    "masking": {"corruption": Masking(0.3)},
    "swap": {"corruption": Swap(0.1)},
    "penalty": {"penalty": L1(1e-3)},
    "variational": {"bottleneck": Variational()},
    "top-k": {"bottleneck": TopK(2), "n_components": 6},
    "top-k, sparse": {"bottleneck": TopK(2, sparse_output=True), "n_components": 6},
    "discrete": {"bottleneck": FiniteScalar()},
    "counts": {"loss": Poisson()},
    "no validation": {"early_stopping": False},
}


# Of the detector, which takes longer, a few by default.
SLOW = [pytest.mark.slow]
FEW = ("defaults", "penalty", "top-k")
PAIRS = [
    pytest.param(kind, name, id=f"{name}-{kind.__name__}", marks=marks)
    for kind in METHODS
    for name in MODELS
    for marks in [[] if kind is AutoencoderTransformer or name in FEW else SLOW]
]


def _pair(kind, X, params, make=sp.csr_array, **fit_params):
    """Return the same model fitted to dense and to sparse rows."""
    model = new(kind, **{"n_components": 3, **params})
    return clone(model).fit(X, **fit_params), model.fit(make(X), **fit_params)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_results_are_those_of_dense_rows(X, kind, name, monkeypatch):
    # As tables are that are larger than a chunk.
    monkeypatch.setattr(source, "_BUDGET", 1000)
    of_dense, of_sparse = _pair(kind, X, MODELS[name])
    S = sp.csr_array(X)
    for method in METHODS[kind]:
        expected = getattr(of_dense, method)(X)
        assert_close(getattr(of_sparse, method)(S), expected)
        assert_close(getattr(of_sparse, method)(X), expected)
    for attribute in ("mean_", "scale_", "explained_variance_ratio_"):
        assert_close(getattr(of_sparse, attribute), getattr(of_dense, attribute))
    assert of_sparse.n_components_ == of_dense.n_components_
    assert of_sparse.diagnostics_["r2"] == pytest.approx(of_dense.diagnostics_["r2"])
    assert of_sparse.pca_reconstruction_error_ == pytest.approx(
        of_dense.pca_reconstruction_error_
    )


def test_binary_rows_with_their_loss(X):
    binary = (X > 0).astype(float)
    of_dense, of_sparse = _pair(AutoencoderTransformer, binary, {"loss": Bernoulli()})
    assert_close(
        of_sparse.reconstruct(sp.csr_array(binary)), of_dense.reconstruct(binary)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", METHODS)
def test_every_format(X, kind, name):
    make = FORMATS[name]
    of_dense, of_sparse = _pair(kind, X, {}, make)
    assert_close(of_sparse.transform(make(X)), of_dense.transform(X))


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_every_dtype(X, dtype, index):
    S = sp.csr_array(X.astype(dtype))
    S.indices, S.indptr = S.indices.astype(index), S.indptr.astype(index)
    expected = np.float32 if dtype == np.float32 else np.float64
    of_dense, of_sparse = _pair(
        AutoencoderTransformer, X.astype(dtype), {}, lambda X: S
    )
    code = of_sparse.transform(S)
    assert code.dtype == expected
    assert_close(code, of_dense.transform(X.astype(dtype)), 1e-4)


def _untidy(S):
    """Return the same matrix with duplicates, unsorted indices and stored zeros."""
    rows, columns, data = [], [], []
    for i, j, value in zip(*S.nonzero(), S.data, strict=True):
        rows += [i, i, i]
        columns += [j, (j + 1) % S.shape[1], j]
        data += [value - 1, 0.0, 1.0]
    order = np.lexsort((-np.array(columns), np.array(rows)))
    rows, columns, data = (np.array(part)[order] for part in (rows, columns, data))
    indptr = np.searchsorted(rows, np.arange(S.shape[0] + 1))
    return sp.csr_array((data, columns, indptr), shape=S.shape)


@pytest.mark.slow
def test_duplicates_order_and_stored_zeros_do_not_matter(X):
    S = _untidy(sp.csr_array(X))
    np.testing.assert_array_equal(S.toarray(), X)
    before = S.data.copy(), S.indices.copy()
    for scaling in ("standard", "minmax", "robust"):
        of_dense, of_sparse = _pair(
            AutoencoderOutlierDetector, X, {"scaling": scaling}, lambda X: S
        )
        assert_close(of_sparse.score_samples(S), of_dense.score_samples(X))
    # The user's matrix is left as it is.
    np.testing.assert_array_equal(S.data, before[0])
    np.testing.assert_array_equal(S.indices, before[1])


@pytest.mark.parametrize("kind", METHODS)
def test_sample_weight_validation_rows_and_pairs(X, kind, rng):
    weight = rng.uniform(size=len(X))
    weight[:20] = 0
    noisy = X + rng.poisson(0.1, size=X.shape)
    S, noise = sp.csr_array(X), sp.csc_matrix(noisy)
    model = new(kind, 3)
    of_dense = clone(model).fit(
        noisy, None, weight, noisy[:50], X_target=X, X_val_target=X[:50]
    )
    of_sparse = clone(model).fit(
        noise, None, weight, noise[:50], X_target=S, X_val_target=S[:50]
    )
    mixed = clone(model).fit(
        noise, None, weight, noisy[:50], X_target=X, X_val_target=S[:50]
    )
    expected = of_dense.reconstruct(noisy)
    assert_close(of_sparse.reconstruct(noise), expected)
    assert_close(mixed.reconstruct(noise), expected)
    r2 = of_dense.score(noisy, sample_weight=weight, X_target=X)
    for target in (S, X):
        score = of_sparse.score(noise, sample_weight=weight, X_target=target)
        assert score == pytest.approx(r2, rel=1e-6)


def test_a_sparse_target_in_the_place_of_y_is_warned_of(X):
    S = sp.csr_array(X)
    model = new(AutoencoderTransformer, 2)
    with pytest.warns(match="X_target=y"):
        clone(model).fit(S, S + S)
    with pytest.warns(match="X_target=y"):
        clone(model).fit(X, S + S)


@pytest.mark.filterwarnings("error:y has the shape")
def test_rows_themselves_as_y_are_no_target(X):
    new(AutoencoderTransformer, 2).fit(sp.csr_array(X), sp.csc_array(X))


@pytest.mark.slow
def test_all_methods_of_the_detector(X):
    S = sp.csr_array(X)
    params = {"contamination": 0.1, "calibration_fraction": 0.2, "n_estimators": 2}
    of_dense, of_sparse = _pair(AutoencoderOutlierDetector, X, params)
    # Rounding may decide which of two equal rows is the more abnormal.
    np.testing.assert_allclose(of_sparse.p_values(S), of_dense.p_values(X), atol=0.05)
    assert_close(
        new(AutoencoderOutlierDetector, 3).fit_predict(S),
        new(AutoencoderOutlierDetector, 3).fit_predict(X),
    )
    first, second = of_sparse.explain(S[:5]), of_dense.explain(X[:5])
    for name in ("value", "expected", "share", "code_share", "residual"):
        assert_close(first[name], second[name])
    for model, rows in ((of_sparse, S), (of_dense, X)):
        model.calibrate(rows[:100], false_positive_rate=0.1)
    assert of_sparse.offset_ == pytest.approx(of_dense.offset_, rel=1e-5)


def test_other_methods_of_the_transformer(X):
    S = sp.csr_array(X)
    model = new(AutoencoderTransformer, 3, bottleneck=FiniteScalar())
    code = clone(model).fit_transform(S)
    assert_close(code, clone(model).fit_transform(X))
    symbols = model.fit(S).quantize(S)
    np.testing.assert_array_equal(symbols, model.quantize(X))
    warm = new(AutoencoderTransformer, 3, warm_start=True).fit(S).fit(2 * S)
    again = new(AutoencoderTransformer, 3, warm_start=True).fit(X).fit(2 * X)
    assert_close(warm.reconstruct(S), again.reconstruct(X))


# Missing values


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
def test_missing_values_are_those_of_dense_rows(X, kind, rng):
    holes = X.copy()
    holes[rng.uniform(size=X.shape) < 0.05] = np.nan
    S = sp.csr_array(holes)
    of_dense, of_sparse = _pair(kind, holes, {})
    np.testing.assert_array_equal(S.toarray(), holes)  # as it was
    for method in METHODS[kind]:
        assert_close(getattr(of_sparse, method)(S), getattr(of_dense, method)(holes))
    filled = of_sparse.impute(S)
    np.testing.assert_array_equal(filled[~np.isnan(holes)], X[~np.isnan(holes)])
    # Of complete rows, and then not.
    of_dense, of_sparse = _pair(kind, X, {})
    assert_close(of_sparse.reconstruct(S), of_dense.reconstruct(holes))
    holes[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"columns without any value: \[2\]"):
        new(kind, 2).fit(sp.csr_array(holes))


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
def test_large_tables_are_completed_when_they_are_read(X, kind, rng, monkeypatch):
    holes = X.copy()
    holes[rng.uniform(size=X.shape) < 0.05] = np.nan
    S = sp.csr_array(holes)
    weight = rng.uniform(0.5, 1, size=len(X))
    # Weights hardly move: what is hidden in training is drawn in another order.
    still = new(kind, 3, max_epochs=1, lr=1e-12)
    monkeypatch.setattr(source, "_BUDGET", 1000)
    expected = clone(still).fit(holes, sample_weight=weight)
    trained = new(kind, 3, max_epochs=20)
    of_dense = clone(trained).fit(holes, sample_weight=weight)
    monkeypatch.setattr(source, "_SMALL", 1000)
    sizes, original = [], sp.csr_array.toarray

    def counted(matrix, *args, **kwargs):
        sizes.append(matrix.shape[0])
        return original(matrix, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(sp.csr_array, "toarray", counted)
        patch.setattr("skae._data.missing._MAX_ROWS", 100)
        patch.setattr("skae._model.inference._BUDGET", 1000)
        patch.setattr("skae._model.inference._LEAST_ROWS", 1)
        clone(still).fit(S, sample_weight=weight)
        if kind is AutoencoderTransformer:
            assert max(sizes) < len(X)
    of_sparse = still.fit(S, sample_weight=weight)
    assert_close(of_sparse.reconstruct(S), expected.reconstruct(holes), 1e-4)
    assert of_sparse.diagnostics_["r2"] == pytest.approx(
        expected.diagnostics_["r2"], rel=1e-4
    )
    if kind is AutoencoderOutlierDetector:
        nothing = np.full((1, X.shape[1]), np.nan)
        scores = (model.score_samples(nothing) for model in (of_sparse, expected))
        np.testing.assert_allclose(*scores, rtol=1e-4)
        return
    of_sparse = clone(trained).fit(S, sample_weight=weight)
    error, of_others = (
        np.nanmean((model.impute(holes) - X)[np.isnan(holes)] ** 2)
        for model in (of_sparse, of_dense)
    )
    assert error < 1.5 * of_others
    again = clone(trained).fit(S, sample_weight=weight)
    np.testing.assert_array_equal(again.transform(S), of_sparse.transform(S))


def test_a_row_without_any_value_is_an_outlier(X):
    model = new(AutoencoderOutlierDetector, 3).fit(sp.csr_array(X))
    nothing = sp.csr_array(np.full((1, X.shape[1]), np.nan))
    assert model.predict(nothing) == [-1]
    assert np.isnan(model.explain(nothing).value).all()


def test_the_imputer(X, rng):
    holes = X.copy()
    holes[rng.uniform(size=X.shape) < 0.05] = np.nan
    imputer = AutoencoderImputer(new(AutoencoderTransformer, 3))
    sparse = clone(imputer).fit(sp.csr_array(holes)).transform(sp.csr_array(holes))
    assert_close(sparse, imputer.fit(holes).transform(holes))


# What is refused


@pytest.mark.parametrize("kind", METHODS)
def test_values_outside_the_domain_are_refused(X, kind):
    S = sp.csr_array(X)
    S.data[0] = -1
    with pytest.raises(ValueError, match=r"data in \[0.0, inf\], but X ranges from -1"):
        new(kind, 2, loss=Poisson()).fit(S)
    with pytest.raises(ValueError, match="X ranges from 0 to"):
        new(kind, 2, loss=Bernoulli()).fit(sp.csr_array(X))
    S.data[0] = 1e300
    with pytest.raises(ValueError, match="too large for double precision"):
        new(AutoencoderTransformer, 2).fit(S)


def test_a_share_of_a_vast_spectrum_is_refused(monkeypatch):
    monkeypatch.setattr(principal_axes, "_MAX_WHOLE", 1050)
    monkeypatch.setattr(principal_axes, "_MIN_ENTRIES", 2**20)
    noise = sp.random(1100, 1100, 0.01, "csr", random_state=0)
    with pytest.raises(ValueError, match=r"n_components=0.9 asks for so many"):
        new(AutoencoderTransformer, 0.9).fit(noise)


# What PCA and IsolationForest do with sparse rows


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("n_components", [1, 3, 20])
def test_axes_are_those_of_pca(make, scale, n_components):
    X = scale * sp.random(200, 60, 0.2, "csr", random_state=0).toarray()
    X[:, 3] += 5  # a column without a zero
    S = make(X)
    model = new(AutoencoderTransformer, n_components, architecture=MLP(())).fit(S)
    pca = PCA(n_components, svd_solver="arpack", random_state=0).fit(S)
    assert_close(model.explained_variance_, pca.explained_variance_, 1e-4)
    assert_close(model.explained_variance_ratio_, pca.explained_variance_ratio_, 1e-4)
    assert_close(model.singular_values_, pca.singular_values_, 1e-4)
    assert_close(model.mean_, pca.mean_)
    assert model.noise_variance_ == pytest.approx(
        PCA(n_components).fit(X).noise_variance_, rel=1e-3
    )
    codes = model.transform(S), pca.transform(S)
    signs = np.sign((codes[0] * codes[1]).sum(axis=0))
    assert_close(codes[0], signs * codes[1], 1e-3)
    assert_close(model.fit_transform(S), model.transform(X))


@pytest.mark.slow
@pytest.mark.parametrize("make", [sp.csc_matrix, sp.csr_array])
def test_detection_in_sparse_rows_is_that_in_dense_ones(make):
    # As IsolationForest: training rows in one format, others in another.
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(150, 4)) * (rng.uniform(size=(150, 4)) < 0.7)
    train, test = X[:100], X[100:]
    for contamination in ("auto", 0.1):
        model = new(AutoencoderOutlierDetector, 2, contamination=contamination)
        expected = clone(model).fit(train).predict(test)
        for rows in (make(test), sp.csr_array(test), test):
            np.testing.assert_array_equal(
                clone(model).fit(make(train)).predict(rows), expected
            )


@pytest.mark.parametrize("score", [Mahalanobis(), Reconstruction()])
def test_other_scores(X, score):
    params = {"anomaly_score": score}
    of_dense, of_sparse = _pair(AutoencoderOutlierDetector, X, params)
    assert_close(of_sparse.score_samples(sp.csr_array(X)), of_dense.score_samples(X))


# The parts


def _table(rng, n_samples=400, n_features=25):
    """Return rows with columns of all kinds, sparse and dense."""
    S = sp.random(n_samples, n_features, 0.2, "csr", random_state=rng)
    X = S.toarray()
    X[:, 0] = 1e9 + rng.normal(size=n_samples)  # dense, far from zero
    X[:, 1] = 7.0  # constant
    X[:, 2] = 0.0
    X[:, 3] *= rng.choice([-1, 1], size=n_samples)
    return X


def _map(rng, width):
    center, scale = rng.normal(size=width), rng.uniform(1, 2, size=width)
    return AffineMap(torch.from_numpy(center), torch.from_numpy(scale))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_statistics_of_columns(rng, weighted, missing):
    X = _table(rng)
    weight = rng.uniform(size=len(X)) if weighted else None
    if missing:
        X[rng.uniform(size=X.shape) < 0.1] = np.nan
        X[:, 5] = np.nan
    scaling = _map(rng, X.shape[1])
    table = SparseTable.of(sp.csr_array(X)).scaled(scaling)
    x = scaling(torch.from_numpy(X)).numpy()
    x[:, 5] = scaling(torch.zeros(1, X.shape[1]).double())[0, 5] if missing else x[:, 5]
    masked = np.ma.masked_invalid(x)
    mean, variance, low, high = table.statistics(weight)
    expected = np.ma.average(masked, axis=0, weights=weight)
    spread = np.ma.average((masked - expected) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, spread, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(low, masked.min(axis=0), rtol=1e-12)
    np.testing.assert_allclose(high, masked.max(axis=0), rtol=1e-12)
    quantiles = table.quantiles([0.25, 0.5, 0.75])
    expected = np.nanquantile(x, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(quantiles, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["global", "standard", "minmax", "robust", None])
@pytest.mark.parametrize("marks_changes", [False, True])
def test_scaling_is_that_of_dense_rows(rng, kind, marks_changes):
    X = _table(rng)
    weight = rng.uniform(size=len(X))
    rows = np.sort(rng.choice(len(X), 300, replace=False))
    maps = [
        fit_scaling(kind, Subset(r, rows), weight[rows], marks_changes=marks_changes)
        for r in (Sparse(sp.csr_array(X)), Dense(X))
    ]
    (sparse, mean), (expected, of_dense) = maps
    np.testing.assert_allclose(mean, of_dense, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sparse.center, expected.center, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sparse.scale, expected.scale, rtol=1e-6)


CASES = [
    (1500, 1200, 10),  # by iteration over columns
    (1100, 1600, 10),  # over rows
    (1200, 1100, 300),  # by covariances
    (1100, 1200, 300),  # by products of rows
    (1500, 1200, 0.3),
    (1500, 1200, "auto"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("n_samples", "n_features", "n_components"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_axes_without_a_dense_copy(
    rng, monkeypatch, n_samples, n_features, n_components, weighted
):
    monkeypatch.setattr(principal_axes, "_MIN_ENTRIES", 2**20)
    topics = sp.random(12, n_features, 0.05, "csr", random_state=rng)
    mixture = sp.random(n_samples, 12, 0.3, "csr", random_state=rng)
    noise = sp.random(n_samples, n_features, 0.002, "csr", random_state=rng)
    S = sp.lil_array(mixture @ topics + 0.1 * noise)
    S[:, [4]] = 1e9 + rng.normal(size=(n_samples, 1))
    S = canonical(sp.csr_array(S))
    monkeypatch.setattr(principal_axes, "_MAX_DENSITY", 1.0)
    weight = None
    if weighted:
        weight = rng.uniform(0.1, 1, size=n_samples)
        weight /= weight.mean()
    scaling = _map(rng, n_features)
    rows = Scaled(Sparse(S), scaling)
    monkeypatch.setattr(Scaled, "take", None)  # not a row is read
    axes = PrincipalAxes(rows, weight, n_components, np.random.RandomState(0))
    x = Resident(scaling(torch.from_numpy(S.toarray())))
    expected = PrincipalAxes(x, weight, n_components, np.random.RandomState(0))
    assert axes.n_components == expected.n_components
    np.testing.assert_allclose(axes.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(axes.variance, expected.variance, rtol=1e-6, atol=1e-9)
    directions, variances = axes.leading(10)
    others, of_dense = expected.leading(10)
    np.testing.assert_allclose(variances, of_dense, rtol=1e-5)
    np.testing.assert_allclose(directions, others, atol=1e-4)


def test_auto_is_bounded_where_the_spectrum_is_vast(monkeypatch):
    monkeypatch.setattr(principal_axes, "_MAX_WHOLE", 1050)
    monkeypatch.setattr(principal_axes, "_MIN_ENTRIES", 2**20)
    monkeypatch.setattr(principal_axes, "_MAX_AUTO", 20)
    noise = sp.csr_array(sp.random(1100, 1300, 0.01, random_state=0))
    few = sp.csr_array(noise @ sp.diags(np.r_[np.full(5, 1e3), np.ones(1295)]))
    of_noise, of_few = (
        PrincipalAxes(
            Scaled(Sparse(S), AffineMap.identity(1300)),
            None,
            "auto",
            np.random.RandomState(0),
        )
        for S in (noise, few)
    )
    assert of_noise.n_components == 20
    assert of_few.n_components <= 5


@pytest.mark.parametrize("wild", [-9999.0, 1e6])
def test_wild_values_are_replaced_as_in_dense_rows(rng, wild):
    X = rng.normal(size=(1000, 6)) * (rng.uniform(size=(1000, 6)) < 0.3)
    X[:, 5] = 50 + rng.normal(size=1000)
    X[3, 0] = X[7, 1] = X[8, 1] = wild
    X[11, 5] = 0.0  # what is not stored may be wild, too
    X[20, 2] = X[21, 0] = np.nan
    S = sp.csr_array(X)
    cleaned = winsorized(S)
    assert not np.array_equal(cleaned.toarray(), X, equal_nan=True)
    np.testing.assert_array_equal(cleaned.toarray(), winsorized(X))
    assert cleaned.has_canonical_format
    assert winsorized(sp.csr_array(X[:, 3:5])) is not None
    usual = sp.csr_array(X[:, 3:5])
    assert winsorized(usual) is usual


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("params", [{}, {"architecture": MLP(())}, {"loss": Poisson()}])
def test_no_more_than_a_batch_is_ever_dense(kind, params, monkeypatch):
    n_samples, n_features = 3000, 1500
    topics = sp.random(5, n_features, 0.05, random_state=1)
    S = sp.random(n_samples, 5, 0.3, random_state=0) @ topics
    S = sp.csr_array((5 * S).astype(np.int64).astype(float))
    sizes, original = [], sp.csr_array.toarray

    def counted(matrix, *args, **kwargs):
        sizes.append(matrix.shape[0] * matrix.shape[1])
        return original(matrix, *args, **kwargs)

    monkeypatch.setattr(sp.csr_array, "toarray", counted)
    most = source._BUDGET
    monkeypatch.setattr("skae._outlier._ensemble._MAX_ENTRIES", most)
    monkeypatch.setattr(principal_axes, "_MAX_READ", most)
    model = new(kind, 3, max_epochs=1, **params).fit(S)
    model.transform(S)
    model.score(S)
    assert 0 < max(sizes) <= max(most, 1024 * n_features)


def _spread(rows, weight):
    mean = np.average(rows, axis=0, weights=weight)
    return np.average(np.square(rows - mean), axis=0, weights=weight).sum()


@pytest.mark.slow
def test_a_linear_model_of_a_large_table_is_pca_without_reading_it(monkeypatch):
    rng = np.random.RandomState(0)
    topics = sp.random(8, 3000, 0.05, random_state=rng)
    S = sp.csr_array(sp.random(1500, 8, 0.2, random_state=rng) @ topics)
    params = {"architecture": MLP(()), "scaling": "standard"}
    weight = rng.uniform(0.5, 1, size=1500)
    for sample_weight in (None, weight):
        model = new(AutoencoderTransformer, 5, **params).fit(S, None, sample_weight)
        monkeypatch.setattr(principal_axes, "_MIN_ENTRIES", np.inf)
        with monkeypatch.context() as patch:
            # As of a model that is not affine.
            patch.setattr("skae._training.final_pass.affine_maps", lambda _: None)
            slow = new(AutoencoderTransformer, 5, **params).fit(S, None, sample_weight)
        monkeypatch.undo()
        assert model.n_iter_ == 0
        assert "no linear network is better" in model.kept_weights_
        assert_close(model.transform(S), slow.transform(S), 1e-4)
        for name in (
            "explained_variance_",
            "noise_variance_",
            "pca_reconstruction_error_",
            "components_",
        ):
            assert_close(getattr(model, name), getattr(slow, name), 1e-4)
        X, code = S.toarray(), model.transform(S)
        total = _spread(X, sample_weight)
        left = [total]
        for k in range(1, 6):
            kept = np.where(np.arange(5) < k, code, 0.0)  # the code is centred
            left.append(_spread(X - model.inverse_transform(kept), sample_weight))
        assert_close(model.explained_variance_ratio_, -np.diff(left) / total, 1e-4)
        error = model.reconstruction_error(S)
        assert np.average(error, weights=sample_weight) == pytest.approx(
            model.pca_reconstruction_error_, rel=1e-4
        )


# In front of it


WORDS = np.array("one two three four five six seven eight nine ten".split())
TEXTS = [
    " ".join(np.random.RandomState(i).choice(WORDS[i % 4 :], 6)) for i in range(80)
]


def test_words():
    vectorizer = TfidfVectorizer(token_pattern=r"\w+")
    pipeline = make_pipeline(vectorizer, new(AutoencoderTransformer, 4))
    code = pipeline.fit_transform(TEXTS)
    assert code.shape == (len(TEXTS), 4)
    expected = new(AutoencoderTransformer, 4).fit_transform(
        vectorizer.transform(TEXTS).toarray()
    )
    assert_close(code, expected)
    score = reconstruction_scorer(pipeline[-1], vectorizer.transform(TEXTS))
    assert score == pytest.approx(pipeline.score(TEXTS))


def _machines(rng):
    pd = pytest.importorskip("pandas")
    names = np.array([f"machine {i}" for i in range(12)])
    machine = rng.choice(names, size=400)
    usual = dict(zip(names, rng.normal(50, 20, size=12), strict=True))
    temperature = [usual[m] for m in machine] + rng.normal(size=400)
    return pd.DataFrame({"machine": machine, "temperature": temperature})


def test_one_hot_columns_and_their_explanation(rng):
    table = _machines(rng)
    before = ColumnTransformer(
        [("c", OneHotEncoder(), ["machine"]), ("n", StandardScaler(), ["temperature"])]
    )
    pipeline = make_pipeline(before, new(AutoencoderOutlierDetector, 3)).fit(table)
    assert sp.issparse(pipeline[0].transform(table))
    fault = table[:1].assign(temperature=500.0)
    assert pipeline.predict(fault) == [-1]
    explanation = explain(pipeline, fault)
    assert list(explanation.feature_names) == ["machine", "temperature"]
    assert explanation.share[0].argmax() == 1
    assert explanation.value[0, 1] == 500.0
    only = ColumnTransformer([("c", OneHotEncoder(), ["machine"])])
    labels = make_pipeline(only, new(AutoencoderOutlierDetector)).fit_predict(table)
    assert set(labels) <= {-1, 1}


@pytest.mark.slow
def test_a_search(X):
    grid = {"n_components": [1, 2], "scaling": ["global", "standard"]}
    model = new(AutoencoderTransformer, max_epochs=1)
    searches = [
        GridSearchCV(model, grid, cv=2, scoring=scoring).fit(rows)
        for scoring in (None, reconstruction_scorer)
        for rows in (sp.csr_array(X), X)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    for other in scores[1:]:
        np.testing.assert_allclose(scores[0], other, rtol=1e-5)


@pytest.mark.parametrize("name", ["LatentSpaceDisplay", "AnomalyScoreDisplay"])
def test_displays(X, name):
    pytest.importorskip("matplotlib").use("Agg")
    import skae.displays

    S = sp.csr_array(X)
    kind = AutoencoderTransformer
    if name == "AnomalyScoreDisplay":
        kind = AutoencoderOutlierDetector
    model = new(kind, 3).fit(S)
    display = getattr(skae.displays, name).from_estimator(model, S)
    assert display.figure_ is not None
