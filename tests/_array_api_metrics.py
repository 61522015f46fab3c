"""Scorers and displays of tensors with array API dispatch.

`test_array_api_metrics` runs these tests in a new process with SCIPY_ARRAY_API=1.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.displays import (
    AnomalyScoreDisplay,
    CodeSizeDisplay,
    ExplanationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skae.metrics import make_outlier_scorer, reconstruction_scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SETTINGS = {"architecture": MLP((8,)), "max_epochs": 3, "random_state": 0}
TRANSFORMER = AutoencoderTransformer(3, **SETTINGS)
DETECTOR = AutoencoderOutlierDetector(3, **SETTINGS)


@pytest.fixture(autouse=True)
def dispatch():
    plt.switch_backend("agg")
    with config_context(array_api_dispatch=True):
        yield
    plt.close("all")


@pytest.fixture
def y(X):
    return (np.arange(len(X)) % 15 == 0).astype(int)


def both(model, X):
    """Return two pairs of a fitted model and its rows: with NumPy, with PyTorch."""
    tensor = torch.from_numpy(X)
    return (clone(model).fit(X), X), (clone(model).fit(tensor), tensor)


def check_same(cls, names, model, X, *args, **kwargs):
    expected, found = (
        cls.from_estimator(fitted, rows, *map(like, args), **kwargs)
        for (fitted, rows), like in zip(
            both(model, X), (np.asarray, torch.from_numpy), strict=True
        )
    )
    for name in names:
        value = getattr(found, name)
        assert not isinstance(value, torch.Tensor)
        np.testing.assert_allclose(
            value, getattr(expected, name), rtol=1e-5, atol=1e-5, err_msg=name
        )
    found.figure_.canvas.draw()


@pytest.mark.parametrize(
    "model",
    [TRANSFORMER, DETECTOR, PCA(2), make_pipeline(StandardScaler(), TRANSFORMER)],
    ids=str,
)
def test_reconstruction_scorer(model, X):
    (by_numpy, rows), (by_torch, tensor) = both(model, X)
    found = reconstruction_scorer(by_torch, tensor)
    assert type(found) is float
    assert found == pytest.approx(reconstruction_scorer(by_numpy, rows), rel=1e-5)
    scores = cross_val_score(model, tensor, scoring=reconstruction_scorer, cv=2)
    expected = cross_val_score(model, rows, scoring=reconstruction_scorer, cv=2)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_outlier_scorer(X, y):
    scorer = make_outlier_scorer()
    (by_numpy, rows), (by_torch, tensor) = both(DETECTOR, X)
    expected = scorer(by_numpy, rows, y)
    kinds = np.array, torch.from_numpy, list, pd.Series
    for labels in (like(given) for like in kinds for given in (y, y == 1)):
        assert scorer(by_torch, tensor, labels) == pytest.approx(expected)


@pytest.mark.parametrize("model", [DETECTOR, make_pipeline(StandardScaler(), DETECTOR)])
def test_displays_of_detectors(model, X, y):
    check_same(
        AnomalyScoreDisplay, ["abnormality", "threshold", "is_outlier"], model, X, y
    )
    check_same(ExplanationDisplay, ["value", "expected", "share"], model, X, row=3)


@pytest.mark.parametrize(
    "model", [TRANSFORMER, PCA(3), make_pipeline(StandardScaler(), TRANSFORMER)]
)
def test_displays_of_transformers(model, X, y):
    names = ["code", "explained_variance_ratio"]
    for target in (y, y.astype(bool), X[:, 0]):
        check_same(LatentSpaceDisplay, names, model, X, target)
    check_same(ReconstructionDisplay, ["original", "reconstruction"], model, X)
    check_same(
        CodeSizeDisplay, ["scores", "n_components"], model, X, n_components=[1, 2], cv=2
    )


def test_losses(X):
    display = LossCurveDisplay.from_estimator(both(TRANSFORMER, X)[1][0])
    display.figure_.canvas.draw()


def test_other_inputs_than_tensors_still_work(X, y):
    table = pd.DataFrame(X).rename(columns=str)
    detector = clone(DETECTOR).fit(table)
    names = np.array(["normal", "outlier"])[y]
    for target in (names, names.tolist(), pd.Series(names)):
        display = LatentSpaceDisplay.from_estimator(detector, table, target)
        assert len(display.legend_.get_texts()) == 2
    AnomalyScoreDisplay.from_estimator(detector, table, y.tolist())
    AnomalyScoreDisplay.from_predictions(y.tolist(), X[:, 0].tolist())
    ReconstructionDisplay.from_estimator(detector, table)
    ExplanationDisplay.from_estimator(detector, table)
    assert reconstruction_scorer(detector, table) == detector.score(table)
    by_list = clone(TRANSFORMER).fit(X.tolist())
    ReconstructionDisplay.from_estimator(by_list, X.tolist())
