"""Categorical features: their metric, their loss, and tables as they are."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
)
from skae._component import Affine
from skae._data.blocks import Blocks
from skae._data.categories import Categories
from skae._data.principal_axes import PrincipalAxes
from skae._data.scaling import fit_scaling
from skae._data.source import Dense, scaled_rows
from skae._model.autoencoder import Parts
from skae._model.mixed_loss import MixedLoss
from skae._outlier._absence import fit_absence
from skae._training.batches import Rows
from skae.anomaly_scores import View
from skae.anomaly_scores._base import residual_spread
from skae.anomaly_scores._ranks import Ranks
from skae.architectures import MLP
from skae.bottlenecks import TopK, Variational, VectorQuantized
from skae.corruptions import Dropout, Gaussian, Masking, Swap
from skae.displays import CodeSizeDisplay, ExplanationDisplay, ReconstructionDisplay
from skae.inspection import explain
from skae.losses import AbsoluteError, Bernoulli, Huber, Poisson, SquaredError, Trimmed
from skae.metrics import reconstruction_scorer

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]
both = pytest.mark.parametrize("estimator", ESTIMATORS)
# Linear, and few epochs: for tests of what goes in and out.
QUICK = {"architecture": MLP(()), "max_epochs": 3, "random_state": 0}


def machines(n=600, seed=0):
    """Return a frame in which a number decides all other columns."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-2, 2, n)
    return pd.DataFrame(
        {
            "machine": pd.Categorical(
                np.select([t < -1, t < 0.5], ["saw", "lathe"], "mill")
            ),
            "temperature": 20 + 10 * t + rng.normal(size=n),
            "shift": pd.Categorical(np.where(np.abs(t) < 1, 1, 2)),
            "speed": np.round(100 + 50 * t + 5 * rng.normal(size=n)).astype(int),
            "hot": t > 0,
        },
        index=np.arange(n) + 1000,
    )


@pytest.fixture(scope="module")
def X():
    return machines()


@pytest.fixture(scope="module")
def fitted(X):
    return AutoencoderTransformer(2, random_state=0).fit(X)


def one_hot(codes, n):
    return np.eye(n)[codes]


# The metric.


def test_a_block_has_unit_variance_however_many_categories_there_are():
    rng = np.random.RandomState(0)
    codes = [rng.choice(k, 500, p=rng.dirichlet(np.ones(k))) for k in (2, 5, 30)]
    sizes = [len(np.unique(c)) for c in codes]
    Y = np.hstack(
        [
            one_hot(np.unique(c, return_inverse=True)[1], k)
            for c, k in zip(codes, sizes, strict=True)
        ]
    )
    blocks = Blocks(sizes)
    scaling, _ = fit_scaling("standard", Dense(Y), blocks=blocks)
    x = scaling(torch.from_numpy(Y)).numpy()
    np.testing.assert_allclose(blocks.sums(x**2).mean(axis=0), 1)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)


def test_axes_are_those_of_multiple_correspondence_analysis():
    rng = np.random.RandomState(0)
    a = rng.randint(4, size=300)
    b = np.where(rng.uniform(size=300) < 0.6, a, rng.randint(4, size=300))
    Y = np.hstack([one_hot(a, 4), one_hot(b, 4)])
    scaling, _ = fit_scaling("global", Dense(Y), blocks=Blocks([4, 4]))
    axes = PrincipalAxes(
        scaled_rows(Dense(Y), scaling), None, 3, np.random.RandomState(0)
    )
    # Correspondence analysis of the indicator matrix, from its definition.
    P = Y / Y.sum()
    r, c = P.sum(axis=1), P.sum(axis=0)
    S = (P - np.outer(r, c)) / np.sqrt(np.outer(r, c))
    inertia = np.linalg.svd(S, compute_uv=False)[:3] ** 2
    _, variances = axes.leading(3)
    np.testing.assert_allclose(variances, inertia * 2 / (4 - 1), rtol=1e-5)


def test_the_scale_of_numbers_is_that_of_numbers_alone():
    rng = np.random.RandomState(0)
    Y = one_hot(rng.randint(3, size=200), 3)
    Z = rng.normal(size=(200, 2)) * [1, 5]
    rows, blocks = Dense(np.hstack([Z, Y])), Blocks([0, 0, 3])
    for kind in ("global", "standard", "minmax", "robust", None):
        mixed, _ = fit_scaling(kind, rows, blocks=blocks)
        alone, _ = fit_scaling(kind, Dense(Z))
        np.testing.assert_allclose(mixed.scale[:2], alone.scale)
        np.testing.assert_allclose(mixed.center[:2], alone.center)
        p = Y.mean(axis=0)
        np.testing.assert_allclose(mixed.scale[2:], np.sqrt(p * 2))


# The loss.


def mixed_loss(seed=0, loss=None):
    """Return a loss of two numbers and two categories, rows, and their categories."""
    rng = np.random.RandomState(seed)
    codes = np.column_stack([rng.randint(3, size=50), rng.choice(2, 50, p=[0.9, 0.1])])
    Y = np.hstack(
        [
            rng.normal(size=(50, 1)),
            one_hot(codes[:, 0], 3),
            rng.normal(size=(50, 1)),
            one_hot(codes[:, 1], 2),
        ]
    )
    blocks = Blocks([0, 3, 0, 2])
    scaling, _ = fit_scaling("standard", Dense(Y), blocks=blocks)
    loss = MixedLoss(loss or SquaredError(), blocks, scaling.center, scaling.scale)
    return loss, scaling(torch.from_numpy(Y)), torch.from_numpy(codes)


def test_the_loss_is_cross_entropy_beside_the_loss_of_numbers():
    loss, x, codes = mixed_loss()
    raw = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    terms = loss.blocks.sums(loss.per_entry(raw, x))
    for j, columns, category in ((1, slice(1, 4), 0), (3, slice(5, 7), 1)):
        own = torch.nn.functional.cross_entropy(
            raw[:, columns], codes[:, category], reduction="none"
        )
        share = torch.bincount(codes[:, category]) / len(codes)
        entropy = torch.distributions.Categorical(share.double()).entropy()
        torch.testing.assert_close(terms[:, j], own / (2 * entropy))
    numbers = [0, 4]
    torch.testing.assert_close(
        terms[:, [0, 2]], SquaredError().per_entry(raw[:, numbers], x[:, numbers])
    )


def test_without_knowledge_a_category_costs_as_much_as_a_number():
    loss, x, _ = mixed_loss()
    log_share = loss.center.log().where(torch.from_numpy(loss.blocks.is_indicator), 0)
    raw = log_share.expand(x.shape)
    mean = loss.blocks.sums(loss.per_entry(raw, x)).mean(dim=0)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5))
    # And the reconstruction is the mean.
    torch.testing.assert_close(loss.inverse_link(raw), torch.zeros_like(x))


def test_reconstructions_of_categories_are_probabilities():
    loss, x, _ = mixed_loss()
    raw = 3 * torch.randn(x.shape, dtype=torch.float64)
    found = loss.inverse_link(raw) * loss.scale + loss.center
    torch.testing.assert_close(found[:, 1:4], raw[:, 1:4].softmax(dim=1))
    torch.testing.assert_close(found[:, 5:7], raw[:, 5:7].softmax(dim=1))


def test_what_is_masked_does_not_count():
    loss, x, _ = mixed_loss()
    raw = torch.randn(x.shape, dtype=torch.float64, requires_grad=True)
    mask = loss.blocks.repeated(torch.rand(len(x), 4) < 0.5)
    loss(raw, x, mask).sum().backward()
    assert bool((raw.grad[~mask] == 0).all())
    assert bool((raw.grad[mask] != 0).all())


def test_the_gradient_is_that_of_finite_differences():
    loss, x, _ = mixed_loss(loss=Huber())
    raw = torch.randn(5, x.shape[1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda raw: loss(raw, x[:5]), raw)
    assert torch.autograd.gradcheck(loss.inverse_link, raw)


def test_logits_start_with_the_most_likely_slope():
    loss, x, codes = mixed_loss()
    rng = np.random.RandomState(1)
    # A reconstruction that knows something: shrunk, and with noise.
    fitted = 0.7 * x + 0.3 * torch.from_numpy(rng.normal(size=x.shape))
    identity = Affine(torch.eye(x.shape[1]).double(), torch.zeros(x.shape[1]).double())
    weight, bias = loss.start_logits(identity, (x, fitted))
    for j, columns, rows in (
        (0, slice(1, 4), slice(0, 3)),
        (1, slice(5, 7), slice(3, 5)),
    ):
        u = (fitted * loss.scale)[:, columns]
        log_share = loss.center[columns].log()

        def cost(slope, given=(log_share, u, codes[:, j])):
            log_share, u, target = given
            return float(
                torch.nn.functional.cross_entropy(log_share + slope * u, target)
            )

        best = minimize_scalar(cost, bounds=(0, 20), method="bounded").x
        slope = weight[rows, columns].diagonal() / loss.scale[columns]
        np.testing.assert_allclose(slope, best, rtol=1e-3)
        torch.testing.assert_close(bias[rows], log_share)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [AbsoluteError(), Huber(), Poisson(), Trimmed(SquaredError())],
    ids=lambda loss: type(loss).__name__,
)
def test_the_loss_of_numbers_is_any(X, loss):
    model = AutoencoderTransformer(2, loss=loss, random_state=0)
    if isinstance(loss, Poisson):
        X = X.assign(temperature=X["temperature"].clip(lower=0), speed=X["speed"].abs())
    R = model.fit(X).reconstruct(X)
    assert (R["machine"] == X["machine"]).mean() > 0.95
    assert np.corrcoef(R["speed"], X["speed"])[0, 1] > 0.95


def test_probabilities_beside_categories():
    rng = np.random.RandomState(0)
    t = rng.uniform(size=300)
    X = pd.DataFrame(
        {"p": t, "q": 1 - t, "c": pd.Categorical(np.where(t > 0.5, "a", "b"))}
    )
    R = (
        AutoencoderTransformer(1, loss=Bernoulli(), random_state=0)
        .fit(X)
        .reconstruct(X)
    )
    assert R[["p", "q"]].min().min() >= 0
    assert R[["p", "q"]].max().max() <= 1
    assert (R["c"] == X["c"]).mean() > 0.95
    with pytest.raises(ValueError, match="data in"):
        AutoencoderTransformer(1, loss=Bernoulli()).fit(X.assign(p=t + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        {"bottleneck": Variational()},
        {"bottleneck": TopK(2)},
        {"bottleneck": VectorQuantized(8)},
        {"corruption": Masking(0.1)},
        {"corruption": Swap(0.1)},
        {"corruption": Gaussian(0.1)},
        {"scaling": None},
        {"scaling": "minmax"},
        {"scaling": "robust"},
        {"architecture": MLP((20,), linear_path=False, start="random")},
    ],
    ids=str,
)
def test_every_part_takes_categories(X, parts):
    model = AutoencoderTransformer(4, random_state=0, max_epochs=10, **parts).fit(X)
    R = model.reconstruct(X)
    assert list(R.columns) == list(X.columns)
    assert (R["machine"] == X["machine"]).mean() > 0.6


# The start, and what is learnt.


def test_a_network_is_better_than_the_start(X, fitted):
    assert fitted.diagnostics_["starts_at_pca"]
    assert fitted.diagnostics_["r2"] > fitted.diagnostics_["pca_r2"] + 0.02
    R = fitted.reconstruct(X)
    assert (R["machine"] == X["machine"]).all()
    assert (R["shift"] == X["shift"]).mean() > 0.99


def test_auto_is_at_most_half_of_the_features():
    rng = np.random.RandomState(0)
    codes = rng.randint(20, size=(500, 4)).astype(float)
    model = AutoencoderTransformer(categorical_features=[0, 1, 2, 3], max_epochs=1)
    assert model.fit(codes).n_components_ == 2


def test_score_and_errors_are_in_scaled_units(X, fitted):
    errors = fitted.reconstruction_error(X, per_feature=True)
    assert errors.shape == X.shape
    np.testing.assert_allclose(errors.mean(axis=1), fitted.reconstruction_error(X))
    columns = fitted._categories.blocks.columns(1)
    # The reconstruction of a float column is returned as it is.
    residual = X["temperature"] - fitted.reconstruct(X)["temperature"]
    np.testing.assert_allclose(errors[:, 1], (residual / fitted.scale_[columns]) ** 2)
    # Numbers of "global" scaling share a scale; a category has the variance one.
    encoded = fitted._categories.encode(fitted._categories.codes(X, fitted))
    total = (((encoded - fitted.mean_) / fitted.scale_) ** 2).sum()
    r2 = 1 - errors.sum() / total
    assert fitted.score(X) == pytest.approx(r2, rel=1e-9)
    assert fitted.diagnostics_["r2"] == pytest.approx(r2, abs=1e-4)
    assert reconstruction_scorer(fitted, X) == fitted.score(X)
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(r2, abs=1e-4)
    pca = fitted.diagnostics_["pca_r2"]
    variance = total / len(X) / X.shape[1]
    assert fitted.pca_reconstruction_error_ == pytest.approx((1 - pca) * variance)


def test_the_mean_of_a_category_is_its_share(X, fitted):
    share = X["machine"].value_counts(normalize=True)
    np.testing.assert_array_equal(fitted.categories_[0], ["lathe", "mill", "saw"])
    np.testing.assert_allclose(fitted.mean_[:3], share[["lathe", "mill", "saw"]])
    assert fitted.categories_[1] is None


# What goes in and out.


def _as(kind, X):
    if kind == "pandas":
        return X
    columns = {name: X[name].tolist() for name in X}
    schema = {
        "machine": pl.Enum(["lathe", "mill", "saw"]),
        "temperature": pl.Float64,
        "shift": pl.Int64,
        "speed": pl.Int32,
        "hot": pl.Boolean,
    }
    return pl.DataFrame(columns, schema=schema)


def test_arrow_tables_come_back_as_they_went_in(X):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pandas(X, preserve_index=False)
    model = AutoencoderTransformer(2, **QUICK).fit(table)
    assert model.impute(table).equals(table)
    assert model.reconstruct(table).schema == table.schema


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@both
def test_frames_come_back_as_they_went_in(X, estimator, kind):
    table = _as(kind, X)
    # Polars has no categories that are numbers.
    which = "from_dtype" if kind == "pandas" else ["machine", "shift"]
    model = estimator(2, categorical_features=which, **QUICK).fit(table)
    for found in (
        model.reconstruct(table),
        model.impute(table),
        model.inverse_transform(model.transform(table)),
    ):
        assert type(found) is type(table)
        assert found.shape == table.shape
        assert list(found.columns) == list(table.columns)
        assert list(found.dtypes) == list(table.dtypes)
    if kind == "pandas":
        pd.testing.assert_frame_equal(model.impute(table), table)
    else:
        assert model.impute(table).equals(table)


def test_arrays_come_back_as_arrays(X):
    codes = X.assign(machine=X["machine"].cat.codes + 7.0).to_numpy(dtype=float)
    model = AutoencoderTransformer(2, categorical_features=[0, 2], **QUICK).fit(codes)
    found = model.reconstruct(codes)
    assert found.dtype == float
    assert set(found[:, 0]) <= {7.0, 8.0, 9.0}
    np.testing.assert_array_equal(model.impute(codes), codes)
    words = X.to_numpy(dtype=object)
    model = AutoencoderTransformer(2, categorical_features=[0, 2], **QUICK).fit(words)
    found = model.reconstruct(words)
    assert found.dtype == object
    assert set(found[:, 0]) <= {"lathe", "mill", "saw"}
    rows = model.reconstruct(words[:3].tolist())
    np.testing.assert_array_equal(rows[:, 0], found[:3, 0])


def test_missing_integers_and_categories_are_filled_in(X, fitted):
    given = X.astype({"speed": "Int64"})
    model = clone(fitted).fit(given)
    thinned = given.copy()
    thinned.loc[[1000, 1001], "machine"] = None
    thinned.loc[[1002, 1003], "speed"] = pd.NA
    thinned.loc[1004, "temperature"] = np.nan
    filled = model.impute(thinned)
    assert list(filled.dtypes) == list(given.dtypes)
    assert list(filled.index) == list(X.index)
    assert not filled.isna().any().any()
    pd.testing.assert_series_equal(filled["machine"], X["machine"])
    assert abs(filled["speed"] - X["speed"]).max() < 20
    unchanged = ~thinned.isna()
    assert ((filled == given) | ~unchanged).all().all()


@both
def test_all_ways_to_name_categories_are_the_same(X, estimator):
    given = X.assign(machine=X["machine"].astype(str))
    codes = []
    for which in (
        ["machine", "shift"],
        [0, 2],
        [True, False, True, False, False],
        np.array([0, 2]),
    ):
        model = estimator(2, categorical_features=which, **QUICK)
        codes.append(
            model.fit_transform(given)
            if hasattr(model, "fit_transform")
            else model.fit(given).transform(given)
        )
    dtypes = estimator(2, **QUICK).fit(X).transform(X)
    for code in codes:
        np.testing.assert_array_equal(code, dtypes)


def test_none_takes_categories_that_are_numbers_for_numbers(X):
    numbers = X[["temperature", "shift", "speed"]]
    model = AutoencoderTransformer(2, categorical_features=None, **QUICK).fit(numbers)
    as_array = AutoencoderTransformer(2, **QUICK).fit(numbers.to_numpy(dtype=float))
    np.testing.assert_array_equal(
        model.transform(numbers), as_array.transform(numbers.to_numpy(dtype=float))
    )
    assert not hasattr(model, "categories_")


def test_frames_without_categories_are_as_ever(X):
    numbers = X[["temperature", "speed"]]
    model = AutoencoderTransformer(1, **QUICK).fit(numbers)
    assert isinstance(model.reconstruct(numbers), np.ndarray)


def test_what_is_known_is_not_changed_by_impute(X):
    ids = np.arange(len(X)) + 2**60 + 1
    table = X.assign(id=ids, small=np.arange(len(X), dtype=float) % 7 + 0.6)
    model = AutoencoderTransformer(2, **QUICK).fit(table.astype({"small": int}))
    given = table.copy()
    given.loc[[1000, 1001], "machine"] = None
    filled = model.impute(given)
    pd.testing.assert_frame_equal(filled.iloc[2:], table.iloc[2:])
    pd.testing.assert_series_equal(filled["id"], table["id"])
    words = table.to_numpy(dtype=object)
    words[0, 1] = None
    model = AutoencoderTransformer(2, categorical_features=[0, 2], **QUICK).fit(words)
    np.testing.assert_array_equal(model.impute(words)[1:], words[1:])


def test_integers_stay_within_their_dtype(X):
    rng = np.random.RandomState(0)
    table = X.assign(n=rng.poisson(1, len(X)).astype("uint8"), m=np.int8(127))
    model = AutoencoderTransformer(scaling="standard", **QUICK).fit(table)
    drawn = model.sample(500, random_state=0)
    assert list(drawn.dtypes) == list(table.dtypes)
    assert drawn["n"].min() == 0
    assert (model.reconstruct(table)["m"] == 127).all()


def test_categories_that_are_not_named_are_numbers(X):
    table = X.assign(k=pd.Categorical(np.arange(len(X)) % 3))
    table.loc[1000, "k"] = None
    names = ["machine", "shift"]
    model = AutoencoderTransformer(2, categorical_features=names, **QUICK).fit(table)
    assert np.isfinite(model.reconstruct(table)["k"].astype(float)).all()
    assert model.impute(table)["k"].notna().all()


def test_categories_of_the_target_are_learnt(X):
    noisy = X.assign(machine=X["machine"].replace("saw", "mill"))
    model = AutoencoderTransformer(2, **QUICK).fit(noisy, X_target=X)
    assert list(model.categories_[0]) == ["lathe", "mill", "saw"]


def test_lists_have_categories():
    rows = [[["a", "b", "c"][i % 3], float(i)] for i in range(60)]
    model = AutoencoderTransformer(1, categorical_features=[0], **QUICK).fit(rows)
    assert model.reconstruct(rows).shape == (60, 2)


def test_warm_start_needs_the_same_categorical_features():
    A = np.c_[np.arange(300) % 3, np.arange(300) % 7].astype(float)
    model = AutoencoderTransformer(1, warm_start=True, **QUICK).fit(A)
    with pytest.raises(ValueError, match="other categorical features"):
        model.set_params(categorical_features=[0]).fit(A)


def test_sampled_categories_are_drawn_by_their_probability():
    # Independent of everything: the decoder knows the shares only.
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(2000, 3)))
    X.columns = ["a", "b", "c"]
    X["d"] = pd.Categorical(rng.choice(["x", "y", "z"], 2000, p=[0.7, 0.2, 0.1]))
    model = AutoencoderTransformer(1, **QUICK).fit(X)
    drawn = model.sample(4000, random_state=0)
    assert list(drawn.dtypes) == list(X.dtypes)
    share = drawn["d"].value_counts(normalize=True)
    assert share["x"] == pytest.approx(0.7, abs=0.05)
    assert share["z"] == pytest.approx(0.1, abs=0.05)
    pd.testing.assert_frame_equal(drawn, model.sample(4000, random_state=0))


def test_probabilities_are_those_of_drawn_categories():
    table = np.array([["a"], ["b"], ["c"]], dtype=object)
    categories = Categories([table], np.array([True]))
    categories.keep(np.repeat(np.arange(3.0), 2)[:, None])
    encoded = np.tile([0.2, 0.0, 0.8], (10_000, 1))
    drawn = categories.drawn(encoded, np.random.RandomState(0))
    np.testing.assert_allclose(
        np.bincount(drawn[:, 0].astype(int), minlength=3) / 10_000,
        [0.2, 0.0, 0.8],
        atol=0.02,
    )


# Missing, unseen and absent categories.


@both
def test_an_unseen_category_is_a_missing_one(X, estimator):
    model = estimator(2, **QUICK).fit(X)
    missing, unseen = X.iloc[:5].copy(), X.iloc[:5].copy()
    missing["machine"] = None
    unseen["machine"] = "drill"
    np.testing.assert_array_equal(model.transform(missing), model.transform(unseen))
    assert (model.impute(unseen)["machine"] == "drill").all()  # it is not missing
    if estimator is AutoencoderOutlierDetector:
        np.testing.assert_array_equal(
            model.score_samples(missing), model.score_samples(unseen)
        )
        assert (model.predict(unseen) == -1).all()


@pytest.mark.slow
def test_an_unseen_category_counts_in_proportion_to_how_common_they_are():
    rng = np.random.RandomState(0)
    n = 1000
    numbers = rng.normal(size=(n, 3))
    # One row in five has a category of its own.
    own = np.where(
        rng.uniform(size=n) < 0.2, np.arange(n) + 100, rng.randint(5, size=n)
    )
    names = ["a", "b", "c"]
    X = pd.DataFrame(numbers, columns=names).assign(
        rare=pd.Categorical(own), usual=pd.Categorical(rng.randint(3, size=n))
    )
    detector = AutoencoderOutlierDetector(2, random_state=0, max_epochs=5).fit(X)
    new = pd.DataFrame(rng.normal(size=(400, 3)), columns=names).assign(
        rare=rng.randint(5, size=400), usual=rng.randint(3, size=400)
    )
    flagged = [
        np.mean(detector.predict(new.assign(**{name: 99_999})) == -1)
        for name in ("rare", "usual")
    ]
    assert flagged[0] < 0.1
    assert flagged[1] == 1


def test_a_category_of_one_row_is_missing():
    codes = np.r_[np.zeros(50), np.ones(40), np.arange(2, 12)][:, None]
    categories = Categories([codes], np.array([True]))
    categories.keep(codes)
    encoded = categories.encode(codes)
    np.testing.assert_array_equal(encoded[:90], one_hot(codes[:90, 0].astype(int), 2))
    assert np.isnan(encoded[90:]).all()
    absence = fit_absence(Dense(encoded), None, torch.arange(100.0), True, Blocks([2]))
    np.testing.assert_allclose(absence.cost, [-np.log(10.5 / 101), 0])
    # A tenth of the training rows is so.
    np.testing.assert_allclose(absence.usual[-10:], absence.cost[0])
    np.testing.assert_allclose(absence.usual[:-10], 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_rare_categories_do_not_raise_false_alarms(seed):
    def draw(n, rng):
        x = rng.normal(size=n)
        return pd.DataFrame(
            {
                "c": pd.Categorical([f"k{i}" for i in rng.choice(100, n)]),
                "x": x,
                "y": x + 0.3 * rng.normal(size=n),
                "z": rng.normal(size=n),
            }
        )

    rng = np.random.RandomState(seed)
    detector = AutoencoderOutlierDetector(random_state=0, max_epochs=30)
    detector.fit(draw(300, rng))
    assert np.mean(detector.predict(draw(1000, rng)) == -1) < 0.08


@both
def test_categories_of_rows_without_weight_are_not_learnt(X, estimator):
    more = pd.concat([X, X.iloc[:2].assign(machine="drill")])
    more["machine"] = more["machine"].astype("category")
    weight = np.r_[np.ones(len(X)), 0, 0]
    model = estimator(2, **QUICK).fit(more, sample_weight=weight)
    alone = estimator(2, **QUICK).fit(X)
    assert list(model.categories_[0]) == ["lathe", "mill", "saw"]
    np.testing.assert_array_equal(model.transform(X), alone.transform(X))
    rows = X.iloc[:2].assign(machine="drill"), X.iloc[:2].assign(machine=None)
    np.testing.assert_array_equal(*map(model.transform, rows))


def test_categories_of_calibration_rows_are_not_learnt(X):
    rows = X.assign(machine=np.where(np.arange(600) < 450, X["machine"], "drill"))
    detector = AutoencoderOutlierDetector(
        2,
        calibration_fraction=0.25,
        validation_split="last",
        categorical_features=[0, 2],
        **QUICK,
    ).fit(rows)
    assert list(detector.categories_[0]) == ["lathe", "mill", "saw"]
    assert len(detector.calibration_scores_) == 150
    assert np.isfinite(detector.calibration_scores_).all()


def test_ranks_leave_indicators_as_they_are():
    _, x, _ = mixed_loss()
    view = View(x, x, x, x, x[:, 0])
    ranks = Ranks(Blocks([0, 3, 0, 2]))
    ranks.start(view, view)
    found = ranks(view)
    indicator = torch.from_numpy(Blocks([0, 3, 0, 2]).is_indicator)
    torch.testing.assert_close(found[:, indicator], x[:, indicator])
    assert not torch.allclose(found[:, ~indicator], x[:, ~indicator])


def test_the_spread_of_a_residual_allows_for_one_more_row():
    loss, x, _ = mixed_loss()
    indicator = torch.from_numpy(loss.blocks.is_indicator)
    exact = View(x, x, x.masked_fill(indicator, 0.0), x, x[:, 0])
    found = residual_spread(exact, exact, loss.blocks)
    # One error of a whole step among the fifty rows and one more.
    torch.testing.assert_close(found[indicator], 1 / loss.scale[indicator] / 51**0.5)
    torch.testing.assert_close(found[~indicator], torch.ones(2).double())


def test_hidden_cells_are_whole_categories():
    blocks = Blocks([0, 3, 0, 4])
    x = torch.randn(400, 9)
    known = torch.ones(400, 9, dtype=torch.bool)
    known[:8, 4] = False
    seen = []

    def completion(rows):
        seen.append(rows.isnan())
        return rows.nan_to_num()

    rows = Rows(
        Dense(x.numpy()),
        known=known,
        completion=completion,
        blocks=blocks,
    )
    rows.hidden(torch.Generator().manual_seed(0))
    hidden = torch.cat(seen)
    per_feature = blocks.sums(hidden.double()) / torch.tensor([1, 3, 1, 4])
    assert set(per_feature.unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(per_feature.mean(dim=0), 0.1, atol=0.05)


@pytest.mark.parametrize("corruption", [Masking(0.5), Dropout(0.5), Swap(0.5)], ids=str)
def test_corruptions_replace_whole_categories(corruption):
    loss, x, _ = mixed_loss()
    model = Parts.of(loss=loss, corruption=corruption).build(x.shape[1], 2, 0)
    generator = torch.Generator().manual_seed(0)
    corrupted = model.corrupted(x, model.draw(x.shape, generator))
    if isinstance(corruption, Swap):
        values = corrupted * loss.scale + loss.center
        # Still indicators of one category.
        torch.testing.assert_close(
            values[:, 1:4].sort(dim=1).values,
            torch.tensor([0.0, 0, 1]).expand(50, 3).double(),
        )
    else:
        gone = blocks_gone = corrupted == 0
        assert (loss.blocks.sums(gone.double())[:, 1] % 3 == 0).all()
        assert 0.2 < blocks_gone.double().mean() < 0.8


# Refusals.


def test_strings_and_dates_are_named_with_a_remedy(X):
    words = X.assign(city="Paris", when=pd.Timestamp("2020-01-01"))
    with pytest.raises(
        ValueError, match=r"'city'.*'when'.*categorical_features"
    ) as info:
        AutoencoderTransformer().fit(words)
    assert "days since" in str(info.value)
    with pytest.raises(ValueError, match=r"0 \(text\).*categorical_features=\[0\]"):
        AutoencoderTransformer().fit([["Paris", 1.0], ["Rome", 2.0]])
    with pytest.raises(ValueError, match=r"'when'.*days since"):
        AutoencoderTransformer().fit(words[["when"]])
    lines = pl.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="'a'"):
        AutoencoderTransformer().fit(lines)


def test_strings_in_new_rows_are_named(X):
    numbers = X[["temperature", "speed"]]
    model = AutoencoderTransformer(1, **QUICK).fit(numbers)
    with pytest.raises(ValueError, match="'speed'"):
        model.transform(numbers.assign(speed="fast"))


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (["engine"], ValueError, "'engine'.*no feature"),
        ([5], ValueError, "5.*index of one of 5"),
        ([-1], ValueError, "-1.*index"),
        ([True, False], ValueError, "2 bools.*5 features"),
        ([[0]], TypeError, "list of names"),
        ([0.5], TypeError, "list of names"),
        ("auto", ValueError, "'categorical_features' parameter"),
        (3, ValueError, "'categorical_features' parameter"),
    ],
)
def test_bad_categorical_features_are_refused(X, which, error, message):
    model = AutoencoderTransformer(categorical_features=which)
    with pytest.raises(error, match=message):
        model.fit(X)
    assert not hasattr(model, "n_features_in_")


def test_identifiers_are_refused():
    X = pd.DataFrame({"id": pd.Categorical(range(1001)), "x": np.arange(1001.0)})
    with pytest.raises(ValueError, match="'id' has another category in each row"):
        AutoencoderTransformer().fit(X)
    with pytest.raises(ValueError, match="'id' has 1001 categories"):
        AutoencoderTransformer().fit(pd.concat([X, X]))


def test_names_in_arrays_are_refused():
    with pytest.raises(ValueError, match="X has no names"):
        AutoencoderTransformer(categorical_features=["a"]).fit(np.eye(4))


def test_a_category_without_any_value_is_refused(X):
    with pytest.raises(ValueError, match=r"without any value.*machine"):
        AutoencoderTransformer().fit(X.assign(machine=pd.Categorical([None] * len(X))))


def test_rows_need_the_same_columns(X, fitted):
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(X[["machine", "temperature"]])
    with pytest.raises(ValueError, match="2D"):
        AutoencoderTransformer(categorical_features=[0]).fit(np.arange(5.0))
    with pytest.raises(ValueError, match="infinity"):
        fitted.transform(X.assign(temperature=np.inf))


# Together with the rest.


@pytest.mark.slow
def test_fits_are_reproducible_and_copied(X, fitted):
    again = clone(fitted).fit(X)
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    copied = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(copied.reconstruct(X), fitted.reconstruct(X))


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "array"])
@both
def test_files_hold_categories(X, estimator, kind, tmp_path):
    which = "from_dtype" if kind in ("pandas", "pyarrow") else [0, 2]
    if kind == "pyarrow":
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.Table.from_pandas(X, preserve_index=False)
    else:
        table = X.to_numpy(dtype=object) if kind == "array" else _as(kind, X)
    model = estimator(2, categorical_features=which, **QUICK).fit(table)
    skae.save(model, tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    found, expected = loaded.reconstruct(table), model.reconstruct(table)
    assert type(found) is type(expected)
    assert (
        np.array_equal(found, expected) if kind == "array" else found.equals(expected)
    )


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            pd.Series([True, False]),
            r"_features: .*Series\. Use an array instead, such as",
        ),
        (
            [pd.Timestamp("2020-01-01")],
            r"_features\.0: .*Timestamp\. Use numbers",
        ),
        (
            [pd.Interval(0, 1)],
            r"_features\.0: .*Interval\. Use numbers or texts instead",
        ),
        ([Decimal("0.1")], r"_features\.0: .*decimal\.Decimal\. Use numbers or texts"),
    ],
    ids=["series", "timestamp", "interval", "decimal"],
)
def test_files_say_what_they_cannot_hold(parameter, message, tmp_path):
    model = AutoencoderTransformer(categorical_features=parameter)
    with pytest.raises(skae.exceptions.UntrustedObjectError, match=message):
        skae.save(model, tmp_path / "model.skae")


def test_warm_start_keeps_the_categories(X):
    model = AutoencoderTransformer(2, warm_start=True, **QUICK).fit(X)
    mean = model.mean_.copy()
    few = X[X["machine"] != "saw"]
    model.fit(few)
    np.testing.assert_array_equal(model.mean_, mean)
    assert list(model.categories_[0]) == ["lathe", "mill", "saw"]


def test_validation_rows_and_targets_have_categories(X):
    model = AutoencoderTransformer(2, **QUICK).fit(X.iloc[:400], X_val=X.iloc[400:])
    assert model.diagnostics_["n_held_out"] == 200
    noisy = X.copy()
    mixed = X["machine"].sample(frac=1, random_state=0)
    noisy["machine"] = pd.Categorical(mixed)
    model = AutoencoderTransformer(2, random_state=0).fit(noisy, X_target=X)
    assert (model.reconstruct(noisy)["machine"] == X["machine"]).mean() > 0.9


@pytest.mark.slow
def test_pipelines_searches_and_frames(X):
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["temperature", "speed"]),
            remainder="passthrough",
            verbose_feature_names_out=False,
        ).set_output(transform="pandas"),
        AutoencoderTransformer(2, **QUICK),
    )
    search = GridSearchCV(
        pipeline, {"autoencodertransformer__n_components": [1, 2]}, cv=2
    ).fit(X)
    assert search.best_params_ == {"autoencodertransformer__n_components": 2}
    codes = AutoencoderTransformer(2, **QUICK).set_output(transform="pandas")
    assert list(codes.fit_transform(X).index) == list(X.index)


@pytest.mark.slow
def test_the_imputer_fills_in_categories(X):
    rng = np.random.RandomState(0)
    thinned = X.mask(rng.uniform(size=X.shape) < 0.15)
    thinned = thinned.astype(
        {
            "machine": X["machine"].dtype,
            "shift": X["shift"].dtype,
            "temperature": float,
            "speed": float,
            "hot": float,
        }
    )
    imputer = AutoencoderImputer(random_state=0)
    filled = imputer.fit_transform(thinned)
    gone = thinned["machine"].isna()
    assert not filled.isna().any().any()
    assert (filled["machine"] == X["machine"])[gone].mean() > 0.9
    assert (filled["machine"] == X["machine"])[~gone].all()
    assert list(imputer.get_feature_names_out()) == list(X.columns)
    words = thinned.astype({"machine": object})
    imputer = AutoencoderImputer(categorical_features=[0, 2], random_state=0)
    again = imputer.fit_transform(words)
    assert list(again["machine"]) == list(filled["machine"])


def usual_values(n=600):
    """Return a frame in which every machine has its usual values."""
    rng = np.random.RandomState(0)
    machine = rng.choice(["lathe", "mill", "saw"], n)
    usual = pd.DataFrame(
        {"temperature": [20, 40, 65], "speed": [900, 300, 600], "load": [5, 1, 3]},
        index=["lathe", "mill", "saw"],
    ).loc[machine]
    X = usual * rng.normal(1, 0.05, size=usual.shape)
    X.index = np.arange(n)
    return X.assign(machine=pd.Categorical(machine))


@pytest.fixture(scope="module")
def wrong():
    """Return rows of which the first one is a mill that behaves like a saw."""
    X = usual_values()
    row = X[X["machine"] == "saw"].iloc[:1].assign(machine="mill")
    return X, row


@pytest.mark.slow
def test_explanations_name_the_category(wrong):
    X, row = wrong
    detector = AutoencoderOutlierDetector(1, random_state=0).fit(X)
    assert detector.predict(row) == [-1]
    explanation = detector.explain(row)
    assert explanation.value.shape == explanation.share.shape == (1, 4)
    assert explanation.share.sum() + explanation.code_share.sum() == pytest.approx(1)
    found = explanation.to_frame(top_k=1).iloc[0]
    assert found["feature"] == "machine"
    assert (found["value"], found["expected"]) == ("mill", "saw")
    assert detector.explain(row.assign(machine="drill")).value[0, 3] == "drill"
    found = detector.explain(row.assign(machine=None)).to_frame(top_k=1).iloc[0]
    assert found["feature"] == "machine"
    assert found["value"] is None
    display = ExplanationDisplay.from_estimator(detector, row.assign(machine=None))
    assert "missing" in display.texts_[0].get_text()


@pytest.mark.slow
def test_explanations_go_back_through_steps_before(wrong):
    X, row = wrong
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["temperature", "speed"]),
            remainder="passthrough",
            verbose_feature_names_out=False,
        ).set_output(transform="pandas"),
        AutoencoderOutlierDetector(1, random_state=0),
    ).fit(X)
    by_name = explain(pipeline, row).to_frame().set_index("feature")
    assert by_name["share"].idxmax() == "machine"
    assert by_name.loc["machine", "expected"] == "saw"
    assert by_name.loc["temperature", "value"] == row["temperature"].iloc[0]
    assert by_name.loc["temperature", "expected"] == pytest.approx(65, abs=10)


@pytest.mark.slow
def test_a_wrong_category_is_found():
    X, new = machines(), machines(200, seed=1)
    others = {"saw": "mill", "mill": "saw", "lathe": "saw"}
    far = (new["temperature"] - 8).abs() > 3
    wrong = new.assign(machine=new["machine"].astype(str).map(others))[far]
    detector = AutoencoderOutlierDetector(1, random_state=0).fit(X)
    assert np.mean(detector.predict(wrong) == -1) > 0.95
    assert np.mean(detector.predict(new) == -1) < 0.1


def test_exported_scores_take_indicators(X):
    detector = AutoencoderOutlierDetector(2, **QUICK).fit(X)
    encoded = detector._categories.encode(detector._categories.codes(X, detector))
    module = detector.to_torch("score").double()
    with torch.no_grad():
        found = module(torch.from_numpy(encoded[:50])).numpy()
    np.testing.assert_allclose(found, detector.score_samples(X[:50]), rtol=1e-6)


def test_exported_modules_take_indicators(X, fitted):
    module = fitted.to_torch("autoencoder").double()
    encoded = fitted._categories.encode(fitted._categories.codes(X, fitted))
    with torch.no_grad():
        found = module(torch.from_numpy(encoded)).numpy()
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1)
    machine = fitted.categories_[0][found[:, :3].argmax(axis=1)]
    assert (machine == fitted.reconstruct(X)["machine"]).all()


@pytest.mark.slow
def test_displays_take_categories(X):
    display = CodeSizeDisplay.from_estimator(
        AutoencoderTransformer(**QUICK), X, n_components=[1, 2]
    )
    assert np.isfinite(display.ax_.get_ylim()).all()
    model = AutoencoderTransformer(2, **QUICK).fit(X)
    with pytest.raises(TypeError, match="categories cannot be drawn"):
        ReconstructionDisplay.from_estimator(model, X)
