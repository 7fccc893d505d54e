"""What ``--json`` prints: plain data with names that stay as they are, listed in the help of each command."""

from __future__ import annotations

import json
from typing import Any

from ..adapters.folder import Saved
from ..engine import DependencyGraph, Group, Result
from ..engine.choosing import kept_slots, macs_of, whole
from ..engine.proving import with_stubs
from .tables import tie_numbers
from .trial import NoTrial, Trial

Data = dict[str, Any]


def groups_data(graph: DependencyGraph) -> Data:
    """Every group, free ones first, then those that something holds back; and the unknown operations."""
    ties = tie_numbers(graph)
    held = [group for group in graph.blocked if group.producers]
    return {
        "model": graph.trace.model_name,
        "groups": [_group(group, ties.get(group.name)) for group in [*graph.groups, *held]],
        "unknown": _unknown(graph),
    }


def prune_data(result: Result, trial: Trial | NoTrial | None, saved: Saved | None) -> Data:
    """What was pruned, what was left alone and why; costs and loss before and after; the plan."""
    graph, plan = result.graph, result.plan
    macs = macs_of(graph)
    loss = {"loss": {"before": trial.before, "after": trial.after}} if isinstance(trial, Trial) else {}
    folder = {} if saved is None else {"folder": saved.form}
    return {
        **loss,
        **folder,
        "model": graph.trace.model_name,
        "inputs": result.inputs,
        "parameters": {"before": result.before, "after": result.after},
        "macs": {"before": macs(whole), "after": macs(kept_slots(graph, plan))},
        "groups": _decisions(result),
        "notes": [*result.notes, *([str(trial)] if isinstance(trial, NoTrial) else [])],
        "unknown": _unknown(graph),
        "plan": json.loads(plan.to_json()),
    }


def _group(group: Group, tie: str | None) -> Data:
    return {
        "name": group.name,
        "kind": group.kind,
        "slots": group.size,
        "layers": list(group.layers),
        "axes": [str(member) for member in group.members],
        "exact": group.exact,
        "tie": None if tie is None else int(tie),
        "blocked": group.blocked,
    }


def _decisions(result: Result) -> list[Data]:
    """What became of each group, and why."""
    graph, kept = result.graph, result.plan.groups
    reasons = {group.name: group.blocked for group in graph.blocked if group.producers}
    reasons.update(result.left_alone)
    for group in graph.groups:
        inexact = graph.inexact(group) if group.name in kept else None
        reasons.setdefault(group.name, inexact.text if inexact else None)
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "slots": group.size,
            "kept": len(kept[group.name]) if group.name in kept else group.size,
            "exact": group.exact,
            "why": reasons[group.name],
        }
        for group in [*graph.groups, *graph.blocked]
        if group.name in reasons
    ]


def _unknown(graph: DependencyGraph) -> list[Data]:
    """The operations without a fitting rule that hold something, one rule to start from for each."""
    calls = with_stubs(call for call in graph.unknown if call.costs)
    return [
        {
            "operation": call.name,
            "reason": call.reason,
            "source": call.source,
            "holds": list(call.costs),
            "rule": stub,
        }
        for call, stub in calls
    ]
