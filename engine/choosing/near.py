"""Sizes near those wanted with which the model's own code, and its operations, run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from ...errors import PlanError
from ..axes import Atom
from ..grouping import Groups
from ..sizes import Check, Count
from ..tracing import Source
from .budget import counting
from .units import Unit

# How far from the sizes wanted nearer ones are looked for, in steps of one unit.
FAR = 1024


def broken_plan(said: str, source: Source | None, instead: str = "choose other sizes") -> PlanError:
    """The error for sizes with which the model's own code, or an operation, would not run as it did."""
    where = f" at {source}: {source.text}" if source else ""
    return PlanError(f"with these sizes {said}{where}; {instead}, or skip these groups")


def keep_more(graph: Groups, units: Sequence[Unit]) -> dict[Atom, str]:
    """Where the model's own code would not go along with the sizes, the units in the way keep more.

    With all slots the model ran, so this ends. Returns the atoms that thereby keep all their slots, and why.
    """
    whole: dict[Atom, str] = {}
    count = graph.whole_count(counting(units))
    watched = graph.checks.watched(count)
    if watched.first is None:
        return whole
    shrinking = _Shrinking(units)
    while (first := watched.first) is not None:
        shrunk = shrinking.in_the_way(first)
        if not shrunk:
            raise broken_plan(first.text(count), first.source)
        unit = min(shrunk, key=lambda unit: unit.steps / unit.whole)
        said = first.text(count)
        unit.steps = _first_that_holds(unit, first, count)
        watched.changed(unit.atoms)
        if unit.steps == unit.whole:
            whole.update((group.atom, f"as otherwise {said}") for group in unit.groups)
    return whole


class _Shrinking:
    """The units, found by their atoms."""

    def __init__(self, units: Iterable[Unit]):
        self._found = {
            group.atom: (number, unit) for number, unit in enumerate(units) for group in unit.groups
        }

    def in_the_way(self, broken: Check) -> list[Unit]:
        """Those that shrink and have a part in what does not hold, in order."""
        found = {self._found[atom] for atom in broken.atoms if atom in self._found}
        return [unit for _, unit in sorted(found, key=itemgetter(0)) if unit.steps < unit.whole]


def _first_that_holds(unit: Unit, broken: Check, count: Count) -> int:
    """The next number of steps with which the condition holds; the next at all if it never does alone."""
    before = unit.steps
    following = unit.rounded(before + 1)
    try:
        while unit.steps < unit.whole:
            unit.steps = unit.rounded(unit.steps + 1)
            if broken.holds(count):
                return unit.steps
        return following
    finally:
        unit.steps = before


def nearest(graph: Groups, units: Sequence[Unit]) -> None:
    """Set the units' steps to possible ones: where it is enough, one unit's, up or down; else more stay."""
    count = graph.whole_count(counting(units))
    broken = graph.checks.broken(count)
    if broken is None:
        return
    shrunk = _Shrinking(units).in_the_way(broken)
    before = [unit.steps for unit in shrunk]
    for unit, steps in _around(shrunk, before):
        unit.steps = steps
        if broken.holds(count) and graph.checks.broken(count) is None:
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
