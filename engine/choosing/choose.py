"""Chooses the slots to keep: how many of every group, and which ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...adapters.plan import Plan
from ...errors import PlanError
from ..axes import Atom
from ..grouping import Group, Groups
from ..scoring import Criterion, Loss, Tensors, criterion_of
from .budget import Budget
from .cost import COSTS
from .make_plan import make_plan
from .near import keep_more
from .patterns import ByPattern
from .scopes import SCOPES, families_of
from .units import Unit, units_of


def choose(
    graph: Groups,
    ratio: float | None = None,
    *,
    params: float | None = None,
    macs: float | None = None,
    latency: Any = None,
    scope: str = "local",
    ratios: Mapping[str, float] | None = None,
    criterion: str | Criterion = "magnitude",
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    round_to: int = 1,
    min_keep: float = 1,
    exact_only: bool = False,
    notes: list[str] | None = None,
    left_alone: dict[str, str] | None = None,
) -> Plan:
    """Remove the slots with the lowest scores from every group that may be pruned.

    Parameters
    ----------
    graph : the analysed model.
    ratio : fraction of the slots to remove, in [0, 1); 0.5 if no budget is given either.
    params, macs, latency : budgets, as the fraction of the model's parameters, multiply-accumulates or
        seconds to keep; ``latency=(0.5, seconds)`` where a function of yours says what a call takes, see
        `engine.latency`.
    scope : where the ratio holds: ``"local"`` in every group, ``"global"`` in one ranking of all slots,
        ``"isomorphic"`` among groups of the same structure.
    ratios : other ratios by group name, kind or module pattern (``"layer1.*": 0.25``); the last wins.
    criterion : a name in `engine.criteria`, or a callable ``(group, tensors) -> scores``.
    data : batches of inputs for criteria that look at activations or gradients.
    loss : ``loss(model, batch) -> scalar`` for criteria that look at gradients.
    skip, only : group names, kinds or module patterns to leave out, or to prune alone.
    round_to : kept slots are a multiple of this.
    min_keep : how many slots (from 1) or what fraction (below 1) of every group stays at least.
    exact_only : leave groups alone over which a statistic is taken.
    notes : receives a line for a budget that was not met closely.
    left_alone : receives why nothing is removed, by the name of each group that was made to be pruned.

    Returns
    -------
    Plan
        At least one slot of each group stays, and never more than `ratio` goes.

    Raises
    ------
    PlanError
        For a ratio outside [0, 1), two budgets, one that cannot be met, a pattern that fits nothing.
    """
    left_alone = {} if left_alone is None else left_alone
    budget = _budget(ratio, params=params, macs=macs, latency=latency)
    _check(scope, round_to, min_keep)
    wanted = _Wanted(graph, 0.5 if ratio is None else ratio, ratios or {})
    ranked = _Ranked(graph, criterion_of(criterion), Tensors(graph, data, loss))
    price = None if budget is None else budget.price(graph)
    rigid: dict[Atom, str] = {}
    raised: dict[Atom, int] = {}
    while True:
        left_alone.clear()
        units = units_of(graph, skip, only, exact_only, rigid, round_to, min_keep, left_alone)
        shrink = _shrinking(graph, units, wanted, scope, ranked, raised)
        if budget is None or price is None:
            shrink(wanted.ratio)
        else:
            budget.meet(price, units, shrink)
        steps = [unit.steps for unit in units]
        found = keep_more(graph, units)
        more = {unit.groups[0].atom: unit.steps for unit, before in zip(units, steps) if unit.steps > before}
        if not found and (budget is None or more.keys() <= raised.keys()):
            break
        rigid.update(found)  # the other units make up for what the code does not let go
        raised.update(more if budget is not None else {})
    if budget is not None and price is not None and notes is not None:
        notes += budget.missed(price, units)
    for unit in units:
        if unit.steps == unit.whole:
            left_alone.update((group.name, _why_whole(unit)) for group in unit.groups)
    return make_plan(graph, ranked.best(units))


def _budget(ratio: float | None, **given: Any) -> Budget | None:
    budgets = {name: given[name] for name in COSTS if given[name] is not None}
    if len(budgets) + (ratio is not None) > 1:
        raise PlanError(f"ratio, {', '.join(COSTS)} are ways to say how much goes; give one of them")
    return next((Budget.of(*one) for one in budgets.items()), None)


def _check(scope: str, round_to: int, min_keep: float) -> None:
    if not isinstance(scope, str) or scope not in SCOPES:
        raise PlanError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    if not isinstance(round_to, int) or round_to < 1:
        raise PlanError(f"round_to must be a whole number of at least 1, not {round_to!r}")
    if not isinstance(min_keep, (int, float)) or not (0 < min_keep < 1 or _is_count(min_keep)):
        raise PlanError(f"min_keep is a number of slots, or a fraction below 1, not {min_keep!r}")


def _is_count(number: float) -> bool:
    return number >= 1 and float(number).is_integer()


class _Wanted:
    """The fraction to remove: one for all, but where a pattern says otherwise."""

    def __init__(self, graph: Groups, ratio: float, ratios: Mapping[str, float]):
        if not isinstance(ratios, Mapping):
            raise PlanError(f"ratios= gives ratios by pattern, as in {{'layer1.*': 0.25}}, not {ratios!r}")
        for given in [ratio, *ratios.values()]:
            if not isinstance(given, (int, float)) or not 0 <= given < 1:
                raise PlanError(f"a ratio is a fraction to remove, from 0 to below 1; {given!r} is not")
        self.ratio = ratio
        self._ratios = ByPattern(graph, ratios, "ratios")

    def of(self, unit: Unit) -> float | None:
        """The ratio of a unit's own, the least that is given for its groups; `None` if no pattern fits."""
        given = map(self._ratios.of, unit.groups)
        return min([ratio for ratio in given if ratio is not None], default=None)


def _shrinking(
    graph: Groups,
    units: list[Unit],
    wanted: _Wanted,
    scope: str,
    ranked: _Ranked,
    raised: Mapping[Atom, int],
) -> Callable[[float], None]:
    """What sets the units' steps for a ratio, but for those with a ratio of their own and `raised` ones."""
    others = []
    for unit in units:
        if (ratio := wanted.of(unit)) is not None:
            unit.keep(1 - ratio)
        elif unit.groups[0].atom in raised:
            unit.steps = raised[unit.groups[0].atom]
        else:
            others.append(unit)
    families = families_of(scope, graph, others, ranked.values)

    def shrink(ratio: float) -> None:
        for family in families:
            family.shrink(ratio)

    return shrink


def _why_whole(unit: Unit) -> str:
    if unit.least == unit.whole:
        return unit.fewest
    return f"none of its {unit.whole} steps goes at this ratio"


class _Ranked:
    """The slots of every group, best first, by a criterion that is asked once for each group."""

    def __init__(self, graph: Groups, criterion: Criterion, tensors: Tensors):
        self._criterion = criterion
        self._tensors = tensors
        self._known: dict[Group, tuple[np.ndarray, np.ndarray]] = {}

    def best(self, units: Sequence[Unit]) -> dict[Atom, np.ndarray]:
        """The slots that are kept, in order; of equal ones the first."""
        return {
            group.atom: np.sort(self._of(group)[0][: unit.kept(group)])
            for unit in units
            if unit.steps < unit.whole
            for group in unit.groups
        }

    def values(self, unit: Unit) -> np.ndarray:
        """The mean score of the slots in each step of a unit, best first."""
        total = np.zeros(unit.whole)
        for group in unit.groups:
            total += self._of(group)[1].reshape(unit.whole, -1).sum(1)
        return total / (unit.slots // unit.whole)

    def _of(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """The slots of a group, best first, and their scores."""
        if group not in self._known:
            scores = self._scores(group)
            order = np.argsort(-scores, kind="stable")
            self._known[group] = order, scores[order]
        return self._known[group]

    def _scores(self, group: Group) -> np.ndarray:
        scores = self._criterion(group, self._tensors)
        if not isinstance(scores, torch.Tensor):
            raise PlanError(f"the criterion gave {scores!r} for {group.name}, which is no tensor of scores")
        if tuple(scores.shape) != (group.size,):
            raise PlanError(
                f"the criterion gave scores of shape {tuple(scores.shape)} "
                f"for {group.name} of {group.size} slots"
            )
        if scores.is_meta:
            raise PlanError("weights on the meta device cannot be ranked; load them, or rank at random")
        return np.nan_to_num(scores.detach().double().cpu().numpy())
