"""The files of the package: nothing is written twice, none is too long, and what is not typed says why."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import prunus

PACKAGE = Path(prunus.__file__).parent
ROOMS = ("adapters", "cli", "editor", "engine", "grammar", "report", "rules")
RUN = 6


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor a comment, nor a part of an import."""
    imports = (node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom)))
    without = {number for node in imports for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#") and number not in without:
            yield number, line


def repeats(texts: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Where each run of lines stands that there is more than once."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in texts:
        lines = list(code_lines(text))
        for start in range(len(lines) - RUN + 1):
            run = lines[start : start + RUN]
            found[tuple(line for _, line in run)].append(f"{name}:{run[0][0]}")
    return [places for places in found.values() if len(places) > 1]


def test_no_run_of_lines_stands_twice():
    files = [*PACKAGE.glob("*.py"), *(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py"))]
    assert len(files) > 150
    assert not repeats((str(path.relative_to(PACKAGE)), path.read_text("utf-8")) for path in files)


def test_no_file_is_long_unless_it_says_why():
    for path in (path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")):
        text = path.read_text("utf-8")
        assert text.count("\n") <= 300 or "One subject" in (ast.get_docstring(ast.parse(text)) or ""), path


def test_what_the_types_do_not_say_has_a_reason():
    for path in (path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")):
        for line in path.read_text("utf-8").splitlines():
            assert "type: ignore" not in line or re.search(r"type: ignore\[[a-z-]+\]  # \w", line), (
                path,
                line,
            )


def test_a_planted_repeat_is_found():
    text = "\n".join(f"x{number} = {number}" for number in range(RUN))
    assert repeats([("one", text), ("other", f"import torch\n\n{text}")]) == [["one:1", "other:3"]]
