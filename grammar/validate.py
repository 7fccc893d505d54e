"""What can be said about a rule without torch: its verb exists, its clauses speak of factors that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import RuleError, did_you_mean, narrow, throw
from . import ast
from .words import FACTORS

Fail = Callable[[RuleError], object]

# The clauses that speak of operands instead of factors.
OF_OPERANDS = (ast.Zero, ast.Multilinear)


def validate(rule: ast.Rule, fail: Fail = throw) -> None:
    """Call ``fail`` with every mistake: an unknown verb, a clause with a factor that the signature lacks."""
    if isinstance(rule.body, ast.Relation):
        _validate_verb(rule, rule.body, fail)
    elif isinstance(rule.body, ast.Signature):
        _validate_parts(rule.body, fail)
        _validate_clauses(rule, rule.body, fail)


def _validate_verb(rule: ast.Rule, relation: ast.Relation, fail: Fail) -> None:
    verb = relation.verb
    if verb not in FACTORS:
        help = did_you_mean(verb, FACTORS) or f"the verbs are {', '.join(sorted(FACTORS))}"
        fail(RuleError(f"unknown verb '{verb}'", narrow(relation.span, verb), help))
        return
    known = FACTORS[verb]
    if known is None:
        return
    for clause in (clause for clause in rule.clauses if not isinstance(clause, OF_OPERANDS)):
        for name in mentioned(clause):
            if name not in (*known, *relation.factors):
                help = f"it has {' and '.join(known)}" if known else "write a signature if it should have one"
                fail(RuleError(f"'{name}' is not a factor of '{verb}'", narrow(clause.span, name), help))


def _validate_parts(signature: ast.Signature, fail: Fail) -> None:
    """A product or sum is one axis, made of parts that have sizes: no star and no ``_`` can be one."""
    for operand in signature.inputs + signature.outputs:
        for part in (part for dim in operand.dims for part in _parts(dim)):
            if isinstance(part, (ast.Star, ast.Anything)):
                name = f"*{part.name}" if isinstance(part, ast.Star) else "_"
                help = "brackets make one axis of several parts: give each a name of its own"
                fail(RuleError(f"'{name}' cannot be part of an axis", narrow(operand.span, name), help))


def _validate_clauses(rule: ast.Rule, signature: ast.Signature, fail: Fail) -> None:
    factors, operands = factor_names(signature), operand_names(signature)
    for clause in rule.clauses:
        of_operands = isinstance(clause, OF_OPERANDS)
        known, kind = (operands, "an operand") if of_operands else (factors, "a factor")
        named = [(name, known, kind) for name in mentioned(clause)]
        if isinstance(clause, ast.Scales):
            named.append((clause.operand, operands, "an operand"))
        for name, known, kind in named:
            if name not in known:
                message = f"'{name}' is not {kind} of the signature of {rule.name}"
                fail(RuleError(message, narrow(clause.span, name), did_you_mean(name, known)))


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


def _parts(dim: ast.Dim) -> Iterator[ast.Dim]:
    """What stands inside a product or sum, at any depth."""
    for part in getattr(dim, "parts", ()):
        yield part
        yield from _parts(part)


def mentioned(clause: ast.Clause) -> Iterator[str]:
    """The factors that a clause names, stars marked; the operands where it speaks of these alone."""
    if isinstance(clause, ast.Where):
        yield f"*{clause.factor}" if clause.star else clause.factor
        if clause.argument.startswith("*"):
            yield clause.argument
    elif isinstance(clause, (ast.Flow, ast.At, ast.Scales)):
        yield clause.factor
    elif isinstance(clause, OF_OPERANDS):
        for operands in clause.terms:
            yield from operands
    elif isinstance(clause, ast.Constant):
        return
    elif isinstance(clause, ast.Macs):
        for term in clause.terms:
            for dim in term:
                yield from names_in(dim)
    else:
        yield from clause.factors
