"""The result of a prune, and how it is printed: before and after, what was pruned, what was not and why."""

from __future__ import annotations

from attrs import define
from torch import nn

from .graph import DependencyGraph
from .plan import Plan
from .unknown import with_stubs

# How many lines of each kind are printed; the graph has them all.
SHOWN = 12


@define
class Result:
    """What `prune` did: the model (changed in place), the plan, the graph, and what was left alone."""

    model: nn.Module
    plan: Plan
    graph: DependencyGraph
    before: int
    after: int
    notes: list[str]
    inputs: str

    def __str__(self) -> str:
        return _report(self)


def _report(result: Result) -> str:
    """The text of ``print(result)``."""
    removed = 1 - result.after / result.before if result.before else 0.0
    lines = [
        f"{result.graph.trace.model_name}: {result.before:,} parameters before, {result.after:,} after "
        f"({removed:.1%} removed), traced with {result.inputs}",
        str(result.plan),
    ]
    sizes = {group.name: group.size for group in result.graph.groups}
    pruned = [f"  {name}: {sizes[name]} -> {len(kept)} slots" for name, kept in result.plan.groups.items()]
    lines += _shortened(pruned or ["  nothing was removed"], "groups")
    if result.notes:
        lines += ["left alone:", *_shortened([f"  {note}" for note in result.notes], "notes")]
    held = [group for group in result.graph.blocked if group.producers]
    if held:
        rows = [f"  {group.name}: {group.size} slots, {group.blocked}" for group in held]
        lines += ["blocked:", *_shortened(rows, "groups")]
    costly = [call for call in result.graph.unknown if call.costs]
    if costly:
        lines.append("operations without a fitting rule, and what they cost:")
        for call, stub in with_stubs(costly):
            lines.append(f"  {call.reason}, {call.source}: {', '.join(call.costs[:4])}")
            lines += [f"      {line}" for line in (stub or "").splitlines()]
    return "\n".join(lines)


def _shortened(lines: list[str], what: str) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    return [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more {what}"]
