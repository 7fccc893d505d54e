"""The law that every rule obeys: removing a slot from the operands removes it from the results.

For one call, and for each factor of its rule, ``op(slice(x))`` is compared with ``slice(op(zero(x)))`` on the
real operation. Where the two differ, but the operation commutes with every rearrangement of the slots, they
are coupled as the rule says and a statistic is taken over them. Everything else is a wrong rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import gcd
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from ..adapters.lower import LOWERINGS
from ..errors import PlanError, PrunusError
from ..rules import RuleSet
from ..rules.examples import Example
from .axes import Atom, Layout, arranged, atoms
from .cost import macs
from .couplings import Beside
from .derive import told_by_rules
from .graph import DependencyGraph
from .plan import Plan, counts, make_plan
from .probe import Probe, counted_macs, draws_of, has_fractions, is_equal, results_of, run, tensors_of
from .prune import apply
from .sizes import attribute_name
from .trace import trace
from .values import Call, Value, values_in

EXACT, SUMS, MIXES, HELD, WRONG = "exact", "sums", "mixes", "held", "wrong"
_SEVERITY = (HELD, EXACT, SUMS, MIXES, WRONG)
_STEPS = (1, 2, 4, 8, 16)  # some operations take only multiples
_TURNS = 4  # as often other slots are dropped
_OUTPUTS = 64  # more results than any operation has

Slots = dict[Atom, np.ndarray]
Draw = tuple[Probe, list[Tensor]]  # a call with numbers of its own, and its results


@frozen
class Verdict:
    """What the law says of one factor in one call; ``detail`` is what is wrong, or why it is held."""

    factor: str
    kind: str
    detail: str = ""


def severity(verdict: Verdict) -> int:
    """How bad a verdict is: a factor has the worst that any call gives it."""
    return _SEVERITY.index(verdict.kind)


class Untried(Exception):
    """A rule could not be tried on a call: the call fails, or the rule does not fit it."""


def judge(example: Example, rules: RuleSet, count: bool = True) -> list[Verdict]:
    """Try the rule that speaks for `example` on the operation itself: a verdict for each of its factors.

    With `count` its ``macs`` are compared with what torch counts. Raises `Untried`.
    """
    case = _Case(example, rules)
    found = {atom: verdict for unit in case.units() for verdict in [case.verdict(unit)] for atom in unit}
    factors = case.factors()
    verdicts = [_worst(name, layouts, found) for name, layouts in factors.items()]
    named = {atom for layouts in factors.values() for layout in layouts for atom in atoms(layout)}
    wrong = [verdict for atom, verdict in found.items() if atom not in named and verdict.kind == WRONG]
    return (
        [verdict for verdict in verdicts if verdict]
        + wrong
        + [*case.false_zeros(), *case.false_multiples(), *case.false_constants()]
        + [*(case.false_cost() if count else ())]
    )


def _worst(name: str, layouts: Iterable[Layout], found: dict[Atom, Verdict]) -> Verdict | None:
    """The verdict of a factor: the worst of its atoms'; nothing if it has one slot only."""
    verdicts = []
    for atom in dict.fromkeys(atom for layout in layouts for atom in atoms(layout) if atom.size > 1):
        held = Verdict(name, HELD, atom.reason.text if atom.reason else "only results have it")
        verdict = found.get(atom, held)
        verdicts.append(Verdict(name, verdict.kind, verdict.detail))
    return max(verdicts, key=severity, default=None)


class _Unchanged(Exception):
    """Nothing has the slots that could be removed."""


class _Refused(Exception):
    """The operation does not take what was left."""


class _Broken(Exception):
    """The results contradict the rule."""


class _Case:
    """One call under one rule: its graph, and the operation to run on changed operands."""

    def __init__(self, example: Example, rules: RuleSet):
        try:
            probe = Probe(example)
            traced = trace(probe, (), opaque=rules.opaque, lower=LOWERINGS)
            self.graph: DependencyGraph = told_by_rules(probe, traced, rules, range(_OUTPUTS))
        except PrunusError as error:
            raise Untried(str(error)) from error
        draws = [(probe, whole) for probe in draws_of(example) if (whole := results_of(probe))]
        self.draws = [draw for draw in draws if _is_telling(draw[1])] or draws[:1]
        if not self.draws:
            raise Untried("it returns no tensor")
        probe, whole = self.draws[0]
        self.is_random = not is_equal(run(probe, seed=1), whole)
        state = self.graph.state
        if state.unknown:
            raise Untried(self.graph.unknown[0].reason)
        rule = rules.rule_for(example.rule_target)
        calls = [call for call in state.trace.calls if rules.rule_for(call.target) is rule]
        if not calls:
            raise Untried("the trace records no such call")
        self.call: Call = calls[0]
        self.outputs = [[*state.of(value)] for value in state.trace.outputs]
        beside = (atoms(one.layout) for one in state.mixed if isinstance(one, Beside))
        self.beside = {atom for found in beside for atom in found}

    def factors(self) -> dict[str, list[Layout]]:
        """The layouts of the rule's factors, or of the axes that its verb relates."""
        state = self.graph.state
        found: dict[str, list[Layout]] = {}
        reading = state.readings.get(self.call)
        for name, layout, _ in reading.held if reading else ():
            found.setdefault(name, []).append(layout)
        for coupling in state.couplings if not found else ():
            if coupling.origin.call is self.call:
                found.setdefault(coupling.factor, []).extend(map(self.graph.layout_at, coupling.places))
        for value in self.call.values if not found else ():
            for axis, layout in enumerate(state.of(value)):
                found.setdefault(f"axis {axis}", []).append(layout)
        return found

    def units(self) -> list[list[Atom]]:
        """The free atoms, those that shrink together as one; also those that only results have."""
        own = [group.atom for group in self.graph.groups]
        made = (atom for layouts in self.outputs for layout in layouts for atom in atoms(layout))
        units: dict[Atom, list[Atom]] = {}
        for atom in dict.fromkeys([*own, *made]):
            if atom.reason is None:
                units.setdefault(self.graph.sizes.ties.root(atom), []).append(atom)
        return list(units.values())

    def verdict(self, unit: Sequence[Atom]) -> Verdict:
        """What the law says of the atoms that shrink together as `unit`."""
        group = self.graph.group_of(unit[0])
        name = group.kind if group else "result"
        refused = None
        grain, _ = self.graph.multiples.grain(unit)
        for step in (step for step in _STEPS if step % grain == 0):
            try:
                kinds = [self._kind(unit, dropped, *draw) for dropped, draw in self._drops(unit, step)]
            except (PlanError, _Unchanged) as error:
                return Verdict(name, HELD, str(error))
            except _Broken as error:
                return Verdict(name, WRONG, str(error))
            except _Refused as error:
                refused = refused or error
                continue
            if kinds:
                coarse = refused is not None or grain > 1
                detail = f"the operation takes only multiples of {step} slots" if coarse else ""
                if self.is_random:
                    detail = "results differ from run to run, so only their shapes were compared"
                return Verdict(name, max(kinds, key=_SEVERITY.index), detail)
        if refused is not None:
            return Verdict(name, WRONG, f"with a slot less, the operation fails: {refused}")
        return Verdict(name, HELD, "there is too little to remove")

    def _drops(self, unit: Sequence[Atom], step: int) -> Iterator[tuple[Slots, Draw]]:
        """What to drop from which numbers: other slots from each, as some may hide what others show."""
        for turn, draw in enumerate(itertools.islice(itertools.cycle(self.draws), _TURNS)):
            for dropped in _subsets(unit, step, turn):
                yield dropped, draw

    def _kind(self, unit: Sequence[Atom], dropped: Slots, probe: Probe, whole: list[Tensor]) -> str:
        """What dropping these slots is for the numbers of `probe`; raises what speaks against it."""
        kept = {atom: np.delete(np.arange(atom.size), gone) for atom, gone in dropped.items()}
        plan = self._plan(kept)
        if not (plan.tensors or plan.attributes):
            raise _Unchanged("only results have it")
        smaller = probe.copy()
        try:
            apply(smaller, plan)
            pruned = run(smaller)
        except Exception as error:  # the operation's own complaint, whatever it is
            raise _Refused(_first_line(error)) from error
        zeroed = self._sliced(self._zeroed(probe, dropped), kept)
        shapes = [tuple(one.shape) for one in pruned], [tuple(one.shape) for one in zeroed]
        if shapes[0] != shapes[1]:
            raise _Broken(f"the results are of shapes {shapes[0]}, not {shapes[1]}")
        if self.is_random:
            return EXACT
        if is_equal(pruned, zeroed):
            return SUMS if self._touches_others(probe, dropped, kept, whole) else EXACT
        if self.beside.issuperset(unit):
            return MIXES
        if self._commutes(probe, unit, whole) and self._commutes_still(probe, plan, kept, pruned):
            return MIXES
        raise _Broken("slots of the results do not follow those of the operands")

    def _zeroed(self, probe: Probe, dropped: Slots) -> list[Tensor]:
        """The results with zeros in these slots of the operands."""
        try:
            return run(self._changed(probe, dropped, torch.zeros_like))
        except Exception as error:  # the operation's own complaint, whatever it is
            raise _Broken(f"the operation does not take zeros: {_first_line(error)}") from error

    def false_zeros(self) -> Iterator[Verdict]:
        """The factors for which results are not zero where the rule's ``zero`` says so."""
        reading = self.graph.state.readings.get(self.call)
        mixed = {atom for one in self.graph.state.mixed for atom in atoms(one.layout)}
        if reading is None or reading.terms is None:
            return
        for name, layout, places in reading.held:
            holders = {value for value, _ in places} - set(self.call.results)
            vanishing = list(_ways_to_vanish(reading.terms, holders))
            for atom in atoms(layout):
                slots = {atom: np.array([atom.size - 1])}
                if not holders or atom.reason is not None or atom in mixed:
                    continue
                if not all(self._vanishes(slots, way) for way in vanishing):
                    yield Verdict(name, WRONG, "results are not zero where 'zero' says so")
                    return

    def false_multiples(self) -> Iterator[Verdict]:
        """The calls whose results are not multiplied where ``multilinear``, or a verb that moves, says so."""
        state = self.graph.state
        reading = state.readings.get(self.call)
        holders = {value for value in self.call.values if value.dtype.is_floating_point}
        if self.call in state.moves:
            ways = [tuple(holders)]
        elif reading is not None and reading.products is not None:
            ways = list(_ways_to_vanish(reading.products, holders))
        else:
            return
        if not self.is_random and not all(self._is_multiplied(way) for way in ways if way):
            yield Verdict("multilinear", WRONG, "results are not multiplied with the operands")

    def false_constants(self) -> Iterator[Verdict]:
        """The calls whose results are not one number, whatever the operands, where ``constant`` says so."""
        if self.call.results[0] in self.graph.state.uniform and self.call not in self.graph.state.moves:
            results = [one.flatten() for _, whole in self.draws for one in whole]
            if len(torch.cat(results).unique()) > 1:
                yield Verdict("constant", WRONG, "results are not one number")

    def _is_multiplied(self, operands: Sequence[Value]) -> bool:
        """Whether the results are multiplied with these operands, those that are whole numbers aside."""
        names = [name for name, value in self.graph.trace.tensors.items() if value in operands]
        for probe, whole in self.draws:
            changed = probe.copy()
            tensors = tensors_of(changed)
            for name in names:
                tensors[name].data = tensors[name].data * 0.5
            for result, before in zip(run(changed), whole):
                if result.is_floating_point() and not is_equal([result], [before * 0.5]):
                    return False
        return True

    def false_cost(self) -> Iterator[Verdict]:
        """The rule's ``macs``, if torch counts something else; what it does not count is taken on trust."""
        if not self.graph.state.costs:
            return
        said, counted = macs(self.graph, lambda atom: atom.size), counted_macs(self.draws[0][0])
        if counted and counted != said:
            detail = f"the rule says {said} multiply-accumulates, torch counts {counted}"
            yield Verdict("macs", WRONG, detail)

    def _vanishes(self, slots: Slots, operands: Iterable[Value]) -> bool:
        """Whether the results are zero in these slots where the operands are."""
        for probe, _ in self.draws:
            results = self._sliced(run(self._changed(probe, slots, torch.zeros_like, set(operands))), slots)
            for result, layouts in zip(results, self.outputs):
                held = any(atom in slots for layout in layouts for atom in atoms(layout))
                if (
                    held
                    and has_fractions(result)
                    and not is_equal([result.nan_to_num(0)], [torch.zeros_like(result)])
                ):
                    return False
        return True

    def _plan(self, kept: Slots) -> Plan:
        """The plan that keeps these slots; where no tensor has them, it only changes numbers."""
        if all(map(self.graph.group_of, kept)):
            return make_plan(self.graph, kept)
        changed = self.graph.sizes.attributes(counts(kept))
        return Plan(attributes={attribute_name(*key): value for key, value in changed.items()})

    def _sliced(self, results: list[Tensor], order: Slots) -> list[Tensor]:
        """The results with the slots of each atom taken in `order`."""
        return [_take(result, layouts, order) for result, layouts in zip(results, self.outputs)]

    def _changed(
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
            for axis, layout in enumerate(self.graph.state.of(value)):
                if not others.keys().isdisjoint(atoms(layout)):
                    index = np.delete(np.arange(layout.size), arranged(layout, others.get))
                    where: Any = (*[slice(None)] * axis, torch.as_tensor(index))
                    data = tensors[name].data
                    data[where] = change(data[where])
        return copied

    def _commutes(self, probe: Probe, unit: Sequence[Atom], whole: list[Tensor]) -> bool:
        """Whether rearranging the slots of the operands rearranges those of the results.

        All orders are made of these two: one slot further, and the first two exchanged.
        """
        orders = [
            {atom: np.roll(np.arange(atom.size), 1) for atom in unit},
            {atom: np.array([1, 0, *range(2, atom.size)]) for atom in unit},
        ]
        return all(
            is_equal(run(self._rearranged(probe, order)), self._sliced(whole, order)) for order in orders
        )

    def _commutes_still(self, probe: Probe, plan: Plan, kept: Slots, pruned: list[Tensor]) -> bool:
        """The same for the slots that are left: the operation must not know them by their number."""
        turned = {atom: np.roll(slots, 1) for atom, slots in kept.items()}
        order = {atom: np.arange(atom.size) for atom in kept}
        for atom, slots in kept.items():
            order[atom][slots] = turned[atom]
        smaller = self._rearranged(probe, order)
        apply(smaller, plan)
        expected = list(pruned)
        for number, layouts in enumerate(self.outputs):
            for axis, layout in enumerate(layouts):
                index = np.searchsorted(arranged(layout, kept.get), arranged(layout, turned.get))
                expected[number] = expected[number].index_select(axis, torch.as_tensor(index))
        return is_equal(run(smaller), expected)

    def _rearranged(self, probe: Probe, order: Slots) -> Probe:
        """A copy of `probe` with the slots of the operands taken in `order`."""
        copied = probe.copy()
        tensors = tensors_of(copied)
        for name, value in self.graph.trace.tensors.items():
            tensors[name].data = _take(tensors[name].data, self.graph.state.of(value), order)
        return copied

    def _touches_others(self, probe: Probe, slots: Slots, kept: Slots, whole: list[Tensor]) -> bool:
        """Whether a slot of the operands changes results in other slots than its own."""
        changed = self._sliced(run(self._changed(probe, slots, _other)), kept)
        return not all(
            is_equal([one], [other])
            for one, other, layouts in zip(changed, self._sliced(whole, kept), self.outputs)
            if any(atom in slots for layout in layouts for atom in atoms(layout))
        )


def _subsets(unit: Sequence[Atom], step: int, turn: int) -> Iterator[Slots]:
    """Which slots to drop: one, then half of them, or as many at once as `step` says; each turn others.

    All atoms of the unit lose the same share. Two parts at least stay where possible, as an axis of one slot
    is another thing to many operations.
    """
    generator = np.random.default_rng(turn)
    parts, rest = divmod(gcd(*(atom.size for atom in unit)), step)
    for count in dict.fromkeys((1, parts // 2)):
        if not rest and 0 < count < parts and (count == 1 or parts - count > 1):
            yield {atom: _some(atom.size, count * atom.size // parts, turn, generator) for atom in unit}


def _some(size: int, count: int, turn: int, generator: np.random.Generator) -> np.ndarray:
    """So many of `size` slots: the one whose turn it is, or several at random."""
    if count == 1:
        return np.array([turn % size])
    return np.sort(generator.choice(size, count, replace=False))


def _ways_to_vanish(terms: Sequence[Sequence[object]], holders: set[Value]) -> Iterator[tuple[Value, ...]]:
    """The choices of operands that make every term zero: one of each product that was given."""
    choices: list[list[tuple[Value, ...]]] = []
    for term in terms:
        given = [tuple(values_in(found)) for found in term if found is not None]
        if given:
            choices.append([values for values in given if values and holders.issuperset(values)])
    for way in itertools.islice(itertools.product(*choices), 8):
        yield tuple(itertools.chain(*way))


def _take(tensor: Tensor, layouts: Sequence[Layout], order: Slots) -> Tensor:
    for axis, layout in enumerate(layouts):
        if any(atom in order for atom in atoms(layout)):
            tensor = tensor.index_select(axis, torch.as_tensor(arranged(layout, order.get)))
    return tensor


def _other(tensor: Tensor) -> Tensor:
    """Other numbers of the same sign and size."""
    return tensor * 0.625 if has_fractions(tensor) else tensor


def _is_telling(results: Iterable[Tensor]) -> bool:
    """Whether there is anything in the results but not-a-number."""
    return not any(bool(one.isnan().all()) for one in results if one.numel())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
