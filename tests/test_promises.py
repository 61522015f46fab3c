"""The page on what is promised: each row names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guide" / "promises.rst"
NAME = re.compile(r"``(test_\w+\.py)::(test_\w+)``( \(slow\))?")


def rows():
    """Return the cells of the rows of the table."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").split("\n   * - ")[2:]:
        cells = re.split(r"\n     -", line.split("\n\n")[0])
        found.append([" ".join(cell.split()) for cell in cells])
    return found


PROMISES = [row for row in rows() if row[1]]


def is_slow(mark):
    return ast.unparse(mark) == "pytest.mark.slow"


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0][:40])
def test_each_promise_names_its_tests(row):
    _, equality, tests = row
    assert equality
    named = NAME.findall(tests)
    # Nothing else is there, such as a name that is spelled in another way.
    assert named
    assert re.sub(r"[,\s]", "", NAME.sub("", tests)) == ""
    for file, name, slow in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}
        assert name in functions
        assert any(map(is_slow, functions[name].decorator_list)) == bool(slow)


def test_scripts_that_count_are_there():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r'^   "``(\w+\.py)``', text, flags=re.MULTILINE))
    assert named == {path.name for path in (TESTS / "safety").glob("*.py")}


def test_all_rows_are_read():
    text = PAGE.read_text(encoding="utf-8")
    assert len(PROMISES) > 20
    assert sum(len(NAME.findall(row[2])) for row in PROMISES) == text.count(".py::")
