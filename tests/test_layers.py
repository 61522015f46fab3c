"""The package itself: which part may import which, and what an import may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skae

PACKAGE = Path(skae.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# The picture of docs/contributing.rst, from the bottom up. A part imports from the rows
# below its own only.
LAYERS = [
    {"_compat"},
    {
        "_archive",
        "_card",
        "_component",
        "_global_state",
        "_pipelines",
        "_rollback",
        "_slots",
        "_warning",
        "exceptions",
    },
    {"_data"},
    {
        "anomaly_scores",
        "architectures",
        "bottlenecks",
        "corruptions",
        "losses",
        "metrics",
        "penalties",
    },
    {"_model"},
    {"_gradient"},
    {"_training"},
    {"_input", "_nested", "_symbols", "inspection"},
    {"_partial_fit", "_shared_fit"},
    {"_base"},
    {"_outlier", "_transformer"},
    {"_imputer", "dask", "displays", "model_selection", "testing"},
    {"__init__", "_files"},
]
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
# Base classes, and what only they use, lie side by side in one layer.
BESIDE = {
    ("_archive", "exceptions"),
    ("_component", "_slots"),
    ("__init__", "_files"),
    # `Explanation.plot`, when it is called.
    ("inspection", "displays"),
}


def _part_of(path):
    """Return the first name below the package: one for all files of a subpackage."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path):
    """Return parts of skae, and top-level packages, that a file imports."""
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


def test_imports_point_down():
    upward = [
        f"{path.relative_to(PACKAGE)} imports {imported}"
        for path in FILES
        for part in [_part_of(path)]
        for imported in _imports(path)[0] - {part}
        if LAYER_OF[imported] >= LAYER_OF[part] and (part, imported) not in BESIDE
    ]
    assert upward == []


def test_the_package_is_imported_relatively():
    # An absolute import would slip past the test above.
    assert [path for path in FILES if "skae" in _imports(path)[1]] == []


def test_only_the_training_layer_knows_skorch():
    assert {_part_of(p) for p in FILES if "skorch" in _imports(p)[1]} == {"_training"}


def test_private_names_of_other_packages_are_in_one_place():
    private = []
    for path in FILES:
        if _part_of(path) == "_compat":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                if any(name.startswith("_") for name in names):
                    private.append(f"{path.relative_to(PACKAGE)}: {node.module}")
    assert private == []


@pytest.mark.slow
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
