"""What the page needs to answer `why` by itself: the coupling graph and the traced network, by numbers.

The page's why.js and apart.js follow `engine.explain` and `engine.apart` over this data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from ..engine import DependencyGraph, Group, Member
from ..engine.axes import Layout, Spread, atoms, spreads_of
from ..engine.coupling import Place
from ..engine.explaining import because_of, held_by, hop_of
from ..engine.tracing import Call, Origin, Value


class Table:
    """Numbers for things in the order in which they are first met."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __call__(self, item: Hashable) -> int:
        return self._numbers.setdefault(item, len(self._numbers))

    def items(self) -> list[Any]:
        """Everything that has a number, in order."""
        return list(self._numbers)


def questions_of(graph: DependencyGraph, numbers: dict[Group, int]) -> dict[str, Any]:
    """The data behind the page's answers; `numbers` are those of the groups."""
    return _Questions(graph, numbers).data()


class _Questions:
    """Gathers the data, giving numbers to texts, values, spreads and sets of groups as they come."""

    def __init__(self, graph: DependencyGraph, numbers: dict[Group, int]):
        self.graph = graph
        self.numbers = numbers
        self.texts, self.values, self.spreads, self.runs, self.sets = (Table() for _ in range(5))

    def data(self) -> dict[str, Any]:
        """Lists that refer to one another by number.

        ``calls`` are operation, rule, rule's place, source, its text and module (numbers of ``texts``), then
        the values that go in and come out. ``couplings`` and ``readings`` are call, factor, the set of groups
        of the factor's layout (-1 if it has none) and then places, each a value and an axis. ``sets`` are
        groups; ``axes`` gives the set of each axis of each value. ``tensors`` are name, value, and for each
        axis its groups with their spreads; ``held`` is what holds each group back, as lines;
        ``equations`` are those of ties: pairs of atoms with the number of a text, and the atom of each group.
        """
        graph, trace = self.graph, self.graph.trace
        index, readings = graph.coupling_index, graph.coupled.readings
        number = {call: number for number, call in enumerate(trace.calls)}
        data = {
            "calls": [self._call(call) for call in trace.calls],
            "couplings": [
                self._factor(number[call], one.factor, one.layout, one.places)
                for call in trace.calls
                for one in index.of(call)
            ],
            "readings": [
                self._factor(number[call], *held)
                for call, reading in readings.items()
                for held in reading.factors
            ],
            "tensors": [self._tensor(name, value) for name, value in trace.tensors.items()],
            "aliases": trace.aliases,
            "held": [self._held(group) for group in self.numbers],
            "equations": self._equations(),
        }
        values = self.values.items()
        return {
            **data,
            "axes": [[self._set_of(layout) for layout in graph.coupled.of(value)] for value in values],
            "from_input": [
                number for number, value in enumerate(values) if value in graph.coupled.from_input
            ],
            "spreads": [self._spread(spread) for spread in self.spreads.items()],
            "sets": self.sets.items(),
            "texts": self.texts.items(),
        }

    def _call(self, call: Call) -> list[Any]:
        hop = hop_of(Origin(call, self.graph.rules.rule_for(call.target)))
        texts = hop.operation, hop.rule, hop.rule_at, hop.source, hop.text, hop.module
        return [
            *map(self.texts, texts),
            list(map(self.values, call.values)),
            list(map(self.values, call.results)),
        ]

    def _factor(self, call: int, factor: str, layout: Layout | None, places: Iterable[Place]) -> list[int]:
        flat = [number for value, axis in places for number in (self.values(value), axis)]
        return [call, self.texts(factor), -1 if layout is None else self._set_of(layout), *flat]

    def _tensor(self, name: str, value: Value) -> list[Any]:
        axes = []
        for axis, layout in enumerate(self.graph.coupled.of(value)):
            spreads = spreads_of(layout)
            groups = self.graph.groups_at(Member(name, axis))
            axes.append([[self.numbers[group], self.spreads(spreads[group.atom])] for group in groups])
        return [name, self.values(value), axes]

    def _spread(self, spread: Spread) -> dict[str, Any]:
        first = spread.runs[0]
        return {
            "text": str(spread),
            "each": spread.each,
            "inverse": spread.inverse(),
            "single": spread.each == 1 and first.step == 1,
            "start": first.start,
            "slots": spread.slots,
            "whole": spread.whole,
            "runs": self.runs(spread.runs),
        }

    def _held(self, group: Group) -> list[str]:
        return [line for held in held_by(self.graph, group, group.members[0]) for line in held.lines()]

    def _equations(self) -> dict[str, Any]:
        atoms, causes = Table(), Table()
        ties = [
            [atoms(one), atoms(other), causes(cause)] for one, other, cause in self.graph.sizes.ties.edges()
        ]
        return {
            "ties": ties,
            "texts": [str(because_of(self.graph, cause)) for cause in causes.items()],
            "atoms": [atoms(group.atom) for group in self.numbers],
        }

    def _set_of(self, layout: Layout) -> int:
        groups = (self.graph.group_of(atom) for atom in atoms(layout))
        return self.sets(tuple(dict.fromkeys(self.numbers[group] for group in groups if group is not None)))
