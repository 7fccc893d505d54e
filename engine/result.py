"""The result of a prune, and how it is printed: before and after, what was pruned, what was not and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import Factory, define
from torch import Tensor, nn

from ..adapters.archive import PathLike
from ..adapters.contents import copied
from ..adapters.folder import Saved, is_folder_for, outputs_of
from ..adapters.plan import Plan
from ..adapters.saving import save
from .choosing import kept_slots, macs_of, whole
from .graph import DependencyGraph
from .grouping import Group
from .proving import with_stubs
from .tracing import attribute_name, calls_of

# How many rows of each kind are printed; plan and graph have them all.
SHOWN = 12
Row = tuple[str, str, str, str, str]


@define
class Result:
    """What `prune` did: the model (changed in place), the plan, the graph, and what was left alone.

    ``before`` and ``after`` count parameters, ``left_alone`` has the reason for each group of which nothing
    was removed, ``notes`` what else is worth knowing.
    """

    model: nn.Module
    plan: Plan
    graph: DependencyGraph
    before: int
    after: int
    notes: list[str]
    inputs: str
    left_alone: dict[str, str] = Factory(dict)
    tokenizer: Any = None
    folder: Saved | None = None

    def __str__(self) -> str:
        return "\n".join(_printed(self))

    def save(self, path: PathLike, **folder: Any) -> Saved | None:
        """Write the model as it is now, as `engine.save` does; a transformers model as a folder.

        ``folder`` keeps what that was: plain or shaped, and why. After several prunings use `engine.save`
        with `Plan.followed_by` or `Schedule.plan` instead, as a file must tell the way from the fresh model.
        """
        if is_folder_for(path, self.model):
            folder = {
                "run": self._outputs,
                "read": read_by(self.graph),
                "tokenizer": self.tokenizer if hasattr(self.tokenizer, "save_pretrained") else None,
                "facts": facts_of(self),
                **folder,
            }
        self.folder = save(path, self.model, self.plan, **folder)
        return self.folder

    def _outputs(self, model: nn.Module) -> list[Tensor]:
        """What a model gives for the example inputs that this one was traced with."""
        calls = calls_of(self.graph.example_inputs)
        return [
            one for args, kwargs in calls for one in outputs_of(model, *copied((args, kwargs), torch.clone))
        ]


def facts_of(result: Result) -> list[str]:
    """What a model card tells of a result."""
    return [f"- parameters: {_change(result.before, result.after)}", f"- {result.plan}"]


def read_by(graph: DependencyGraph) -> set[str]:
    """The attributes that the forward reads, by dotted name."""
    return {attribute_name(*place) for place in graph.attributes_read}


def _printed(result: Result) -> Iterator[str]:
    """The lines of ``print(result)``: what was decided of every group, and what stood in the way."""
    graph, plan = result.graph, result.plan
    price = macs_of(graph)
    yield f"{graph.trace.model_name}, traced with {result.inputs}"
    yield f"  parameters  {_change(result.before, result.after)}"
    yield f"  MACs        {_change(price(whole), price(kept_slots(graph, plan)))}"
    yield f"  {plan}"
    yield from (f"  {note}" for note in result.notes)
    if result.folder is not None:
        yield f"  saved {result.folder}"
    yield from _table(list(_decisions(result)))
    if not plan.groups:
        yield "  nothing was removed"
    costly = [call for call in graph.unknown if call.costs]
    if costly:
        yield "operations without a fitting rule, and what they cost:"
        for call, stub in with_stubs(costly):
            yield f"  {call.reason}, {call.source}: {', '.join(call.costs[:4])}"
            yield from (f"      {line}" for line in (stub or "").splitlines())


def _change(before: int, after: int) -> str:
    removed = 1 - after / before if before else 0.0
    return f"{before:,} before, {after:,} after ({removed:.1%} removed)"


def _decisions(result: Result) -> Iterator[Row]:
    """A row for each group with a producer: name, kind, slots before and after, and what there is to say."""
    graph, plan = result.graph, result.plan
    pruned = [group for group in graph.groups if group.name in plan.groups]
    alone = [group for group in graph.groups if group.name in result.left_alone]
    held = [group for group in graph.blocked if group.producers]
    yield from _shortened([_pruned(graph, group, len(plan.groups[group.name])) for group in pruned])
    yield from _shortened([_kept(group, result.left_alone[group.name]) for group in alone])
    yield from _shortened([_kept(group, group.blocked or "") for group in held])


def _pruned(graph: DependencyGraph, group: Group, kept: int) -> Row:
    reason = graph.inexact(group)
    remark = "" if reason is None else f"not exact: {reason.text}"
    return group.name, group.kind, str(group.size), str(kept), remark


def _kept(group: Group, reason: str) -> Row:
    return group.name, group.kind, str(group.size), str(group.size), reason


def _table(rows: list[Row]) -> Iterator[str]:
    """The rows under a heading, numbers to the right."""
    heading: Row = ("group", "kind", "slots", "kept", "why")
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(4)]
    for row in [heading, *rows] if rows else []:
        left = "  ".join(
            f"{cell:{'>' if column > 1 else '<'}{widths[column]}}" for column, cell in enumerate(row[:4])
        )
        yield f"  {left}  {row[4]}".rstrip()


def _shortened(rows: list[Row]) -> list[Row]:
    if len(rows) <= SHOWN:
        return rows
    return [*rows[:SHOWN], (f"and {len(rows) - SHOWN} more groups", "", "", "", "")]
