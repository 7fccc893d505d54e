"""Plans made by hand: kept slots by group, checked, with sizes that would go where the given ones do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...adapters.plan import Plan
from ...errors import PlanError
from ..axes import Atom
from ..grouping import Group, Groups
from .bundles import Bundle
from .make_plan import kept_counts, make_plan
from .near import broken_plan, nearest

Chosen = dict[Atom, np.ndarray]


def plan_by_hand(graph: Groups, kept: dict[str, Sequence[int]]) -> Plan:
    """The plan that keeps these slots of these groups, by name.

    Raises `PlanError` where a tie, the model's own code or an operation forbids the sizes; it says which
    sizes nearby would go.
    """
    chosen: Chosen = {}
    for name, slots in kept.items():
        group = graph.group(name)
        if group.blocked is not None:
            raise PlanError(f"group {name} cannot be pruned: {group.blocked}")
        chosen[group.atom] = _checked(group, slots)
    tied = [groups for groups in graph.tied() if any(group.atom in chosen for group in groups)]
    bundles = [_bundle(graph, groups, chosen) for groups in tied]
    for bundle in bundles:
        if not _is_even(bundle, chosen):
            parts = ", ".join(
                f"{len(chosen.get(group.atom, range(group.size)))} of {group.size} of {group.name}"
                for group in bundle.groups
            )
            near = _near(graph, bundles, chosen)
            raise PlanError(f"these groups are tied and must keep the same fraction, not {parts}{near}")
    broken = graph.broken(kept_counts(chosen))
    if broken is not None:
        said = broken.text(graph.whole_count(kept_counts(chosen)))
        raise broken_plan(said, broken.source, f"choose other sizes{_near(graph, bundles, chosen)}")
    return make_plan(graph, chosen)


def _checked(group: Group, slots: Iterable[int]) -> np.ndarray:
    if not isinstance(slots, Iterable):
        raise PlanError(f"group {group.name}: the slots to keep are whole numbers in a list, not {slots!r}")
    array = np.asarray(list(slots))
    if array.ndim != 1 or array.size == 0:
        raise PlanError(f"group {group.name}: at least one slot must be kept")
    if array.dtype.kind not in "iu":
        raise PlanError(f"group {group.name}: the kept slots must be whole numbers")
    if array.min() < 0 or array.max() >= group.size:
        raise PlanError(
            f"group {group.name} has slots 0 to {group.size - 1}, which not all of those to keep are"
        )
    array = np.sort(array)
    if (np.diff(array) == 0).any():
        raise PlanError(f"group {group.name}: a slot is named twice")
    return array


def _bundle(graph: Groups, groups: list[Group], chosen: Chosen) -> Bundle:
    """The tied groups with the steps that are nearest to what is kept of those that were named."""
    bundle = Bundle.of(groups, multiples=graph.multiples)
    fractions = [len(chosen[group.atom]) / group.size for group in groups if group.atom in chosen]
    bundle.steps = max(1, round(bundle.whole * sum(fractions) / len(fractions)))
    return bundle


def _is_even(bundle: Bundle, chosen: Chosen) -> bool:
    """Whether all groups of a tie keep the same fraction."""
    fractions = [len(chosen[g.atom]) / g.size if g.atom in chosen else 1.0 for g in bundle.groups]
    return max(fractions) - min(fractions) < 1e-9


def _near(graph: Groups, bundles: list[Bundle], chosen: Chosen) -> str:
    """The sizes that differ from those chosen in a plan nearby that keeps every condition."""
    nearest(graph, bundles)
    changed = [
        f"{bundle.kept(group)} of {group.name}"
        for bundle in bundles
        for group in bundle.groups
        if bundle.kept(group) != (len(chosen[group.atom]) if group.atom in chosen else group.size)
    ]
    return f" (nearest to them: {', '.join(changed)})" if changed else ""
