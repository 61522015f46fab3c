"""What fits leave behind."""

import gc
import pickle
import warnings

import numpy as np
import pytest
import torch

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import TopK
from skae.penalties import Contractive


def _n_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: AutoencoderTransformer(2, architecture=MLP((8,))),
        lambda: AutoencoderTransformer(2, bottleneck=TopK(1)),
        lambda: AutoencoderTransformer(2, penalty=Contractive()),
        pytest.param(
            lambda: AutoencoderOutlierDetector(2, n_estimators=2),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "dictionary", "contractive", "detector"],
)
def test_twenty_fits_in_a_row_leave_no_more_than_one(make, X):
    estimator = make().set_params(max_epochs=2, early_stopping=False, random_state=0)
    counts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n_fits in range(1, 21):
            estimator.fit(X)
            estimator.transform(X)
            if n_fits in (2, 20):
                counts.append(_n_tensors())
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_a_fitted_estimator_does_not_hold_the_rows(estimator, rng):
    sizes = []
    for n_samples in (2000, 20_000):
        X = rng.normal(size=(n_samples, 5))
        fitted = estimator(2, architecture=MLP((8,)), max_epochs=1, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sizes.append(len(pickle.dumps(fitted.fit(X))))
    assert sizes[1] < 1.2 * sizes[0]


def test_rows_that_are_streamed_train_the_same_model(X, monkeypatch):
    def fit(X):
        model = AutoencoderTransformer(2, max_epochs=5, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(X, X_val=X[:50], sample_weight=np.arange(1, len(X) + 1))

    X = X.astype(np.float32)
    resident = fit(X)
    monkeypatch.setattr("skae._data.source._SMALL", 0)
    streamed = fit(X)
    np.testing.assert_array_equal(resident.transform(X), streamed.transform(X))
    assert resident.diagnostics_ == streamed.diagnostics_
