"""The order of the house: imports point down the spine, and into a room only through its face."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2]

# From the ground up: a room imports only rooms that stand before it in this list.
SPINE = [
    "errors",
    "files",
    "grammar",
    "torch_private",
    "rules",
    "adapters",
    "engine.axes",
    "engine.tracing",
    "engine.sizes",
    "engine.coupling",
    "engine.exactness",
    "engine.grouping",
    "engine.explaining",
    "engine.calibrating",
    "engine.scoring",
    "engine.choosing",
    "engine.witnessing",
    "engine.proving",
    "engine.graph",
    "engine.result",
    "engine.derive",
    "engine.analyze",
    "engine.measure",
    "engine.finish",
    "engine.prune",
    "engine.prune_checkpoint",
    "engine.training",
    "engine",
    "report",
    "editor",
    "cli",
]
FRONT_DOOR = {"__init__", "analyze", "derive", "finish", "graph", "measure"} | {
    *("prune", "prune_checkpoint", "result")
}
NO_TORCH = ("errors", "files", "grammar", "engine.axes")


def imports(name: str, tree: ast.AST) -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """What a file imports: dotted names inside the package, and those of others behind a ``/``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((f"/{one.name}", node) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield f"/{node.module}", node
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level]
            base = [*package, *(node.module or "").split(".")]
            for one in node.names:
                inside = ".".join(filter(None, [*base, one.name]))
                yield (inside if is_file(inside) else ".".join(filter(None, base))), node


def is_file(name: str) -> bool:
    """Whether this is a file, and no name that the face of its room hands on: `trace` of `tracing`."""
    path = PACKAGE.joinpath(*name.split("."))
    face = path.with_name("__init__.py")
    is_handed_on = face.exists() and f'"{path.name}"' in face.read_text("utf-8")
    return path.with_suffix(".py").exists() and not is_handed_on


def room_of(name: str) -> str | None:
    """The room of a file: the longest name of the spine that its own begins with."""
    fitting = [room for room in SPINE if name == room or name.startswith(room + ".")]
    return max(fitting, key=len, default=None)


def faults(name: str, text: str) -> Iterator[str]:
    """What is wrong with the imports of one file, named by its dotted name."""
    lines = text.splitlines()
    tree = ast.parse(text)
    late = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    here = room_of(name)
    assert here is not None, f"{name} is in no room"
    for target, node in imports(name, tree):
        where = f"{name}:{node.lineno}"
        if node in late and "#" not in "".join(lines[max(0, node.lineno - 5) : node.lineno]):
            yield f"{where} is an import inside a function, and no comment says why"
        if target.startswith("/"):
            if here in NO_TORCH and target[1:].split(".")[0] == "torch":
                yield f"{where}: {here} knows no torch"
            continue
        there = room_of(target)
        if there is None or there == here:
            continue
        if SPINE.index(there) > SPINE.index(here):
            yield f"{where} imports {target}, which is above it"
        if there.count(".") and target not in (there, f"{there}.verbs"):
            yield f"{where} imports {target} past the face of {there}"


def files() -> Iterator[tuple[str, Path]]:
    for room in dict.fromkeys(room.split(".")[0] for room in SPINE):
        folder = PACKAGE / room
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]:
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def test_imports_point_down_the_spine():
    found = [fault for name, path in files() for fault in faults(name, path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_the_engine_has_no_files_but_the_front_door():
    assert {path.stem for path in (PACKAGE / "engine").glob("*.py")} == FRONT_DOOR


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("engine.axes.layout", "from ..choosing import choose", "above"),
        ("adapters.plan", "from ..engine.grouping import Groups", "above"),
        ("engine.grouping.groups", "from ..axes.layout import Atom", "past the face"),
        ("grammar.parser", "import torch", "no torch"),
        ("engine.axes.unify", "from torch import nn", "no torch"),
        ("engine.prune", "def f():\n    from .graph import DependencyGraph", "no comment"),
        ("errors", "def f():\n    from .grammar import parse  # late", "above"),
    ],
)
def test_a_planted_import_is_found(name: str, line: str, said: str):
    (fault,) = faults(name, line)
    assert said in fault


def test_imports_as_they_should_be_are_none():
    lines = (
        "import torch",
        "from ..axes import Atom",
        "from ...adapters.plan import Plan",
        "from . import paths",
    )
    assert not [*faults("engine.grouping.groups", "\n".join(lines))]
