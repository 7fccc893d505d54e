"""The law that every rule obeys: removing a slot from the operands removes it from the results.

For one call, and for each factor of its rule, ``op(slice(x))`` is compared with ``slice(op(zero(x)))`` on the
real operation. Where the two differ, but the operation commutes with every rearrangement of the slots, they
are coupled as the rule says and a statistic is taken over them. Everything else is a wrong rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import gcd

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from ..errors import PlanError, PrunusError
from ..rules import RuleSet
from ..rules.examples import Example
from .axes import Atom, Layout, arranged, atoms
from .graph import DependencyGraph
from .groups import Group
from .probe import Probe, run
from .prune import analyze, apply
from .values import Call, Value

EXACT, SUMS, MIXES, HELD, WRONG = "exact", "sums", "mixes", "held", "wrong"
_SEVERITY = (HELD, EXACT, SUMS, MIXES, WRONG)
_OUTPUTS = 64  # more results than any operation has


@frozen
class Verdict:
    """What the law says of one factor in one call; ``detail`` is what is wrong, or why it is held."""

    factor: str
    kind: str
    detail: str = ""


class Untried(Exception):
    """A rule could not be tried on a call: the call fails, or the rule does not fit it."""


def judge(example: Example, rules: RuleSet) -> list[Verdict]:
    """Try the rule that speaks for `example` on the operation itself: a verdict for each of its factors.

    Raises `Untried`.
    """
    trial = _Trial(example, rules)
    found: dict[Atom, Verdict] = {}
    for unit in trial.graph.tied():
        for group in unit:
            found[group.atom] = trial.verdict(unit)
    verdicts = [_worst(name, layouts, found) for name, layouts in trial.factors().items()]
    named = {atom for layouts in trial.factors().values() for layout in layouts for atom in atoms(layout)}
    rest = [verdict for atom, verdict in found.items() if atom not in named and verdict.kind == WRONG]
    return [verdict for verdict in verdicts if verdict] + rest


def _worst(name: str, layouts: Iterable[Layout], found: dict[Atom, Verdict]) -> Verdict | None:
    """The verdict of a factor: the worst of its atoms'; nothing if it has one slot only."""
    verdicts = []
    for atom in dict.fromkeys(atom for layout in layouts for atom in atoms(layout) if atom.size > 1):
        held = Verdict(name, HELD, atom.reason.text if atom.reason else "only results have it")
        verdict = found.get(atom, held)
        verdicts.append(Verdict(name, verdict.kind, verdict.detail))
    return max(verdicts, key=lambda one: _SEVERITY.index(one.kind), default=None)


class _Trial:
    """One call under one rule: its graph, and the operation to run on changed operands."""

    def __init__(self, example: Example, rules: RuleSet):
        self.example = example
        try:
            self.graph: DependencyGraph = analyze(Probe(example), (), rules=rules, free_outputs=range(_OUTPUTS))
            self.draws = list(_draws(example))
        except PrunusError as error:
            raise Untried(str(error)) from error
        state = self.graph.state
        if state.unknown:
            raise Untried(self.graph.unknown[0].reason)
        rule = rules.rule_for(example.rule_target)
        self.call: Call = next(call for call in state.trace.calls if rules.rule_for(call.target) is rule)
        self.outputs = [[*state.of(value)] for value in state.trace.outputs]

    def factors(self) -> dict[str, list[Layout]]:
        """The layouts of the rule's factors, or of the axes that its verb relates."""
        state, found = self.graph.state, {}
        reading = state.readings.get(self.call)
        for name, layout, _ in reading.held if reading else ():
            found.setdefault(name, []).append(layout)
        for coupling in state.couplings if not found else ():
            if coupling.origin.call is self.call:
                found.setdefault(coupling.factor, []).extend(map(self.graph.layout_at, coupling.places))
        return found

    def verdict(self, unit: Sequence[Group]) -> Verdict:
        """What the law says of the groups that shrink together as `unit`."""
        name = unit[0].kind
        kinds = []
        for dropped in _subsets(unit):
            kept = {g.atom: np.setdiff1d(np.arange(g.size), dropped[g.atom]) for g in unit}
            try:
                plan = self.graph.plan({g.name: kept[g.atom].tolist() for g in unit})
            except PlanError as error:
                return Verdict(name, HELD, str(error))
            for probe in self.draws:
                whole = run(probe)
                if not _is_telling(whole):
                    continue
                try:
                    pruned = run(apply(probe.copy(), plan))
                except Exception as error:  # the operation's own complaint, whatever it is
                    return Verdict(name, WRONG, f"with a slot less, the operation fails: {_first_line(error)}")
                zeroed = self._sliced(run(self._changed(probe, dropped, torch.zeros_like)), kept)
                shapes = [tuple(one.shape) for one in pruned], [tuple(one.shape) for one in zeroed]
                if shapes[0] != shapes[1]:
                    return Verdict(name, WRONG, f"the results are of shapes {shapes[0]}, not {shapes[1]}")
                if _is_random(probe, whole):
                    kinds.append(EXACT)
                elif not _equal(pruned, zeroed):
                    kinds.append(MIXES)
                    if not self._commutes(probe, unit, whole):
                        return Verdict(name, WRONG, "slots of the results do not follow those of the operands")
                else:
                    kinds.append(SUMS if self._touches_others(probe, dropped, kept, whole) else EXACT)
        return Verdict(name, max(kinds, key=_SEVERITY.index)) if kinds else Verdict(name, HELD, "nothing to try")

    def _sliced(self, results: list[Tensor], order: dict[Atom, np.ndarray]) -> list[Tensor]:
        """The results with the slots of each atom taken in `order`."""
        return [_take(result, layouts, order) for result, layouts in zip(results, self.outputs)]

    def _changed(
        self,
        probe: Probe,
        slots: dict[Atom, np.ndarray],
        change: Callable[[Tensor], Tensor],
        only: Iterable[Value] | None = None,
    ) -> Probe:
        """A copy of `probe` in which these slots of the operands are changed."""
        copied = probe.copy()
        tensors = dict(itertools.chain(copied.named_parameters(), copied.named_buffers()))
        for name, value in self.graph.trace.tensors.items():
            if name not in tensors or (only is not None and value not in only):
                continue
            for axis, layout in enumerate(self.graph.state.of(value)):
                others = {atom: np.setdiff1d(np.arange(atom.size), gone) for atom, gone in slots.items()}
                index = np.setdiff1d(np.arange(layout.size), arranged(layout, others.get))
                where = [slice(None)] * axis + [torch.as_tensor(index)]
                data = tensors[name].data
                data[tuple(where)] = change(data[tuple(where)])
        return copied

    def _commutes(self, probe: Probe, unit: Sequence[Group], whole: list[Tensor]) -> bool:
        """Whether rearranging the slots of the operands rearranges those of the results."""
        order = {group.atom: np.roll(np.arange(group.size)[::-1], 1) for group in unit}
        copied = probe.copy()
        tensors = dict(itertools.chain(copied.named_parameters(), copied.named_buffers()))
        for name, value in self.graph.trace.tensors.items():
            tensors[name].data = _take(tensors[name].data, self.graph.state.of(value), order)
        return _equal(run(copied), self._sliced(whole, order))

    def _touches_others(
        self, probe: Probe, slots: dict[Atom, np.ndarray], kept: dict[Atom, np.ndarray], whole: list[Tensor]
    ) -> bool:
        """Whether a slot of the operands changes results in other slots than its own."""
        held = [any(atom in slots for layout in out for atom in atoms(layout)) for out in self.outputs]
        if not all(held):
            return False
        changed = run(self._changed(probe, slots, _other))
        return not _equal(self._sliced(changed, kept), self._sliced(whole, kept))


def _draws(example: Example) -> Iterator[Probe]:
    """The call with its own numbers, then with others of the same signs, then with none above zero."""
    generator = torch.Generator().manual_seed(0)
    for sign in (None, 1, -1):
        probe = Probe(example)
        own = list(probe.parameters())
        for tensor in [*own, *probe.buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            if any(tensor is one for one in own):
                tensor.data = torch.randn(tensor.shape, generator=generator).to(tensor)
            elif sign is not None:
                factor = 0.5 + 0.5 * torch.rand(tensor.shape, generator=generator).to(tensor)
                tensor.data = factor * (tensor if sign > 0 else -tensor.abs())
        yield probe


def _subsets(unit: Sequence[Group]) -> Iterator[dict[Atom, np.ndarray]]:
    """Which slots to drop: one, then the first and the last; the same share of all groups of the unit."""
    parts = gcd(*(group.size for group in unit))
    for numbers in ([1], [0, -1]):
        if len(numbers) < parts:
            yield {g.atom: np.concatenate([np.arange(g.size).reshape(parts, -1)[n] for n in numbers]) for g in unit}


def _take(tensor: Tensor, layouts: Sequence[Layout], order: dict[Atom, np.ndarray]) -> Tensor:
    for axis, layout in enumerate(layouts):
        if any(atom in order for atom in atoms(layout)):
            tensor = tensor.index_select(axis, torch.as_tensor(arranged(layout, order.get)))
    return tensor


def _other(tensor: Tensor) -> Tensor:
    """Other numbers of the same sign and size."""
    return tensor * 0.625 if tensor.is_floating_point() or tensor.is_complex() else tensor


def _is_telling(results: Iterable[Tensor]) -> bool:
    """Whether there is anything in the results but not-a-number."""
    return not any(bool(one.isnan().all()) for one in results if one.numel())


def _is_random(probe: Probe, whole: list[Tensor]) -> bool:
    return not _equal(run(probe.copy(), seed=1), whole)


def _equal(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(one, other, rtol=_tolerance(one), atol=_tolerance(one), equal_nan=True)
        for one, other in zip(ones, others)
    )


def _tolerance(tensor: Tensor) -> float:
    return 1e-8 if tensor.dtype in (torch.float64, torch.complex128) else 1e-4


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
