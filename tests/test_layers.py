"""The package itself: which module may know which, and what an import may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skae

PACKAGE = Path(skae.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A module imports from the rows below its own only.
ROWS = [
    {"_arrays"},
    {
        "_component",
        "_copies",
        "_moments",
        "_progress",
        "_subsample",
        "_validation",
        "_warning",
        "exceptions",
    },
    {
        "anomaly_scores",
        "architectures",
        "bottlenecks",
        "corruptions",
        "losses",
        "penalties",
    },
    {
        "_coordinates",
        "_density",
        "_device",
        "_module",
        "_pca",
        "_scaling",
        "_selection",
        "_weights",
    },
    {"_closed_form", "_rows"},
    {"_step"},
    {"_net"},
    {"_model", "_preparation"},
    {"_fitting"},
    {"_diagnosis", "_export", "_symbols"},
    {"_base"},
    {"_outlier", "_transformer", "metrics"},
    {"displays"},
    {"__init__", "testing"},
]
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}


def _module_of(path):
    """Return the first name below the package: one for all files of a subpackage."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path):
    """Return modules of skae, and top-level packages, that a file imports."""
    own, foreign = set(), set()
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            foreign.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            own |= (
                {node.module.partition(".")[0]}
                if node.module
                else {alias.name for alias in node.names}
            )
    return own, foreign


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_point_down(path):
    module = _module_of(path)
    own, _ = _imports(path)
    for imported in own - {module}:
        assert ROW_OF[imported] < ROW_OF[module], f"{module} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_package_is_imported_relatively(path):
    # An absolute import would slip past the test above.
    assert "skae" not in _imports(path)[1]


def test_skorch_has_one_door():
    assert {_module_of(p) for p in FILES if "skorch" in _imports(p)[1]} == {"_net"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_fits_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_import_touches_neither_devices_nor_global_randomness():
    # The dependencies come first: what they do on import is not ours to judge.
    code = """if True:
        import random
        import numpy as np
        import sklearn.metrics
        import skorch
        import torch

        def states():
            return (
                random.getstate(),
                str(np.random.get_state()),
                torch.get_rng_state().tolist(),
                torch.get_num_threads(),
                torch.get_default_dtype(),
            )

        before = states()
        import skae
        assert states() == before
        assert not torch.cuda.is_initialized()
    """
    subprocess.run([sys.executable, "-c", code], check=True)
