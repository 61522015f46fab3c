"""Tensors as rows: without array API dispatch here, with it in another process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._compat.sklearn import HAS_ARRAY_API
from skae.architectures import MLP


@pytest.mark.slow
@pytest.mark.parametrize("which", ["not slow", "slow"])
@pytest.mark.skipif(not HAS_ARRAY_API, reason="needs scikit-learn 1.9")
def test_with_dispatch(which):
    file = Path(__file__).with_name("_array_api.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        which,
        str(file),
    ]
    run = subprocess.run(
        command,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        cwd=file.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_without_dispatch_a_tensor_is_an_array_like(estimator, X):
    tensor = torch.from_numpy(X)
    model = estimator(2, architecture=MLP(()), random_state=0).fit(tensor)
    expected = estimator(2, architecture=MLP(()), random_state=0).fit(X)
    assert isinstance(model.mean_, np.ndarray)
    methods = ["transform", "reconstruct", "reconstruction_error"]
    if estimator is AutoencoderOutlierDetector:
        methods += ["score_samples", "decision_function", "predict"]
    for name in methods:
        found = getattr(model, name)(tensor)
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, getattr(expected, name)(X))
    code = torch.from_numpy(model.transform(X))
    assert isinstance(model.inverse_transform(code), np.ndarray)


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, PCA])
def test_without_dispatch_a_gradient_is_refused(estimator, X):
    model = estimator(2).fit(X)
    error = RuntimeError if estimator is PCA else ValueError
    with pytest.raises(error, match=r"requires.* grad"):
        model.transform(torch.from_numpy(X).requires_grad_())
