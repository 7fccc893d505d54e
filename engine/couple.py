"""Matches every recorded call with its rule and unifies the axes that the rule couples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import Factory, define, frozen

from ..grammar import ast
from ..rules import RuleSet
from . import relations
from .axes import UNIT, Atom, Layout, Reason, Unifier, block
from .equations import Equation, SizeOf
from .match import match
from .misfit import Misfit
from .origin import Origin
from .sizes import Expr, SizeInt, expr_of
from .values import Call, Trace, Value

Place = tuple[Value, int]


@frozen(eq=False)
class Coupling:
    """A factor instance: `factor` of this call's rule makes the axes at `places` share their atoms."""

    origin: Origin
    factor: str
    places: tuple[Place, ...]
    layout: Layout | None = None


@frozen(eq=False)
class Produced:
    """The slots of `layout` are produced by this call, under the name of `factor`."""

    layout: Layout
    origin: Origin
    factor: str


@frozen(eq=False)
class Cost:
    """Multiply-accumulates of a call: a sum of products of layout sizes."""

    call: Call
    terms: tuple[tuple[Layout, ...], ...]


@define(eq=False)
class Couplings:
    """Everything that the rules say about a trace."""

    trace: Trace
    layouts: dict[Value, list[Layout]] = Factory(dict)
    couplings: list[Coupling] = Factory(list)
    equations: list[Equation] = Factory(list)
    produced: list[Produced] = Factory(list)
    mixed: list[Produced] = Factory(list)
    ties: list[tuple[tuple[Layout, ...], Origin]] = Factory(list)
    numbers: list[tuple[Expr, Origin]] = Factory(list)
    costs: list[Cost] = Factory(list)
    unknown: list[Origin] = Factory(list)
    unifier: Unifier = Factory(Unifier)

    def of(self, value: Value) -> list[Layout]:
        """The layouts of the axes of `value`, made when it is first met."""
        layouts = self.layouts.get(value)
        if layouts is None:
            layouts = self.layouts[value] = _first_layouts(value)
        return layouts


_FIXED = {
    "input": "the model's input",
    "untracked": "a tensor that the trace did not see being made",
    "call": "the result of a call that gave it no axes",
}


def _first_layouts(value: Value) -> list[Layout]:
    """Parameters, buffers and tensor attributes are free; whatever comes from outside keeps its slots."""
    text = _FIXED.get(value.kind)
    reason = None if text is None else Reason(f"an axis of {text}", value)
    return [UNIT if size == 1 else Atom(size, reason) for size in value.shape]


class Site:
    """One call as its rule sees it: the operands, their axes, and what the rule says of them."""

    def __init__(self, state: Couplings, call: Call, rule: ast.Rule):
        self.state = state
        self.call = call
        self.rule = rule
        self.arguments = call.arguments
        self.origin = Origin(call, rule)
        self.factors: dict[str, list[Layout]] = {}
        self.sizes_read: set[str] = set()

    def axes(self, value: Value) -> list[Layout]:
        """The layouts of the axes of `value`."""
        return self.state.of(value)

    def unify(self, a: Layout, b: Layout) -> None:
        """Make two layouts the same, on behalf of this rule."""
        self.state.unifier.unify(a, b, self.origin)

    def block(self, layout: Layout, text: str) -> None:
        """Keep all slots of `layout`, because of `text`."""
        block(layout, Reason(text, self.origin))

    def couple(self, factor: str, places: Iterable[Place], layout: Layout | None = None) -> None:
        """Record that `factor` relates the axes at `places`, for explanations and names."""
        self.state.couplings.append(Coupling(self.origin, factor, tuple(places), layout))

    def give(self, value: Value, layouts: Sequence[Layout]) -> None:
        """The axes of a result of this call."""
        sizes = tuple(layout.size for layout in layouts)
        if sizes != value.shape:
            raise Misfit(f"it gives a result of {_by(sizes)}, the call one of {_by(value.shape)}")
        self.state.layouts[value] = list(layouts)

    def equate(self, number: object, layout: Layout, argument: str) -> None:
        """The integer (or its expression) given as `argument` is, and must stay, the size of `layout`."""
        self.sizes_read.add(argument.partition("[")[0])
        if isinstance(number, int):
            number = expr_of(number)
        if isinstance(number, Expr):
            self.state.equations.append(Equation(number, SizeOf(layout), self.origin, argument))

    def same_size(self, left: Layout, right: Layout, argument: str) -> None:
        """Two layouts must stay of equal size, though not of equal slots."""
        self.state.equations.append(Equation(SizeOf(left), SizeOf(right), self.origin, argument))

    def result(self) -> Value:
        """The only result of the call."""
        return self.call.results[0]

    def tensor(self, *names: str) -> Value:
        """The tensor argument of the first of `names` that is given, else the first tensor argument."""
        for name in names:
            found = self.arguments.get(name)
            if isinstance(found, Value):
                return found
        for found in self.arguments.values():
            if isinstance(found, Value):
                return found
        raise Misfit("the call has no tensor argument")

    def tensors(self) -> list[Value]:
        """The tensors of the call's first list of tensors."""
        for found in self.arguments.values():
            if isinstance(found, (list, tuple)) and found and all(isinstance(one, Value) for one in found):
                return list(found)
        return [found for found in self.arguments.values() if isinstance(found, Value)]

    def argument(self, *names: str, default: object = None) -> object:
        """The argument of the first of `names` that is given."""
        for name in names:
            if name in self.arguments:
                return self.arguments[name]
        return default

    def parameter(self, path: str) -> Value | None:
        """A parameter of the module that this call stands for, by its path inside the module."""
        name = f"{self.call.module}.{path}" if self.call.module else path
        return self.state.trace.tensors.get(self.state.trace.aliases.get(name, name))


def couple(trace: Trace, rules: RuleSet, free_outputs: Sequence[int] = ()) -> Couplings:
    """Apply `rules` to every call of `trace`, in order, and hold the axes that the user can see.

    The outputs at the positions `free_outputs` may change their shape.
    """
    state = Couplings(trace)
    for call in trace.calls:
        _couple_call(state, call, rules.rule_for(call.target))
    kept = [value for number, value in enumerate(trace.outputs) if number not in free_outputs]
    for value in [*kept, *trace.training_outputs]:
        for axis, layout in enumerate(state.of(value)):
            block(layout, Reason(f"axis {axis} of the model's output", value))
    state.unifier.settle()
    return state


def _couple_call(state: Couplings, call: Call, rule: ast.Rule | None) -> None:
    if rule is None or rule.body is None:
        _give_up(state, Origin(call, rule), f"no rule for {call.name}")
        return
    site = Site(state, call, rule)
    try:
        if isinstance(rule.body, ast.Relation):
            relations.VERBS[rule.body.verb](site)
        else:
            match(site, rule.body)
        _apply_clauses(site)
    except Misfit as misfit:
        _give_up(state, site.origin, f"rule {rule.name} does not fit this call of {call.name}: {misfit}")


def _give_up(state: Couplings, origin: Origin, text: str) -> None:
    """An operation that no rule explains: every axis that goes in or comes out keeps its slots."""
    reason = Reason(text, origin)
    for value in values_in(origin.call.arguments.values()):
        for layout in state.of(value):
            block(layout, reason)
    for value in origin.call.results:
        state.layouts[value] = [UNIT if size == 1 else Atom(size, reason) for size in value.shape]
    state.unknown.append(origin)


def values_in(arguments: Iterable[object]) -> Iterable[Value]:
    """The tensors among nested arguments."""
    for found in arguments:
        if isinstance(found, Value):
            yield found
        elif isinstance(found, (list, tuple)):
            yield from values_in(found)
        elif isinstance(found, dict):
            yield from values_in(found.values())
        elif isinstance(found, slice):
            yield from values_in((found.start, found.stop, found.step))


def _apply_clauses(site: Site) -> None:
    state, origin = site.state, site.origin
    for clause in site.rule.clauses:
        if isinstance(clause, ast.Flow):
            for layout in site.factors.get(clause.factor, ()):
                state.produced.append(Produced(layout, origin, clause.factor))
        elif isinstance(clause, ast.Mixes):
            for factor, layout in _named(site, clause.factors):
                state.mixed.append(Produced(layout, origin, factor))
        elif isinstance(clause, (ast.Hold, ast.Block)):
            text = clause.reason if isinstance(clause, ast.Block) else None
            for factor, layout in _named(site, clause.factors):
                site.block(layout, text or f"{site.rule.name} holds '{factor}'")
        elif isinstance(clause, ast.Tie):
            state.ties.append((tuple(layout for _, layout in _named(site, clause.factors)), origin))
        elif isinstance(clause, ast.Macs):
            terms = tuple(tuple(_layouts_of(site, dims)) for dims in clause.terms)
            state.costs.append(Cost(site.call, terms))
    if not isinstance(site.rule.body, ast.Relation):
        _note_numbers(site)


def _note_numbers(site: Site) -> None:
    """A traced size used as a number (a divisor, a temperature) makes the result depend on it."""
    for name, found in site.arguments.items():
        if isinstance(found, SizeInt) and name not in site.sizes_read:
            site.state.numbers.append((found.expr, site.origin))


def _named(site: Site, names: Iterable[str]) -> Iterable[tuple[str, Layout]]:
    for name in names:
        for layout in site.factors.get(name.lstrip("*"), ()):
            yield name.lstrip("*"), layout


def _layouts_of(site: Site, dims: Iterable[ast.Dim]) -> Iterable[Layout]:
    for dim in dims:
        if isinstance(dim, (ast.Factor, ast.Star)):
            yield from site.factors.get(dim.name, ())
        elif isinstance(dim, (ast.Product, ast.Sum)):
            yield from _layouts_of(site, dim.parts)


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "a scalar"
