"""What scikit-learn tests of PCA, asked of a linear network, and the same of others.

The tests of the first part ask what the tests of the same names in
``sklearn/decomposition/tests/test_pca.py`` ask (scikit-learn 1.9), for the one solver
that there is here. The others of that file do not apply:

=============================================  ========================================
Test of scikit-learn                           Reason
=============================================  ========================================
pca_sparse, pca_sparse_fit_transform,          Sparse rows are tested in
sparse_pca_solver_error,                       ``test_sparse.py``.
sparse_pca_auto_arpack_singular_values_...
n_components_mle, n_components_mle_error,      There is no ``n_components="mle"``;
pca_dim, infer_dim_1, infer_dim_2,             ``test_pca_validation`` sees that it is
infer_dim_3, assess_dimension_bad_rank,        refused. It is the number of components
assess_dimension_rank_one, mle_simple_case,    of a Gaussian model.
mle_redundant_data, small_eigenvalues_mle,
fit_mle_too_few_samples,
pca_mle_array_api_compliance
pca_score, pca_score3,                         `score` is R², which every network has,
pca_score_consistency_solvers                  and no log-likelihood; there is no
                                               `get_covariance` and `get_precision`, of
                                               which ``test_pca`` also asks. R² is
                                               tested in ``test_transformer.py``.
pca_svd_solver_auto,                           There is no ``svd_solver``. The ways to
pca_singular_values_consistency,               find the axes are compared in
pca_randomized_svd_n_oversamples,              ``test_pca_start.py``.
array_api_error_and_warnings_on_...
pca_array_api_compliance                       Arrays of other libraries are tested in
                                               ``test_array_api.py``.
=============================================  ========================================
"""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import (
    load_digits,
    load_iris,
    make_classification,
    make_low_rank_matrix,
    make_swiss_roll,
)
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import Plain, TopK, Variational, VectorQuantized
from skae.exceptions import CollapsedCodeWarning
from skae.losses import Bernoulli
from skae.penalties import L1

IRIS = load_iris().data


def linear(n_components="auto", **params):
    """Return a linear autoencoder; its minimum is PCA, at which it starts."""
    defaults = {"architecture": MLP(()), "random_state": 0}
    return AutoencoderTransformer(n_components, **defaults | params)


def assert_same(model, pca, rtol=1e-5):
    """Compare what two fitted models know of the training rows."""
    size = pca.explained_variance_[0]
    assert model.n_components_ == pca.n_components_
    for name in ("explained_variance_", "noise_variance_"):
        found, expected = getattr(model, name), getattr(pca, name)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-10 * size)
    for name, atol in [
        ("mean_", 1e-6 * np.sqrt(size)),
        ("singular_values_", 1e-6 * pca.singular_values_[0]),
        ("explained_variance_ratio_", 1e-6),
    ]:
        found, expected = getattr(model, name), getattr(pca, name)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    stable = pca.explained_variance_ > 1e-9 * size
    np.testing.assert_allclose(
        model.components_[stable], pca.components_[stable], atol=1e-4
    )


# A linear network


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_pca(n_components):
    model = linear(n_components)
    code = model.fit(IRIS).transform(IRIS)
    assert code.shape == (150, n_components)
    np.testing.assert_array_equal(model.fit_transform(IRIS), code)
    assert_same(model, PCA(n_components).fit(IRIS))


def test_no_empty_slice_warning(rng):
    # Warnings are errors: none for as many components as rows, more than they vary in.
    X = rng.uniform(-1, 1, size=(10, 12))
    assert_same(linear(None).fit(X), PCA().fit(X))


@pytest.mark.parametrize("whiten", [True, False])
def test_whitening(whiten, rng):
    mixing = np.diag(np.linspace(10.0, 1.0, 50)) @ rng.normal(size=(50, 80))
    X = rng.normal(size=(100, 50)) @ mixing
    X[:, :50] *= 3
    model = linear(30, whiten=whiten)
    code = model.fit_transform(X)
    np.testing.assert_allclose(model.transform(X), code, rtol=1e-9)
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-5)
    deviation = code.std(axis=0, ddof=1)
    if whiten:
        np.testing.assert_allclose(deviation, 1, rtol=1e-5)
        np.testing.assert_allclose(np.cov(code.T), np.eye(30), atol=1e-5)
    else:
        assert deviation.std() > 50
    # As in PCA the other attributes are those before whitening.
    assert_same(model, PCA(30, whiten=whiten).fit(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("rank_deficient", [False, True])
@pytest.mark.parametrize("shape", [(100, 30), (30, 100)], ids=["tall", "wide"])
def test_pca_solver_equivalence(shape, rank_deficient, whiten, dtype, rng):
    n_samples, n_features = shape
    rank = min(shape) // 2 if rank_deficient else min(shape)
    if rank_deficient:
        X = rng.normal(size=(n_samples + 10, rank)) @ rng.normal(
            size=(rank, n_features)
        )
    else:
        X = make_low_rank_matrix(
            n_samples + 10, n_features, tail_strength=0.5, random_state=rng
        )
    X = X.astype(dtype)
    X, X_new = X[:n_samples], X[n_samples:]
    pca = PCA(svd_solver="full", whiten=whiten).fit(X)
    model = linear(None, whiten=whiten).fit(X)
    assert_same(model, pca, rtol=1e-4)
    stable = pca.explained_variance_ > 1e-7 * pca.explained_variance_[0]
    assert stable.sum() == rank - (n_samples < n_features and not rank_deficient)
    for rows in (X, X_new):
        code, expected = model.transform(rows), pca.transform(rows)
        assert code.dtype == dtype
        size = np.abs(expected[:, stable]).max()
        np.testing.assert_allclose(
            code[:, stable], expected[:, stable], atol=1e-3 * size
        )
        found = model.inverse_transform(code)
        assert found.dtype == dtype
        if len(pca.components_) == n_features:
            np.testing.assert_allclose(found, rows, atol=1e-4 * np.abs(rows).max())


@pytest.mark.parametrize("table", ["random-tall", "correlated-tall", "random-wide"])
def test_pca_explained_variance_empirical(table, rng):
    X = {
        "random-tall": rng.normal(size=(100, 80)),
        "correlated-tall": make_classification(
            100, 80, n_informative=78, random_state=rng
        )[0],
        "random-wide": rng.normal(size=(10, 100)),
    }[table]
    model = linear(2)
    code = model.fit_transform(X)
    found = model.explained_variance_
    np.testing.assert_allclose(found, code.var(axis=0, ddof=1), rtol=1e-5)
    expected = np.linalg.eigvalsh(np.cov(X.T))[:-3:-1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pca_singular_values(rng):
    X = rng.normal(size=(100, 80))
    model = linear(2)
    code = model.fit_transform(X)
    np.testing.assert_allclose(
        model.singular_values_, np.linalg.norm(code, axis=0), rtol=1e-5
    )
    # Given ones
    X = rng.normal(size=(100, 110))
    pca = PCA(3, svd_solver="full").fit(X)
    code = pca.transform(X)
    code /= np.linalg.norm(code, axis=0)
    code *= [3.142, 2.718, 1.0]
    model.set_params(n_components=3).fit(code @ pca.components_)
    np.testing.assert_allclose(model.singular_values_, [3.142, 2.718, 1.0], rtol=1e-5)


def test_pca_check_projection(rng):
    direction = np.array([3.0, 4.0, 5.0])
    X = 0.1 * rng.normal(size=(100, 3))
    X[:10] += direction
    code = linear(2).fit(X).transform(0.1 * rng.normal(size=(1, 3)) + direction)
    assert np.abs(code[0, 0]) / np.linalg.norm(code) == pytest.approx(1, rel=5e-3)


def test_pca_check_projection_list():
    code = linear(1).fit_transform([[1.0, 0.0], [0.0, 1.0]])
    assert code.shape == (2, 1)
    assert code.mean() == pytest.approx(0, abs=1e-6)
    assert code.std() == pytest.approx(np.sqrt(0.5), rel=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_inverse(whiten, rng):
    X = rng.normal(size=(50, 3)) * [1.0, 1e-5, 1.0] + [5, 4, 3]
    model = linear(2, whiten=whiten).fit(X)
    found = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(found, X, rtol=5e-5)


@pytest.mark.parametrize(
    ("n_components", "message"),
    [(0, "'n_components' parameter"), (1.5, r"\(0.0, 1.0\)"), ("mle", "'auto'")],
)
def test_pca_validation(n_components, message):
    with pytest.raises(ValueError, match=message):
        linear(n_components).fit(IRIS)


@pytest.mark.parametrize("transpose", [False, True])
def test_pca_validation_of_too_many(transpose):
    # PCA refuses them. A code wider than the rows vary is allowed, and warned of.
    X = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    X = X.T if transpose else X
    with pytest.warns(UserWarning, match="n_components"):
        assert linear(3).fit_transform(X).shape == (len(X), 3)


@pytest.mark.parametrize("X", [IRIS, IRIS.T], ids=["tall", "wide"])
def test_n_components_none(X):
    model = linear(None).fit(X)
    assert model.n_components_ == 4
    assert model.n_components is None
    assert_same(model, PCA().fit(X))


@pytest.mark.parametrize("share", [0.95, 0.01, 0.5])
def test_infer_dim_by_explained_variance(share, rng):
    for X in (IRIS, rng.uniform(size=(5, 20))):
        model = linear(share).fit(X)
        assert model.n_components == share
        expected = PCA(share, svd_solver="full").fit(X).n_components_
        assert model.n_components_ == expected


def test_pca_sanity_noise_variance():
    X = load_digits().data
    model = linear(30).fit(X)
    assert (model.explained_variance_ >= model.noise_variance_).all()
    assert_same(model, PCA(30, svd_solver="full").fit(X))


@pytest.mark.parametrize("transpose", [False, True])
def test_pca_zero_noise_variance_edge_cases(transpose, rng):
    X = 0.1 * rng.normal(size=(100, 3)) + [3, 4, 5]
    X = X.T if transpose else X
    model = linear(3)
    if transpose:
        # Three rows vary in two directions: by number, which None is not, a mistake.
        with pytest.warns(CollapsedCodeWarning, match="n_components=2"):
            model.fit(X)
    else:
        model.fit(X)
    assert model.noise_variance_ == 0
    assert model.score(X) == pytest.approx(1)


def test_pca_deterministic_output(rng):
    X = rng.uniform(size=(10, 10))
    codes = [linear(2, random_state=rng).fit_transform(X) for _ in range(3)]
    for code in codes[1:]:
        np.testing.assert_allclose(code, codes[0], atol=1e-6)


def test_pca_dtype_preservation(rng):
    X = rng.uniform(size=(200, 4))
    single, double = (linear(3).fit(X.astype(d)) for d in ("f4", "f8"))
    assert single.transform(X.astype("f4")).dtype == np.float32
    assert double.transform(X).dtype == np.float64
    np.testing.assert_allclose(single.components_, double.components_, atol=1e-3)
    integers = rng.randint(0, 1000, size=(200, 4))
    wide, narrow = (linear(3).fit(integers.astype(d)) for d in ("i8", "i4"))
    for model, rows in (wide, integers), (narrow, integers.astype("i4")):
        assert model.components_.dtype == np.float64
        assert model.transform(rows).dtype == np.float64
    np.testing.assert_allclose(wide.components_, narrow.components_, rtol=1e-4)


def test_pca_n_components_mostly_explained_variance_ratio():
    # PCA is asked at the very share, where the last bit decides: it is another here.
    share = PCA().fit(IRIS).explained_variance_ratio_.cumsum()[-2]
    assert linear(share * (1 - 1e-6)).fit(IRIS).n_components_ == 3
    assert linear(share * (1 + 1e-6)).fit(IRIS).n_components_ == 4


def test_feature_names_out():
    names = linear(2).fit(IRIS).get_feature_names_out()
    expected = ["autoencodertransformer0", "autoencodertransformer1"]
    np.testing.assert_array_equal(names, expected)


def test_variance_correctness(rng):
    X = rng.normal(size=(1000, 50))
    model = linear(None).fit(X)
    total = X.var(axis=0, ddof=1).sum()
    assert model.explained_variance_.sum() == pytest.approx(total, rel=1e-5)
    assert_same(model, PCA().fit(X))


# Beyond the tests of PCA: other networks, and sample weights

NETWORKS = {
    "default": {},
    "textbook": {"architecture": MLP((8,), start="random", linear_path=False)},
    "standard": {"scaling": "standard"},
    "tanh": {"bottleneck": Plain("tanh")},
    "relu": {"bottleneck": Plain("relu")},
    "L1": {"penalty": L1(0.1)},
    "variational": {"bottleneck": Variational()},
    "top k": {"bottleneck": TopK(1)},
    "quantized": {"bottleneck": VectorQuantized(8)},
}


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(200, random_state=0)[0] + [3.0, 0.0, -50.0]


def network(name, roll, sample_weight=None, **params):
    """Return a network that was trained for a moment."""
    defaults = {"early_stopping": False, "max_epochs": 5, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoencoderTransformer(2, **defaults | NETWORKS[name] | params).fit(
            roll, sample_weight=sample_weight
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_variances_are_those_of_code_and_residual(name, weighted, roll, rng):
    weight = rng.uniform(0.5, 2.0, size=len(roll)) if weighted else None
    model = network(name, roll, weight)
    code = model.transform(roll)
    expected = np.diag(np.cov(code.T, aweights=weight))
    np.testing.assert_allclose(model.explained_variance_, expected, rtol=1e-3)
    weight = np.ones(len(roll)) if weight is None else weight / weight.mean()
    centered = code - np.average(code, axis=0, weights=weight)
    lengths = np.linalg.norm(np.sqrt(weight)[:, np.newaxis] * centered, axis=0)
    np.testing.assert_allclose(model.singular_values_, lengths, rtol=1e-3)
    # The residual about zero, of three features in one direction, divided as variances
    # are.
    error = 3 * np.average(model.reconstruction_error(roll), weights=weight)
    share = weight / weight.sum()
    error /= 1 - np.square(share).sum()
    assert model.noise_variance_ == pytest.approx(error, rel=1e-4)


def test_variances_are_in_units_of_the_data_with_any_loss(rng):
    X = (rng.uniform(size=(100, 6)) < 0.4).astype(float)
    model = linear(2, loss=Bernoulli(), early_stopping=False, max_epochs=3)
    model.fit(X)
    error = 6 * model.reconstruction_error(X).mean() / (6 - 2) * 100 / 99
    assert model.noise_variance_ == pytest.approx(error, rel=1e-5)


def test_equal_weights_change_no_variance():
    model, weighted = linear(2), linear(2)
    model.fit(IRIS), weighted.fit(IRIS, sample_weight=np.full(150, 3.0))
    for name in ("explained_variance_", "singular_values_", "noise_variance_"):
        np.testing.assert_array_equal(getattr(weighted, name), getattr(model, name))


def test_rows_of_weight_zero_change_no_variance():
    weight = np.ones(150)
    weight[100:] = 0
    model = linear(None).fit(IRIS, sample_weight=weight)
    assert_same(model, PCA().fit(IRIS[:100]))
    few = linear(None).fit(IRIS.T[:, :6], sample_weight=[1, 1, 1, 0])
    assert few.n_components_ == 3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_whitening_standardises_any_code(name, weighted, roll, rng):
    weight = rng.uniform(0.5, 2.0, size=len(roll)) if weighted else None
    plain, model = network(name, roll, weight), network(name, roll, weight, whiten=True)
    code = model.transform(roll)
    mean = np.average(code, axis=0, weights=weight)
    np.testing.assert_allclose(mean, 0, atol=1e-4)
    variance = np.diag(np.cov(code.T, aweights=weight))
    constant = plain.explained_variance_ == 0
    np.testing.assert_allclose(variance, np.where(constant, 0, 1), rtol=1e-3)
    # It is the same model, in other coordinates.
    expected = plain.transform(roll)
    expected -= np.average(expected, axis=0, weights=weight)
    deviation = np.where(constant, 1, np.sqrt(plain.explained_variance_))
    np.testing.assert_allclose(code, expected / deviation, atol=1e-4)
    np.testing.assert_array_equal(model.reconstruct(roll), plain.reconstruct(roll))
    np.testing.assert_allclose(
        model.inverse_transform(code), plain.reconstruct(roll), atol=1e-6
    )
    for attribute in (
        "explained_variance_",
        "explained_variance_ratio_",
        "noise_variance_",
        "singular_values_",
    ):
        np.testing.assert_array_equal(
            getattr(model, attribute), getattr(plain, attribute)
        )


def test_whitening_leaves_what_is_constant(rng):
    X = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 8))
    model = linear(None, whiten=True).fit(X)
    code = model.transform(X)
    np.testing.assert_allclose(code[:, :3].std(axis=0, ddof=1), 1, rtol=1e-5)
    np.testing.assert_allclose(code[:, 3:], 0, atol=1e-5)
    np.testing.assert_allclose(model.inverse_transform(code), X, atol=1e-5)


def test_whitening_is_in_every_view_of_the_model(roll):
    model = network("textbook", roll, whiten=True)
    code = model.transform(roll)
    with torch.no_grad():
        exported = model.to_torch("encoder").double()(torch.from_numpy(roll))
        decoded = model.to_torch("decoder").double()(torch.from_numpy(code))
    np.testing.assert_allclose(exported.numpy(), code)
    np.testing.assert_allclose(decoded.numpy(), model.reconstruct(roll))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(roll), code)


@pytest.mark.parametrize("name", ["default", "quantized"])
def test_samples_are_those_of_the_model_without_whitening(name, roll):
    plain, model = network(name, roll), network(name, roll, whiten=True)
    drawn, expected = (m.sample(2000, random_state=0) for m in (model, plain))
    scale = expected.std(axis=0)
    shift = drawn.mean(axis=0) - expected.mean(axis=0)
    np.testing.assert_allclose(shift / scale, 0, atol=0.2)
    np.testing.assert_allclose(drawn.std(axis=0), scale, rtol=0.2)


def test_symbols_are_those_of_the_model_without_whitening(roll):
    plain, model = (network("quantized", roll, whiten=w) for w in (False, True))
    np.testing.assert_array_equal(model.quantize(roll), plain.quantize(roll))


def test_a_warm_start_whitens_the_code_once(roll):
    model = network("textbook", roll, whiten=True, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(roll)
    np.testing.assert_allclose(model.transform(roll).std(axis=0, ddof=1), 1, rtol=1e-3)


def test_whitening_of_a_sparse_code_is_refused(roll):
    model = AutoencoderTransformer(4, bottleneck=TopK(1, sparse_output=True))
    with pytest.raises(ValueError, match=r"whiten=True .* pass whiten=False"):
        model.set_params(whiten=True).fit(roll)
    assert not hasattr(model, "n_features_in_")


def test_signs_of_many_components_are_those_of_pca():
    # Small components too, whose signs a part of the rows would not tell.
    X = load_digits().data
    pca = PCA().fit(X)
    model = linear(None).fit(X)
    rank = (pca.explained_variance_ > 1e-10).sum()
    assert rank == 61
    products = (model.components_ * pca.components_).sum(axis=1)[:rank]
    np.testing.assert_allclose(products, 1, atol=1e-6)
