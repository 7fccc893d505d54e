"""What a model costs, as polynomials in the sizes of its atoms: priced without running it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from math import prod

from attrs import define, frozen

from ...adapters import submodules
from ..axes import Atom, Layout, atoms
from ..grouping import Groups
from ..sizes import size_of
from ..tracing import Call, Flattening

Count = Callable[[Atom], int]
Term = Sequence[Layout]
COSTS = ("params", "macs", "latency")


@frozen(eq=False)
class Polynomial:
    """A sum of products of layout sizes, and a `rest` that no choice changes."""

    terms: tuple[Term, ...]
    rest: int = 0

    def __call__(self, count: Count) -> int:
        """The price with `count` slots kept of each atom."""
        return self.rest + sum(_priced(term, count) for term in self.terms)

    def running(self, count: Count) -> Running:
        """The price while the numbers that `count` gives change."""
        return Running(self, count)

    def of(self, varying: Collection[Atom]) -> Polynomial:
        """The same price where only these atoms ever shrink: what does not change is added up once."""
        changing = tuple(
            term for term in self.terms if any(atom in varying for part in term for atom in atoms(part))
        )
        return Polynomial(changing, self(whole) - Polynomial(changing)(whole))


class Running:
    """A price while numbers change: only the terms that a change has a part in are priced again."""

    def __init__(self, price: Polynomial, count: Count):
        self._count = count
        self._terms = price.terms
        self._values = [_priced(term, count) for term in price.terms]
        self._total = price.rest + sum(self._values)
        self._of: dict[Atom, list[int]] = {}
        for number, term in enumerate(price.terms):
            for atom in dict.fromkeys(atom for layout in term for atom in atoms(layout)):
                self._of.setdefault(atom, []).append(number)

    def after(self, changed: Iterable[Atom]) -> int:
        """The price now that the numbers of these atoms have changed."""
        for number in {number for atom in changed for number in self._of.get(atom, ())}:
            value = _priced(self._terms[number], self._count)
            self._total += value - self._values[number]
            self._values[number] = value
        return self._total


def _priced(term: Term, count: Count) -> int:
    return prod([size_of(layout, count) for layout in term])


def whole(atom: Atom) -> int:
    """All slots of an atom."""
    return atom.size


def parameters_of(graph: Groups) -> Polynomial:
    """The number of parameters; those that the trace did not meet stay as they are."""
    used = {name: value for name, value in graph.trace.tensors.items() if value.kind == "parameter"}
    rest = sum(one.numel() for name, one in submodules.parameters_of(graph.model).items() if name not in used)
    return Polynomial(tuple(tuple(graph.coupled.of(value)) for value in used.values()), rest)


def macs_of(graph: Groups) -> Polynomial:
    """Multiply-accumulates of a forward on the example inputs, of all their calls, by the rules' ``macs``."""
    forward = set(graph.trace.forward)
    return Polynomial(
        tuple(term for cost in graph.coupled.macs if cost.call in forward for term in cost.terms)
    )


def parameters(graph: Groups, count: Count) -> int:
    """The number of parameters with `count` slots kept of each atom."""
    return parameters_of(graph)(count)


def macs(graph: Groups, count: Count) -> int:
    """Multiply-accumulates of one forward with `count` slots kept of each atom."""
    return macs_of(graph)(count)


@frozen(eq=False)
class CallCost:
    """One call of the forward: its multiply-accumulates, and the parameters that it is the first to use."""

    call: Call
    macs: int
    params: int


@define(eq=False, slots=False)
class Cost(Flattening):
    """What a model costs on its example inputs, in all and call by call; ``print`` shows it."""

    model_name: str
    params: int
    calls: list[CallCost]

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one forward."""
        return sum(row.macs for row in self.calls)

    def __str__(self) -> str:
        rows = [row for row in self.calls if row.macs or row.params]
        names = [row.call.module or self.model_name for row in rows]
        wide = max(map(len, names), default=0)
        lines = [f"{self.model_name}: {self.params:,} parameters, {self.macs:,} multiply-accumulates"]
        lines += [
            f"  {name:{wide}}  {row.params:>13,}  {row.macs:>17,}  {row.call.name.rpartition('.')[2]}"
            for name, row in zip(names, rows)
        ]
        return "\n".join(lines)


def cost_of(graph: Groups) -> Cost:
    """The cost of an analysed model, call by call."""
    by_call: dict[Call, int] = {}
    for cost in graph.coupled.macs:
        by_call[cost.call] = by_call.get(cost.call, 0) + Polynomial(cost.terms)(whole)
    rows = []
    seen = set()
    for call in graph.trace.forward:
        own = [value for value in dict.fromkeys(call.values) if value.kind == "parameter"]
        new = sum(prod(value.shape) for value in own if value not in seen)
        seen.update(own)
        rows.append(CallCost(call, by_call.get(call, 0), new))
    return Cost(graph.trace.model_name, parameters(graph, whole), rows)
