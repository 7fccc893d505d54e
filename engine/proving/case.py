"""One call under its rule, as the law tries it: its graph, and the operation on changed operands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...adapters.lower import LOWERINGS
from ...adapters.plan import Plan
from ...errors import PrunusError
from ...rules import RuleSet
from ...rules.examples import Example
from ..axes import Atom, Layout, arranged, atoms
from ..choosing import kept_counts, make_plan
from ..coupling import Beside
from ..grouping import Groups, told_by_rules
from ..tracing import Call, Value, attribute_name, trace
from .probe import Probe, draws_of, has_fractions, is_equal, results_of, run, tensors_of
from .verdict import Untried

_OUTPUTS = 64  # more results than any operation has

Slots = dict[Atom, np.ndarray]
Draw = tuple[Probe, list[Tensor]]  # a call with numbers of its own, and its results


class Case:
    """One call under one rule: its graph, and the operation to run on changed operands."""

    def __init__(self, example: Example, rules: RuleSet):
        try:
            probe = Probe(example)
            traced = trace(probe, (), opaque=rules.opaque, lower=LOWERINGS)
            self.graph: Groups = told_by_rules(probe, traced, rules, range(_OUTPUTS))
        except PrunusError as error:
            raise Untried(str(error)) from error
        draws = [(probe, whole) for probe in draws_of(example) if (whole := results_of(probe))]
        self.draws = [draw for draw in draws if _is_telling(draw[1])] or draws[:1]
        if not self.draws:
            raise Untried("it returns no tensor")
        probe, whole = self.draws[0]
        self.is_random = not is_equal(run(probe, seed=1), whole)
        coupled = self.graph.coupled
        if coupled.unknown:
            raise Untried(coupled.unknown[0].text)
        rule = rules.rule_for(example.rule_target)
        calls = [call for call in coupled.trace.calls if rules.rule_for(call.target) is rule]
        if not calls:
            raise Untried("the trace records no such call")
        self.call: Call = calls[0]
        self.outputs = [[*coupled.of(value)] for value in coupled.trace.outputs]
        beside = (atoms(one.layout) for one in coupled.mixed if isinstance(one, Beside))
        self.beside = {atom for found in beside for atom in found}

    def factors(self) -> dict[str, list[Layout]]:
        """The layouts of the rule's factors, or of the axes that its verb relates."""
        coupled = self.graph.coupled
        found: dict[str, list[Layout]] = {}
        reading = coupled.readings.get(self.call)
        for name, layout, _ in reading.factors if reading else ():
            found.setdefault(name, []).append(layout)
        for coupling in coupled.couplings if not found else ():
            if coupling.origin.call is self.call:
                found.setdefault(coupling.factor, []).extend(map(self.graph.layout_at, coupling.places))
        for value in self.call.values if not found else ():
            for axis, layout in enumerate(coupled.of(value)):
                found.setdefault(f"axis {axis}", []).append(layout)
        return found

    def bundles(self) -> list[list[Atom]]:
        """The free atoms, those that shrink together as one; also those that only results have."""
        own = [group.atom for group in self.graph.groups]
        made = (atom for layouts in self.outputs for layout in layouts for atom in atoms(layout))
        bundles: dict[Atom, list[Atom]] = {}
        for atom in dict.fromkeys([*own, *made]):
            if atom.reason is None:
                bundles.setdefault(self.graph.sizes.ties.root(atom), []).append(atom)
        return list(bundles.values())

    def plan(self, kept: Slots) -> Plan:
        """The plan that keeps these slots; where no tensor has them, it only changes numbers."""
        if all(map(self.graph.group_of, kept)):
            return make_plan(self.graph, kept)
        changed = self.graph.sizes.attributes(kept_counts(kept))
        return Plan(attributes={attribute_name(*key): value for key, value in changed.items()})

    def sliced(self, results: list[Tensor], order: Slots) -> list[Tensor]:
        """The results with the slots of each atom taken in `order`."""
        return [_take(result, layouts, order) for result, layouts in zip(results, self.outputs)]

    def changed(
        self,
        probe: Probe,
        slots: Slots,
        change: Callable[[Tensor], Tensor],
        only: Iterable[Value] | None = None,
    ) -> Probe:
        """A copy of `probe` in which these slots of the operands are changed."""
        copied = probe.copy()
        tensors = tensors_of(copied)
        numbers = [tensor for tensor in tensors.values() if has_fractions(tensor)]
        others = {atom: np.delete(np.arange(atom.size), gone) for atom, gone in slots.items()}
        for name, value in self.graph.trace.tensors.items():
            if (only is not None and value not in only) or (numbers and not has_fractions(tensors[name])):
                continue  # indices and masks are not what slots are made of, unless there is nothing else
            for axis, layout in enumerate(self.graph.coupled.of(value)):
                if not others.keys().isdisjoint(atoms(layout)):
                    index = np.delete(np.arange(layout.size), arranged(layout, others.get))
                    data = tensors[name].data
                    where: Any = (*[slice(None)] * axis, torch.as_tensor(index, device=data.device))
                    data[where] = change(data[where])
        return copied

    def rearranged(self, probe: Probe, order: Slots) -> Probe:
        """A copy of `probe` with the slots of the operands taken in `order`."""
        copied = probe.copy()
        tensors = tensors_of(copied)
        for name, value in self.graph.trace.tensors.items():
            tensors[name].data = _take(tensors[name].data, self.graph.coupled.of(value), order)
        return copied


def _take(tensor: Tensor, layouts: Sequence[Layout], order: Slots) -> Tensor:
    for axis, layout in enumerate(layouts):
        if any(atom in order for atom in atoms(layout)):
            tensor = tensor.index_select(
                axis, torch.as_tensor(arranged(layout, order.get), device=tensor.device)
            )
    return tensor


def _is_telling(results: Iterable[Tensor]) -> bool:
    """Whether there is anything in the results but not-a-number."""
    return not any(bool(one.isnan().all()) for one in results if one.numel())
