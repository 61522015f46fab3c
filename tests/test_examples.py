"""The examples: each runs to its end, without a warning, and leaves nothing behind."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.rglob("plot_*.py"))
# Written where they are run, as their first lines say.
WRITES = {
    "plot_quickstart": {"quickstart.png"},
    "plot_anomaly_workflow": {"workflow_explained.png", "workflow_stream.png"},
}


def _run(script, folder, *options):
    # The address is of this machine, and nobody listens there: whoever asks for a file
    # is refused at once.
    proxies = dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, *options, script],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg", **proxies},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs(script, tmp_path):
    result = _run(script, tmp_path, "-W", "error")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == WRITES.get(script.stem, set())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_fetches_nothing(script):
    code = ast.parse(script.read_text(encoding="utf-8"))
    names = [node.id for node in ast.walk(code) if isinstance(node, ast.Name)]
    assert not any(name.startswith("fetch_") for name in names)


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("data/*")), ids=lambda p: p.name)
def test_data_are_small_and_have_a_source(path):
    assert path.stat().st_size < 200_000
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert path.name == "README.md" or f"`{path.name}`" in readme
