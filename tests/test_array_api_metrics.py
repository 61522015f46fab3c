"""Tensors as rows of scores and displays, with array API dispatch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skae._compat.sklearn import HAS_ARRAY_API


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ARRAY_API, reason="needs scikit-learn 1.9")
def test_with_dispatch():
    file = Path(__file__).with_name("_array_api_metrics.py")
    options = ["-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        cwd=file.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
