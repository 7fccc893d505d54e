"""Chooses the slots to keep: which groups are pruned, how many slots of each, and which ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PlanError
from .axes import Atom, atoms, factors
from .criteria import Criterion, criterion_of
from .graph import DependencyGraph, Group, step_of
from .plan import Plan, broken_plan, counts, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterable

# How often other sizes are tried when the model's own code would not run with the ones chosen.
ATTEMPTS = 100


def choose(
    graph: DependencyGraph,
    ratio: float = 0.5,
    *,
    ratios: Mapping[str, float] | None = None,
    criterion: str | Criterion = "magnitude",
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    round_to: int = 1,
    exact_only: bool = False,
    notes: list[str] | None = None,
) -> Plan:
    """Remove `ratio` of the slots of every group that may be pruned, those with the lowest scores.

    Parameters
    ----------
    graph : the analysed model.
    ratio : fraction of the slots of each group to remove, in [0, 1).
    ratios : other fractions by group name, kind or module pattern (``"layer1.*": 0.25``); the last wins.
    criterion : a name in `engine.criteria`, or a callable ``(group, graph, tensors) -> scores``.
    skip, only : group names, kinds or module patterns to leave out, or to prune alone.
    round_to : kept slots are a multiple of this.
    exact_only : leave groups alone over which a statistic is taken.
    notes : receives a line for every group that was left alone and why.

    Returns
    -------
    Plan
        At least one slot of each group stays, and never more than `ratio` goes.

    Raises
    ------
    PlanError
        For a ratio outside [0, 1), a pattern that fits nothing, an unknown criterion.
    """
    notes = [] if notes is None else notes
    wanted = _ratios(graph, ratio, ratios or {})
    if not isinstance(round_to, int) or round_to < 1:
        raise PlanError(f"round_to must be a whole number of at least 1, not {round_to!r}")
    units = _selected(graph, skip, only, exact_only)
    units = _one_of_each_product(graph, units)
    score = criterion_of(criterion)
    tensors = _tensors(graph)
    ranked = {group.atom: _ranking(score, group, graph, tensors) for tied in units for group in tied}
    steps = [_steps(tied, wanted, round_to, notes) for tied in units]
    kept = _kept(units, steps, ranked)
    for _ in range(ATTEMPTS):
        broken = graph.sizes.violations(counts(kept))
        if not broken:
            return make_plan(graph, kept)
        # The model's own code would not go along: the unit that is in the way keeps one step more.
        victim = _most_pruned(units, steps, broken[0].atoms, graph)
        if victim is None:
            raise broken_plan(broken[0])
        steps[victim] = _more(units[victim], steps[victim], round_to)
        if steps[victim] == step_of(units[victim]):
            notes.append(f"{units[victim][0].name}: left whole, as {broken[0].text} otherwise")
        kept = _kept(units, steps, ranked)
    raise broken_plan(broken[0])


def matches(group: Group, pattern: str) -> bool:
    """Whether a pattern names the group, its kind, one of its producers or a module with such layers."""
    names = [group.name, group.kind, *group.producers, *group.layers]
    return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for name in names)


def _ratios(graph: DependencyGraph, ratio: float, ratios: Mapping[str, float]) -> Callable[[Group], float]:
    for given in [ratio, *ratios.values()]:
        if not isinstance(given, (int, float)) or not 0 <= given < 1:
            raise PlanError(
                f"a ratio is the fraction of slots to remove, from 0 to below 1; {given!r} is not"
            )
    for pattern in ratios:
        _check_pattern(graph, pattern, "ratios")

    def of(group: Group) -> float:
        return next((r for pattern, r in reversed(list(ratios.items())) if matches(group, pattern)), ratio)

    return of


def _check_pattern(graph: DependencyGraph, pattern: str, option: str) -> None:
    if not any(matches(group, pattern) for group in [*graph.groups, *graph.blocked]):
        raise PlanError(f"{option}: no group, kind or module fits {pattern!r}; `graph.groups` lists them all")


def _selected(
    graph: DependencyGraph, skip: Sequence[str], only: Sequence[str], exact_only: bool
) -> list[list[Group]]:
    """The units (tied groups) that may be pruned: all are free, wanted, and made by some producer."""
    skip, only = _patterns(skip), _patterns(only)
    for option, patterns in (("skip", skip), ("only", only)):
        for pattern in patterns:
            _check_pattern(graph, pattern, option)

    def fits(tied: list[Group]) -> bool:
        if any(matches(group, pattern) for group in tied for pattern in skip):
            return False
        if only and not any(matches(group, pattern) for group in tied for pattern in only):
            return False
        if exact_only and not all(group.exact for group in tied):
            return False
        return step_of(tied) > 1 and any(group.producers for group in tied)

    return [tied for tied in graph.tied() if fits(tied)]


def _patterns(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _one_of_each_product(graph: DependencyGraph, units: list[list[Group]]) -> list[list[Group]]:
    """Where an axis is a product of several groups only one is pruned: the outer one, unless asked."""
    unit_of = {group.atom: number for number, tied in enumerate(units) for group in tied}
    passed_over: set[int] = set()
    for whole in graph.products:
        parts = factors(whole)
        inside = [_units_in(atoms(part), unit_of) for part in parts]
        if graph.prefer == "inner":
            inside.reverse()
        chosen: set[int] = set()
        for found in inside:
            found = found - passed_over
            if not chosen:
                chosen = found
            else:
                passed_over |= found - chosen
    return [tied for number, tied in enumerate(units) if number not in passed_over]


def _units_in(found: Iterable[Atom], unit_of: Mapping[Atom, int]) -> set[int]:
    return {unit_of[atom] for atom in found if atom in unit_of}


def _ranking(score: Criterion, group: Group, graph: DependencyGraph, tensors: Mapping) -> np.ndarray:
    """The slots of a group, best first; equal scores keep their order."""
    scores = score(group, graph, tensors)
    if tuple(scores.shape) != (group.size,):
        raise PlanError(
            f"the criterion gave scores of shape {tuple(scores.shape)} for {group.name} of {group.size} slots"
        )
    values = scores.detach().float().cpu().numpy()
    return np.argsort(-np.nan_to_num(values), kind="stable")


def _tensors(graph: DependencyGraph) -> Mapping:
    from ..adapters.tensors import named_tensors

    return named_tensors(graph.model)


def _steps(tied: list[Group], wanted: Callable[[Group], float], round_to: int, notes: list[str]) -> int:
    """How many of the unit's equal steps are kept: enough that no more than asked goes, and one at least."""
    whole = step_of(tied)
    ratio = min(wanted(group) for group in tied)
    steps = max(1, ceil(whole * (1 - ratio) - 1e-9))
    while steps < whole and any(group.size * steps // whole % round_to for group in tied):
        steps += 1
    if steps == whole and ratio > 0:
        notes.append(f"{tied[0].name}: nothing removed, as its {whole} steps cannot shrink by {ratio:.0%}")
    return steps


def _more(tied: list[Group], steps: int, round_to: int) -> int:
    whole = step_of(tied)
    steps += 1
    while steps < whole and any(group.size * steps // whole % round_to for group in tied):
        steps += 1
    return steps


def _most_pruned(
    units: list[list[Group]], steps: list[int], involved: Sequence[Atom], graph: DependencyGraph
) -> int | None:
    roots = {graph.sizes.ties.root(atom) for atom in involved}
    candidates = [
        number
        for number, tied in enumerate(units)
        if graph.sizes.ties.root(tied[0].atom) in roots and steps[number] < step_of(tied)
    ]
    return min(candidates, key=lambda number: steps[number] / step_of(units[number]), default=None)


def _kept(
    units: list[list[Group]], steps: list[int], ranked: Mapping[Atom, np.ndarray]
) -> dict[Atom, np.ndarray]:
    kept: dict[Atom, np.ndarray] = {}
    for tied, number in zip(units, steps):
        whole = step_of(tied)
        for group in tied:
            kept[group.atom] = np.sort(ranked[group.atom][: group.size * number // whole])
    return kept
