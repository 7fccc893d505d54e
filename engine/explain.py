"""Explains the graph: why two layers are coupled or not, what holds a layer back, what has no rule."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import networkx as nx
import numpy as np
from attrs import field, frozen

from .axes import Atom, Reason, atoms, spread
from .couplings import Coupling, Place
from .groups import Group, Groups, Member, unknown_name
from .origin import Origin


@frozen
class Hop:
    """One step of a path: this rule's factor, in this call of an operation, relates two axes."""

    operation: str
    rule: str
    factor: str
    rule_at: str
    source: str
    text: str
    module: str

    def row(self) -> tuple[str, ...]:
        """The columns of the printed path."""
        return self.operation, self.factor, f"{self.rule} {self.rule_at}", self.source, self.text


@frozen
class Explanation:
    """The answer to `why`: a headline, the path from axis to axis if there is one, and remarks."""

    headline: str
    start: str = ""
    end: str = ""
    path: tuple[Hop, ...] = ()
    remarks: tuple[str, ...] = field(factory=tuple)

    def __str__(self) -> str:
        lines = [self.headline]
        if self.start:
            lines += ["", f"  {self.start}", *_columns([hop.row() for hop in self.path])]
            lines += [f"  {self.end}"] if self.end else []
        if self.remarks:
            lines += ["", *(f"  {remark}" for remark in self.remarks)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        path = [
            {
                name: getattr(hop, name)
                for name in ("operation", "factor", "rule", "rule_at", "source", "text", "module")
            }
            for hop in self.path
        ]
        return {
            "headline": self.headline,
            "start": self.start,
            "end": self.end,
            "path": path,
            "remarks": list(self.remarks),
        }


def explain(graph: Groups, a: str, b: str | None = None) -> Explanation:
    """Why the layers, parameters or axes `a` and `b` are coupled or not; alone: what may be pruned of `a`."""
    ours = _members(graph, a)
    if b is None:
        return _explain_one(graph, a, ours)
    theirs = _members(graph, b)
    shared = _shared(graph, a, ours, b, theirs)
    if shared is None:
        return _explain_apart(graph, a, ours, b, theirs)
    atom, start, end = shared
    return _explain_coupled(graph, a, b, atom, start, end)


def _members(graph: Groups, name: str) -> list[Member]:
    """The tensor axes that `name` (a layer, a parameter, or ``parameter[axis]``) stands for."""
    axis = re.fullmatch(r"(.*)\[(\d+)\]", name)
    tensor = axis[1] if axis else name
    tensor = graph.trace.aliases.get(tensor, tensor)
    tensors = graph.trace.tensors
    if tensor in tensors:
        axes = [int(axis[2])] if axis else range(len(tensors[tensor].shape))
        found = [Member(tensor, one) for one in axes if one < len(tensors[tensor].shape)]
    else:
        inside = [one for one in tensors if one.startswith(f"{name}.")]
        found = [Member(one, index) for one in inside for index in range(len(tensors[one].shape))]
    if not found:
        layers = {one.rpartition(".")[0] for one in tensors}
        raise unknown_name(name, [*tensors, *layers])
    return found


def _groups_at(graph: Groups, member: Member) -> list[Group]:
    found = (graph.group_of(atom) for atom in atoms(graph.layout(member)))
    return list(dict.fromkeys(group for group in found if group is not None))


def _shared(
    graph: Groups, a: str, ours: list[Member], b: str, theirs: list[Member]
) -> tuple[Atom, Member, Member] | None:
    """A group that both hold: one that both produce before one that either only reads."""
    held: dict[Atom, Member] = {}
    for member in theirs:
        for group in _groups_at(graph, member):
            held.setdefault(group.atom, member)
    found: list[tuple[bool, int, int, Atom, Member]] = []
    for member in ours:
        for group in _groups_at(graph, member):
            if group.atom in held:
                made = sum(any(p.rpartition(".")[0] == name for p in group.producers) for name in (a, b))
                found.append((group.blocked is not None, -made, len(found), group.atom, member))
    if not found:
        return None
    _, _, _, atom, start = min(found, key=lambda one: one[:3])
    return atom, start, held[atom]


def _explain_coupled(graph: Groups, a: str, b: str, atom: Atom, start: Member, end: Member) -> Explanation:
    group = graph.group_of(atom)
    assert group is not None
    path = _path(graph, atom, _place(graph, start), _place(graph, end))
    headline = f"{a} and {b} are coupled: group {group.name}, {group.size} slots, {len(group.layers)} layers"
    remarks = [_relation(graph, group, start, end), *_state_of(graph, group)]
    return Explanation(headline, _axis(start), _axis(end), tuple(_hop(one) for one in path), tuple(remarks))


def _path(graph: Groups, atom: Atom, start: Place, end: Place) -> list[Coupling]:
    """The shortest chain of factor instances between two axes, through axes that hold the atom."""
    bipartite = nx.Graph()
    for coupling in graph.couplings_of[atom]:
        for place in coupling.places:
            if any(one is atom for one in atoms(graph.layout_at(place))):
                bipartite.add_edge(coupling, place)
    if start == end or start not in bipartite or end not in bipartite:
        return []
    try:
        nodes = nx.shortest_path(bipartite, start, end)
    except nx.NetworkXNoPath:
        return []
    return [node for node in nodes if isinstance(node, Coupling)]


def _explain_apart(graph: Groups, a: str, ours: list[Member], b: str, theirs: list[Member]) -> Explanation:
    remarks = []
    for name, members in ((a, ours), (b, theirs)):
        for member in members:
            for group in _groups_at(graph, member):
                others = [layer for layer in group.layers if layer != member.tensor.rpartition(".")[0]]
                nearest = f"; nearest coupled: {', '.join(others[:3])}" if others else ""
                role = "made here" if _made_by(group, name) else "read here"
                state = "" if group.blocked is None else f" (blocked: {group.blocked})"
                remarks.append(f"{_axis(member)}: {group.name}, {role}{nearest}{state}")
    tied = _tie_between(graph, ours, theirs)
    if tied:
        headline = f"{a} and {b} share no slots, but are tied: they shrink by the same proportion"
        return Explanation(headline, remarks=(*tied, *dict.fromkeys(remarks)))
    headline = f"{a} and {b} are not coupled: no axis of the one holds slots of the other"
    return Explanation(headline, remarks=tuple(dict.fromkeys(remarks)))


def _tie_between(graph: Groups, ours: list[Member], theirs: list[Member]) -> list[str]:
    """The equations that tie a group of ours with one of theirs."""
    ties = graph.sizes.ties
    theirs_tied = {ties.root(group.atom) for member in theirs for group in _groups_at(graph, member)}
    tied = (group for member in ours for group in _groups_at(graph, member))
    return next((_tie_causes(graph, group) for group in tied if ties.root(group.atom) in theirs_tied), [])


def _tie_causes(graph: Groups, group: Group) -> list[str]:
    """The equations that tie `group` itself; where it is only tied through others, one of theirs."""
    lines: dict[str, bool] = {}
    for cause in graph.sizes.ties.causes.get(graph.sizes.ties.root(group.atom), ()):
        sides = graph.sizes.free_atoms(cause.left), graph.sizes.free_atoms(cause.right)
        where = f"  {cause.where.short}    {cause.where.text}" if cause.where else ""
        text = f"{graph.sizes.describe(cause.left)} == {graph.sizes.describe(cause.right)}"
        lines.setdefault(f"because {text}{where}", any(group.atom in side for side in sides))
    own = [line for line, involved in lines.items() if involved]
    more = [f"and {len(own) - 3} more equations"] if len(own) > 3 else []
    return own[:3] + more or list(lines)[:1]


def _some(tie: tuple[tuple[str, int], ...]) -> str:
    """The first few of the tied groups, and how many more there are."""
    names = ", ".join(f"{name} ({size})" for name, size in tie[:3])
    return names + (f" and {len(tie) - 3} more" if len(tie) > 3 else "")


def _explain_one(graph: Groups, a: str, ours: list[Member]) -> Explanation:
    held: dict[Group, list[Member]] = defaultdict(list)
    for member in ours:
        for group in _groups_at(graph, member):
            held[group].append(member)
    free = [group for group in held if group.blocked is None]
    lines = []
    for group, members in held.items():
        where = ", ".join(_axis(member) for member in members)
        role = "made here" if _made_by(group, a) else "read here"
        lines.append(f"{where}: group {group.name}, {group.size} slots, {role}")
        lines += [f"  {line}" for line in _state_of(graph, group)]
    verdict = (
        "can be pruned"
        if any(_made_by(group, a) for group in free)
        else ("follows the layers that it reads from" if free else "cannot be pruned")
    )
    return Explanation(f"{a} {verdict}", remarks=tuple(lines))


def _state_of(graph: Groups, group: Group) -> list[str]:
    """What holds a group back, or what it is tied with."""
    if group.blocked is not None:
        return [f"blocked: {_reason(group.atom.reason)}"]
    if group.tie is not None:
        return [f"tied with {_some(group.tie)}", *_tie_causes(graph, group)]
    if not group.producers:
        return ["nothing produces these slots, so they only follow"]
    inexact = graph.inexact(group)
    return [] if inexact is None else [f"removing a slot is not the same as zeroing it: {_reason(inexact)}"]


def _reason(reason: Reason | None) -> str:
    if reason is None:
        return ""
    origin = reason.origin
    if isinstance(origin, Origin):
        source = origin.call.source
        rule = f", rule {origin.rule.name} {origin.rule.span}" if origin.rule else ""
        return f"{reason.text} ({origin.call.name} at {source.short}: {source.text}{rule})"
    return reason.text


def _relation(graph: Groups, group: Group, start: Member, end: Member) -> str:
    """How the indices of two axes belong together, slot by slot."""
    one, other = (_formula(*spread(graph.layout(member))[group.atom], group.size) for member in (start, end))
    return f"slot {one} of the one {'is' if one == other else 'goes with'} slot {other} of the other."


def _formula(where: np.ndarray, slots: np.ndarray, size: int) -> str:
    """``i``, ``64 + i``, or how many indices slot i has."""
    start = f"{where[0]} + " if where[0] else ""
    if len(where) == size and (where == where[0] + slots).all():
        return f"{start}i"
    each = len(where) // size
    if (
        each * size == len(where)
        and (where == where[0] + np.arange(len(where))).all()
        and (slots[:each] == 0).all()
    ):
        return f"{start}{each} i to {start}{each} i + {each - 1}"
    return f"i (at {each} indices)"


def _place(graph: Groups, member: Member) -> Place:
    return graph.trace.tensors[member.tensor], member.axis


def _axis(member: Member) -> str:
    return f"{member.tensor}[{member.axis}]"


def _made_by(group: Group, name: str) -> bool:
    layer = re.sub(r"\[\d+\]$", "", name)
    return any(
        layer in (p.rpartition(".")[0], p) or layer.startswith(f"{p.rpartition('.')[0]}.")
        for p in group.producers
    )


def _hop(coupling: Coupling) -> Hop:
    call, rule = coupling.origin.call, coupling.origin.rule
    return Hop(
        operation=call.name.rpartition(".")[2],
        rule=rule.name if rule else "",
        factor=coupling.factor,
        rule_at=str(rule.span).rpartition("/")[2] if rule else "",
        source=call.source.short,
        text=call.source.text,
        module=call.module,
    )


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        "    " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip()
        for row in rows
    ]
