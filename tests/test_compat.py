"""Private API of other packages: a failure lists the names that are gone.

Without one of them skae may not be importable. This file imports nothing of skae::

    python -m pytest tests/test_compat.py
"""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest
import sklearn
import torch
from sklearn.compose import ColumnTransformer
from sklearn.utils.fixes import parse_version
from torch.distributed import ProcessGroupGloo

PACKAGE = Path(importlib.util.find_spec("skae").origin).parent
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")
}
COMPAT = [tree for path, tree in TREES.items() if path.parent.name == "_compat"]

# What skae does without in older versions of scikit-learn, and since when it is there.
ADDED = {
    "sklearn.utils._repr_html": "1.8",
    "sklearn.callback.CallbackSupportMixin": "1.9",
    "sklearn.utils._array_api.": "1.9",
}
# Private attributes of objects (`module._forward_hooks`) are those of one of these.
OBJECTS = {
    "torch.nn.Module": torch.nn.Linear(1, 1),
    "torch.distributed.ProcessGroupGloo": ProcessGroupGloo._Options(),
    "torch.Tensor": torch.nn.Parameter(torch.zeros(1)),
    "sklearn.compose.ColumnTransformer": ColumnTransformer([]).fit([[0.0]]),
}
try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before 1.9 nothing of it is used

    class CallbackSupportMixin:
        _init_callback_context = None


OBJECTS["sklearn.callback.CallbackSupportMixin"] = CallbackSupportMixin()


def _imported(tree):
    """Return the full name of what each imported name of another package stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name] = alias.name
    return found


def _dotted(node):
    """Return an expression ``a.b.c`` as ``["a", "b", "c"]``, and others as ``[]``."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _resolved(tree, origin):
    """Yield the full names of what is used of the modules and objects in `origin`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = _dotted(node) or [None]
        elif (  # hasattr(module, "name")
            isinstance(node, ast.Call)
            and _dotted(node.func) == ["hasattr"]
            and isinstance(node.args[1], ast.Constant)
        ):
            first, *rest = [*_dotted(node.args[0]), node.args[1].value]
        else:
            continue
        if first in origin:
            yield ".".join([origin[first], *rest])


def _private_attributes(tree):
    """Yield the private attributes of objects that are not imported."""
    origin = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            first = (_dotted(node) or [None])[0]
            if first not in origin and not node.attr.startswith("__"):
                yield node.attr


def _names():
    """Return the full names of all that skae uses through ``skae._compat``."""
    names, exported = set(), {}
    for tree in COMPAT:
        origin = _imported(tree)
        names |= {*origin.values(), *_resolved(tree, origin)}
        exported |= origin
        for node in tree.body:  # name = module.attribute
            if isinstance(node, ast.Assign):
                first, *rest = _dotted(node.value) or [None]
                if first in origin:
                    full = ".".join([origin[first], *rest])
                    exported |= {target.id: full for target in node.targets}
    # What other files use of a module that they have from there: `array_api.move_to`.
    for tree in TREES.values():
        local = {
            alias.asname or alias.name: exported[alias.name]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and "_compat" in (node.module or "")
            for alias in node.names
            if alias.name in exported
        }
        names |= set(_resolved(tree, local))
    return names


def _too_old(name):
    version = parse_version(sklearn.__version__)
    return any(
        name.startswith(prefix) and version < parse_version(added)
        for prefix, added in ADDED.items()
    )


def _exists(name):
    """Return whether a full name is a module, or an attribute of one."""
    parts = name.split(".")
    for stop in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:stop]))
        except ModuleNotFoundError:
            continue
        for part in parts[stop:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.filterwarnings("default")  # of deprecated names
def test_private_names_of_other_packages_are_there():
    names = _names()
    attributes = {name for tree in COMPAT for name in _private_attributes(tree)}

    missing = [name for name in names if not _too_old(name) and not _exists(name)]
    missing += [
        f"{name} of {' or '.join(OBJECTS)}"
        for name in attributes
        if not any(hasattr(value, name) for value in OBJECTS.values())
    ]
    assert sorted(missing) == []

    # Some that are known to be used: the files were found and read.
    assert "sklearn.utils._param_validation.Interval" in names
    assert "sklearn.utils._array_api.check_same_namespace" in names
    assert "_forward_hooks" in attributes
