"""The names that torch does not promise to keep: one file of prunus has them, a new torch has them all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import prunus
import pytest
import torch

PACKAGE = Path(prunus.__file__).parent
ROOMS = ("adapters", "cli", "editor", "engine", "grammar", "report", "rules")
FILE = PACKAGE / "torch_private.py"
PRIVATE = re.compile(r"\btorch(\.\w+)*\._[a-zA-Z]")
# What objects of torch have under such names, and prunus asks them for.
ATTRIBUTES = {
    torch.nn.Linear(1, 1): (
        *("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_forward_pre_hooks"),
    ),
    torch.zeros(1): ("_version",),
    torch.zeros(1).untyped_storage(): ("_cdata",),
    torch.ops.aten.add: ("_qualified_op_name",),
    torch.ops.aten.add.Tensor: ("_schema",),
}


def names() -> Iterator[tuple[str, str]]:
    """Module and name of all that the file imports from torch."""
    for node in ast.walk(ast.parse(FILE.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("torch"):
            yield from ((str(node.module), one.name) for one in node.names)


def private_lines(text: str) -> list[str]:
    """The lines that name something private of torch, but for strings and comments."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).startswith("torch"):
            found += [f"{node.module}.{one.name}" for one in node.names]
        elif isinstance(node, ast.Attribute):
            found.append(ast.unparse(node))
    return [one for one in found if PRIVATE.match(one)]


@pytest.mark.parametrize(("module", "name"), sorted(names()))
def test_torch_still_has_the_name(module: str, name: str):
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize(
    ("item", "name"), [(item, name) for item, names in ATTRIBUTES.items() for name in names], ids=str
)
def test_torch_still_has_the_attribute(item: object, name: str):
    assert hasattr(item, name)


def test_the_compiler_can_be_asked():
    import_module("torch._dynamo")
    assert torch._C._dynamo.eval_frame.get_eval_frame_callback() in (None, False)
    compiler = import_module("torch._dynamo.eval_frame")
    assert hasattr(compiler, "_use_eager_on_nested_compile") or hasattr(compiler, "_set_stance")


def test_no_other_file_has_such_names():
    files = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    assert len(files) > 150
    found = {str(path.relative_to(PACKAGE)): private_lines(path.read_text("utf-8")) for path in files}
    assert not {name: lines for name, lines in found.items() if lines}


def test_a_planted_name_is_found():
    text = "from torch.overrides import _private\nfrom torch._ops import OpOverload\nx = torch._C.Thing.y"
    assert len(private_lines(text)) >= 3
