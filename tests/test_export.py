"""Modules that leave: what they compute, what they are, what they owe to the model."""

import io
import pickle

import numpy as np
import pytest
import torch
from _components import SETTINGS, of_kind
from torch.export import Dim

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import AnomalyScore, Mahalanobis, Neighbors, Scorer
from skae.architectures import MLP, Architecture, Conv
from skae.bottlenecks import BatchTopK, Bottleneck, TopK, Variational
from skae.losses import Bernoulli, Loss, Poisson

pytestmark = [
    pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SLOTS = {
    Architecture: "architecture",
    Bottleneck: "bottleneck",
    Loss: "loss",
    AnomalyScore: "anomaly_score",
}
METHODS = {
    "encoder": "transform",
    "decoder": "inverse_transform",
    "autoencoder": "reconstruct",
    "score": "score_samples",
}
COMPONENTS = of_kind(tuple(SLOTS), SETTINGS)


def _detector(rows, **parts):
    settings = {"architecture": MLP((8,)), "max_epochs": 3, "early_stopping": False}
    model = AutoencoderOutlierDetector(3, random_state=0, **{**settings, **parts})
    return model.fit(rows)


def _parts_of(component):
    kind = next(kind for kind in SLOTS if isinstance(component, kind))
    return {SLOTS[kind]: component}


@pytest.fixture
def rows(X):
    """Rows that suit every loss, and of which some were not trained on."""
    X = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    return X[:120], X[60:]


def _inputs(model, X):
    code = model.transform(X)
    code = code.toarray() if hasattr(code, "toarray") else code
    return {part: code if part == "decoder" else X for part in METHODS}


def _run(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("component", COMPONENTS, ids=repr)
def test_a_module_computes_what_the_method_does(component, rows):
    X_train, X = rows
    model = _detector(X_train, **_parts_of(component))
    for part, x in _inputs(model, X).items():
        module = model.to_torch(part)
        expected = getattr(model, METHODS[part])(x)
        expected = expected.toarray() if hasattr(expected, "toarray") else expected
        scale = max(1.0, np.abs(expected).max())
        x32 = x.astype(np.float32)
        found = _run(module, x32)
        assert found.dtype == np.float32
        narrow = getattr(model, METHODS[part])(x32)
        narrow = narrow.toarray() if hasattr(narrow, "toarray") else narrow
        np.testing.assert_allclose(found, narrow, rtol=0, atol=1e-5 * scale)
        found = _run(module.double(), x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
