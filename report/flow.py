"""The picture of a model: its layers, the operations that join several of them, and what flows between."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import Factory, define, frozen

from ..engine import DependencyGraph, Group
from ..engine.axes import atoms
from ..engine.grouping import owner_of
from ..engine.tracing import Call, Value

Nodes = dict[str, None]  # an ordered set of names of nodes


@frozen
class Node:
    """A layer (a module with tensors of its own), a joining operation, or an end of the model."""

    name: str
    kind: str
    label: str
    groups: tuple[Group, ...] = ()


@define
class Chart:
    """Nodes by name, and for each pair of them that are joined the groups that flow along."""

    nodes: dict[str, Node] = Factory(dict)
    edges: dict[tuple[str, str], dict[Group, None]] = Factory(dict)


def flow(graph: DependencyGraph, pruned: Collection[Group] = ()) -> Chart:
    """The traced network without the operations that only pass on what one layer made.

    An operation becomes a node of its own where it joins what several layers made. The groups of a node come
    in the order of importance: what it makes, what may be pruned, what is in `pruned`.
    """
    return _Contraction(graph, pruned).run()


class _Contraction:
    """Follows every value back to the nodes that it comes from, call by call."""

    def __init__(self, graph: DependencyGraph, pruned: Collection[Group]):
        self.graph = graph
        self.flow = Chart()
        self.sources: dict[Value, Nodes] = {}
        self.owners = _owners(graph)
        self.groups = _groups_of_owners(graph, self.owners, pruned)

    def run(self) -> Chart:
        for number, value in enumerate(self.graph.trace.inputs):
            self.sources[value] = {self._add(f"input {number}", "input", "input"): None}
        for call in self.graph.trace.calls:
            made = self._pass(call)
            for value in call.results:
                self.sources[value] = made
        for number, value in enumerate(self.graph.trace.outputs):
            self._connect([value], self._add(f"output {number}", "output", "output"))
        ends = {name for edge in self.flow.edges for name in edge}
        self.flow.nodes = {name: node for name, node in self.flow.nodes.items() if name in ends}
        return self.flow

    def _pass(self, call: Call) -> Nodes:
        """The nodes that the results of `call` come from."""
        from_input = self.graph.coupled.from_input
        data = [value for value in call.values if value in from_input]
        # Indices and masks, which have no slots, are no part of the picture where something else flows;
        # what a layer made is, also where nothing is known of its slots.
        data = [value for value in data if self._groups_in(value) or self._is_made(value)] or data
        layers = {
            layer: None
            for value in call.values
            if value not in from_input
            for layer in self._layers(value, call)
        }
        if not data:
            return layers
        for layer in layers:
            self._connect(data, self._add(layer, "layer", layer, self.groups.get(layer, ())))
        if layers:
            return layers
        known = self._sources_of(data)
        if len(known) < 2:
            return known
        join = self._add(f"call {call.index}", "join", call.name.rpartition(".")[2].rstrip("_"))
        self._connect(data, join)
        return {join: None}

    def _is_made(self, value: Value) -> bool:
        """Whether a value comes out of a call that has parameters, and not only out of the model's inputs."""
        return any(self.flow.nodes[name].kind != "input" for name in self.sources.get(value, ()))

    def _layers(self, value: Value, call: Call) -> Nodes:
        """The layers whose parameters `value` is made of; of a shared parameter the one that calls."""
        owners = self.owners.get(value)
        if owners is None:
            return self.sources.get(value, {})
        return {call.module if call.module in owners else owners[0]: None}

    def _sources_of(self, values: Iterable[Value]) -> Nodes:
        return {node: None for value in values for node in self.sources.get(value, ())}

    def _add(self, name: str, kind: str, label: str, groups: Iterable[Group] = ()) -> str:
        self.flow.nodes.setdefault(name, Node(name, kind, label, tuple(groups)))
        return name

    def _connect(self, values: Iterable[Value], to: str) -> None:
        for value in values:
            groups = self._groups_in(value)
            for node in self.sources.get(value, ()):
                if node != to:
                    self.flow.edges.setdefault((node, to), {}).update(groups)

    def _groups_in(self, value: Value) -> dict[Group, None]:
        found = (
            self.graph.group_of(atom) for layout in self.graph.coupled.of(value) for atom in atoms(layout)
        )
        return {group: None for group in found if group is not None}


def _owners(graph: DependencyGraph) -> dict[Value, list[str]]:
    """The modules that own each parameter, several where it is shared; what has only buffers is no layer."""
    tensors = graph.trace.tensors
    names = [*((name, name) for name in tensors), *graph.trace.aliases.items()]
    owners: dict[Value, list[str]] = {}
    for name, first in names:
        owners.setdefault(tensors[first], []).append(owner_of(name) or name)
    with_parameters = {
        owner for value, found in owners.items() if value.kind == "parameter" for owner in found
    }
    return {value: found for value, found in owners.items() if with_parameters.issuperset(found)}


def _groups_of_owners(
    graph: DependencyGraph, owners: dict[Value, list[str]], pruned: Collection[Group]
) -> dict[str, list[Group]]:
    """The groups of each layer, the most important first."""
    found: dict[str, dict[Group, None]] = {}
    for group in [*graph.groups, *graph.blocked]:
        for member in group.members:
            for layer in owners.get(graph.trace.tensors[member.tensor], ()):
                found.setdefault(layer, {})[group] = None

    makers = {
        group: {producer.rpartition(".")[0] for producer in group.producers}
        for group in [*graph.groups, *graph.blocked]
    }

    def rank(group: Group, layer: str) -> tuple[bool, bool, bool]:
        return layer not in makers[group], group.blocked is not None, group not in pruned

    return {layer: sorted(groups, key=lambda group: rank(group, layer)) for layer, groups in found.items()}
