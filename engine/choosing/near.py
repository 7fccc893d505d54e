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
from .bundles import Bundle

# How far from the sizes wanted nearer ones are looked for, in steps of one bundle.
FAR = 1024


def broken_plan(said: str, source: Source | None, instead: str = "choose other sizes") -> PlanError:
    """The error for sizes with which the model's own code, or an operation, would not run as it did."""
    where = f" at {source}: {source.text}" if source else ""
    return PlanError(f"with these sizes {said}{where}; {instead}, or skip these groups")


def keep_more(graph: Groups, bundles: Sequence[Bundle]) -> dict[Atom, str]:
    """Where the model's own code would not go along with the sizes, the bundles in the way keep more.

    With all slots the model ran, so this ends. Returns the atoms that thereby keep all their slots, and why.
    """
    whole: dict[Atom, str] = {}
    count = graph.whole_count(counting(bundles))
    watched = graph.checks.watched(count)
    if watched.first is None:
        return whole
    shrinking = _Shrinking(bundles)
    while (first := watched.first) is not None:
        shrunk = shrinking.in_the_way(first)
        if not shrunk:
            raise broken_plan(first.text(count), first.source)
        bundle = min(shrunk, key=lambda bundle: bundle.steps / bundle.whole)
        said = first.text(count)
        bundle.steps = _first_that_holds(bundle, first, count)
        watched.changed(bundle.atoms)
        if bundle.steps == bundle.whole:
            whole.update((group.atom, f"as otherwise {said}") for group in bundle.groups)
    return whole


class _Shrinking:
    """The bundles, found by their atoms."""

    def __init__(self, bundles: Iterable[Bundle]):
        self._found = {
            group.atom: (number, bundle) for number, bundle in enumerate(bundles) for group in bundle.groups
        }

    def in_the_way(self, broken: Check) -> list[Bundle]:
        """Those that shrink and have a part in what does not hold, in order."""
        found = {self._found[atom] for atom in broken.atoms if atom in self._found}
        return [bundle for _, bundle in sorted(found, key=itemgetter(0)) if bundle.steps < bundle.whole]


def _first_that_holds(bundle: Bundle, broken: Check, count: Count) -> int:
    """The next number of steps with which the condition holds; the next at all if it never does alone."""
    before = bundle.steps
    following = bundle.rounded(before + 1)
    try:
        while bundle.steps < bundle.whole:
            bundle.steps = bundle.rounded(bundle.steps + 1)
            if broken.holds(count):
                return bundle.steps
        return following
    finally:
        bundle.steps = before


def nearest(graph: Groups, bundles: Sequence[Bundle]) -> None:
    """Set the bundles' steps to possible ones: if it is enough, one bundle's, up or down; else more stay."""
    count = graph.whole_count(counting(bundles))
    broken = graph.checks.broken(count)
    if broken is None:
        return
    shrunk = _Shrinking(bundles).in_the_way(broken)
    before = [bundle.steps for bundle in shrunk]
    for bundle, steps in _around(shrunk, before):
        bundle.steps = steps
        if broken.holds(count) and graph.checks.broken(count) is None:
            return
        bundle.steps = before[shrunk.index(bundle)]
    keep_more(graph, bundles)


def _around(bundles: Sequence[Bundle], before: Sequence[int]) -> Iterator[tuple[Bundle, int]]:
    """Each bundle at other numbers of steps, the nearest first."""
    for far in range(1, FAR + 1):
        for bundle, now in zip(bundles, before):
            for steps in (now + far, now - far):
                if bundle.least <= steps <= bundle.whole and steps == bundle.rounded(steps):
                    yield bundle, steps
