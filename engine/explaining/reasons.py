"""What holds a group back, with where that comes from, in the words of explanations."""

from __future__ import annotations

from collections.abc import Iterable

from ..axes import Layout, Reason, atoms
from ..coupling import Coupling
from ..grouping import Group, Groups, Member
from ..sizes import Equation
from ..tracing import Origin, Source, Value
from .listing import listing
from .parts import Because, Held, Hop

_NAMED = 3


def hops_of(couplings: Iterable[Coupling]) -> tuple[Hop, ...]:
    """The steps of a path; lines of a model and their operations, of which there are few, are read once."""
    known: dict[tuple, tuple[str, ...]] = {}
    found = []
    for one in couplings:
        call, rule = one.origin.call, one.origin.rule
        key = call.source, call.target, id(rule)
        if key not in known:
            operation = call.name.rpartition(".")[2]
            known[key] = operation, *_rule_of(one.origin), call.source.short, call.source.text
        operation, name, rule_at, source, text = known[key]
        found.append(Hop(operation, name, one.factor, rule_at, source, text, call.module))
    return tuple(found)


def hop_of(origin: Origin, factor: str = "") -> Hop:
    """One call and its rule."""
    return hops_of([Coupling(origin, factor, ())])[0]


def _rule_of(origin: Origin) -> tuple[str, str]:
    rule = origin.rule
    return (rule.name, str(rule.span).rpartition("/")[2]) if rule else ("", "")


def held_by(graph: Groups, group: Group, member: Member) -> tuple[Held, ...]:
    """What holds a group back, as seen from one of its axes."""
    if group.atom.reason is not None:
        reason = group.atom.reason
        path = _path_to(graph, group, member, reason)
        return (Held("blocked", f"blocked: {reason.text}", _origin(reason), path),)
    found = []
    if len(group.tied) > 1:
        causes = graph.sizes.ties.causes(group.atom) or _causes_between(graph, group)
        because = tuple(because_of(graph, cause) for cause in causes)
        tie = group.tie or ()
        found.append(Held("tied", f"tied with {_some(tie)}", tied=tie, equations=because))
    if not group.producers:
        found.append(Held("follows", "nothing produces these slots, so they only follow"))
    found += [Held("multiple", str(one), hop_of(one.origin, one.factor)) for one in graph.demands(group)]
    inexact = graph.inexact(group)
    if inexact is not None:
        text = f"removing a slot is not the same as zeroing it: {inexact.text}"
        found.append(Held("inexact", text, _origin(inexact)))
    return tuple(found)


def because_of(graph: Groups, equation: Equation) -> Because:
    """An equation in the user's words, the sizes with the groups that they are of."""

    def size(layout: Layout) -> str:
        groups = (graph.group_of(atom) for atom in dict.fromkeys(atoms(layout)))
        names = [group.name for group in groups if group is not None]
        return f"{layout.size} ({', '.join(names)})" if names else str(layout.size)

    left, right = (graph.sizes.describe(side, size) for side in (equation.left, equation.right))
    where = equation.where
    source, text = (where.short, where.text) if where else ("", "")
    if equation.argument == "tie" and equation.origin:
        name, rule_at = _rule_of(equation.origin)
        return Because(f"rule {name} {rule_at} ties {left} and {right}", source, text)
    return Because(f"{left} == {right}", source, text)


def _causes_between(graph: Groups, group: Group) -> list[Equation]:
    first = next((one for one in group.tied if one is not group), group)
    return graph.sizes.ties.between(group.atom, first.atom)


def _some(tie: tuple[tuple[str, int], ...]) -> str:
    """The first few of the tied groups, and how many more there are."""
    return listing([f"{name} ({size})" for name, size in tie[:_NAMED]], _NAMED, len(tie))


def _origin(reason: Reason) -> Hop | None:
    """The call, or at least the line, that a reason names; for an output of the model what made it."""
    origin = reason.origin
    if isinstance(origin, Value) and origin.call is not None:
        origin = Origin(origin.call)
    if isinstance(origin, Origin):
        return hop_of(origin)
    if isinstance(origin, Source):
        return Hop("", "", "", "", origin.short, origin.text, "")
    return None


def _path_to(graph: Groups, group: Group, member: Member, reason: Reason) -> tuple[Hop, ...]:
    """The steps from an axis to the call or the value that blocks its slots."""
    origin = reason.origin
    values = [origin] if isinstance(origin, Value) else []
    if isinstance(origin, Origin):
        values = [*origin.call.values, *origin.call.results]
    ends = [(value, axis) for value in values for axis in range(len(value.shape))]
    coupling = graph.coupling_index.graph(group.atom)
    return hops_of(coupling.steps(coupling.path(graph.place(member), ends)))
