"""Why two layers are not coupled: where the slots of each end on the way, and what is coupled instead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from ..axes import Atom, atoms
from ..coupling import Place
from ..grouping import Group, Groups, Member, shortest
from ..tracing import Call, Origin, Value
from .answer import Explanation
from .parts import AxisGroup, End, Held, Meeting, Near
from .reasons import because_of, held_by, hop_of

Named = tuple[str, Sequence[Member]]


def explain_apart(graph: Groups, one: Named, other: Named) -> Explanation:
    """The answer for two names that share no group."""
    way = _way(graph, one[1], other[1])
    axes = [*_axes(graph, one, way), *_axes(graph, other, way[::-1])]
    tied = _tie_between(graph, one[1], other[1])
    names = f"{one[0]} and {other[0]}"
    unknown = _unknown_to_both(graph, one[1], other[1])
    if unknown:
        headline = f"{names} may be coupled: {unknown}, and it holds axes of both"
    elif tied:
        headline = f"{names} share no slots, but are tied: they shrink by the same proportion"
    else:
        headline = f"{names} are not coupled: no axis of the one holds slots of the other"
    return Explanation(
        kind="unknown" if unknown else "tied" if tied else "apart",
        headline=headline,
        held=tied,
        axes=tuple(dict.fromkeys(axes)),
        meeting=_meeting(graph, way or [graph.place(one[1][0])[0]], one[1], other[1]),
    )


def _unknown_to_both(graph: Groups, ours: Sequence[Member], theirs: Sequence[Member]) -> str | None:
    """Why nobody knows: a call that no rule explains holds axes of both, and may well couple them."""
    texts = {reason.text for reason in graph.coupled.unknown}
    for side in (ours, theirs):
        groups = (group for member in side for group in graph.groups_at(member))
        texts &= {group.blocked for group in groups if group.blocked is not None}
    return min(texts, default=None)


def _axes(graph: Groups, named: Named, way: Sequence[Any]) -> Iterator[AxisGroup]:
    """The groups of one side, each with where it ends on the way to the other side."""
    name, members = named
    for group, found in _wide(graph, members).items():
        yield AxisGroup(
            axes=tuple(map(str, found)),
            group=group.name,
            slots=group.size,
            made=group.made_by(members),
            held=tuple(one for one in held_by(graph, group, found[0]) if one.kind == "blocked"),
            end=_end(graph, group, way),
            near=_nearest(graph, group, name, found),
        )


def _wide(graph: Groups, members: Sequence[Member]) -> dict[Group, list[Member]]:
    """The groups of these axes. Those that one tensor has alone, such as the extents of a kernel, are left
    out where there are others."""
    held: dict[Group, list[Member]] = defaultdict(list)
    for member in members:
        for group in graph.groups_at(member):
            held[group].append(member)
    wide = {group: found for group, found in held.items() if group.shared}
    return wide or held


def _tie_between(graph: Groups, ours: Sequence[Member], theirs: Sequence[Member]) -> tuple[Held, ...]:
    """The equations through which a group of ours is tied with one of theirs."""
    for one, other in product(*(_wide(graph, side) for side in (ours, theirs))):
        causes = graph.sizes.ties.between(one.atom, other.atom)
        if causes:
            text = f"{one.name} ({one.size}) is tied with {other.name} ({other.size})"
            because = tuple(because_of(graph, cause) for cause in causes)
            return (Held("tied", text, tied=((other.name, other.size),), equations=because),)
    return ()


def _way(graph: Groups, ours: Sequence[Member], theirs: Sequence[Member]) -> list[Any]:
    """A shortest way between tensors of the two: value, call, value, ...; with the data if it goes."""
    starts, ends = ([graph.place(member)[0] for member in side] for side in (ours, theirs))
    return (
        _way_along(graph, starts, ends)
        or _way_along(graph, ends, starts)[::-1]
        or shortest(graph.flow.neighbours, starts, set(ends).__contains__)
    )


def _way_along(graph: Groups, starts: Sequence[Value], ends: Sequence[Value]) -> list[Any]:
    """A shortest way from calls that take one of `starts` to one that takes one of `ends`."""
    readers = {call: value for value in ends for call in graph.flow.following(value)}
    way = shortest(graph.flow.following, starts, readers.__contains__)
    return [*way, readers[way[-1]]] if way else []


def _end(graph: Groups, group: Group, way: Sequence[Any]) -> End | None:
    """Where the group ends on the way, and how it comes to that."""
    found = _last(graph, group, way)
    if found is None:
        return None
    call, following = found
    factor, text = _how_it_ends(graph, call, following, group.atom)
    return End(text, hop_of(_origin_of(graph, call), factor))


def _last(graph: Groups, group: Group, way: Sequence[Any]) -> tuple[Call, Value] | None:
    """The first call on the way behind which no axis holds the group, and the value behind it."""
    for call, value in zip(way[1::2], way[2::2]):
        gone = not any(group.atom in set(atoms(layout)) for layout in graph.coupled.of(value))
        if gone or value is way[-1]:
            return call, value
    return None


def _origin_of(graph: Groups, call: Call) -> Origin:
    return Origin(call, graph.rules.rule_for(call.target))


def _how_it_ends(graph: Groups, call: Call, following: Value, atom: Atom) -> tuple[str, str]:
    """The factor of a call that has the atom, and why the value that follows on the way has it not."""
    for factor, places in _factors(graph, call, atom):
        values = {value for value, _ in places}
        results = values.intersection(call.results)
        if not results:
            return factor, f"`{factor}` is summed here"
        if following not in call.results and not graph.coupled.from_input & (values - results):
            return factor, f"`{factor}` is a new axis here"
    return "", "these slots do not go that way"


def _factors(graph: Groups, call: Call, atom: Atom) -> Iterator[tuple[str, list[Place]]]:
    """The factors of a call through which an atom passes, each with its axes that hold the atom."""
    coupling = graph.coupling_index.graph(atom)
    reading = graph.coupled.readings.get(call)
    named = [(one.factor, one.layout, one.places) for one in graph.coupling_index.of(call)]
    named += reading.factors if reading else ()
    for factor, layout, places in named:
        if coupling.passes(layout):
            having = [place for place in places if coupling.holds(graph.layout_at(place))]
            if having:
                yield factor, having


def _nearest(graph: Groups, group: Group, name: str, members: Sequence[Member]) -> Near | None:
    """The layer with slots of the group that is fewest calls away in the traced network."""
    own = {member.layer for member in members}
    others = {
        graph.place(member)[0]: member.layer
        for member in group.members
        if member.layer not in own and not member.tensor.startswith(f"{name}.")
    }
    if not others:
        return None
    way = shortest(graph.flow.neighbours, [graph.place(member)[0] for member in members], others.__contains__)
    return Near(others[way[-1]], max(len(way) // 2 - 1, 0)) if way else None


def _meeting(
    graph: Groups, way: Sequence[Any], ours: Sequence[Member], theirs: Sequence[Member]
) -> Meeting | None:
    """A call that has slots of both: where the one ends or the other on the way, or else behind both."""
    sides = [_wide(graph, members) for members in (ours, theirs)]
    ends = [_last(graph, group, way) for group in sides[0]]
    ends += [_last(graph, group, way[::-1]) for group in sides[1]]
    calls = [end[0] for end in ends if end] or graph.flow.neighbours(way[0])
    pairs = list(product(*sides))
    for call, pair in product(dict.fromkeys(calls), pairs):
        meeting = _meeting_in(graph, call, *pair)
        if meeting:
            return meeting
    for pair in pairs:
        call = _call_behind(graph, *pair)
        if call:
            return _meeting_in(graph, call, *pair)
    return None


def _meeting_in(graph: Groups, call: Call, one: Group, other: Group) -> Meeting | None:
    first, second = (next(_factors(graph, call, group.atom), None) for group in (one, other))
    if not first or not second:
        return None
    return Meeting(first[0], second[0], hop_of(_origin_of(graph, call)))


def _call_behind(graph: Groups, one: Group, other: Group) -> Call | None:
    """The call nearest to the group with fewer axes through which slots of both pass."""
    few, many = sorted((one, other), key=lambda group: len(group.members))
    coupling = graph.coupling_index.graph(few.atom)
    return coupling.call_with(graph.coupling_index.graph(many.atom), graph.place(few.members[0]))
