"""The page of the guide: its code runs, and its versions are those that were tried."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guide" / "tools.rst").read_text(encoding="utf-8")
BLOCKS = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", PAGE)
PACKAGES = {
    "MLflow": "mlflow-skinny",
    "ONNX Runtime": "onnxruntime",
    "pickle, joblib": "joblib",
}


@pytest.mark.filterwarnings(
    # A trial with a low learning rate needs more epochs.
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # Of MLflow and SHAP; see their tests.
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:.*Any type hint is inferred as AnyType:UserWarning",
    "ignore:Operation with range is deprecated",
    "ignore:The set_.* function will be deprecated:PendingDeprecationWarning",
)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1])
def test_code(block, tmp_path, monkeypatch):
    code = textwrap.dedent(block)
    module = re.match(r"import (\S+)", code)[1]
    pytest.importorskip(module)
    if module == "mlflow":
        pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{module} in tools.rst", "exec"), {"__name__": "page"})


def test_versions_are_those_of_the_constraints():
    rows = re.findall(r"^   \* - (.+)\n     - (\d\S+)$", PAGE, flags=re.MULTILINE)
    assert len(rows) >= 10
    text = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^(.+)==(.+)$", text, flags=re.MULTILINE))
    for name, version in rows:
        assert pinned[PACKAGES.get(name, name.lower())] == version, name
