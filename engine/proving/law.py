"""The law that every rule obeys: removing a slot from the operands removes it from the results.

For one call, and for each factor of its rule, ``op(slice(x))`` is compared with ``slice(op(zero(x)))`` on the
real operation. Where the two differ, but the operation commutes with every rearrangement of the slots, they
are coupled as the rule says and a statistic is taken over them. Everything else is a wrong rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from math import gcd

import numpy as np
import torch
from torch import Tensor

from ...adapters.apply import carry_out
from ...adapters.plan import Plan
from ...errors import PlanError
from ...rules import RuleSet
from ...rules.examples import Example
from ..axes import Atom, Layout, arranged, atoms
from .case import Case, Draw, Slots
from .claims import false_constants, false_cost, false_multilinear, false_zeros
from .probe import Probe, has_fractions, is_equal, run
from .verdict import EXACT, HELD, MIXES, SEVERITY, SUMS, WRONG, Verdict, severity

_STEPS = (1, 2, 4, 8, 16)  # some operations take only multiples
_TURNS = 4  # as often other slots are dropped


def judge(example: Example, rules: RuleSet, count: bool = True) -> list[Verdict]:
    """Try the rule that speaks for `example` on the operation itself: a verdict for each of its factors.

    With `count` its ``macs`` are compared with what torch counts. Raises `Untried`.
    """
    case = Case(example, rules)
    found = {
        atom: verdict for bundle in case.bundles() for verdict in [_verdict(case, bundle)] for atom in bundle
    }
    factors = case.factors()
    verdicts = [_worst(name, layouts, found) for name, layouts in factors.items()]
    named = {atom for layouts in factors.values() for layout in layouts for atom in atoms(layout)}
    wrong = [verdict for atom, verdict in found.items() if atom not in named and verdict.kind == WRONG]
    return (
        [verdict for verdict in verdicts if verdict]
        + wrong
        + [*false_zeros(case), *false_multilinear(case), *false_constants(case)]
        + [*(false_cost(case) if count else ())]
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


def _verdict(case: Case, bundle: Sequence[Atom]) -> Verdict:
    """What the law says of the atoms that shrink together as `bundle`."""
    group = case.graph.group_of(bundle[0])
    name = group.kind if group else "result"
    refused = None
    grain, _ = case.graph.multiples.grain(bundle)
    for step in (step for step in _STEPS if step % grain == 0):
        try:
            kinds = [_kind(case, bundle, dropped, *draw) for dropped, draw in _drops(case, bundle, step)]
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
            if case.is_random:
                detail = "results differ from run to run, so only their shapes were compared"
            return Verdict(name, max(kinds, key=SEVERITY.index), detail)
    if refused is not None:
        return Verdict(name, WRONG, f"with a slot less, the operation fails: {refused}")
    return Verdict(name, HELD, "there is too little to remove")


def _drops(case: Case, bundle: Sequence[Atom], step: int) -> Iterator[tuple[Slots, Draw]]:
    """What to drop from which numbers: other slots from each, as some may hide what others show."""
    for turn, draw in enumerate(itertools.islice(itertools.cycle(case.draws), _TURNS)):
        for dropped in _subsets(bundle, step, turn):
            yield dropped, draw


def _kind(case: Case, bundle: Sequence[Atom], dropped: Slots, probe: Probe, whole: list[Tensor]) -> str:
    """What dropping these slots is for the numbers of `probe`; raises what speaks against it."""
    kept = {atom: np.delete(np.arange(atom.size), gone) for atom, gone in dropped.items()}
    plan = case.plan(kept)
    if not (plan.tensors or plan.attributes):
        raise _Unchanged("only results have it")
    smaller = probe.copy()
    try:
        carry_out(smaller, plan)
        pruned = run(smaller)
    except Exception as error:  # the operation's own complaint, whatever it is
        raise _Refused(_first_line(error)) from error
    zeroed = case.sliced(_zeroed(case, probe, dropped), kept)
    shapes = [tuple(one.shape) for one in pruned], [tuple(one.shape) for one in zeroed]
    if shapes[0] != shapes[1]:
        raise _Broken(f"the results are of shapes {shapes[0]}, not {shapes[1]}")
    if case.is_random:
        return EXACT
    if is_equal(pruned, zeroed):
        return SUMS if _touches_others(case, probe, dropped, kept, whole) else EXACT
    if case.beside.issuperset(bundle):
        return MIXES
    if _commutes(case, probe, bundle, whole) and _commutes_still(case, probe, plan, kept, pruned):
        return MIXES
    raise _Broken("slots of the results do not follow those of the operands")


def _zeroed(case: Case, probe: Probe, dropped: Slots) -> list[Tensor]:
    """The results with zeros in these slots of the operands."""
    try:
        return run(case.changed(probe, dropped, torch.zeros_like))
    except Exception as error:  # the operation's own complaint, whatever it is
        raise _Broken(f"the operation does not take zeros: {_first_line(error)}") from error


def _commutes(case: Case, probe: Probe, bundle: Sequence[Atom], whole: list[Tensor]) -> bool:
    """Whether rearranging the slots of the operands rearranges those of the results.

    All orders are made of these two: one slot further, and the first two exchanged.
    """
    orders = [
        {atom: np.roll(np.arange(atom.size), 1) for atom in bundle},
        {atom: np.array([1, 0, *range(2, atom.size)]) for atom in bundle},
    ]
    return all(is_equal(run(case.rearranged(probe, order)), case.sliced(whole, order)) for order in orders)


def _commutes_still(case: Case, probe: Probe, plan: Plan, kept: Slots, pruned: list[Tensor]) -> bool:
    """The same for the slots that are left: the operation must not know them by their number."""
    turned = {atom: np.roll(slots, 1) for atom, slots in kept.items()}
    order = {atom: np.arange(atom.size) for atom in kept}
    for atom, slots in kept.items():
        order[atom][slots] = turned[atom]
    smaller = case.rearranged(probe, order)
    carry_out(smaller, plan)
    expected = list(pruned)
    for number, layouts in enumerate(case.outputs):
        for axis, layout in enumerate(layouts):
            index = np.searchsorted(arranged(layout, kept.get), arranged(layout, turned.get))
            expected[number] = expected[number].index_select(
                axis, torch.as_tensor(index, device=expected[number].device)
            )
    return is_equal(run(smaller), expected)


def _touches_others(case: Case, probe: Probe, slots: Slots, kept: Slots, whole: list[Tensor]) -> bool:
    """Whether a slot of the operands changes results in other slots than its own."""
    changed = case.sliced(run(case.changed(probe, slots, _other)), kept)
    return not all(
        is_equal([one], [other])
        for one, other, layouts in zip(changed, case.sliced(whole, kept), case.outputs)
        if any(atom in slots for layout in layouts for atom in atoms(layout))
    )


def _subsets(bundle: Sequence[Atom], step: int, turn: int) -> Iterator[Slots]:
    """Which slots to drop: one, then half of them, or as many at once as `step` says; each turn others.

    All atoms of the bundle lose the same share. Two parts at least stay where possible, as an axis of one
    slot is another thing to many operations.
    """
    generator = np.random.default_rng(turn)
    parts, rest = divmod(gcd(*(atom.size for atom in bundle)), step)
    for count in dict.fromkeys((1, parts // 2)):
        if not rest and 0 < count < parts and (count == 1 or parts - count > 1):
            yield {atom: _some(atom.size, count * atom.size // parts, turn, generator) for atom in bundle}


def _some(size: int, count: int, turn: int, generator: np.random.Generator) -> np.ndarray:
    """So many of `size` slots: the one whose turn it is, or several at random."""
    if count == 1:
        return np.array([turn % size])
    return np.sort(generator.choice(size, count, replace=False))


def _other(tensor: Tensor) -> Tensor:
    """Other numbers of the same sign and size."""
    return tensor * 0.625 if has_fractions(tensor) else tensor


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
