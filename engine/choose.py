"""Chooses the slots to keep: how many of every group, and which ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..errors import PlanError
from .axes import Atom
from .cost import COSTS, Count
from .criteria import Criterion, criterion_of
from .groups import Group, Groups
from .plan import Plan, broken_plan, make_plan
from .slotwise import Tensors
from .units import Unit, check_pattern, matches, units_of

# How often other sizes are tried when the model's own code would not run with the ones chosen.
ATTEMPTS = 100
# How far from a budget a plan may be, as a fraction of the whole model's cost.
TOLERANCE = 0.01


def choose(
    graph: Groups,
    ratio: float | None = None,
    *,
    params: float | None = None,
    macs: float | None = None,
    ratios: Mapping[str, float] | None = None,
    criterion: str | Criterion = "magnitude",
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    round_to: int = 1,
    exact_only: bool = False,
    notes: list[str] | None = None,
) -> Plan:
    """Remove the slots with the lowest scores from every group that may be pruned.

    Parameters
    ----------
    graph : the analysed model.
    ratio : fraction of the slots of each group to remove, in [0, 1); 0.5 if no budget is given either.
    params, macs : budgets, as the fraction of the model's parameters or multiply-accumulates to keep.
    ratios : other ratios by group name, kind or module pattern (``"layer1.*": 0.25``); the last wins.
    criterion : a name in `engine.criteria`, or a callable ``(group, tensors) -> scores``.
    skip, only : group names, kinds or module patterns to leave out, or to prune alone.
    round_to : kept slots are a multiple of this.
    exact_only : leave groups alone over which a statistic is taken.
    notes : receives a line for every group that was left alone, and for a budget that was not met closely.

    Returns
    -------
    Plan
        At least one slot of each group stays, and never more than `ratio` goes.

    Raises
    ------
    PlanError
        For a ratio outside [0, 1), two budgets, one that cannot be met, a pattern that fits nothing.
    """
    notes = [] if notes is None else notes
    budgets = {name: given for name, given in (("params", params), ("macs", macs)) if given is not None}
    if len(budgets) + (ratio is not None) > 1:
        raise PlanError("ratio, params and macs are three ways to say how much goes; give one of them")
    if not isinstance(round_to, int) or round_to < 1:
        raise PlanError(f"round_to must be a whole number of at least 1, not {round_to!r}")
    for name, fraction in budgets.items():
        if not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise PlanError(f"{name} is the fraction to keep, above 0 and up to 1; {fraction!r} is not")
    wanted = _Wanted(graph, 0.5 if ratio is None else ratio, ratios or {})
    score = criterion_of(criterion)
    rigid: dict[Atom, str] = {}
    found = -1
    while found < len(rigid):
        found = len(rigid)
        units = units_of(graph, skip, only, exact_only, rigid)
        missed = [_meet(graph, units, wanted, round_to, *budget) for budget in budgets.items()]
        _shrink(units, wanted, round_to)
        rigid.update(_heed_the_code(graph, units, round_to))
    notes += [note for note in missed if note]
    notes += [f"{graph.group_of(atom).name}: left whole, {why}" for atom, why in rigid.items()]  # type: ignore[union-attr]
    notes += [
        f"{unit.groups[0].name}: nothing removed, as its {unit.whole} steps cannot shrink by so little"
        for unit in units
        if unit.steps == unit.whole and any(wanted(group) > 0 for group in unit.groups)
    ]
    return make_plan(graph, _best(graph, units, score))


class _Wanted:
    """The fraction to remove of a group: one for all, but where a pattern says otherwise."""

    def __init__(self, graph: Groups, ratio: float, ratios: Mapping[str, float]):
        for given in [ratio, *ratios.values()]:
            if not isinstance(given, (int, float)) or not 0 <= given < 1:
                raise PlanError(f"a ratio is a fraction to remove, from 0 to below 1; {given!r} is not")
        for pattern in ratios:
            check_pattern(graph, pattern, "ratios")
        self.ratio = ratio
        self._ratios = list(ratios.items())[::-1]

    def __call__(self, group: Group) -> float:
        return next((ratio for pattern, ratio in self._ratios if matches(group, pattern)), self.ratio)


def _shrink(units: list[Unit], wanted: _Wanted, round_to: int) -> None:
    for unit in units:
        unit.keep(1 - min(map(wanted, unit.groups)), round_to)


def _meet(
    graph: Groups,
    units: list[Unit],
    wanted: _Wanted,
    round_to: int,
    budget: str,
    fraction: float,
) -> str:
    """Find the one ratio with which the plan costs `fraction` of the model, as nearly as its steps allow.

    Returns a note if that is not near.
    """

    def cost(ratio: float) -> float:
        wanted.ratio = ratio
        _shrink(units, wanted, round_to)
        return COSTS[budget](graph, _counts(units)) / whole

    whole = COSTS[budget](graph, lambda atom: atom.size)
    if not whole:
        raise PlanError(f"no call of this model has a cost in {budget}; give a ratio instead")
    low, high = 0.0, 1 - 1e-9
    if cost(high) > fraction + TOLERANCE:
        raise PlanError(
            f"{budget}={fraction} cannot be met: with one slot left of every group that may be pruned, "
            f"{cost(high):.1%} of the {budget} remain"
        )
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > fraction else (low, middle)
    wanted.ratio = min((low, high), key=lambda ratio: abs(cost(ratio) - fraction))
    found = cost(wanted.ratio)
    if abs(found - fraction) <= TOLERANCE:
        return ""
    return f"{budget}: {found:.1%} kept, the nearest to {fraction:.1%} that sizes and ties allow"


def _heed_the_code(graph: Groups, units: list[Unit], round_to: int) -> dict[Atom, str]:
    """Where the model's own code would not go along with the sizes, the units in the way keep more.

    Returns the atoms that thereby keep all their slots, and why.
    """
    whole: dict[Atom, str] = {}
    unit_of = {group.atom: unit for unit in units for group in unit.groups}
    for _ in range(ATTEMPTS):
        broken = graph.sizes.violations(_counts(units))
        if not broken:
            return whole
        involved = {unit_of[atom] for atom in broken[0].atoms if atom in unit_of}
        shrunk = [unit for unit in units if unit in involved and unit.steps < unit.whole]
        if not shrunk:
            break
        unit = min(shrunk, key=lambda unit: unit.steps / unit.whole)
        unit.grow(round_to)
        if unit.steps == unit.whole:
            whole.update((group.atom, f"as otherwise {broken[0].text}") for group in unit.groups)
    raise broken_plan(broken[0])


def _counts(units: list[Unit]) -> Count:
    kept = {group.atom: unit.kept(group) for unit in units for group in unit.groups}
    return lambda atom: kept.get(atom, atom.size)


def _best(graph: Groups, units: list[Unit], score: Criterion) -> dict[Atom, np.ndarray]:
    """The slots with the highest scores of every group, in order; of equal ones the first."""
    tensors = Tensors(graph)
    kept: dict[Atom, np.ndarray] = {}
    for unit in units:
        if unit.steps == unit.whole:
            continue
        for group in unit.groups:
            scores = score(group, tensors)
            if not isinstance(scores, torch.Tensor):
                raise PlanError(
                    f"the criterion gave {scores!r} for {group.name}, which is no tensor of scores"
                )
            if tuple(scores.shape) != (group.size,):
                raise PlanError(
                    f"the criterion gave scores of shape {tuple(scores.shape)} "
                    f"for {group.name} of {group.size} slots"
                )
            if scores.is_meta:
                raise PlanError("weights on the meta device cannot be ranked; load them, or rank at random")
            ranked = np.argsort(-np.nan_to_num(scores.detach().float().cpu().numpy()), kind="stable")
            kept[group.atom] = np.sort(ranked[: unit.kept(group)])
    return kept
