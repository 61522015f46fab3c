"""Fixtures of all tests."""

import os

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 (its library is limited, too, once it is loaded)
import torch
from threadpoolctl import threadpool_limits

# Small problems: a second thread only waits for the first, and for other tests.
torch.set_num_threads(1)
threadpool_limits(1, "blas")


# Pages and docstrings outside the guide that train for seconds.
LONG = {
    "getting_started.rst",
    "skae._base.BaseAutoencoder.impute",
    "skae._base.BaseAutoencoder.to_torch",
    "skae._files.persistence.save",
    "skae._imputer.AutoencoderImputer",
    "skae._nested.NestedMixin.truncate",
    "skae._outlier._detector.AutoencoderOutlierDetector.p_values",
    "skae._training.workers.distributed",
    "skae._transformer.AutoencoderTransformer.sample",
    "skae.architectures._conv.Conv",
    "skae.bottlenecks._nested.Nested",
    "skae.bottlenecks._quantized.VectorQuantized",
    "skae.bottlenecks._topk.BatchTopK",
    "skae.bottlenecks._topk.TopK",
    "skae.bottlenecks._variational.Variational",
    "skae.displays._anomaly_score.AnomalyScoreDisplay",
    "skae.displays._code_size.CodeSizeDisplay",
    "skae.displays._explanation.ExplanationDisplay",
    "skae.displays._latent_space.LatentSpaceDisplay",
    "skae.displays._loss_curve.LossCurveDisplay",
    "skae.displays._reconstruction.ReconstructionDisplay",
    "skae.inspection._explain.explain",
    "skae.inspection._explanation.Explanation",
    "skae.model_selection._search.AutoencoderSearchCV",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark long doctests as slow; a page that is named on its own runs."""
    for item in items:
        if "guide" in item.path.parts or item.name in LONG:
            item.add_marker(pytest.mark.slow)


def _seeds():
    """Read ``SKAE_TESTS_SEEDS``: one seed, ``3``, or a range, ``0-9``."""
    first, _, last = os.environ.get("SKAE_TESTS_SEEDS", "42").partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.fixture(params=_seeds())
def seed(request):
    """Seed of the randomness in a test, which must pass with any."""
    return request.param


@pytest.fixture
def rng(seed):
    return np.random.RandomState(seed)


@pytest.fixture
def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def X(rng):
    """Rows off the origin, of six correlated features with distinct variances."""
    scales = np.array([5.0, 3.0, 2.0, 1.0, 0.5, 0.2])
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    return rng.normal(size=(150, 6)) * scales @ rotation + rng.normal(size=6)
