"""What a model costs, as polynomials in the sizes of its atoms: priced without running it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from .axes import Atom
from .equations import size_of
from .groups import Groups

Count = Callable[[Atom], int]


def parameters(graph: Groups, count: Count) -> int:
    """The number of parameters with `count` slots kept of each atom; those that are not used stay."""
    used = [value for value in graph.trace.tensors.values() if value.kind == "parameter"]
    before = sum(prod(value.shape) for value in used)
    after = sum(prod(size_of(layout, count) for layout in graph.state.of(value)) for value in used)
    return sum(parameter.numel() for parameter in graph.model.parameters()) - before + after


def macs(graph: Groups, count: Count) -> int:
    """Multiply-accumulates of one forward on the example inputs, by the rules' ``macs``."""
    terms = (term for cost in graph.state.costs for term in cost.terms)
    return sum(prod(size_of(layout, count) for layout in term) for term in terms)


COSTS: dict[str, Callable[[Groups, Count], int]] = {"params": parameters, "macs": macs}
