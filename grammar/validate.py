"""What can be said about a rule without torch: a clause speaks of factors that the signature has."""

from __future__ import annotations

from collections.abc import Iterator

from .. import errors
from . import ast
from .report import did_you_mean, narrow, report


def validate(rule: ast.Rule) -> None:
    """Raise ``RuleError`` where a clause names a factor that is not in the rule's signature."""
    if not isinstance(rule.body, ast.Signature):
        return
    factors, operands = factor_names(rule.body), operand_names(rule.body)
    for clause in rule.clauses:
        is_zero = isinstance(clause, ast.Zero)
        known, kind = (operands, "an operand") if is_zero else (factors, "a factor")
        for name in mentioned(clause):
            if name not in known:
                message = f"'{name}' is not {kind} of the signature of {rule.name}"
                raise errors.RuleError(report(message, narrow(clause.span, name), did_you_mean(name, known)))


def factor_names(signature: ast.Signature) -> frozenset[str]:
    """All factors of a signature, as clauses write them: ``out``, ``*k``."""
    if signature.short:
        return frozenset(("in", "*in"))
    operands = signature.inputs + signature.outputs
    return frozenset(name for operand in operands for dim in operand.dims for name in names_in(dim))


def operand_names(signature: ast.Signature) -> frozenset[str]:
    """All operands of a signature; the one of ``in <-> out`` is called ``in``."""
    return frozenset(operand.name or "in" for operand in signature.inputs)


def names_in(dim: ast.Dim) -> Iterator[str]:
    """The factors inside one dim, stars marked."""
    if isinstance(dim, ast.Factor):
        yield dim.name
    elif isinstance(dim, ast.Star):
        yield f"*{dim.name}"
    elif isinstance(dim, (ast.Product, ast.Sum)):
        for part in dim.parts:
            yield from names_in(part)


def mentioned(clause: ast.Clause) -> Iterator[str]:
    """The factors that a clause names, stars marked."""
    if isinstance(clause, ast.Where):
        yield f"*{clause.factor}" if clause.star else clause.factor
        if clause.argument.startswith("*"):
            yield clause.argument
    elif isinstance(clause, (ast.Flow, ast.At)):
        yield clause.factor
    elif isinstance(clause, ast.Zero):
        for zero in clause.terms:
            yield from zero
    elif isinstance(clause, ast.Macs):
        for term in clause.terms:
            for dim in term:
                yield from names_in(dim)
    else:
        yield from clause.factors
