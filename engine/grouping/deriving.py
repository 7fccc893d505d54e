"""What the rules tell of a trace, solved: the groups of its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar

from attrs import define
from torch import nn

from ...adapters.collector import paused
from ...rules import RuleSet
from ..axes import atoms, terms
from ..coupling import Couplings, couple, follow_attributes, follow_siblings
from ..sizes import Equation, SizeOf, solve
from ..tracing import Const, Trace, Value
from .groups import Groups

# A call and one of its arguments, where the caller wrote a plain number for a size.
Literal = tuple[int, str]

Derived = TypeVar("Derived", bound=Groups)


def told_by_rules(model: nn.Module, trace: Trace, rules: RuleSet, free_outputs: Sequence[int] = ()) -> Groups:
    """The groups as the rules tell them, which no further trace has checked."""
    return Deriving(Groups, model, trace, rules, "outer", free_outputs).trusting(set())


@define(eq=False)
class Deriving(Generic[Derived]):
    """What is the same however often the trace is coupled."""

    kind: type[Derived]
    model: nn.Module
    trace: Trace
    rules: RuleSet
    prefer: str
    free_outputs: Sequence[int] = ()
    example_inputs: Any = None

    def trusting(self, trusted: set[Literal]) -> Derived:
        """The graph in which these plain numbers are taken for sizes that follow."""
        with paused():
            return self._trusting(trusted)

    def _trusting(self, trusted: set[Literal]) -> Derived:
        coupled = couple(self.trace, self.rules, self.free_outputs)
        follow_siblings(self.model, coupled)
        equations, coupled.equations = coupled.equations, []
        for equation in equations:
            literal = literal_of(equation)
            if literal in trusted:
                coupled.trusted.setdefault(literal, []).append(equation)
            else:
                coupled.equations.append(equation)
        coupled.ties += _proportions(coupled)
        return self.solved(coupled)

    def solved(self, coupled: Couplings) -> Derived:
        """The graph of what the rules say."""
        conditions = [*self.trace.conditions, *coupled.conditions]
        with paused():
            sizes = solve(
                coupled.of, coupled.equations, conditions, self.trace.attributes, coupled.ties, self.prefer
            )
            follow_attributes(sizes, coupled)
            ends = self.free_outputs, self.example_inputs
            return self.kind(self.model, coupled, sizes, self.rules, self.prefer, *ends)


def _proportions(coupled: Couplings) -> Iterator[Equation]:
    """Nobody knows of which sizes a number is made, so those side by side shrink by one proportion."""
    tied: set[tuple[Value, int]] = set()  # many numbers may cut one axis
    for equations in coupled.trusted.values():
        own = {atom for one in equations for atom in atoms(one.right.layout)}  # type: ignore[union-attr]  # those of literals have both
        origin = equations[0].origin
        for value in origin.call.values:  # type: ignore[union-attr]  # those of literals have both
            for axis, layout in enumerate(coupled.of(value)):
                if (value, axis) not in tied and not own.isdisjoint(atoms(layout)):
                    tied.add((value, axis))
                    pairs = pairwise(terms(layout))
                    yield from (Equation(SizeOf(a), SizeOf(b), origin, "tie") for a, b in pairs)


def literal_of(equation: Equation) -> Literal | None:
    if isinstance(equation.left, Const) and equation.origin is not None:
        return equation.origin.call.index, equation.argument
    return None
