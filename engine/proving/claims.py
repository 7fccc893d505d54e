"""What else a rule says of a call, and is not so: where results are zero, multiplied or constant; macs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from ..axes import atoms
from ..choosing import macs
from ..tracing import Value, values_in
from .case import Case, Slots
from .probe import counted_macs, has_fractions, is_equal, run, tensors_of
from .verdict import WRONG, Verdict


def false_zeros(case: Case) -> Iterator[Verdict]:
    """The factors for which results are not zero where the rule's ``zero`` says so."""
    reading = case.graph.coupled.readings.get(case.call)
    mixed = {atom for one in case.graph.coupled.mixed for atom in atoms(one.layout)}
    if reading is None or reading.terms is None:
        return
    for name, layout, places in reading.factors:
        holders = {value for value, _ in places} - set(case.call.results)
        vanishing = list(_ways_to_vanish(reading.terms, holders))
        for atom in atoms(layout):
            slots = {atom: np.array([atom.size - 1])}
            if not holders or atom.reason is not None or atom in mixed:
                continue
            if not all(_vanishes(case, slots, way) for way in vanishing):
                yield Verdict(name, WRONG, "results are not zero where 'zero' says so")
                return


def false_multilinear(case: Case) -> Iterator[Verdict]:
    """The calls whose results are not multiplied where ``multilinear``, or a verb that moves, says so."""
    coupled = case.graph.coupled
    reading = coupled.readings.get(case.call)
    holders = {value for value in case.call.values if value.dtype.is_floating_point}
    if case.call in coupled.moves:
        ways = [tuple(holders)]
    elif reading is not None and reading.products is not None:
        ways = list(_ways_to_vanish(reading.products, holders))
    else:
        return
    if not case.is_random and not all(_is_multiplied(case, way) for way in ways if way):
        yield Verdict("multilinear", WRONG, "results are not multiplied with the operands")


def false_constants(case: Case) -> Iterator[Verdict]:
    """The calls whose results are not one number, whatever the operands, where ``constant`` says so."""
    if case.call.results[0] in case.graph.coupled.uniform and case.call not in case.graph.coupled.moves:
        results = [one.flatten() for _, whole in case.draws for one in whole]
        if len(torch.cat(results).unique()) > 1:
            yield Verdict("constant", WRONG, "results are not one number")


def _is_multiplied(case: Case, operands: Sequence[Value]) -> bool:
    """Whether the results are multiplied with these operands, those that are whole numbers aside."""
    names = [name for name, value in case.graph.trace.tensors.items() if value in operands]
    for probe, whole in case.draws:
        changed = probe.copy()
        tensors = tensors_of(changed)
        for name in names:
            tensors[name].data = tensors[name].data * 0.5
        for result, before in zip(run(changed), whole):
            if result.is_floating_point() and not is_equal([result], [before * 0.5]):
                return False
    return True


def false_cost(case: Case) -> Iterator[Verdict]:
    """The rule's ``macs``, if torch counts something else; what it does not count is taken on trust."""
    if not case.graph.coupled.macs:
        return
    said, counted = macs(case.graph, lambda atom: atom.size), counted_macs(case.draws[0][0])
    if counted and counted != said:
        detail = f"the rule says {said} multiply-accumulates, torch counts {counted}"
        yield Verdict("macs", WRONG, detail)


def _vanishes(case: Case, slots: Slots, operands: Iterable[Value]) -> bool:
    """Whether the results are zero in these slots where the operands are."""
    for probe, _ in case.draws:
        results = case.sliced(run(case.changed(probe, slots, torch.zeros_like, set(operands))), slots)
        for result, layouts in zip(results, case.outputs):
            held = any(atom in slots for layout in layouts for atom in atoms(layout))
            if (
                held
                and has_fractions(result)
                and not is_equal([result.nan_to_num(0)], [torch.zeros_like(result)])
            ):
                return False
    return True


def _ways_to_vanish(terms: Sequence[Sequence[object]], holders: set[Value]) -> Iterator[tuple[Value, ...]]:
    """The choices of operands that make every term zero: one of each product that was given."""
    choices: list[list[tuple[Value, ...]]] = []
    for term in terms:
        given = [tuple(values_in(found)) for found in term if found is not None]
        if given:
            choices.append([values for values in given if values and holders.issuperset(values)])
    for way in itertools.islice(itertools.product(*choices), 8):
        yield tuple(itertools.chain(*way))
