"""What the page shows, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine import DependencyGraph, Group, Plan
from ..engine.axes import Atom
from ..engine.choosing import macs, parameters
from ..engine.grouping import owner_of
from ..engine.proving import with_stubs
from .flow import Chart, flow
from .questions import questions_of

Numbers = dict[Group, int]  # the groups by their place in the page's list


def data_of(graph: DependencyGraph, plan: Plan | None) -> dict[str, Any]:
    """Everything that the page needs, free of tensors and of objects of the engine."""
    groups = [*graph.groups, *graph.blocked]
    numbers = {group: number for number, group in enumerate(groups)}
    kept = {} if plan is None else {graph.group(name).atom: len(slots) for name, slots in plan.groups.items()}
    pruned = {group for group in groups if group.atom in kept}
    return {
        "summary": summary_of(graph, None if plan is None else kept),
        "groups": [group_of(graph, group, kept) for group in groups],
        "ties": [[numbers[group] for group in tied] for tied in graph.tied() if len(tied) > 1],
        "unknown": unknown_of(graph),
        "flow": flow_of(flow(graph, pruned), numbers, pruned),
        **questions_of(graph, numbers),
    }


def summary_of(graph: DependencyGraph, kept: dict[Atom, int] | None) -> dict[str, Any]:
    """Costs before and, with a plan, after; and how many of what there are."""
    costs = {}
    for name, cost in (("parameters", parameters), ("MACs", macs)):
        before = cost(graph, lambda atom: atom.size)
        after = None if kept is None else cost(graph, lambda atom: kept.get(atom, atom.size))
        costs[name] = [before, after]
    return {
        "costs": costs,
        "layers": len({owner_of(name) or name for name in graph.trace.tensors}),
        "calls": len(graph.trace.calls),
    }


def group_of(graph: DependencyGraph, group: Group, kept: dict[Atom, int]) -> dict[str, Any]:
    """One row of the table of groups, free or blocked."""
    inexact = graph.inexact(group)
    return {
        "name": group.name,
        "kind": group.kind,
        "size": group.size,
        "after": kept.get(group.atom, group.size),
        "layers": group.layers,
        "axes": [f"{member.tensor}[{member.axis}]" for member in group.members],
        "producers": list(group.producers),
        "inexact": None if inexact is None else inexact.text,
        "blocked": group.blocked,
    }


def unknown_of(graph: DependencyGraph) -> list[dict[str, Any]]:
    """The operations without a fitting rule, those that cost something first; one stub for each operation."""
    calls = sorted(graph.unknown, key=lambda call: not call.costs)
    return [
        {"reason": call.reason, "source": call.source, "costs": list(call.costs), "stub": stub}
        for call, stub in with_stubs(calls)
    ]


def flow_of(picture: Chart, numbers: Numbers, pruned: set[Group]) -> dict[str, Any]:
    """The nodes and edges of the graph, by number; pruned groups come before others, blocked ones last."""

    def ordered(groups: Iterable[Group]) -> list[int]:
        ranked = sorted(groups, key=lambda group: (group.blocked is not None, group not in pruned))
        return [numbers[group] for group in ranked]

    node_numbers = {name: number for number, name in enumerate(picture.nodes)}
    return {
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "label": node.label,
                "groups": [numbers[group] for group in node.groups],
            }
            for node in picture.nodes.values()
        ],
        "edges": [
            {"from": node_numbers[start], "to": node_numbers[end], "groups": ordered(groups)}
            for (start, end), groups in picture.edges.items()
        ],
    }
