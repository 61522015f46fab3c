"""Several autoencoders whose scores are averaged."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import AutoencoderOutlierDetector
from skae._outlier._ensemble import Member
from skae._training import fit as _fitting
from skae.anomaly_scores import Mahalanobis, Neighbors, Reconstruction
from skae.architectures import MLP
from skae.corruptions import Gaussian

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def small(**params):
    """Return an ensemble in whose training all that is random takes part."""
    defaults = {
        "n_components": 2,
        "n_estimators": 3,
        "architecture": MLP((8,), start="random"),
        "corruption": Gaussian(),
        "max_epochs": 3,
        "random_state": 0,
    }
    return AutoencoderOutlierDetector(**defaults | params)


@pytest.fixture
def X(rng):
    return rng.normal(size=(220, 5)) @ rng.normal(size=(5, 10))


@pytest.fixture
def judges(rng, X):
    return X[:60] + rng.normal(size=(60, 10))


def members(model):
    return [member.model for member in model._ensemble.members]


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


def sizes(model):
    return [len(m.coordinates) for m in members(model)]


def test_one_is_the_default(X):
    one, default = small(n_estimators=1).fit(X), small().set_params(n_estimators=1)
    assert AutoencoderOutlierDetector().n_estimators == 1
    np.testing.assert_array_equal(
        default.fit(X).decision_function(X), one.decision_function(X)
    )


@pytest.mark.parametrize("score", [Mahalanobis(), Reconstruction(), Neighbors(2)])
def test_the_score_is_the_mean_in_units_of_the_spread(X, judges, score):
    model = small(anomaly_score=score).fit(X, X_val=judges)
    expected = 0.0
    for member in model._ensemble.members:
        one, usual = (member.map(Member.forward, r) for r in (X, judges))
        unit = np.abs(usual - np.median(usual)).mean()
        expected += one / unit / 3
    np.testing.assert_allclose(-model.score_samples(X), expected, rtol=1e-9)


def test_the_first_member_is_what_one_alone_would_be(X, judges):
    many, one = (small(n_estimators=n).fit(X, X_val=judges) for n in (3, 1))
    for query in ("transform", "reconstruct", "reconstruction_error"):
        np.testing.assert_array_equal(getattr(many, query)(X), getattr(one, query)(X))
    assert many.history_["train_loss"].tolist() == one.history_["train_loss"].tolist()
    assert many.diagnostics_ == one.diagnostics_
    # Its scores are the same, too: they are one of three.
    first = many._ensemble.members[0]
    np.testing.assert_allclose(
        -one.score_samples(X), first.map(Member.forward, X) * first.scale, rtol=1e-12
    )
    assert not np.array_equal(many.score_samples(X), one.score_samples(X))


def test_members_differ_in_weights_and_share_the_rest(X, monkeypatch):
    given = []

    def recorded(net, data, *args):
        given.append(data)
        return original(net, data, *args)

    original = _fitting.Net.training
    monkeypatch.setattr(_fitting.Net, "training", recorded)
    model = small().fit(X)
    # Few rows: after that, each is trained on all of them.
    given = [data for data in given if data.validation is not None]
    first, *others = members(model)
    for member, data in zip(others, given[1:3], strict=True):
        assert torch.equal(member.scaling.center, first.scaling.center)
        assert torch.equal(member.scaling.scale, first.scaling.scale)
        assert not torch.equal(weights(member), weights(first))
        assert len(data.validation) == 50
        assert torch.equal(data.train[:].x, given[0].train[:].x)
        assert torch.equal(data.validation[:].x, given[0].validation[:].x)
    assert not torch.equal(*map(weights, others))


@pytest.mark.parametrize(
    ("n_estimators", "expected"),
    [(1, [5]), (2, [5, 3]), (3, [5, 4, 3]), (5, [5, 4, 4, 4, 3])],
)
def test_members_shrink_to_half_where_the_size_is_free(rng, n_estimators, expected):
    # Ten columns that all count: nine tenths of the variance take nine components, of
    # which "auto" has at most half of the columns.
    X = rng.normal(size=(220, 10))
    model = small(n_components="auto", n_estimators=n_estimators).fit(X, X_val=X[:50])
    assert model.n_components_ == 5
    found = sizes(model)
    assert found[0] == expected[0]
    assert found[-1] == expected[-1]
    assert found == sorted(found, reverse=True)
    assert (
        np.abs(np.subtract(found, np.linspace(5, expected[-1], n_estimators))).max()
        <= 0.5
    )


@pytest.mark.parametrize("n_components", [1, 5, 0.6])
def test_members_are_alike_where_the_size_is_given(X, judges, n_components):
    model = small(n_components=n_components).fit(X, X_val=judges)
    assert sizes(model) == [model.n_components_] * 3


@pytest.mark.slow
def test_the_same_again_bit_by_bit(X):
    model = small().fit(X)
    for other in (
        clone(model).fit(X),
        small().fit(X),
        pickle.loads(pickle.dumps(model)),
    ):
        for rows in (X, X.astype(np.float32)):
            np.testing.assert_array_equal(
                other.decision_function(rows), model.decision_function(rows)
            )
    np.testing.assert_array_equal(model.score_samples(X), model.fit(X).score_samples(X))
    another = small(random_state=1).fit(X)
    assert not np.array_equal(another.score_samples(X), model.score_samples(X))


def test_warm_start_continues_every_member(X, judges):
    params = {"early_stopping": False, "corruption": None}
    model = small(warm_start=True, **params).fit(X, X_val=judges)
    before = [weights(member).clone() for member in members(model)]
    # A step so small that it can be seen where it began.
    model.set_params(lr=1e-9, max_epochs=1).fit(X, X_val=judges)
    for member, start in zip(members(model), before, strict=True):
        torch.testing.assert_close(weights(member), start, atol=1e-5, rtol=0)
    fresh = small(lr=1e-9, **params).fit(X, X_val=judges)
    for member, start in zip(members(fresh), before, strict=True):
        assert (weights(member) - start).abs().max() > 1e-3


@pytest.mark.parametrize("n_components", [2, "auto"])
def test_warm_start_with_more_members_adds_some(rng, n_components):
    X = rng.normal(size=(100, 10))
    judges = X[:60]
    model = small(n_components=n_components, warm_start=True, early_stopping=False)
    model.set_params(n_estimators=2)
    model.fit(X, X_val=judges)
    before = [weights(member).clone() for member in members(model)]
    model.set_params(n_estimators=4, lr=1e-9, max_epochs=1).fit(X, X_val=judges)
    assert len(members(model)) == 4
    for member, start in zip(members(model), before, strict=False):
        torch.testing.assert_close(weights(member), start, atol=1e-5, rtol=0)
    assert sizes(model) == ([2] * 4 if n_components == 2 else [5, 3, 4, 3])
    model.set_params(n_estimators=1).fit(X, X_val=judges)
    assert len(members(model)) == 1


@pytest.mark.slow
def test_members_may_be_weighted(X, rng):
    weight = rng.uniform(0.5, 2, size=len(X))
    model = small(calibration_fraction=0.2).fit(X, sample_weight=weight)
    assert len(members(model)) == 3
    ones = small().fit(X, sample_weight=np.ones(len(X)))
    np.testing.assert_array_equal(
        ones.decision_function(X), small().fit(X).decision_function(X)
    )


@pytest.mark.slow
def test_the_ranking_hardly_depends_on_the_seed():
    X = load_digits().data
    train, rest = X[:700], X[700:]
    scores = [
        AutoencoderOutlierDetector(n_estimators=3, max_epochs=15, random_state=seed)
        .fit(train)
        .score_samples(rest)
        for seed in (0, 1)
    ]
    assert spearmanr(*scores).statistic >= 0.97
    assert not np.array_equal(*scores)
