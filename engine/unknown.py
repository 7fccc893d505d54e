"""Operations without a fitting rule: never silent, never fatal."""

from __future__ import annotations

import re
from collections import defaultdict

from attrs import frozen

from .groups import Groups
from .origin import Origin
from .values import Value


@frozen
class Unknown:
    """A call without a rule, or that its rule does not fit, and the axes that this costs."""

    name: str
    reason: str
    source: str
    module: str
    costs: tuple[str, ...]
    stub: str

    def __str__(self) -> str:
        return f"{self.reason}, {self.source}; a rule to start from:\n{self.stub}"


def unknown_calls(graph: Groups) -> list[Unknown]:
    """Calls without a fitting rule, the tensor axes that each alone holds back, and a rule to start from."""
    costs: dict[Origin, list[str]] = defaultdict(list)
    for group in graph.blocked:
        origin = group.atom.reason.origin if group.atom.reason else None
        if isinstance(origin, Origin):
            costs[origin] += [f"{member.tensor}[{member.axis}]" for member in group.members]
    reasons = {
        group.atom.reason.origin: group.atom.reason.text
        for group in graph.blocked
        if group.atom.reason is not None
    }
    return [
        Unknown(
            name=origin.call.name,
            reason=reasons.get(origin, f"no rule for {origin.call.name}"),
            source=f"{origin.call.source.short}: {origin.call.source.text}",
            module=origin.call.module,
            costs=tuple(dict.fromkeys(costs[origin])),
            stub=_stub(origin),
        )
        for origin in graph.state.unknown
    ]


def _stub(origin: Origin) -> str:
    """A rule to paste into a ``.rules`` file and to complete."""
    name = re.sub(r"\W", "_", origin.call.name.rpartition(".")[2]).strip("_").lower() or "operation"
    operands = [
        f"{argument}[{_letters(len(value.shape), f'{argument[0]}')}]"
        for argument, value in origin.call.arguments.items()
        if isinstance(value, Value)
    ]
    results = [f"[{_letters(len(value.shape), 'y')}]" for value in origin.call.results]
    return f"{name} = {origin.call.name}\n{name}: {', '.join(operands)} -> {', '.join(results)}"


def _letters(rank: int, letter: str) -> str:
    return " ".join(f"{letter}{index}" for index in range(rank))
