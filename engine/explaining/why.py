"""Explains the graph: why two layers are coupled, or what holds a layer back. What is apart is in `apart`."""

from __future__ import annotations

import re
from collections import defaultdict

from ...errors import PlanError
from ..axes import Atom, SlotRelation, atoms, spread_of
from ..coupling import Coupling
from ..grouping import Group, Groups, Member, owner_of, unknown_name
from ..tracing import Value
from .answer import Explanation
from .parts import AxisGroup
from .reasons import held_by, hops_of
from .why_not import explain_apart


def explain(graph: Groups, a: str, b: str | None = None) -> Explanation:
    """Why the layers, parameters or axes `a` and `b` are coupled or not; alone: what may be pruned of `a`."""
    ours = members_of(graph, a)
    if b is None:
        return _explain_one(graph, a, ours)
    theirs = members_of(graph, b)
    shared = _shared(graph, ours, theirs)
    if not shared:
        return explain_apart(graph, (a, ours), (b, theirs))
    return _explain_coupled(graph, a, b, shared)


def members_of(graph: Groups, name: str) -> list[Member]:
    """The tensor axes that `name` (a layer, a parameter, or ``parameter[axis]``) stands for."""
    axis = re.fullmatch(r"(.*)\[(\d+)\]", name)
    tensor = axis[1] if axis else name
    tensors, aliases = graph.trace.tensors, graph.trace.aliases
    tensor = aliases.get(tensor, tensor)
    if tensor in tensors:
        axes = [int(axis[2])] if axis else range(len(tensors[tensor].shape))
        found = [Member(tensor, one) for one in axes if one < len(tensors[tensor].shape)]
    else:
        names = {one: one for one in tensors} | {
            one: real for one, real in aliases.items() if real in tensors
        }
        inside = dict.fromkeys(real for one, real in names.items() if one.startswith(f"{name}."))
        found = [Member(one, index) for one in inside for index in range(len(tensors[one].shape))]
    if not found:
        raise _no_axes(graph, name, tensor)
    return found


def _no_axes(graph: Groups, name: str, tensor: str) -> PlanError:
    """The error for a name that stands for no axis: a group, a tensor without that axis, or nothing."""
    tensors = graph.trace.tensors
    if tensor in tensors:
        count = len(tensors[tensor].shape)
        there = f"axes 0 to {count - 1}" if count else "no axes"
        return PlanError(f"there is no axis {name!r}; {tensor!r} has {there}")
    group = next((one for one in (*graph.groups, *graph.blocked) if one.name == name), None)
    if group is not None:
        return PlanError(f"{name!r} is a group; ask about an axis that has it, such as '{group.members[0]}'")
    layers = {owner_of(one) for one in tensors}
    return unknown_name("layer, parameter or axis", name, [*tensors, *sorted(layers)])


def _shared(graph: Groups, ours: list[Member], theirs: list[Member]) -> list[tuple[Group, Member, Member]]:
    """The groups that both hold: free ones first, and of those the ones that both produce."""
    held: dict[Atom, Member] = {}
    for member in theirs:
        for atom in atoms(graph.layout(member)):
            held.setdefault(atom, member)
    found: dict[Group, tuple[Group, Member, Member]] = {}
    for member in ours:
        for group in graph.groups_at(member):
            if group.atom in held:
                found.setdefault(group, (group, member, held[group.atom]))

    def rank(one: tuple[Group, Member, Member]) -> tuple[bool, int]:
        return one[0].blocked is not None, -sum(one[0].made_by(side) for side in (ours, theirs))

    return sorted(found.values(), key=rank)


def _explain_coupled(
    graph: Groups, a: str, b: str, shared: list[tuple[Group, Member, Member]]
) -> Explanation:
    (group, start, end), *more = shared
    coupling = graph.coupling_index.graph(group.atom)
    path = coupling.path(graph.place(start), {graph.place(end)})
    steps = coupling.steps(path)
    # A cut at the calls that take the two tensors themselves would always separate them: that is no news.
    own = {graph.place(start)[0], graph.place(end)[0]}
    between = any(_without(own, one) for one in steps)
    hops = dict(zip(steps, hops_of(steps)))
    cuts = tuple(hops[one] for one in coupling.cuts(path) if _without(own, one))
    verb = f"are both {start}" if start == end else "are coupled"
    return Explanation(
        kind="coupled",
        headline=f"{a} and {b} {verb}: group {group.name}, {group.size} slots, {len(group.layers)} layers",
        start=str(start),
        end=str(end),
        path=tuple(hops.values()),
        relation=SlotRelation(*(spread_of(graph.layout(one), group.atom) for one in (start, end))),
        cuts=cuts if between else None,
        also=tuple(f"group {other.name}, {other.size} slots" for other, _, _ in more if other.shared),
        held=held_by(graph, group, start),
    )


def _without(own: set[Value], coupling: Coupling) -> bool:
    return own.isdisjoint(value for value, _ in coupling.places)


def _explain_one(graph: Groups, a: str, ours: list[Member]) -> Explanation:
    held: dict[Group, list[Member]] = defaultdict(list)
    for member in ours:
        for group in graph.groups_at(member):
            held[group].append(member)
    axes = tuple(
        AxisGroup(
            axes=tuple(map(str, members)),
            group=group.name,
            slots=group.size,
            made=group.made_by(ours),
            held=held_by(graph, group, members[0]),
        )
        for group, members in held.items()
    )
    free = [group for group in held if group.blocked is None]
    kind = "free" if any(group.made_by(ours) for group in free) else "follows" if free else "held"
    return Explanation(kind, f"{a} {_VERDICTS[kind]}", axes=axes)


_VERDICTS = {
    "free": "can be pruned",
    "follows": "follows the layers that it reads from",
    "held": "cannot be pruned",
}
