"""Derives the dependency graph of a model: its first trace is coupled and solved, others testify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ..adapters.plan import Plan
from ..rules import RuleSet
from .graph import DependencyGraph
from .grouping import Deriving, Literal, literal_of
from .tracing import Trace
from .witnessing import Finding, findings, findings_at, heed, retracing, untrusted


def derive(
    model: nn.Module,
    retrace: Callable[..., Trace],
    rules: RuleSet,
    prefer: str = "outer",
    free_outputs: Sequence[int] = (),
    example_inputs: Any = None,
) -> DependencyGraph:
    """The dependency graph of `model`, which `retrace` runs and records; no other sizes are tried yet."""
    deriving = Deriving(DependencyGraph, model, retrace(), rules, prefer, free_outputs, example_inputs)
    return _with_followers(deriving, retracing(deriving.trace, retrace))


def witnessed(graph: DependencyGraph, retrace: Callable[..., Trace]) -> DependencyGraph:
    """The graph that knows what the forward does at other sizes; the same one if nothing is new."""
    return _heeding(graph, findings(graph, retracing(graph.trace, retrace)))


def witnessed_at(graph: DependencyGraph, plan: Plan, retrace: Callable[..., Trace]) -> DependencyGraph:
    """The graph that knows what it does at the sizes of `plan`; the same one if nothing is new."""
    return _heeding(graph, findings_at(graph, plan, retracing(graph.trace, retrace)))


def _heeding(graph: DependencyGraph, found: Sequence[Finding]) -> DependencyGraph:
    if not found:
        return graph
    heed(found, graph.coupled)
    given = graph.rules, graph.prefer, graph.free_outputs, graph.example_inputs
    return Deriving(DependencyGraph, graph.model, graph.trace, *given).solved(graph.coupled)


def _with_followers(deriving: Deriving[DependencyGraph], retrace: Callable[[], Trace]) -> DependencyGraph:
    """The graph in which a plain number holds no slots if it follows their number at other sizes.

    ``int(n * 0.5)`` is plain for the first trace. All such numbers are trusted, until the second trace tells.
    """
    trusted: set[Literal] = set()
    graph = deriving.trusting(trusted)
    while literals := _holding(graph) - trusted:
        trusted |= literals
        graph = deriving.trusting(trusted)
    while trusted and (wrong := untrusted(graph, retrace)):
        trusted -= wrong
        graph = deriving.trusting(trusted)
    return graph


def _holding(graph: DependencyGraph) -> set[Literal]:
    """The plain numbers that hold slots which otherwise could go."""
    found = set()
    for atom, equation in graph.sizes.fixed.items():
        group, literal = graph.group_of(atom), literal_of(equation)
        if literal and group is not None and group.producers:
            found.add(literal)
    return found
