"""Operations without a fitting rule: never silent, never fatal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from attrs import field, frozen
from torch import nn

from ...rules import load
from ..grouping import Groups
from ..tracing import Flattening, Origin
from .draft_rule import stub_of_call


@frozen
class Unknown(Flattening):
    """A call without a rule, or that its rule does not fit, and the axes that this costs."""

    name: str
    reason: str
    source: str
    module: str
    costs: tuple[str, ...]
    origin: Origin = field(repr=False, eq=False)
    model: nn.Module = field(repr=False, eq=False)

    @property
    def stub(self) -> str:
        """A rule to paste into a ``.rules`` file, with the coupling if trial on the operation finds it.

        Where a shipped rule speaks for the operation, it is the line that takes the shipped rules in.
        """
        if self.origin.rule is None and load().rule_for(self.origin.call.target) is not None:
            return f"use default  # a shipped rule speaks for {self.name}"
        return stub_of_call(self.origin.call, self.model)

    def __str__(self) -> str:
        return f"{self.reason}, {self.source}; a rule to start from:\n{self.stub}"


def with_stubs(calls: Iterable[Unknown]) -> Iterator[tuple[Unknown, str | None]]:
    """The calls, the first of each operation with its stub: to find one takes about a second."""
    tried: set[str] = set()
    for call in calls:
        yield call, None if call.name in tried else call.stub
        tried.add(call.name)


def unknown_calls(graph: Groups) -> list[Unknown]:
    """Calls without a fitting rule, the tensor axes that each alone holds back, and a rule to start from."""
    costs: dict[Origin, list[str]] = defaultdict(list)
    for group in graph.blocked:
        origin = group.atom.reason.origin if group.atom.reason else None
        if isinstance(origin, Origin):
            costs[origin] += [f"{member.tensor}[{member.axis}]" for member in group.members]
    given_up = [(reason.text, reason.origin) for reason in graph.coupled.unknown]
    return [
        Unknown(
            name=origin.call.name,
            reason=text,
            source=f"{origin.call.source.short}: {origin.call.source.text}",
            module=origin.call.module,
            costs=tuple(dict.fromkeys(costs[origin])),
            origin=origin,
            model=graph.model,
        )
        for text, origin in given_up
        if isinstance(origin, Origin)
    ]
