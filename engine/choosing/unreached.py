"""What the traced forwards did not reach and nothing tells how to prune along: it is named."""

from __future__ import annotations

from collections.abc import Set

from attrs import frozen

from ...adapters.plan import Plan
from ...errors import PlanError
from ..coupling import is_below
from ..explaining import listing
from ..grouping import Groups

SHOWN = 6


@frozen
class Unreached:
    """A parameter or buffer that no traced forward used: it keeps its shape, whatever is pruned.

    ``sibling`` is a tensor of the same place in another element of the same list or dict that was reached,
    but does not tell how this one is used; ``equals`` names by axis the groups that are as wide.
    """

    name: str
    shape: tuple[int, ...]
    sibling: str | None
    equals: dict[int, tuple[str, ...]]

    def is_as_wide_as(self, groups: Set[str]) -> bool:
        """Whether it has an axis of the size that one of these groups has."""
        return any(not groups.isdisjoint(names) for names in self.equals.values())

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        text = f"{self.name} ({size}) was not reached by the example inputs and keeps its shape"
        for axis, groups in self.equals.items():
            text += f"; axis {axis} is as wide as {listing(groups, SHOWN)}"
        return f"{text}; {self.sibling} was reached" if self.sibling else text


def unreached_tensors(graph: Groups) -> list[Unreached]:
    """The parameters and buffers with axes that no forward reached and that follow no sibling."""
    widths: dict[int, list[str]] = {}
    for group in graph.groups:
        for size in {graph.layout(member).size for member in group.members} if group.producers else ():
            widths.setdefault(size, []).append(group.name)
    found = []
    for name, value in graph.trace.left.items():
        if name in graph.coupled.followed or not any(size > 1 for size in value.shape):
            continue
        numbers = value.dtype.is_floating_point or value.dtype.is_complex
        equals = {
            axis: tuple(widths[size]) for axis, size in enumerate(value.shape) if numbers and size in widths
        }
        found.append(Unreached(name, value.shape, graph.coupled.unfollowed.get(name), equals))
    return found


def check_reached(unreached: list[Unreached], groups: Set[str]) -> None:
    """Raise `PlanError` if a tensor that was not reached is as wide as one of these groups."""
    as_wide = [one for one in unreached if one.is_as_wide_as(groups)]
    if as_wide:
        raise PlanError("\n".join([*map(str, as_wide[:SHOWN]), *_more(len(as_wide) - SHOWN), _ADVICE]))


def unreached_notes(graph: Groups, unreached: list[Unreached], plan: Plan) -> list[str]:
    """What a user should know of the tensors that were not reached, where the plan prunes what is as wide."""
    notes = []
    pairs = [f"{own} with {sibling}" for own, sibling in _followers(graph, plan).items()]
    if pairs:
        notes.append(f"not reached by the example inputs, pruned along: {listing(pairs, SHOWN)}")
    as_wide = [one for one in unreached if one.is_as_wide_as(plan.groups.keys())]
    if not as_wide:
        return notes
    failed = {run.error for run in graph.trace.runs if run.error}
    notes += [*map(str, as_wide[:SHOWN]), *_more(len(as_wide) - SHOWN)]
    notes += [
        f"in training mode the forward fails on the example inputs ({error})" for error in sorted(failed)
    ]
    return [*notes, _ADVICE]


def _followers(graph: Groups, plan: Plan) -> dict[str, str]:
    """What the plan prunes along with its sibling: whole elements of a list or dict, else single tensors."""
    found = {}
    for name, sibling in graph.coupled.followed.items():
        if name in plan.tensors:
            elements = (own for own in graph.coupled.twins if is_below(name, own))
            own = next(elements, None)
            found[own or name] = graph.coupled.twins[own] if own else sibling
    return found


def _more(count: int) -> list[str]:
    return [f"and {count} more: graph.unreached has them all"] if count > 0 else []


_ADVICE = (
    "give example inputs that reach them, several calls in a list; or skip the groups that are as wide if "
    "they are used together"
)
