"""The coupling graph: axes on one side, factor instances on the other, as far as they hold one atom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any

import networkx as nx
from attrs import evolve

from .axes import Atom, Layout, atoms
from .couplings import Coupling, Couplings, Place
from .paths import cut_points, shortest
from .values import Call

Node = Any  # a Coupling or a Place


class CouplingIndex:
    """For every axis of every value the factor instances that have it; built once for all atoms."""

    def __init__(self, state: Couplings):
        self.state = state
        self.at: dict[Place, list[Coupling]] = defaultdict(list)
        self._of: dict[Call, list[Coupling]] = defaultdict(list)
        for coupling in _whole(state.couplings):
            self._of[coupling.origin.call].append(coupling)
            for place in dict.fromkeys(coupling.places):
                self.at[place].append(coupling)
        self._graphs: dict[Atom, CouplingGraph] = {}

    def graph(self, atom: Atom) -> CouplingGraph:
        """The part of the graph through which `atom` passes."""
        return self._graphs.setdefault(atom, CouplingGraph(self, atom))

    def of(self, call: Call) -> list[Coupling]:
        """The factor instances of a call."""
        return self._of.get(call, [])


def _whole(couplings: Iterable[Coupling]) -> Iterator[Coupling]:
    """One factor of one call is one instance, also where a verb has recorded it result by result."""
    found: dict[tuple, list[Coupling]] = defaultdict(list)
    for one in couplings:
        found[one.origin.call, one.factor, one.places[0]].append(one)
    for first, *more in found.values():
        places = tuple(place for one in more for place in one.places)
        yield evolve(first, places=first.places + places) if more else first


class CouplingGraph:
    """The axes that hold one atom and the factor instances that hand it on: a bipartite graph."""

    def __init__(self, index: CouplingIndex, atom: Atom):
        self._index = index
        self._atom = atom
        self._known: dict[int, bool] = {}

    def neighbours(self, node: Node) -> list[Node]:
        """The axes of a factor instance, or the factor instances of an axis."""
        if type(node) is Coupling:
            return [place for place in node.places if self.holds(place)]
        return [one for one in self._index.at.get(node, ()) if self.passes(one.layout)]

    def passes(self, layout: Layout | None) -> bool:
        """Whether a factor of that layout hands the atom on; ``None`` is one of whatever its axes hold."""
        return layout is None or self._in(layout)

    def holds(self, place: Place) -> bool:
        """Whether the axis has slots of the atom."""
        return self._in(self._index.state.of(place[0])[place[1]])

    def _in(self, layout: Layout) -> bool:
        known = self._known.get(id(layout))
        if known is None:
            known = self._known[id(layout)] = any(one is self._atom for one in atoms(layout))
        return known

    def path(self, start: Place, ends: Container[Place]) -> list[Node]:
        """A shortest way from axis to axis: place, coupling, place, ...; empty if there is none."""
        return shortest(self.neighbours, [start], ends)

    def cuts(self, path: list[Node]) -> list[Coupling]:
        """The factor instances on a shortest path whose calls each hold its two ends together.

        The calls that take the ends' own tensors are left out: they always separate a layer from the rest.
        """
        ends = {path[0][0], path[-1][0]}
        found = cut_points(self.neighbours, path, _unit)
        couplings = (node for node in found if type(node) is Coupling)
        return [one for one in couplings if not any(value in ends for value, _ in one.places)]

    def network(self, start: Place) -> nx.Graph:
        """All that is connected with an axis, as a networkx graph of places and couplings."""
        graph = nx.Graph()
        graph.add_node(start)
        todo, seen = [start], {start}
        while todo:
            node = todo.pop()
            for other in self.neighbours(node):
                graph.add_edge(node, other)
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return graph


def _unit(node: Node) -> Any:
    """What is cut at once: all of a call."""
    return node.origin.call if type(node) is Coupling else node
