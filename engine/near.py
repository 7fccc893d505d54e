"""Sizes near those wanted with which the model's own code, and its operations, run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import PlanError
from .axes import Atom
from .budget import counts
from .equations import Violation
from .groups import Groups
from .units import Unit

# How far from the sizes wanted nearer ones are looked for, in steps of one unit.
FAR = 1024


def broken_plan(violation: Violation, instead: str = "choose other sizes") -> PlanError:
    """The error for sizes with which the model's own code, or an operation, would not run as it did."""
    where = f" at {violation.source}: {violation.source.text}" if violation.source else ""
    return PlanError(f"with these sizes {violation.text}{where}; {instead}, or skip these groups")


def keep_more(graph: Groups, units: Sequence[Unit]) -> dict[Atom, str]:
    """Where the model's own code would not go along with the sizes, the units in the way keep more.

    With all slots the model ran, so this ends. Returns the atoms that thereby keep all their slots, and why.
    """
    whole: dict[Atom, str] = {}
    while broken := graph.violations(counts(units)):
        first = broken[0]
        shrunk = _shrunk(units, first)
        if not shrunk:
            raise broken_plan(first)
        unit = min(shrunk, key=lambda unit: unit.steps / unit.whole)
        unit.steps = _first_that_holds(graph, units, unit, first)
        if unit.steps == unit.whole:
            whole.update((group.atom, f"as otherwise {first.text}") for group in unit.groups)
    return whole


def _shrunk(units: Iterable[Unit], broken: Violation) -> list[Unit]:
    """The units in the way."""
    return [
        unit
        for unit in units
        if unit.steps < unit.whole and any(group.atom in broken.atoms for group in unit.groups)
    ]


def _first_that_holds(graph: Groups, units: Sequence[Unit], unit: Unit, broken: Violation) -> int:
    """The next number of steps with which the condition holds; the next at all if it never does alone."""
    before = unit.steps
    following = unit.rounded(before + 1)
    try:
        while unit.steps < unit.whole:
            unit.steps = unit.rounded(unit.steps + 1)
            if broken.holds(graph.whole_count(counts(units))):
                return unit.steps
        return following
    finally:
        unit.steps = before


def nearest(graph: Groups, units: Sequence[Unit]) -> None:
    """Set the units' steps to possible ones: where it is enough, one unit's, up or down; else more stay."""
    broken = graph.violations(counts(units))
    if not broken:
        return
    shrunk = _shrunk(units, broken[0])
    before = [unit.steps for unit in shrunk]
    for unit, steps in _around(shrunk, before):
        unit.steps = steps
        if broken[0].holds(graph.whole_count(counts(units))) and not graph.violations(counts(units)):
            return
        unit.steps = before[shrunk.index(unit)]
    keep_more(graph, units)


def _around(units: Sequence[Unit], before: Sequence[int]) -> Iterator[tuple[Unit, int]]:
    """Each unit at other numbers of steps, the nearest first."""
    for far in range(1, FAR + 1):
        for unit, now in zip(units, before):
            for steps in (now + far, now - far):
                if unit.least <= steps <= unit.whole and steps == unit.rounded(steps):
                    yield unit, steps
