"""Anomaly scores against their formulas, with scikit-learn, SciPy and torch."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch.distributions import Bernoulli as Coin
from torch.distributions import Laplace, Normal, kl_divergence

from skae import AutoencoderOutlierDetector
from skae.anomaly_scores import (
    Combined,
    Mahalanobis,
    NegativeELBO,
    Neighbors,
    Reconstruction,
    View,
)
from skae.architectures import MLP
from skae.bottlenecks import Plain, Variational
from skae.losses import AbsoluteError, Bernoulli, Huber, SquaredError

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def small(**params):
    """Return a detector whose residuals are of all sizes and codes off the origin."""
    defaults = {
        "n_components": 2,
        "bottleneck": Plain("sigmoid"),
        "architecture": MLP((8,), start="random"),
        "max_epochs": 3,
        "random_state": 0,
    }
    return AutoencoderOutlierDetector(**defaults | params)


def draw(rng, n_rows):
    """Return rows of one structure, with a column that never varies."""
    latent = rng.normal(size=(n_rows, 3)) * [3.0, 1.0, 0.5]
    mixing = np.random.RandomState(0).normal(size=(3, 6))
    X = latent @ mixing + 0.2 * rng.normal(size=(n_rows, 6))
    return np.c_[X, np.full(n_rows, 7.0)]


@pytest.fixture
def X(rng):
    return draw(rng, 150)


@pytest.fixture
def V(rng, X):
    """Validation rows, so that spreads are known."""
    return draw(rng, 80)


@pytest.fixture
def fresh(rng, X, V):
    """New rows, some with a drift of the constant column."""
    rows = draw(rng, 40)
    rows[::4, -1] += 0.3
    return rows


# By hand


def scaled(model, rows):
    """Return scaled rows: a change of a constant column has a largest value."""
    limit = model._model.scaling.limit
    limit = np.inf if limit is None else limit.numpy()
    return np.clip((rows - model.mean_) / model.scale_, -limit, limit)


def floored(values, smallest):
    spread = np.sqrt(np.mean(np.square(values), axis=0))
    return np.maximum(spread, smallest * spread.max())


def vectors(model, X, V, rows, power):
    """Return residual and code of rows, divided by their spread to a power."""
    residual, held_out = (
        scaled(model, r) - scaled(model, model.reconstruct(r)) for r in (rows, V)
    )
    center = model.transform(X).mean(axis=0)
    of_code = floored(model.transform(X) - center, 1e-6)
    code = (model.transform(rows) - center) / of_code**power
    of_residual = floored(held_out, 1e-2)
    of_residual[np.ptp(X, axis=0) == 0] = of_residual.max()
    of_rows = floored(scaled(model, X), 1e-2)
    of_residual = np.maximum(of_residual, 1e-5 * of_rows)  # more than rounding
    return np.hstack([residual / of_residual**power, code])


def nearest(memory, rows, known):
    """Return distances to stored rows, without the row itself if it is stored."""
    k = len(memory) - 1
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(memory)
    return search.kneighbors(None if known else rows)


def surprise(values, usual):
    """Return -log of the p-value among usual ones.

    With an exponential tail, and a logarithmic one beyond the least p-value.
    """
    n, ordered = len(usual), np.sort(usual)
    # Means of the same p-values are equal up to rounding.
    new = np.diff(ordered) > 1e-9 * np.abs(ordered).max()
    groups = np.split(ordered, np.flatnonzero(new) + 1)
    at = np.array([group.mean() for group in groups])
    count = np.array([len(group) for group in groups])
    more = n - np.cumsum(count) + count / 2
    middle, high = np.quantile(usual, [0.5, 0.85])
    unit = (high - middle) / np.log(0.5 / 0.15)
    scale = -np.log((more + 0.5) / (n + 1))[at <= high * (1 + 1e-9)]
    at = at[at <= high * (1 + 1e-9)]
    if len(at) > 64:
        some = np.linspace(0, len(at) - 1, 64).round().astype(int)
        at, scale = at[some], scale[some]
    below = np.exp(np.minimum(values - at[0], 0) / unit)
    tail = np.maximum(values - at[-1], 0) / unit
    found = (np.interp(values, at, scale) + tail) * below
    least = np.log(max(n + 1, 1 / 0.15))
    return np.where(found > least, least * (1 + np.log(found / least)), found)


def two_sizes(memory, held_out, rows, known):
    """Score rows by the 3 nearest and the nearest eighth of every so many.

    The former with distances relative to the root of the spacing of the stored rows.
    """
    some = slice(None, None, max(1, len(memory) // 128))
    own = np.sort(cdist(memory, memory, "sqeuclidean"), axis=1)[:, 1:6].mean(axis=1)
    unit = np.sqrt(np.maximum(own / np.sort(own)[(len(own) - 1) // 2], 0.1))

    def means(u, known):
        squares = cdist(u, memory, "sqeuclidean")
        if known:
            np.fill_diagonal(squares, np.inf)
        near = np.sort(squares / unit, axis=1)[:, :3].mean(axis=1)
        far = np.sort(squares[:, some], axis=1)
        return np.c_[near, far[:, : round(far.shape[1] / 8)].mean(axis=1)]

    usual, values = means(held_out, False), means(rows, known)
    parts = [surprise(v, u) for v, u in zip(values.T, usual.T, strict=True)]
    return np.mean(parts, axis=0)


def normal_quantiles(X, rows):
    """Map columns to normal quantiles; there are too few rows for knots to matter."""
    columns = []
    for x, r in zip(X.T, rows.T, strict=True):
        at, count = np.unique(x, return_counts=True)
        p = (np.cumsum(count) - count / 2) / len(x)
        z = norm.ppf(p)
        if len(at) > 64:
            some = np.unique(np.searchsorted(z, np.linspace(z[0], z[-1], 64)))
            at, p, z = at[some], p[some], z[some]
        i, j = np.searchsorted(p, [0.1, 0.9]).clip(max=len(p) - 1)
        slope = (z[j] - z[i]) / (at[j] - at[i]) if j > i else 1.0
        beyond = np.maximum(r - at[-1], 0), np.maximum(at[0] - r, 0)
        above, below = (np.log1p(slope * b) for b in beyond)
        columns.append(np.interp(r, at, z) + above - below)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("k", [1, 2, 7, 200])
@pytest.mark.parametrize("space", ["data", "joint"])
@pytest.mark.parametrize("known", [True, False], ids=["training rows", "new rows"])
def test_neighbors_is_the_mean_of_the_smallest_squares(X, V, fresh, k, space, known):
    model = small(anomaly_score=Neighbors(k, space=space)).fit(X, X_val=V)
    rows = X if known else fresh
    if space == "data":
        memory, u = scaled(model, X), scaled(model, rows)
    else:
        memory, u = (vectors(model, X, V, r, 0.5) for r in (X, rows))
    distances, _ = nearest(memory, u, known)
    expected = np.square(distances[:, :k]).mean(axis=1)
    np.testing.assert_allclose(-model.score_samples(rows), expected, rtol=1e-9)


@pytest.mark.parametrize("space", ["data", "joint"])
@pytest.mark.parametrize("known", [True, False], ids=["training rows", "new rows"])
def test_neighbors_by_default_is_of_two_sizes(X, V, fresh, space, known):
    model = small(anomaly_score=Neighbors(space=space)).fit(X, X_val=V)
    rows = X if known else fresh
    if space == "data":
        parts = [scaled(model, r) for r in (X, V, rows)]
    else:
        parts = [vectors(model, X, V, r, 0.5) for r in (X, V, rows)]
    expected = two_sizes(*parts, known)
    np.testing.assert_allclose(-model.score_samples(rows), expected, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 1, 300])
@pytest.mark.parametrize("n_rows", [600, 1000, 1024])
def test_neighbors_among_many_that_are_stored(rng, V, n_rows, k):
    X = draw(rng, n_rows)
    model = small(anomaly_score=Neighbors(k, space="data")).fit(X, X_val=V)
    memory, held_out, u = (scaled(model, rows) for rows in (X, V, draw(rng, 40)))
    for rows, known in ((X, True), (u * model.scale_ + model.mean_, False)):
        if k is None:
            expected = two_sizes(memory, held_out, memory if known else u, known)
        else:
            distances, _ = nearest(memory, u, known)
            expected = np.square(distances[:, :k]).mean(axis=1)
        np.testing.assert_allclose(-model.score_samples(rows), expected, rtol=1e-8)


def test_of_rows_that_are_equally_near_score_and_parts_take_the_same():
    # On a grid with one dense corner, where rows lie closer around one of them.
    X = np.array([[i, j] for i in range(5) for j in range(5)] * 2, dtype=float)
    X[:12] *= 0.1
    model = small(n_components=1, anomaly_score=Neighbors(space="data"), scaling=None)
    model.fit(X, X_val=X)
    rows = np.array([[i / 2, j / 2] for i in range(9) for j in range(9)])
    parts = model._ensemble.explain(rows)[0]
    np.testing.assert_allclose(parts.sum(axis=1), -model.score_samples(rows), rtol=1e-9)


def test_ranks_are_normal_quantiles(X, V, fresh):
    score = Neighbors(1, space="quantile")
    model = small(anomaly_score=score).fit(X, X_val=V)
    x = scaled(model, X)
    memory, rows = (normal_quantiles(x, scaled(model, r)) for r in (X, fresh))
    expected = np.square(nearest(memory, rows, False)[0][:, 0])
    np.testing.assert_allclose(-model.score_samples(fresh), expected, rtol=1e-8)


def test_the_default_is_two_spaces_by_their_p_values(X, V, fresh):
    model = small().fit(X, X_val=V)
    x = scaled(model, X)
    spaces = [
        lambda rows: vectors(model, X, V, rows, 0.5),
        lambda rows: normal_quantiles(x, scaled(model, rows)),
    ]
    expected = 0.0
    for space in spaces:
        memory, held_out, u = space(X), space(V), space(fresh)
        usual = two_sizes(memory, held_out, held_out, False)
        expected += surprise(two_sizes(memory, held_out, u, False), usual) / 2
    np.testing.assert_allclose(-model.score_samples(fresh), expected, rtol=1e-7)


@pytest.mark.parametrize("space", ["data", "quantile"])
def test_outliers_among_the_training_rows_are_not_stored(rng, space):
    # A tight group: to each other they are near.
    normal, new = rng.normal(size=(2, 270, 3))
    group = [6.0, 6.0, 6.0] + 0.1 * rng.normal(size=(60, 3))
    X, outliers = np.r_[normal, group[:30]], group[30:]
    aurocs = {}
    for share in (0.0, 0.1):
        score = Neighbors(5, space=space, contamination=share)
        model = small(anomaly_score=score).fit(X, X_val=new[:60])
        scores = model.score_samples(np.r_[new[60:], outliers])
        aurocs[share] = roc_auc_score(np.arange(240) < 210, scores)
        n_stored = len(model._ensemble.members[0].scorer.memory)
        assert n_stored == (300 if share == 0 else 300 - int(0.25 * 300))
    assert aurocs[0.1] > 0.98
    assert aurocs[0.0] < 0.7


def test_mahalanobis_is_that_of_ledoit_and_wolf(X, V, fresh):
    model = small(anomaly_score=Mahalanobis()).fit(X, X_val=V)
    u = vectors(model, X, V, X, 1.0)
    expected = LedoitWolf().fit(u).mahalanobis(vectors(model, X, V, fresh, 1.0))
    np.testing.assert_allclose(
        -model.score_samples(fresh), expected / u.shape[1], rtol=1e-8
    )


def test_mahalanobis_of_a_single_row():
    # As a model of one of two rows has it. Warnings are errors.
    def view(x):
        return View(x, x, 0.1 * x, x[:, :1], x[:, 0])

    scorer = Mahalanobis().build(SquaredError())
    scorer.start(view(torch.ones(1, 3)), view(torch.ones(1, 3)))
    near, far = scorer(view(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 9.0]])))
    assert near < far


@pytest.mark.parametrize("n_rows", [40, 90])
def test_mahalanobis_of_wide_rows(rng, n_rows):
    # Fewer rows than columns, and a few more: the covariance itself has no inverse.
    X, V = rng.normal(size=(2, n_rows, 70)) * np.linspace(1, 9, 70)
    model = small(anomaly_score=Mahalanobis()).fit(X, X_val=V)
    u, rows = (vectors(model, X, V, r, 1.0) for r in (X, V))
    covariance = LedoitWolf().fit(u)
    np.testing.assert_allclose(
        -model.score_samples(V), covariance.mahalanobis(rows) / 72, rtol=1e-8
    )
    root = np.linalg.inv(np.real(sqrtm(covariance.covariance_)))
    squares = np.square((rows - u.mean(axis=0)) @ root) / 72
    parts = model._ensemble.explain(V)[0]
    np.testing.assert_allclose(parts[:, :70], squares[:, :70], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("score", "power"), [(Mahalanobis(), 1), (Neighbors(1), 0.5)])
@pytest.mark.parametrize("column", ["constant", "exact"])
def test_spreads_of_what_comes_back_exactly(X, V, fresh, score, power, column):
    # PCA gives a constant column back as it is, of which some of the fresh rows differ,
    # and almost so one of which the unit is so small that it is a component alone.
    parts = {"architecture": MLP(()), "bottleneck": None, "anomaly_score": score}
    if column == "exact":
        parts["scaling"] = "global"
        X, V, fresh = (rows * [100, 1, 1, 1, 1, 1, 1] for rows in (X, V, fresh))
    model = small(**parts, lr=1e-9).fit(X, X_val=V)
    residual = scaled(model, V) - scaled(model, model.reconstruct(V))
    spread = np.sqrt(np.mean(residual**2, axis=0))
    if column == "exact":
        assert spread[0] < 1e-2 * spread.max()
    else:
        assert spread[-1] < 1e-9
    memory, rows = (vectors(model, X, V, r, power) for r in (X, fresh))
    if power == 1:
        expected = LedoitWolf().fit(memory).mahalanobis(rows) / memory.shape[1]
    else:
        expected = np.square(nearest(memory, rows, known=False)[0][:, 0])
    # The column in small units has noise, that of rounding in single precision.
    rtol = 0.02 if power == 1 and column == "exact" else 1e-6
    np.testing.assert_allclose(-model.score_samples(fresh), expected, rtol=rtol)


@pytest.mark.parametrize("loss", [SquaredError(), Huber(0.5), AbsoluteError()])
def test_reconstruction_is_the_loss_per_feature(X, V, fresh, loss):
    model = small(anomaly_score=Reconstruction(), loss=loss).fit(X, X_val=V)
    r = np.abs(scaled(model, fresh) - scaled(model, model.reconstruct(fresh)))
    terms = {
        SquaredError: r**2 / 2,
        Huber: np.where(r < 0.5, r**2 / 2, 0.5 * (r - 0.25)),
        AbsoluteError: r,
    }[type(loss)]
    np.testing.assert_allclose(-model.score_samples(fresh), terms.mean(axis=1), 1e-8)


@pytest.mark.parametrize("beta", [1.0, 3.0])
@pytest.mark.parametrize("variance", ["auto", 0.25])
@pytest.mark.parametrize("loss", [SquaredError(), AbsoluteError(), Bernoulli()])
def test_negative_elbo_is_that_of_torch(X, fresh, loss, variance, beta):
    if isinstance(loss, Bernoulli):
        X, fresh = (1.0 * (rows > X.mean(axis=0)) for rows in (X, fresh))
    bottleneck = Variational(beta, decoder_variance=variance)
    model = small(
        anomaly_score=NegativeELBO(), bottleneck=bottleneck, loss=loss, scaling=None
    ).fit(X, X_val=fresh)
    module = model.net_.module_.eval()
    x = torch.from_numpy(fresh).float()
    with torch.no_grad():
        raw, *_, h = module(x)
        mean, log_variance = module.bottleneck.posterior(h)
        posterior = Normal(mean, (log_variance / 2).exp())
        scale = (module.bottleneck.log_noise / 2).exp()
        # Densities without the constants that the loss leaves out.
        log_likelihood = {
            SquaredError: lambda: (
                Normal(raw, scale).log_prob(x) + np.log(2 * np.pi) / 2
            ),
            AbsoluteError: lambda: Laplace(raw, scale).log_prob(x) + np.log(2),
            Bernoulli: lambda: Coin(logits=raw).log_prob(x),
        }[type(loss)]().sum(dim=1)
        divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
    np.testing.assert_allclose(
        -model.score_samples(fresh), beta * divergence - log_likelihood, 1e-3, 1e-3
    )


def test_negative_elbo_without_a_cost_ranks_like_the_reconstruction(X, V, fresh):
    elbo, plain = (
        small(anomaly_score=score).fit(X, X_val=V).score_samples(fresh)
        for score in (NegativeELBO(), Reconstruction())
    )
    np.testing.assert_allclose(elbo, X.shape[1] * plain, rtol=1e-9)


def test_parts_of_the_negative_elbo_are_those_of_the_loss(X, V, fresh):
    bottleneck = Variational(decoder_variance=0.01)
    model = small(anomaly_score=NegativeELBO(), bottleneck=bottleneck).fit(X, X_val=V)
    squares = np.square(scaled(model, fresh) - scaled(model, model.reconstruct(fresh)))
    # Negative scores (likelihoods above one) have no contributions.
    score = np.maximum(-model.score_samples(fresh), 0)
    assert score.any()
    expected = squares / squares.sum(axis=1, keepdims=True) * score[:, None]
    parts = model._ensemble.explain(fresh)[0]
    np.testing.assert_allclose(parts[:, :-1], expected, rtol=1e-6, atol=1e-12)
    assert not parts[:, -1].any()


def test_combined_is_the_mean_by_p_values(X, V, fresh):
    scores = [Reconstruction(), Mahalanobis(), Neighbors(3)]
    model = small(anomaly_score=Combined(scores)).fit(X, X_val=V)
    expected = 0.0
    for score in scores:
        one = small(anomaly_score=score).fit(X, X_val=V)
        usual = -one.score_samples(V)
        expected += surprise(-one.score_samples(fresh), usual) / 3
    np.testing.assert_allclose(-model.score_samples(fresh), expected, rtol=1e-8)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_spreads_are_of_few_training_rows(rng, fresh, early_stopping):
    # Fifty validation rows would be too few to measure a spread.
    X = draw(rng, 220)
    model = small(anomaly_score=Mahalanobis(), early_stopping=early_stopping).fit(X)
    u = vectors(model, X, X, X, 1.0)
    expected = LedoitWolf().fit(u).mahalanobis(vectors(model, X, X, fresh, 1.0))
    np.testing.assert_allclose(
        -model.score_samples(fresh), expected / u.shape[1], rtol=1e-8
    )


# Parts


SCORES = [
    Neighbors(),
    Neighbors(space="data"),
    Neighbors(space="quantile"),
    Neighbors(4),
    Mahalanobis(),
    Reconstruction(),
    Combined(),
    Combined([Reconstruction(), Neighbors(1, space="data")]),
]


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_contributions_add_up_to_the_score(X, V, fresh, score, n_estimators):
    model = small(anomaly_score=score, n_estimators=n_estimators).fit(X, X_val=V)
    for rows in (X, fresh):
        parts = model._ensemble.explain(rows)[0]
        assert parts.shape == (len(rows), X.shape[1] + 1)
        assert (parts >= 0).all()
        np.testing.assert_allclose(
            parts.sum(axis=1), -model.score_samples(rows), rtol=1e-8
        )


@pytest.mark.parametrize("space", ["data", "joint"])
@pytest.mark.parametrize("k", [1, 3])
def test_parts_of_a_distance_are_squares(X, V, fresh, space, k):
    model = small(anomaly_score=Neighbors(k, space=space)).fit(X, X_val=V)
    if space == "data":
        memory, u = scaled(model, X), scaled(model, fresh)
    else:
        memory, u = (vectors(model, X, V, r, 0.5) for r in (X, fresh))
    _, index = nearest(memory, u, known=False)
    squares = np.square(u[:, None] - memory[index[:, :k]]).mean(axis=1)
    expected = np.c_[squares[:, :7], squares[:, 7:].sum(axis=1)]
    parts = model._ensemble.explain(fresh)[0]
    np.testing.assert_allclose(parts, expected, rtol=1e-6, atol=1e-9)


def test_parts_of_mahalanobis_are_those_of_the_symmetric_root(X, V, fresh):
    model = small(anomaly_score=Mahalanobis()).fit(X, X_val=V)
    u, rows = (vectors(model, X, V, r, 1.0) for r in (X, fresh))
    root = np.linalg.inv(np.real(sqrtm(LedoitWolf().fit(u).covariance_)))
    squares = np.square((rows - u.mean(axis=0)) @ root) / u.shape[1]
    expected = np.c_[squares[:, :7], squares[:, 7:].sum(axis=1)]
    np.testing.assert_allclose(
        model._ensemble.explain(fresh)[0], expected, rtol=1e-6, atol=1e-9
    )


# Rows far out


@pytest.mark.parametrize("score", [None, Mahalanobis(), Reconstruction()], ids=repr)
def test_far_out_on_the_structure(rng, score):
    X = rng.normal(size=(150, 1)) @ [[1.0, 2, -1]] + 0.1 * rng.normal(size=(150, 3))
    model = AutoencoderOutlierDetector(1, anomaly_score=score, random_state=0).fit(X)
    far = 20 * np.abs(model.transform(X)).max()
    label = model.predict(model.inverse_transform([[far]]))
    # The reconstruction error does not see it.
    assert label == (1 if isinstance(score, Reconstruction) else -1)
