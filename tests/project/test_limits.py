"""The page of what prunus cannot see: behind every row of it is a test."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| ---"))
]


def test_the_page_has_rows():
    """Nothing below would be tested otherwise."""
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", row.split("|")[1]).strip("-")[:60])
def test_a_row_names_tests_that_exist(row):
    """``test_file.py::test_name``, in a comment at its end."""
    named = re.search(r"<!-- (.*) --> \|$", row)
    assert named, "name the tests that hold this row"
    for name in named[1].split():
        file, function = name.split("::")
        assert function in functions(TESTS / file), f"there is no {name}"


def functions(file: Path) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
