"""Derives the dependency graph of a model: its first trace is coupled and solved, others testify."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from attrs import define
from torch import nn

from ..adapters.plan import Plan
from ..rules import RuleSet
from .axes import atoms, terms
from .collector import paused
from .couple import couple
from .couplings import Couplings
from .equations import Equation, SizeOf
from .graph import DependencyGraph
from .repair import solve
from .siblings import follow_attributes, follow_siblings
from .sizes import Const
from .values import Trace
from .witness import Finding, findings, findings_at, heed, untrusted

# A call and one of its arguments, where the caller wrote a plain number for a size.
Literal = tuple[int, str]


def derive(
    model: nn.Module,
    retrace: Callable[..., Trace],
    rules: RuleSet,
    prefer: str = "outer",
    free_outputs: Sequence[int] = (),
) -> DependencyGraph:
    """The dependency graph of `model`, which `retrace` runs and records; no other sizes are tried yet."""
    deriving = _Deriving(model, retrace(), rules, prefer, free_outputs)
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
    heed(found, graph.state)
    known = _Deriving(graph.model, graph.trace, graph.rules, graph.prefer, graph.free_outputs)
    again = known.solved(graph.state)
    again.example_inputs, again.free_outputs = graph.example_inputs, graph.free_outputs
    return again


def retracing(first: Trace, retrace: Callable[..., Trace]) -> Callable[..., Trace]:
    """What runs the model once more, knowing the first trace."""
    if not any(run.training and run.stop > run.start for run in first.runs):
        retrace = partial(retrace, training=False)  # in training it makes the same calls
    return partial(retrace, filed=first.filed)  # which needs no search for caches any more


def told_by_rules(
    model: nn.Module, trace: Trace, rules: RuleSet, free_outputs: Sequence[int] = ()
) -> DependencyGraph:
    """The dependency graph as the rules tell it, which no further trace has checked."""
    return _Deriving(model, trace, rules, "outer", free_outputs).coupled(set())


@define(eq=False)
class _Deriving:
    """What is the same however often the trace is coupled."""

    model: nn.Module
    trace: Trace
    rules: RuleSet
    prefer: str
    free_outputs: Sequence[int]

    def coupled(self, trusted: set[Literal]) -> DependencyGraph:
        """The graph in which these plain numbers are taken for sizes that follow."""
        with paused():
            return self._coupled(trusted)

    def _coupled(self, trusted: set[Literal]) -> DependencyGraph:
        state = couple(self.trace, self.rules, self.free_outputs)
        follow_siblings(self.model, state)
        equations, state.equations = state.equations, []
        for equation in equations:
            literal = _literal(equation)
            if literal in trusted:
                state.trusted.setdefault(literal, []).append(equation)
            else:
                state.equations.append(equation)
        for one in state.trusted.values():
            state.ties += _proportions(state, one)
        return self.solved(state)

    def solved(self, state: Couplings) -> DependencyGraph:
        """The graph of what the rules say."""
        conditions = [*self.trace.conditions, *state.conditions]
        with paused():
            sizes = solve(
                state.of, state.equations, conditions, self.trace.attributes, state.ties, self.prefer
            )
            follow_attributes(sizes, state)
            return DependencyGraph(self.model, state, sizes, self.rules, self.prefer)


def _with_followers(deriving: _Deriving, retrace: Callable[[], Trace]) -> DependencyGraph:
    """The graph in which a plain number holds no slots if it follows their number at other sizes.

    ``int(n * 0.5)`` is plain for the first trace. All such numbers are trusted, until the second trace tells.
    """
    trusted: set[Literal] = set()
    graph = deriving.coupled(trusted)
    while literals := _holding(graph) - trusted:
        trusted |= literals
        graph = deriving.coupled(trusted)
    while trusted and (wrong := untrusted(graph, retrace)):
        trusted -= wrong
        graph = deriving.coupled(trusted)
    return graph


def _holding(graph: DependencyGraph) -> set[Literal]:
    """The plain numbers that hold slots which otherwise could go."""
    found = set()
    for atom, equation in graph.sizes.fixed.items():
        group, literal = graph.group_of(atom), _literal(equation)
        if literal and group is not None and group.producers:
            found.add(literal)
    return found


def _proportions(state: Couplings, equations: list[Equation]) -> Iterator[Equation]:
    """Nobody knows of which sizes the number is made, so those side by side shrink by one proportion."""
    own = {atom for one in equations for atom in atoms(one.right.layout)}  # type: ignore[union-attr]
    origin = equations[0].origin
    for value in origin.call.values:  # type: ignore[union-attr]
        for layout in state.of(value):
            parts = terms(layout)
            if not own.isdisjoint(atoms(layout)):
                yield from (Equation(SizeOf(a), SizeOf(b), origin, "tie") for a, b in pairwise(parts))


def _literal(equation: Equation) -> Literal | None:
    if isinstance(equation.left, Const) and equation.origin is not None:
        return equation.origin.call.index, equation.argument
    return None
