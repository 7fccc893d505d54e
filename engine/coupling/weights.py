"""Which values are weights: whatever no input reaches, and what data only picks, moves or scales of them.

An expert ``W[e]`` that a router has picked depends on the input, but its slots are those of the weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...grammar import ast
from ..axes import Atom, Layout, atoms
from ..tracing import Value, values_in
from .call_site import Site
from .coupled import Couplings

Terms = Sequence[Sequence[object]]


def is_weight(coupled: Couplings, value: Value) -> bool:
    """Whether the slots of `value` are those of weights, and no data's."""
    return value not in coupled.from_input or value in coupled.picked


def weights_make(site: Site, layout: Layout) -> bool:
    """Slots are produced where a weight has them; what data is multiplied with data has them already."""
    weights = [value for value in site.call.values if is_weight(site.coupled, value)]
    if len(weights) == len(site.call.values) and isinstance(site.rule.body, ast.Signature):
        data = site.operand(site.rule.body.inputs[0].name or "in")
        weights = [value for value in weights if value is not data]  # a constant in the place of data
    return not _atoms_of(site, weights).isdisjoint(atoms(layout))


def gives_weights(site: Site, terms: Terms | None) -> bool:
    """Whether the results are weights although data has a say in them. `terms` is what they are sums of."""
    if site.call in site.coupled.moves:
        source = site.arguments.get("input")
        moved = [source] if isinstance(source, Value) else site.tensors()
        return all(is_weight(site.coupled, value) for value in moved)
    if not terms or _multiplies_and_sums(site):
        return False
    return all(_is_scaled_weight(site, [*values_in(tuple(term))]) for term in terms)


def _multiplies_and_sums(site: Site) -> bool:
    """Whether the operands are summed along a factor of several: that makes data, whatever they are."""
    for _, layout, places in site.placed:
        values = {value for value, _ in places}
        if layout.size > 1 and len(values) > 1 and values.isdisjoint(site.call.results):
            return True
    return False


def _is_scaled_weight(site: Site, term: list[Value]) -> bool:
    """Whether a product is one of weights, and of data that have none of their slots."""
    weights = [value for value in term if is_weight(site.coupled, value)]
    data = [value for value in term if not is_weight(site.coupled, value)]
    own = {atom for atom in _atoms_of(site, weights) if atom.reason is None}
    return not data or (bool(weights) and own.isdisjoint(_atoms_of(site, data)))


def _atoms_of(site: Site, values: Iterable[Value]) -> set[Atom]:
    return {atom for value in values for layout in site.axes(value) for atom in atoms(layout)}
