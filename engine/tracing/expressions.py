"""What integers are computed from: numbers, axes of values and attributes of modules, as expressions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from attrs import define, frozen

from .source import Source
from .values import Value


@frozen(eq=False)
class Const:
    """A number that is written in the source, or whose origin was lost; a fraction in a comparison."""

    value: Any

    def __str__(self) -> str:
        return str(self.value)


@frozen(eq=False)
class Dim:
    """The size of one axis of a value."""

    value: Value
    axis: int

    def __str__(self) -> str:
        return f"{self.value.name or f'value{self.value.index}'}[{self.axis}]"


@define(eq=False)  # not frozen, because that takes three times as long, and a model has thousands
class Attribute:
    """An integer of the module at ``path``: ``num_heads``, ``config.hidden_size``, or, with a key, one
    inside a container (``kernel_size`` with key ``(0,)``)."""

    path: str
    name: str
    key: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        return attribute_name(self.path, self.name, self.key)


@frozen(eq=False)
class Op:
    """``left symbol right`` with a symbol of ``+ - * // %``, and where it was computed."""

    symbol: str
    left: Expr
    right: Expr
    source: Source | None = None

    def __str__(self) -> str:
        return f"({self.left} {self.symbol} {self.right})"


def attribute_name(path: str, name: str, key: tuple[Any, ...] | None) -> str:
    """The dotted name of an attribute: ``blocks.0.attn.num_heads``, ``norm.normalized_shape[0]``."""
    dotted = f"{path}.{name}" if path else name
    return dotted + "".join(f"[{part!r}]" for part in key or ())


Expr = Const | Dim | Attribute | Op

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def evaluate(expr: Expr, lookup: Callable[[Dim | Attribute], int]) -> int:
    """The number that ``expr`` is when its leaves are what ``lookup`` says, by Python's own arithmetic."""
    known: dict[int, int] = {}
    todo = [expr]
    while todo:
        node = todo[-1]
        if isinstance(node, Op):
            missing = [part for part in (node.left, node.right) if id(part) not in known]
            if missing:
                todo.extend(missing)
                continue
            known[id(node)] = ARITHMETIC[node.symbol](known[id(node.left)], known[id(node.right)])
        else:
            known[id(node)] = node.value if isinstance(node, Const) else lookup(node)
        todo.pop()
    return known[id(expr)]


def leaves(expr: Expr) -> list[Dim | Attribute]:
    """The axes and attributes that ``expr`` is made of, from left to right, each node once."""
    found: dict[int, Dim | Attribute] = {}
    visited: set[int] = set()
    todo = [expr]
    while todo:
        node = todo.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, Op):
            todo += (node.right, node.left)
        elif not isinstance(node, Const):
            found[id(node)] = node
    return list(found.values())
