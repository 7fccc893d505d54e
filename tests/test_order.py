"""The order of the package: a part imports only parts below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("errors", "files", "grammar", "rules", "adapters", "engine", "report", "editor")
WITHOUT_TORCH = {"errors", "files", "grammar"}
# How an error of a rule file looks, grammar knows, and errors asks it only then.
EXCEPTIONS = {("errors.py", "grammar")}
FILES = [file for part in ORDER for file in (*ROOT.glob(f"{part}.py"), *ROOT.glob(f"{part}/*.py"))]


def part_of(file: Path) -> str:
    """The part that a file of the package is in."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_by(file: Path):
    """The packages that a file imports; of prunus its parts."""
    depth = len(file.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == depth and node.module is None:
                yield from (alias.name for alias in node.names)
            elif node.level in (0, depth):
                yield node.module.partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_part_imports_only_parts_below_it(file):
    """Also where it imports late, and for types alone."""
    own = part_of(file)
    above = set(ORDER[ORDER.index(own) + 1 :])
    wrong = {
        name for name in imported_by(file) if name in above or (name == "torch" and own in WITHOUT_TORCH)
    }
    assert {(str(file.relative_to(ROOT)), name) for name in wrong} <= EXCEPTIONS
