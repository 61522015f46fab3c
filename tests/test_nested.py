"""Nested codes: every prefix of a code is a code."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._training.plan import FEW_ROWS
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import Nested, Plain, TopK, Variational
from skae.corruptions import Gaussian
from skae.displays import CodeSizeDisplay
from skae.losses import Bernoulli, Huber
from skae.metrics import reconstruction_scorer
from skae.penalties import L1, Contractive, Decorrelation, KLSparsity

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
N = 4
SIZES = range(1, N + 1)
# Faster than the default on these rows.
SMALL = MLP((32,), activation="relu", norm="layer", start="mixed")


def curved(n_rows=600, seed=0):
    """Return rows on a curved surface in eight dimensions, with noise."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-2, 2, size=(n_rows, 2)) * [1.0, 0.6]
    basis, phase = np.split(np.random.RandomState(7).normal(size=(3, 8)), [2])
    X = np.sin(2.5 * t @ basis + 6 * phase) + 0.05 * rng.normal(size=(n_rows, 8))
    return X * np.linspace(0.5, 1.5, 8) + 10


@pytest.fixture(scope="module")
def X():
    return curved()


def nested(n_components=N, cls=AutoencoderTransformer, **params):
    settings = {"architecture": SMALL, "bottleneck": Nested(), "max_epochs": 20}
    return cls(n_components, random_state=0, **settings | params)


@pytest.fixture(scope="module")
def fitted(X):
    wide = clone(SMALL).set_params(hidden_layer_sizes=(128, 128))
    model = nested(architecture=wide, max_epochs=40).fit(X)
    assert model.best_epoch_ > 0
    return model


@pytest.fixture(scope="module")
def at_start(X):
    # A rate that changes nothing.
    return nested(lr=1e-12, max_epochs=1).fit(X)


# The start


@pytest.mark.parametrize("k", SIZES)
def test_each_prefix_starts_as_pca_of_its_size(k, at_start, X):
    assert at_start.best_epoch_ == 0
    pca = PCA(k).fit(X)
    code = at_start.transform(X)[:, :k]
    np.testing.assert_allclose(code, pca.transform(X), atol=1e-4)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(at_start.inverse_transform(code), expected, atol=1e-4)
    small = at_start.truncate(k)
    for name in (
        "components_",
        "explained_variance_",
        "explained_variance_ratio_",
        "singular_values_",
        "noise_variance_",
    ):
        np.testing.assert_allclose(
            getattr(small, name), getattr(pca, name), rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_the_curve_of_the_start_is_that_of_pca(at_start):
    curve = at_start.reconstruction_curve_
    np.testing.assert_allclose(curve["r2"], curve["pca_r2"], atol=1e-6)
    assert (np.diff(curve["pca_r2"]) > 0).all()


def test_a_linear_network_stays_pca(X):
    model = nested(architecture=MLP(())).fit(X)
    pca = PCA(N).fit(X)
    np.testing.assert_allclose(model.transform(X), pca.transform(X), atol=0.05)


# Prefixes


@pytest.mark.slow
@pytest.mark.parametrize("k", SIZES)
def test_a_truncated_model_is_the_first_components(k, fitted, X):
    small, code = fitted.truncate(k), fitted.transform(X)
    assert small.n_components_ == small.n_components == k
    assert np.array_equal(small.transform(X), code[:, :k])
    rows = small.inverse_transform(code[:, :k])
    assert np.array_equal(rows, fitted.inverse_transform(code[:, :k]))
    np.testing.assert_allclose(small.reconstruct(X), rows, rtol=1e-9)
    np.testing.assert_allclose(
        small.reconstruction_error(X), np.square(X - rows).mean(axis=1), rtol=1e-9
    )


@pytest.mark.parametrize("k", SIZES)
def test_absent_components_are_zero_for_the_networks(k, fitted, X):
    # By hand: networks of the whole model, with a code that is filled with zeros.
    model = fitted._model.in_precision(torch.float64)
    with torch.no_grad():
        h = model.autoencoder.encoder(model.scaling(torch.from_numpy(X)))
        h[:, k:] = 0
        absent = (torch.arange(N) >= k).expand(len(X), N)
        scaled = model.autoencoder.decoder(torch.cat([h, absent], dim=1))
        expected = model.scaling.inverse(scaled).numpy()
    np.testing.assert_allclose(fitted.truncate(k).reconstruct(X), expected, rtol=1e-9)


def test_prefixes_are_better_than_pca_and_larger_ones_than_smaller(fitted):
    X_new = curved(seed=1)
    scores = [fitted.truncate(k).score(X_new) for k in SIZES]
    pca = [reconstruction_scorer(PCA(k).fit(curved()), X_new) for k in SIZES]
    assert (np.array(scores) > pca).all()
    assert (np.diff(scores) > 0).all()


def test_components_are_centred_uncorrelated_and_in_units_of_the_data(fitted, X):
    code = fitted.transform(X)
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-4)
    covariance = np.cov(code.T)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        covariance / np.outer(spread, spread), np.eye(N), atol=1e-4
    )
    np.testing.assert_allclose(np.diag(covariance), fitted.explained_variance_)
    # A row moves by the length by which its code does, on average.
    step = 1e-4 * spread
    rows = fitted.inverse_transform(code)
    for j in range(N):
        ahead = fitted.inverse_transform(code + step[j] * np.eye(N)[j])
        length = np.sqrt(np.square((ahead - rows) / step[j]).sum(axis=1).mean())
        np.testing.assert_allclose(length, 1, rtol=0.1)


# Attributes


def test_the_curve_is_that_of_scores_of_the_validation_rows(X):
    assert len(X) >= FEW_ROWS  # no further training on all rows
    X_val = curved(200, seed=2)
    model = nested().fit(X, X_val=X_val)
    curve = model.reconstruction_curve_
    scores = [model.truncate(k).score(X_val) for k in SIZES]
    np.testing.assert_allclose(curve["r2"], scores, rtol=1e-5)
    pca = [reconstruction_scorer(PCA(k).fit(X), X_val) for k in SIZES]
    np.testing.assert_allclose(curve["pca_r2"], pca, rtol=1e-5)


def test_weighted_rows_in_the_curve(X):
    weight = np.random.RandomState(0).randint(1, 4, size=len(X)).astype(float)
    held_out = np.arange(0, len(X), 5)
    split = [(np.setdiff1d(np.arange(len(X)), held_out), held_out)]

    class Fixed(KFold):
        def split(self, X, y=None, groups=None):
            return iter(split)

        def get_n_splits(self, X=None, y=None, groups=None):
            return 1

    model = nested(validation_split=Fixed()).fit(X, sample_weight=weight)
    for name, k in (("r2", 2), ("r2", N)):
        score = model.truncate(k).score(X[held_out], sample_weight=weight[held_out])
        np.testing.assert_allclose(model.reconstruction_curve_[name][k - 1], score)


def test_there_is_no_curve_without_validation_rows(X):
    model = nested(early_stopping=False, max_epochs=1).fit(X)
    assert not hasattr(model, "reconstruction_curve_")
    assert not hasattr(model.truncate(2), "reconstruction_curve_")


@pytest.mark.parametrize("weighted", [False, True])
def test_attributes_of_a_truncated_model_are_those_of_its_rows(weighted, X):
    weight = np.random.RandomState(0).uniform(0.5, 2, len(X)) if weighted else None
    model = nested(max_epochs=5, whiten=True).fit(X, sample_weight=weight)
    for k in (1, 3):
        small = model.truncate(k)
        r2 = small.score(X, sample_weight=weight)
        np.testing.assert_allclose(small.diagnostics_["r2"], r2, rtol=1e-5)
        np.testing.assert_allclose(small.explained_variance_ratio_.sum(), r2, rtol=1e-5)
        error = np.average(small.reconstruction_error(X), weights=weight)
        total = 1 - small.diagnostics_["pca_r2"]
        ratio = small.pca_reconstruction_error_ / error
        np.testing.assert_allclose(ratio, total / (1 - r2), rtol=1e-4)
        assert len(small.explained_variance_) == len(small.singular_values_) == k
        assert small.diagnostics_["n_active_components"] == k
        unit = np.cov(small.transform(X).T, aweights=weight)
        np.testing.assert_allclose(unit, np.eye(k) if k > 1 else 1, atol=1e-3)
        assert len(small.reconstruction_curve_["r2"]) == k
    assert model.n_components_ == len(model.explained_variance_) == N


def test_a_truncated_model_is_an_estimator_of_its_own(fitted, X):
    before = fitted.transform(X)
    small = fitted.truncate(2)
    copy = pickle.loads(pickle.dumps(small))
    assert np.array_equal(copy.transform(X), small.transform(X))
    assert list(small.get_feature_names_out()) == [
        "autoencodertransformer0",
        "autoencodertransformer1",
    ]
    assert clone(small).n_components == 2
    assert small.sample(3, random_state=0).shape == (3, 8)
    again = small.truncate(1)
    assert np.array_equal(again.transform(X), before[:, :1])
    assert small.net_.module_ is small._model.autoencoder
    for part, expected in (
        ("encoder", small.transform(X)),
        ("autoencoder", small.reconstruct(X)),
    ):
        module = small.to_torch(part).double()
        with torch.no_grad():
            found = module(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    decoder = small.to_torch("decoder").double()
    with torch.no_grad():
        found = decoder(torch.from_numpy(before[:, :2])).numpy()
    np.testing.assert_allclose(found, small.reconstruct(X), rtol=1e-9)
    small.set_params(max_epochs=1).fit(X)
    assert np.array_equal(fitted.transform(X), before)


# Selection


@pytest.mark.slow
def test_training_returns_to_pca_if_a_size_is_worse(X, monkeypatch):
    # As many rows of the whole code as possible leave nothing for the others.
    monkeypatch.setattr("skae.bottlenecks._nested._WHOLE", 1.0)
    model = nested(max_epochs=40).fit(X)
    curve = model.reconstruction_curve_
    assert model.best_epoch_ == 0
    assert "some number of components" in model.kept_weights_
    np.testing.assert_allclose(curve["r2"], curve["pca_r2"], atol=1e-6)


def test_no_size_is_worse_than_pca_on_validation_rows():
    model = nested(12, max_epochs=10).fit(load_digits().data[:700])
    curve = model.reconstruction_curve_
    assert (1 - curve["r2"] < 1.002 * (1 - curve["pca_r2"])).all()


# The draw


def test_each_batch_has_the_sizes_in_their_shares():
    module = Nested().build(4, None)
    module.shares.copy_(torch.tensor([0.1, 0.3, 0.6, 1.0]))
    drawn = [module.draw(100, torch.Generator().manual_seed(s)) for s in range(5)]
    for kept in drawn:
        longest = kept.sum(dim=1)
        # No gaps.
        assert (kept == (torch.arange(4) < longest[:, None])).all()
        counts = torch.bincount(longest, minlength=5)[1:]
        assert (counts - torch.tensor([10, 20, 30, 40])).abs().max() <= 1
    assert not torch.equal(drawn[0], drawn[1])


def test_shares_follow_the_errors_of_pca(X):
    model = nested(max_epochs=1, lr=1e-12).fit(X)
    error = 1 - np.cumsum(PCA(N).fit(X).explained_variance_ratio_)
    expected = 1 / (np.arange(1, N + 1) * np.maximum(error, 0.01))
    expected = 0.8 * expected / expected.sum() + 0.2 * (np.arange(N) == N - 1)
    found = np.diff(model.net_.module_.bottleneck.shares.numpy(), prepend=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


# Combinations


@pytest.mark.parametrize(
    "params",
    [
        {"corruption": Gaussian(0.1)},
        {"penalty": L1(1e-3)},
        {"penalty": Contractive(1e-3)},
        {"penalty": Decorrelation()},
        {"loss": Huber()},
        {"loss": Bernoulli()},
        {"architecture": MLP((16,), norm="batch")},
        {"architecture": MLP((16,), linear_path=False, start="random")},
        {"architecture": Conv((1, 8), channels=(4,))},
        {"architecture": Custom(torch.nn.Linear, torch.nn.Linear)},
        {"whiten": True},
        {"n_components": 9},
        {"n_components": 0.9},
        {"n_components": 1},
    ],
    ids=str,
)
def test_it_combines(params, X):
    X = X[:120]
    if isinstance(params.get("loss"), Bernoulli):
        X = (X - X.min()) / np.ptp(X)
    model = nested(max_epochs=2).set_params(**params).fit(X)
    n = model.n_components_
    for k in {1, n}:
        small = model.truncate(k)
        assert np.array_equal(small.transform(X), model.transform(X)[:, :k])
        rows = model.inverse_transform(model.transform(X)[:, :k])
        np.testing.assert_allclose(small.reconstruct(X), rows, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            small.diagnostics_["r2"], small.score(X), rtol=1e-4, atol=1e-5
        )


def test_a_penalty_on_the_code_keeps_its_axes(X):
    model = nested(penalty=L1(1e-3), max_epochs=2).fit(X)
    x = model._model.scaling(torch.from_numpy(X).float())
    code = model.net_.module_.encoder(x).detach().numpy()
    np.testing.assert_allclose(model.transform(X), code, atol=1e-4)


def test_bounded_penalties_are_refused(X):
    with pytest.raises(ValueError, match=r"is for codes in \[0\.0, 1\.0\]"):
        nested(penalty=KLSparsity()).fit(X)


@pytest.mark.parametrize("bottleneck", [None, Plain(), TopK(2), Variational()])
def test_other_codes_have_no_prefixes(bottleneck, X):
    model = nested(bottleneck=bottleneck, max_epochs=1)
    assert not hasattr(model, "truncate")
    model.fit(X)
    assert not hasattr(model, "reconstruction_curve_")
    with pytest.raises(AttributeError) as caught:
        model.truncate(1)
    assert "pass bottleneck=Nested()" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="n_components_=4"):
        model.inverse_transform(np.zeros((2, 3)))


def test_bad_sizes(fitted):
    for size in (0, N + 1):
        with pytest.raises(ValueError, match="n_components"):
            fitted.truncate(size)
    with pytest.raises(TypeError, match="n_components"):
        fitted.truncate(2.0)
    with pytest.raises(ValueError, match="n_components_=4"):
        fitted.inverse_transform(np.zeros((2, N + 1)))
    with pytest.raises(NotFittedError):
        nested().truncate(1)
    small = fitted.truncate(2).set_params(warm_start=True)
    with pytest.raises(ValueError, match="truncated"):
        small.fit(curved())


def test_a_warm_start_continues(X):
    model = nested(max_epochs=2, warm_start=True).fit(X)
    before = model.score(X)
    assert model.set_params(max_epochs=10).fit(X).score(X) > before


# Tables


def test_missing_values(X):
    rng = np.random.RandomState(0)
    X_missing = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    model = nested(max_epochs=5).fit(X_missing)
    for k in (1, 4):
        small = model.truncate(k)
        assert np.array_equal(
            small.transform(X_missing), model.transform(X_missing)[:, :k]
        )
        assert not np.isnan(small.impute(X_missing)).any()
    whole = model.truncate(N)
    for name in ("r2", "pca_r2", "n_active_components"):
        np.testing.assert_allclose(whole.diagnostics_[name], model.diagnostics_[name])
    curve = model.reconstruction_curve_
    assert (1 - curve["r2"] < 1.002 * (1 - curve["pca_r2"])).all()


def test_categories(X):
    table = np.column_stack([X, np.digitize(X[:, 0], np.quantile(X[:, 0], [0.3, 0.6]))])
    model = nested(categorical_features=[8], max_epochs=5).fit(table)
    code = model.transform(table)
    for k in (1, N):
        small = model.truncate(k)
        assert np.array_equal(small.transform(table), code[:, :k])
        rows = small.reconstruct(table)
        assert set(rows[:, 8]) <= {0, 1, 2}
        np.testing.assert_allclose(rows, model.inverse_transform(code[:, :k]))
        np.testing.assert_allclose(small.diagnostics_["r2"], small.score(table))
    assert len(model.reconstruction_curve_["pca_r2"]) == N


def test_pairs(X):
    noisy = X + np.random.RandomState(0).normal(size=X.shape)
    model = nested(max_epochs=5).fit(noisy, X_target=X)
    small = model.truncate(2)
    np.testing.assert_allclose(
        small.diagnostics_["r2"], small.score(noisy, X_target=X), rtol=1e-4
    )
    curve = model.reconstruction_curve_
    assert (1 - curve["r2"] < 1.002 * (1 - curve["pca_r2"])).all()


def test_few_rows():
    model = nested(max_epochs=10).fit(curved(100))
    assert model.truncate(2).transform(curved(10, seed=3)).shape == (10, 2)
    ones = np.ones((30, 4))
    constant = nested(2, max_epochs=1).fit(ones).truncate(1)
    assert np.array_equal(constant.reconstruct(ones), ones)


# The rest of scikit-learn


def test_searches_and_pipelines(X):
    pipeline = make_pipeline(StandardScaler(), nested(3, max_epochs=2))
    grid = {"autoencodertransformer__bottleneck": [None, Nested()]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring=reconstruction_scorer).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    model = nested(3, architecture=None)
    model.set_params(architecture__dropout=0.1)
    assert model.architecture.start == "pca"
    assert model.architecture.norm is None
    assert model.architecture.dropout == 0.1


def test_the_detector_has_the_curve_but_is_not_truncated(X):
    model = nested(cls=AutoencoderOutlierDetector, max_epochs=3).fit(X)
    assert set(np.unique(model.predict(X))) <= {-1, 1}
    assert len(model.reconstruction_curve_["r2"]) == N
    code = model.transform(X)
    assert model.inverse_transform(code[:, :2]).shape == X.shape
    assert not hasattr(model, "truncate")
    with pytest.raises(AttributeError) as caught:
        model.truncate(2)
    assert "A detector cannot be truncated" in str(caught.value.__cause__)


def test_the_display_fits_once_per_fold(X, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    fits = []
    fit = AutoencoderTransformer.fit

    def counted(self, *args, **kwargs):
        fits.append(self.n_components)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(AutoencoderTransformer, "fit", counted)
    folds = list(KFold(2).split(X))
    pipeline = make_pipeline(StandardScaler(), nested(max_epochs=3))
    display = CodeSizeDisplay.from_estimator(pipeline, X, n_components=[1, 3], cv=folds)
    assert fits == [3, 3]
    assert display.scores.shape == display.pca_scores.shape == (2, 2)
    train, test = folds[1]
    fitted = clone(pipeline)
    fitted.set_params(autoencodertransformer__n_components=3).fit(X[train])
    small = make_pipeline(fitted[0], fitted[1].truncate(1))
    expected = reconstruction_scorer(small, X[test])
    np.testing.assert_allclose(display.scores[0, 1], expected)


def test_the_display_of_one_fit(fitted, X):
    pytest.importorskip("matplotlib").use("agg")
    display = CodeSizeDisplay.from_curve(fitted)
    assert list(display.n_components) == list(SIZES)
    curve = fitted.reconstruction_curve_
    for line, name in zip(display.lines_, ("r2", "pca_r2"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), curve[name])
    with pytest.raises(TypeError, match="validation set"):
        CodeSizeDisplay.from_curve(nested(bottleneck=None, max_epochs=1).fit(X))
