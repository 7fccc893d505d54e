"""Matches every recorded call with its rule and unifies the axes that the rule couples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import gcd, lcm
from typing import Any

import torch

from ...grammar import ast
from ...rules import RuleSet
from ..axes import UNIT, Atom, Layout, Reason, block
from ..sizes import Equation, Multiple, SizeOf
from ..tracing import Call, Origin, Trace, Value
from .call_site import Misfit, Site
from .coupled import Beside, CallMacs, Couplings, Mixed, Produced, Reading, Scaled
from .ends import hold_ends
from .live import live_calls
from .match import match
from .verbs import MOVES, VERBS
from .weights import gives_weights, weights_make


def couple(trace: Trace, rules: RuleSet, free_outputs: Sequence[int] = ()) -> Couplings:
    """Apply `rules` to every call of `trace`, in order, and hold the axes that the user can see.

    The outputs at the positions `free_outputs` may change their shape.
    """
    constants = {call for call in trace.calls if _is_constant(rules.rule_for(call.target))}
    live, needed = live_calls(trace, trace.ends, constants)
    given, _ = live_calls(trace, trace.given, constants)
    coupled = Couplings(trace, live, given=given, needed=needed, from_input=set(trace.inputs))
    for call in trace.calls:
        if not coupled.from_input.isdisjoint(call.values):
            coupled.from_input.update(call.results)
        _couple_call(coupled, call, rules.rule_for(call.target))
        if call.inplace:
            coupled.uniform.clear()  # any of them may share the memory
        if call in constants:
            coupled.uniform.update(call.results)
    hold_ends(coupled, free_outputs)
    coupled.unifier.settle()
    for known in (coupled.opened, coupled.fits):
        known.clear()  # no more calls come
    return coupled


def _is_constant(rule: ast.Rule | None) -> bool:
    return rule is not None and bool(rule.of(ast.Constant))


def _couple_call(coupled: Couplings, call: Call, rule: ast.Rule | None) -> None:
    if rule is None or rule.body is None:
        _give_up(coupled, Origin(call, rule), _why_unknown(call))
        return
    site = Site(coupled, call, rule)
    coupled.sizes_read[call] = site.sizes_read
    try:
        if isinstance(rule.body, ast.Relation):
            VERBS[rule.body.verb](site)
        else:
            match(site, rule.body)
        _write_out(site)
        _apply_clauses(site)
    except Misfit as misfit:
        _give_up(coupled, site.origin, f"rule {rule.name} does not fit this call of {call.name}: {misfit}")


def _why_unknown(call: Call) -> str:
    if isinstance(call.target, type) and issubclass(call.target, torch.jit.ScriptModule):
        return f"{call.module} is compiled by torch.jit; put the Python module in its place while pruning"
    return f"no rule for {call.name}"


def _write_out(site: Site) -> None:
    """``out=`` is a tensor that takes the result, and may be a part of another."""
    out = site.arguments.get("out")
    for one, result in zip(out if isinstance(out, (tuple, list)) else [out], site.call.results):
        if isinstance(one, Value):
            if one.shape != result.shape:
                raise Misfit("the tensor given as out= has another shape")
            for layout, other in zip(site.axes(one), site.axes(result)):
                site.unify(layout, other)


def _give_up(coupled: Couplings, origin: Origin, text: str) -> None:
    """An operation that no rule explains: every axis that goes in or comes out keeps its slots."""
    reason = Reason(text, origin)
    for value in origin.call.values:
        for layout in coupled.of(value):
            block(layout, reason)
    for value in origin.call.results:
        coupled.layouts[value] = [UNIT if size == 1 else Atom(size, reason) for size in value.shape]
    coupled.unknown.append(reason)


def _apply_clauses(site: Site) -> None:
    for clause in site.rule.clauses:
        apply = _CLAUSES.get(type(clause))
        if apply is not None:
            apply(site, clause)
    _note_products(site)
    _note_numbers(site)


def _apply_flow(site: Site, clause: ast.Flow) -> None:
    for layout in site.factors.get(clause.factor, ()):
        if weights_make(site, layout):
            site.coupled.produced.append(Produced(layout, site.origin, clause.factor))


def _apply_mixes(site: Site, clause: ast.Mixes) -> None:
    for factor, layout in _named(site, clause.factors):
        site.coupled.mixed.append(Mixed(layout, site.origin, f"a statistic is taken over '{factor}'"))


def _apply_slides(site: Site, clause: ast.Slides) -> None:
    site.coupled.mixed += [Beside(layout, site.origin) for _, layout in _named(site, clause.factors[:1])]


def _apply_scales(site: Site, clause: ast.Scales) -> None:
    if site.argument(clause.unless or "") is None:
        operand = site.operand(clause.operand)
        for factor, layout in _named(site, [clause.factor]):
            site.coupled.scaled.append(Scaled(operand, layout, clause.power, site.origin, factor))


def _apply_hold(site: Site, clause: ast.Hold) -> None:
    for factor, layout in _named(site, clause.factors):
        site.block(layout, f"{site.rule.name} holds '{factor}'")


def _apply_block(site: Site, clause: ast.Block) -> None:
    for factor, layout in _named(site, clause.factors) if not site.is_unread else ():
        site.block(layout, clause.reason or f"{site.rule.name} holds '{factor}'")


def _apply_tie(site: Site, clause: ast.Tie) -> None:
    sizes = [SizeOf(layout) for _, layout in _named(site, clause.factors)]
    site.coupled.ties += [Equation(first, other, site.origin, "tie") for first, other in pairwise(sizes)]


def _apply_macs(site: Site, clause: ast.Macs) -> None:
    terms = tuple([tuple(_layouts_of(site, dims)) for dims in clause.terms])
    site.coupled.macs.append(CallMacs(site.call, terms))


def _apply_multiple(site: Site, clause: ast.Multiple) -> None:
    site.coupled.multiples += _multiples(site, clause)


def _multiples(site: Site, clause: ast.Multiple) -> Iterable[Multiple]:
    """What a clause demands of a call. One that ran with other sizes is one that can do without."""
    names = {name.lstrip("*") for name in clause.factors}
    for factor, layout, places in site.placed:
        if factor in names:
            widths = [value.dtype.itemsize if clause.bytes else 1 for value, _ in places]
            of = lcm(*(clause.of // gcd(clause.of, width) for width in widths))
            if of > 1 and layout.size % of == 0:
                yield Multiple(layout, of, factor, site.origin, clause.of if clause.bytes else None)


def _apply_positions(site: Site, clause: ast.Positions) -> None:
    """Positions among fewer slots are other ones; the values alone, such as a maximum, are a statistic."""
    first, *others = site.call.results
    positions = others or ([] if first.dtype.is_floating_point else [first])
    for factor, layout in _named(site, clause.factors):
        site.expect_at_least(layout, site.argument("k"))
        if site.coupled.needed.isdisjoint(positions):
            site.coupled.mixed.append(Mixed(layout, site.origin, f"a statistic is taken over '{factor}'"))
        else:
            site.block(layout, "its positions are results")


_CLAUSES: dict[type, Callable[[Site, Any], None]] = {
    ast.Flow: _apply_flow,
    ast.Mixes: _apply_mixes,
    ast.Positions: _apply_positions,
    ast.Slides: _apply_slides,
    ast.Scales: _apply_scales,
    ast.Hold: _apply_hold,
    ast.Block: _apply_block,
    ast.Tie: _apply_tie,
    ast.Multiple: _apply_multiple,
    ast.Macs: _apply_macs,
}


def _note_products(site: Site) -> None:
    """What the rule says of zeros and of multiples, for `exactness` and `temperature`."""
    terms = products = site.terms
    for zero in site.rule.of(ast.Zero):
        terms = _operands(site, zero.terms)
    for multilinear in site.rule.of(ast.Multilinear):
        found = _operands(site, multilinear.terms)
        products = found if any(one is not None for one in found[0]) else None
    summed = frozenset([name.lstrip("*") for sums in site.rule.of(ast.Sums) for name in sums.factors])
    terms = products if terms is None else terms
    if site.placed:
        site.coupled.readings[site.call] = Reading(site.origin, tuple(site.placed), terms, products, summed)
    elif terms == ():
        site.coupled.zeros.add(site.call)
    if isinstance(site.rule.body, ast.Relation) and site.rule.body.verb in MOVES:
        site.coupled.moves.add(site.call)
    if _is_uniform(site, bool(products)):
        site.coupled.uniform.update(site.call.results)
    if not site.coupled.from_input.isdisjoint(site.call.results) and gives_weights(site, terms):
        site.coupled.picked.update(site.call.results)


def _is_uniform(site: Site, multilinear: bool) -> bool:
    """Whether a call makes one number everywhere of tensors that are so, each of a number of its own:
    where it only puts slots elsewhere, or adds up products of its operands."""
    call, uniform = site.call, site.coupled.uniform
    if call in site.coupled.moves:
        source = call.arguments.get("input")
        return isinstance(source, Value) and source in uniform
    return multilinear and bool(call.values) and uniform.issuperset(call.values)


def _operands(site: Site, terms: Iterable[Sequence[str]]) -> tuple[tuple[object, ...], ...]:
    """What the call has in the places of operands, term by term."""
    return tuple(tuple(map(site.operand, term)) for term in terms)


def _note_numbers(site: Site) -> None:
    """A traced size used as a number (a divisor, a temperature) makes the result depend on it.

    What only moves slots computes with none: there it is a position, and must stay.
    """
    body = site.rule.body
    moves = isinstance(body, ast.Relation) and body.verb != "new"
    for name, found in site.arguments.items():
        if name not in site.sizes_read:
            (site.keep if moves else site.depend_on)(found)


def _named(site: Site, names: Iterable[str]) -> Iterable[tuple[str, Layout]]:
    for name in names:
        for layout in site.factors.get(name.lstrip("*"), ()):
            yield name.lstrip("*"), layout


def _layouts_of(site: Site, dims: Iterable[ast.Dim]) -> Iterable[Layout]:
    for dim in dims:
        if isinstance(dim, (ast.Factor, ast.Star)):
            yield from site.factors.get(dim.name, ())
        elif isinstance(dim, ast.Fixed):
            yield Atom(dim.size, Reason("a number"))
        elif isinstance(dim, (ast.Product, ast.Sum)):
            yield from _layouts_of(site, dim.parts)
