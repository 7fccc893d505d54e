"""From Lark's tree to the values of ``ast.py``."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from lark import Token, Transformer, v_args
from lark.tree import Meta

from ..errors import RuleSyntaxError
from . import ast
from .layout import Source

_EXAMPLE = "#: example"
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
    """One method per rule of ``rules.lark``; children are values of ``ast.py`` or tokens."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def start(self, _meta: Meta, items: list) -> tuple[ast.Statement, ...]:
        """Attach clauses to the rule before them, then comments."""
        statements: list[Any] = []
        for item in _kept(items):
            if isinstance(item, _STATEMENTS):
                statements.append(item)
                continue
            clauses = tuple(_listed(item))
            if not isinstance(statements[-1], ast.Rule):
                help = "write 'name: ...; clause'"
                raise RuleSyntaxError("a clause must follow a rule", clauses[0].span, help)
            statements[-1] = evolve(statements[-1], clauses=statements[-1].clauses + clauses)
        return tuple(self._commented(statements, i) for i in range(len(statements)))

    def _commented(self, statements: list[Any], i: int) -> ast.Statement:
        """A rule with the comment lines above it, or above its targets if these come directly before."""
        rule = statements[i]
        if not isinstance(rule, ast.Rule):
            return rule
        lines = self._above(rule)
        before = statements[i - 1] if i else None
        if not lines and isinstance(before, ast.Targets) and before.rule == rule.name:
            line_before = self.source.line_of(self.source.last_code(self.source.offset(rule.span)) - 1)
            if rule.span.line - line_before <= 1:
                lines = self._above(before)
        examples = [line[len(_EXAMPLE) :].strip() for line in lines if line.startswith(_EXAMPLE)]
        comment = [line.lstrip("#").strip() for line in lines if not line.startswith("#:")]
        return evolve(rule, comment="\n".join(comment), examples=tuple(examples))

    def _above(self, statement: ast.Rule | ast.Targets) -> list[str]:
        """The comment lines directly above a statement, if it is the first one on its line."""
        is_first = self.source.is_first(self.source.offset(statement.span))
        return self.source.comments_above(statement.span.line) if is_first else []

    def _span(self, meta: Meta) -> ast.Span:
        return self.source.span(meta.start_pos, meta.end_pos)

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
        times = factor[0] if factor else None
        return ast.Bookkeeping(attribute, parameter, int(axis), times, span=self._span(meta))

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
        return ast.Signature(tuple(inputs), tuple(outputs), span=self._span(meta))

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
        if int(items[0]) < 1:
            raise RuleSyntaxError("a fixed part has a size of at least 1", self._span(meta))
        return ast.Fixed(int(items[0]))

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
        operand, factor, power, *unless = _kept(items)
        given = str(unless[0]) if unless else None
        return ast.Scales(operand, str(factor), float(power), given, span=self._span(meta))

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
        *factors, of = _kept(items)
        if int(of) < 1:
            raise RuleSyntaxError("slots come in multiples of at least 1", self._span(meta))
        of_bytes = any(getattr(item, "type", "") == "BYTES" for item in items)
        return ast.Multiple(tuple(factors), int(of), of_bytes, span=self._span(meta))

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
