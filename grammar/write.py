"""From the values of ``ast.py`` back to text: the pieces of a statement, between which lines may break."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from attrs import define, field

from . import ast

# Bodies, targets and clauses begin at this column, counted from 0; longer names push theirs to the right.
COLUMN = 12

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@define
class Piece:
    """Text that is never broken, where it was written, and the comments above and behind it."""

    text: str
    span: ast.Span
    above: list[str] = field(factory=list)
    behind: list[str] = field(factory=list)


def head(statement: ast.Statement) -> Piece:
    """What a statement begins with, up to the column where the rest follows."""
    return Piece(_HEADS[type(statement)](statement), statement.span)


_HEADS: dict[type, Callable[[Any], str]] = {
    ast.Use: lambda use: f"use {use.name}" if _PATH.fullmatch(use.name) else f'use "{use.name}"',
    ast.Targets: lambda targets: f"{targets.rule:{COLUMN - 3}} =",
    ast.ModuleRule: lambda module: f"module {module.target}:",
    ast.Rule: lambda rule: f"{rule.name + ':':{COLUMN - 1}}",
}


def groups(statement: ast.Statement) -> list[list[Piece]]:
    """The rest of a statement: its list, or the body and the clauses of a rule, each as its pieces."""
    if isinstance(statement, ast.Targets):
        return [_pieces([(target.name, target.span) for target in statement.targets])]
    if isinstance(statement, ast.ModuleRule):
        return [_pieces([(_bookkeeping(one), one.span) for one in statement.attributes])]
    if isinstance(statement, ast.Rule):
        return [*_body(statement.body), *_clauses(statement.clauses)]
    return []


def dim(one: ast.Dim) -> str:
    """One axis as it is written.

    Examples
    --------
    >>> dim(ast.Sum((ast.Product((ast.Factor("a"), ast.Star("b"))), ast.Fixed(2))))
    '(a *b + 2)'
    """
    return _DIMS[type(one)](one)


def dims(several: Sequence[ast.Dim]) -> str:
    """Axes, or the parts of one, side by side."""
    return " ".join(map(dim, several))


_DIMS: dict[type, Callable[[Any], str]] = {
    ast.Factor: lambda factor: factor.name,
    ast.Star: lambda star: f"*{star.name}",
    ast.Fixed: lambda fixed: str(fixed.size),
    ast.Anything: lambda _: "_",
    ast.Product: lambda product: f"({dims(product.parts)})",
    ast.Sum: lambda total: f"({' + '.join(map(_segment, total.parts))})",
}


def _segment(part: ast.Dim) -> str:
    """A part of a sum: a product needs no brackets there."""
    return dims(part.parts) if isinstance(part, ast.Product) else dim(part)


def operand(one: ast.Operand) -> str:
    """One tensor of a signature: ``tensors...[n c]?``."""
    return f"{one.name or ''}{'...' * one.many}[{dims(one.dims)}]{'?' * one.optional}"


def clause(one: ast.Clause) -> str:
    """One clause on one line."""
    return " ".join(piece.text for group in _clauses([one]) for piece in group)


def _pieces(listed: list[tuple[str, ast.Span]]) -> list[Piece]:
    """Texts with commas between them."""
    last = len(listed) - 1
    return [Piece(f"{text}," if i < last else text, span) for i, (text, span) in enumerate(listed)]


def _bookkeeping(one: ast.Bookkeeping) -> str:
    times = f" * {one.times}" if one.times else ""
    return f"{one.attribute} = {one.parameter}[{one.axis}]{times}"


def _body(body: ast.Signature | ast.Relation | None) -> list[list[Piece]]:
    if body is None:
        return []
    if isinstance(body, ast.Relation):
        factors = f"({', '.join(body.factors)})" if body.factors else ""
        by = f" by {body.by}" if body.by else ""
        return [[Piece(f"{body.verb}{factors}{by}", body.span)]]
    if body.short:
        return [[Piece("in <-> out", body.span)]]
    inputs = _pieces([(operand(one), one.span) for one in body.inputs])
    outputs = _pieces([(operand(one), one.span) for one in body.outputs])
    outputs[0].text = f"-> {outputs[0].text}"
    return [inputs + outputs]


def _clauses(clauses: Sequence[ast.Clause]) -> list[list[Piece]]:
    """Clauses in order; those of one ``where`` or ``at`` are put together."""
    found = []
    for kind, run in groupby(clauses, key=type):
        if kind in _JOINED:
            keyword, one = _JOINED[kind]
            pieces = _pieces([(one(clause), clause.span) for clause in run])
            pieces[0].text = f"{keyword} {pieces[0].text}"
            found.append(pieces)
        else:
            found += [[Piece(text, clause.span) for text in _CLAUSES[kind](clause)] for clause in run]
    return found


_JOINED: dict[type, tuple[str, Callable[[Any], str]]] = {
    ast.Where: ("where", lambda where: f"{'*' * where.star}{where.factor} = {where.argument}"),
    ast.At: ("at", lambda at: f"{at.factor} = {at.argument}"),
}

_CLAUSES: dict[type, Callable[[Any], list[str]]] = {
    ast.Flow: lambda flow: [f"{flow.factor} -> {flow.into}"],
    ast.Hold: lambda hold: [f"hold {', '.join(hold.factors)}"],
    ast.Block: lambda block: [f'block {", ".join(block.factors)} "{block.reason}"'],
    ast.Mixes: lambda mixes: [f"mixes {', '.join(mixes.factors)}"],
    ast.Positions: lambda positions: [f"positions {', '.join(positions.factors)}"],
    ast.Slides: lambda slides: [_slides(slides)],
    ast.Sums: lambda sums: [f"sums {', '.join(sums.factors)}"],
    ast.Scales: lambda scales: [_scales(scales)],
    ast.Zero: lambda zero: _terms("zero", map(" ".join, zero.terms)),
    ast.Multilinear: lambda linear: _terms("multilinear", map(" ".join, linear.terms)),
    ast.Constant: lambda constant: ["constant"],
    ast.Tie: lambda tie: [f"tie {', '.join(tie.factors)}"],
    ast.Multiple: lambda one: [f"multiple {', '.join(one.factors)} of {one.of}{' bytes' * one.bytes}"],
    ast.Macs: lambda macs: _terms("macs", map(dims, macs.terms)),
}


def _slides(one: ast.Slides) -> str:
    by = f" by {one.step}" if one.step else ""
    return f"slides {' -> '.join(one.factors)}{by}"


def _scales(one: ast.Scales) -> str:
    """A power is written as a whole number where it is one."""
    power = int(one.power) if one.power.is_integer() else one.power
    unless = f" unless {one.unless}" if one.unless else ""
    return f"scales {one.operand} by {one.factor} ** {power}{unless}"


def _terms(keyword: str, terms: Any) -> list[str]:
    """A sum, which may be broken before each plus."""
    first, *others = [*terms] or [""]
    return [f"{keyword} {first}".rstrip(), *(f"+ {other}" for other in others)]
