"""The coupling graph: axes on one side, factor instances on the other, as far as they hold one atom.

A model of ten thousand calls has a hundred thousand of them, and an answer must not take longer than a blink.
So the nodes are numbers: axes from 0 up, factor instances from -1 down (``~number``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

import networkx as nx
from attrs import evolve

from ..axes import Atom, Layout, atoms, resolve
from ..coupling import Coupling, Couplings, Place
from ..tracing import Call
from .paths import cut_points, shortest

Path = list[int]


class CouplingIndex:
    """For every axis of every value the factor instances that have it; built once for all atoms."""

    def __init__(self, coupled: Couplings):
        self.numbers: dict[Place, int] = {}
        self.couplings: list[Coupling] = []
        self.layouts: dict[int, Layout | None] = {}  # of every node; ``None`` for a factor of several
        self.beside: dict[int, list[int]] = {}
        self._of: dict[Call, list[Coupling]] = {}
        self._first: dict[Call, int] = {}
        self._alike = _repeated(coupled)
        self._graphs: dict[Atom, CouplingGraph] = {}
        for call, group in groupby(coupled.couplings, attrgetter("origin.call")):
            couplings = list(group)
            self._of[call] = couplings if len(call.results) < 2 else list(_whole(couplings))
            self._first[call] = len(self.couplings)
            for coupling in self._of[call]:
                node = ~len(self.couplings)
                self.couplings.append(coupling)
                self.layouts[node] = None if coupling.layout is None else resolve(coupling.layout)
                self.beside[node] = [self._beside(coupled, place, node) for place in coupling.places]
        # No way leads through an axis that only one factor instance has, such as a weight's.
        for node in range(-len(self.couplings), 0):
            self.beside[node] = [place for place in self.beside[node] if len(self.beside[place]) > 1]

    def _beside(self, coupled: Couplings, place: Place, node: int) -> int:
        """The number of an axis that a factor instance has."""
        number = self.numbers.get(place)
        if number is None:
            number = self.numbers[place] = len(self.numbers)
            self.layouts[number] = resolve(coupled.of(place[0])[place[1]])
            self.beside[number] = []
        self.beside[number].append(node)
        return number

    def graph(self, atom: Atom) -> CouplingGraph:
        """The part of the graph through which `atom` passes."""
        if atom not in self._graphs:
            self._graphs[atom] = CouplingGraph(self, atom)
        return self._graphs[atom]

    def together(self, node: int) -> Iterable[int]:
        """What is cut at once: all factor instances of a call, in whatever run it was made."""
        if node >= 0:
            return (node,)
        call = self.couplings[~node].origin.call
        calls = [one for one in self._alike.get(call, [call]) if one in self._first]
        starts = [(self._first[one], len(self._of[one])) for one in calls]
        return (~number for first, count in starts for number in range(first, first + count))

    def of(self, call: Call) -> list[Coupling]:
        """The factor instances of a call."""
        return self._of.get(call, [])


def _repeated(coupled: Couplings) -> dict[Call, list[Call]]:
    """The calls that several runs make, by each of them: of one line, in one module, for the same time."""
    if len(coupled.trace.runs) < 2:
        return {}
    alike: dict[tuple, list[Call]] = defaultdict(list)
    for run in coupled.trace.runs:
        times: Counter[tuple] = Counter()
        for call in coupled.trace.calls[run.start : run.stop]:
            times[call.code] += 1
            alike[call.code, times[call.code]].append(call)
    return {call: calls for calls in alike.values() for call in calls}


def _whole(couplings: Iterable[Coupling]) -> Iterator[Coupling]:
    """One factor of one call is one instance, also where a verb has recorded it result by result."""
    found: dict[tuple[str, Place], list[Coupling]] = {}
    for one in couplings:
        found.setdefault((one.factor, one.places[0]), []).append(one)
    for first, *more in found.values():
        yield evolve(first, places=first.places + tuple(place for one in more for place in one.places))


class _Holders(dict[Layout | None, bool]):
    """Whether a layout has slots of an atom, found when it is first asked for."""

    def __init__(self, atom: Atom):
        self[None] = True  # a factor of whatever its axes hold
        self.atom = atom

    def __missing__(self, layout: Layout) -> bool:
        self[layout] = found = any(one is self.atom for one in atoms(layout))
        return found


class _Neighbours(dict[int, list[int]]):
    """The neighbours of a node that hold an atom, found when they are first asked for."""

    def __init__(self, index: CouplingIndex, holders: _Holders):
        self._index = index
        self._holders = holders

    def __missing__(self, node: int) -> list[int]:
        holders, layouts, beside = self._holders, self._index.layouts, self._index.beside[node]
        for one in beside:
            if not holders[layouts[one]]:
                beside = [one for one in beside if holders[layouts[one]]]
                break
        self[node] = beside
        return beside


class CouplingGraph:
    """The axes that hold one atom and the factor instances that hand it on: a bipartite graph.

    ``neighbours`` gives the axes that a factor instance shares with others, or an axis' factor instances.
    """

    def __init__(self, index: CouplingIndex, atom: Atom):
        self._index = index
        self._holders = _Holders(atom)
        self.neighbours = _Neighbours(index, self._holders).__getitem__

    def passes(self, layout: Layout | None) -> bool:
        """Whether a factor of that layout hands the atom on; ``None`` is one of whatever its axes hold."""
        return layout is None or self.holds(layout)

    def holds(self, layout: Layout) -> bool:
        """Whether a layout has slots of the atom."""
        return self._holders[resolve(layout)]

    def path(self, start: Place, ends: Iterable[Place]) -> Path:
        """A shortest way from axis to axis, axes and factor instances in turn; empty if it is the same."""
        first, *lasts = (self._index.numbers.get(place) for place in (start, *ends))
        if first is None or first in lasts:
            return []
        goals = {node: last for last in lasts if last is not None for node in self._factors_at(last)}
        way = shortest(self.neighbours, [first], goals.__contains__)
        return [*way, goals[way[-1]]] if way else []

    def call_with(self, other: CouplingGraph, start: Place) -> Call | None:
        """The nearest call through which this atom passes from `start` on, and the other one as well."""
        couplings, first = self._index.couplings, self._index.numbers.get(start)
        if first is None:
            return None
        way = shortest(self.neighbours, [first], lambda node: node < 0 and other._has(couplings[~node]))
        return couplings[~way[-1]].origin.call if way else None

    def _has(self, coupling: Coupling) -> bool:
        """Whether the atom passes through the call of a factor instance."""
        return any(
            self.passes(one.layout) and any(self._at(self._index.numbers[place]) for place in one.places)
            for one in self._index.of(coupling.origin.call)
        )

    def _at(self, number: int) -> bool:
        return self._holders[self._index.layouts[number]]

    def _factors_at(self, place: int) -> list[int]:
        return self.neighbours(place) if self._at(place) else []

    def steps(self, path: Path) -> list[Coupling]:
        """The factor instances on a path."""
        return [self._index.couplings[~node] for node in path if node < 0]

    def cuts(self, path: Path) -> list[Coupling]:
        """The factor instances on a shortest path whose calls each hold its two ends together."""
        return self.steps(cut_points(self.neighbours, path, self._index.together))

    def network(self) -> nx.Graph:
        """The graph for networkx, its nodes `Place` and `Coupling`."""
        graph = nx.Graph()
        for place, number in self._index.numbers.items():
            graph.add_edges_from((place, self._index.couplings[~one]) for one in self._factors_at(number))
        return graph
