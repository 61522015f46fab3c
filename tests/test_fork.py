"""Queries in processes that were forked from one that has used several threads."""

import multiprocessing
import sys

import numpy as np
import pytest
import torch
from _estimators import new

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="nothing else forks safely"),
    pytest.mark.filterwarnings(
        "ignore::skae.exceptions.FitWarning",
        "ignore::sklearn.exceptions.ConvergenceWarning",
        "ignore:.*fork:DeprecationWarning",
    ),
]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _in_child(method, X):
    return method(X), torch.get_num_threads()


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (AutoencoderTransformer, "transform"),
        pytest.param(
            AutoencoderOutlierDetector, "score_samples", marks=pytest.mark.slow
        ),
    ],
)
def test_a_query_in_a_forked_pool_ends_and_gives_the_same(
    estimator, method, two_threads
):
    X = np.random.RandomState(0).normal(size=(2000, 60))
    model = new(estimator, max_epochs=1).fit(X[:600])
    query = getattr(model, method)
    # The threads of OpenMP are started here, and do not exist in the child.
    expected = query(X)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found, n_threads = pool.apply_async(_in_child, (query, X)).get(timeout=30)
    np.testing.assert_array_equal(found, expected)
    assert n_threads == 1
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_a_fit_in_a_forked_pool_gives_the_same(two_threads):
    X = np.random.RandomState(0).normal(size=(2000, 60))
    model = new(AutoencoderTransformer, max_epochs=2)
    expected = model.fit_transform(X)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(model.fit_transform, (X,)).get(timeout=60)
    np.testing.assert_array_equal(found, expected)
