"""From Lark's tree to the values of ``ast.py``."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from lark import Token, Transformer, v_args
from lark.tree import Meta

from ..errors import RuleSyntaxError
from . import ast
from .limits import check_signature, power, whole_number
from .lines import RuleText

_STATEMENTS = (ast.Targets, ast.Rule, ast.ModuleRule, ast.Use)


def _kept(items: list) -> list:
    """The children that carry meaning: values, names, numbers and texts, but no punctuation."""
    meant = ("NAME", "INT", "NUMBER", "STRING")
    return [item for item in items if not isinstance(item, Token) or item.type in meant]


def _listed(item: Any) -> list:
    """A clause, or the several clauses of one ``where`` or ``at``, as a list."""
    return item if isinstance(item, list) else [item]


def _product(parts: list) -> ast.Dim:
    """Parts side by side; one alone stands for itself."""
    return parts[0] if len(parts) == 1 else ast.Product(tuple(parts))


@v_args(meta=True)
class Builder(Transformer):
    """One method per rule of ``rules.lark``; children are values of ``ast.py`` or tokens.

    ``start`` is where in the source the parsed text begins.
    """

    def __init__(self, source: RuleText, start: int) -> None:
        super().__init__()
        self._source = source
        self._start = start

    def start(self, _meta: Meta, items: list) -> tuple[ast.Statement, ...]:
        """Attach clauses to the rule before them."""
        found: list[tuple[Any, list[ast.Clause]]] = []
        for item in _kept(items):
            if isinstance(item, _STATEMENTS):
                found.append((item, []))
                continue
            clauses = _listed(item)
            if not isinstance(found[-1][0], ast.Rule):
                help = "write 'name: ...; clause'"
                raise RuleSyntaxError("a clause must follow a rule", clauses[0].span, help)
            found[-1][1].extend(clauses)
        return tuple(
            evolve(one, clauses=(*one.clauses, *clauses)) if clauses else one for one, clauses in found
        )

    def _span(self, meta: Meta) -> ast.Span:
        return self._source.span(self._start + meta.start_pos, self._start + meta.end_pos)

    # statements

    def targets(self, meta: Meta, items: list) -> ast.Targets:
        name, *targets = _kept(items)
        return ast.Targets(str(name), tuple(targets), span=self._span(meta))

    def target(self, meta: Meta, items: list) -> ast.Target:
        return ast.Target(items[0], span=self._span(meta))

    def module(self, meta: Meta, items: list) -> ast.ModuleRule:
        target, *attributes = _kept(items)
        return ast.ModuleRule(target.name, tuple(attributes), span=self._span(meta))

    def bookkeeping(self, meta: Meta, items: list) -> ast.Bookkeeping:
        attribute, parameter, axis, *factor = _kept(items)
        span = self._span(meta)
        times = factor[0] if factor else None
        return ast.Bookkeeping(attribute, parameter, whole_number(axis, span), times, span=span)

    def use(self, meta: Meta, items: list) -> ast.Use:
        return ast.Use(_kept(items)[0].strip('"'), span=self._span(meta))

    def rule(self, meta: Meta, items: list) -> ast.Rule:
        name, first = _kept(items)
        if isinstance(first, ast.Signature | ast.Relation):
            return ast.Rule(str(name), first, span=self._span(meta))
        return ast.Rule(str(name), None, tuple(_listed(first)), span=self._span(meta))

    # bodies

    def signature(self, meta: Meta, items: list) -> ast.Signature:
        arrow = next(i for i, item in enumerate(items) if getattr(item, "type", "") == "ARROW")
        inputs, outputs = _kept(items[:arrow]), _kept(items[arrow:])
        signature = ast.Signature(tuple(inputs), tuple(outputs), span=self._span(meta))
        check_signature(signature)
        return signature

    def short(self, meta: Meta, items: list) -> ast.Signature:
        left, right = _kept(items)
        if (left, right) != ("in", "out"):
            help = "write 'in <-> out', or a signature 'input[...] -> [...]'"
            raise RuleSyntaxError(f"'{left} <-> {right}' is no short form", self._span(meta), help)
        tensor = ast.Operand(None, (ast.Star("in"),), span=self._span(meta))
        return ast.Signature((tensor,), (tensor,), short=True, span=self._span(meta))

    def operand(self, meta: Meta, items: list) -> ast.Operand:
        kinds = {getattr(item, "type", "") for item in items}
        name, dims = _kept(items)
        return ast.Operand(name, dims, "QUESTION" in kinds, "ELLIPSIS" in kinds, span=self._span(meta))

    def result(self, meta: Meta, items: list) -> ast.Operand:
        optional = any(getattr(item, "type", "") == "QUESTION" for item in items)
        return ast.Operand(None, _kept(items)[0], optional, span=self._span(meta))

    def relation(self, meta: Meta, items: list) -> ast.Relation:
        by = next((item[1] for item in items if isinstance(item, tuple)), None)
        verb, *factors = [item for item in _kept(items) if not isinstance(item, tuple)]
        return ast.Relation(str(verb), tuple(map(str, factors)), by, span=self._span(meta))

    def by(self, _meta: Meta, items: list) -> tuple[str, str]:
        return ("by", " ".join(_kept(items)))

    # axes

    def dims(self, _meta: Meta, items: list) -> tuple[ast.Dim, ...]:
        return tuple(_kept(items))

    def factor(self, _meta: Meta, items: list) -> ast.Factor:
        return ast.Factor(str(items[0]))

    def star(self, _meta: Meta, items: list) -> ast.Star:
        return ast.Star(str(items[-1]))

    def fixed(self, meta: Meta, items: list) -> ast.Fixed:
        size = whole_number(items[0], self._span(meta))
        if size < 1:
            raise RuleSyntaxError("a fixed part has a size of at least 1", self._span(meta))
        return ast.Fixed(size)

    def anything(self, _meta: Meta, _items: list) -> ast.Anything:
        return ast.Anything()

    def product(self, _meta: Meta, items: list) -> ast.Dim:
        return _product(_kept(items))

    def sum(self, _meta: Meta, items: list) -> ast.Sum:
        return ast.Sum(tuple(_kept(items)))

    def segment(self, _meta: Meta, items: list) -> ast.Dim:
        return _product(items)

    # clauses

    def flow(self, meta: Meta, items: list) -> ast.Flow:
        factor, into = (item for item in items if getattr(item, "type", "") == "NAME")
        return ast.Flow(str(factor), f"next.{into}", span=self._span(meta))

    def size(self, meta: Meta, items: list) -> ast.Where:
        star = getattr(items[0], "type", "") == "STAR"
        factor, argument = _kept(items)
        if getattr(items[-2], "type", "") == "STAR":
            argument = f"*{argument}"
        return ast.Where(str(factor), argument, star, span=self._span(meta))

    def position(self, meta: Meta, items: list) -> ast.At:
        factor, argument = _kept(items)
        star = "*" if getattr(items[0], "type", "") == "STAR" else ""
        return ast.At(star + factor, argument, span=self._span(meta))

    def where(self, _meta: Meta, items: list) -> list[ast.Where]:
        return _kept(items)

    def at(self, _meta: Meta, items: list) -> list[ast.At]:
        return _kept(items)

    def hold(self, meta: Meta, items: list) -> ast.Hold:
        return ast.Hold(tuple(_kept(items)), span=self._span(meta))

    def block(self, meta: Meta, items: list) -> ast.Block:
        *factors, reason = _kept(items)
        return ast.Block(tuple(factors), reason.strip('"'), span=self._span(meta))

    def mixes(self, meta: Meta, items: list) -> ast.Mixes:
        return ast.Mixes(tuple(_kept(items)), span=self._span(meta))

    def positions(self, meta: Meta, items: list) -> ast.Positions:
        return ast.Positions(tuple(_kept(items)), span=self._span(meta))

    def slides(self, meta: Meta, items: list) -> ast.Slides:
        source, *rest = _kept(items)
        factors = (source, *rest[:1])
        return ast.Slides(factors, str(rest[1]) if rest else None, span=self._span(meta))

    def sums(self, meta: Meta, items: list) -> ast.Sums:
        return ast.Sums(tuple(_kept(items)), span=self._span(meta))

    def scales(self, meta: Meta, items: list) -> ast.Scales:
        operand, factor, number, *unless = _kept(items)
        span = self._span(meta)
        given = str(unless[0]) if unless else None
        return ast.Scales(operand, str(factor), power(number, span), given, span=span)

    def scaled(self, _meta: Meta, items: list) -> str:
        return "".join(items)

    def zero(self, meta: Meta, items: list) -> ast.Zero:
        return ast.Zero(tuple(item for item in items if isinstance(item, tuple)), span=self._span(meta))

    def multilinear(self, meta: Meta, items: list) -> ast.Multilinear:
        terms = tuple(item for item in items if isinstance(item, tuple))
        return ast.Multilinear(terms, span=self._span(meta))

    def operands(self, _meta: Meta, items: list) -> tuple[str, ...]:
        return tuple(items)

    def constant(self, meta: Meta, _items: list) -> ast.Constant:
        return ast.Constant(span=self._span(meta))

    def tie(self, meta: Meta, items: list) -> ast.Tie:
        return ast.Tie(tuple(_kept(items)), span=self._span(meta))

    def multiple(self, meta: Meta, items: list) -> ast.Multiple:
        *factors, number = _kept(items)
        span = self._span(meta)
        of = whole_number(number, span)
        if of < 1:
            raise RuleSyntaxError("slots come in multiples of at least 1", span)
        of_bytes = any(getattr(item, "type", "") == "BYTES" for item in items)
        return ast.Multiple(tuple(factors), of, of_bytes, span=span)

    def macs(self, meta: Meta, items: list) -> ast.Macs:
        return ast.Macs(tuple(_kept(items)), span=self._span(meta))

    def term(self, _meta: Meta, items: list) -> tuple[ast.Dim, ...]:
        return tuple(items)

    # names

    def named(self, _meta: Meta, items: list) -> str:
        return "".join(items)

    def path(self, _meta: Meta, items: list) -> str:
        return "".join(items)

    def argument(self, _meta: Meta, items: list) -> str:
        return "".join(items)
