"""The examples: each runs to its end, without a warning, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.rglob("plot_*.py"))
# Those that fetch data, which scikit-learn keeps once it has them.
FETCH = {"plot_faces", "plot_network_intrusion"}
# Written where they are run, as their first lines say.
WRITES = {
    "plot_quickstart": {"quickstart.png"},
    "plot_anomaly_workflow": {"workflow_explained.png", "workflow_stream.png"},
}


def _run(script, folder, *options, **environment):
    # The address is of this machine, and nobody listens there: whoever asks for a file
    # is refused at once.
    proxies = dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, *options, script],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg", **proxies, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs(script, tmp_path):
    # scikit-learn warns before it tries to fetch once more.
    options = () if script.stem in FETCH else ("-W", "error")
    result = _run(script, tmp_path, *options)
    if script.stem in FETCH and "could not be fetched" in result.stderr:
        pytest.skip("its data are not here, and there is no network")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == WRITES.get(script.stem, set())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FETCH))
def test_an_example_says_that_there_is_no_network(name, tmp_path):
    (script,) = EXAMPLES.rglob(f"{name}.py")
    result = _run(script, tmp_path, SCIKIT_LEARN_DATA=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "network" in result.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_fetches_nothing_unannounced(script):
    assert ("fetch_" in script.read_text(encoding="utf-8")) == (script.stem in FETCH)


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("data/*")), ids=lambda p: p.name)
def test_data_are_small_and_have_a_source(path):
    assert path.stat().st_size < 200_000
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert path.name == "README.md" or f"`{path.name}`" in readme
