"""The files that sentences are compared with: each text belongs to a test that compares it."""

import ast
from pathlib import Path

import pytest
import sentences

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(TESTS.rglob("snapshots/test_*.txt"))


def test_there_are_files():
    """Nothing below would be tested otherwise."""
    assert len(FILES) > 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_text_is_left_over(file):
    """Of a test that is gone, or has another name."""
    tree = ast.parse((file.parents[1] / f"{file.stem}.py").read_text(encoding="utf-8"))
    comparing = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(one.arg == "said" for one in node.args.args)
    }
    assert {name.partition("[")[0] for name in sentences.read(file)} == comparing


def test_what_is_written_is_read(tmp_path):
    """Texts of several lines, in order; a file that is not there has none."""
    texts = {"test_one": "a\n\n  b", "test_two[=== x]": "c"}
    sentences.write(tmp_path / "some.txt", texts)
    assert [*sentences.read(tmp_path / "some.txt").items()] == [*texts.items()]
    assert sentences.read(tmp_path / "none.txt") == {}


def test_only_what_moves_is_taken_out():
    """Lines, folders and widths; no word, and no number of slots."""
    said = "add   *s  nn.rules:12  /home/me/tests/whole/test_x.py:3  group a.out, 8 slots"
    assert sentences.stable(said) == "add  *s  nn.rules:*  test_x.py:*  group a.out, 8 slots"
