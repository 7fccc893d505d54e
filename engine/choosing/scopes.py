"""Scopes: among which slots it is decided which go first, for every ratio at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...adapters.submodules import module_at
from ..grouping import Group, Groups, owner_of
from .units import Unit

# The scores of a unit's steps, those with the highest scores first.
Values = Callable[[Unit], np.ndarray]


class Family:
    """Units whose steps compete: of all their slots a fraction goes, those with the lowest scores first."""

    def __init__(self, units: Sequence[Unit], values: Values | None = None):
        self.units = units
        removable = [unit.whole - unit.least for unit in units]
        owner = np.repeat(np.arange(len(units)), removable)
        per_step = np.array([unit.slots // unit.whole for unit in units])
        if values is not None:
            scores = np.concatenate([values(unit)[unit.least :] for unit in units])
            later_first = -np.concatenate([np.arange(unit.least, unit.whole) for unit in units])
            owner = owner[np.lexsort((later_first, scores))]
        self._owner = owner
        self._removed = np.cumsum(per_step[owner]) / max(1, sum(unit.slots for unit in units))

    def shrink(self, ratio: float) -> None:
        """Remove no more than `ratio` of the family's slots."""
        gone = np.searchsorted(self._removed, ratio + 1e-12, side="right")
        counts = np.bincount(self._owner[:gone], minlength=len(self.units))
        for unit, steps in zip(self.units, counts.tolist()):
            unit.steps = unit.rounded(unit.whole - steps)


def local(graph: Groups, units: Sequence[Unit], values: Values) -> list[Family]:
    """The same fraction goes everywhere."""
    return [Family([unit]) for unit in units]


def isomorphic(graph: Groups, units: Sequence[Unit], values: Values) -> list[Family]:
    """Units of the same structure compete (Isomorphic Pruning, Fang et al., ECCV 2024).

    The structure is told by the kinds of the groups and by the classes, parameters and axes that hold them.
    """
    alike: dict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        alike[tuple(sorted(_structure(graph, group) for group in unit.groups))].append(unit)
    return [Family(found, values if len(found) > 1 else None) for found in alike.values()]


def _structure(graph: Groups, group: Group) -> tuple:
    parts: Counter[tuple[str, str, int]] = Counter()
    for member in group.members:
        owner = owner_of(member.tensor)
        name = member.tensor[len(owner) :].removeprefix(".")
        parts[type(module_at(graph.model, owner)).__name__, name, member.axis] += 1
    return group.kind, tuple(sorted(parts.items()))


def everywhere(graph: Groups, units: Sequence[Unit], values: Values) -> list[Family]:
    """One ranking of all slots."""
    return [Family(units, values)] if units else []


SCOPES = {"local": local, "global": everywhere, "isomorphic": isomorphic}


def families_of(scope: str, graph: Groups, units: Iterable[Unit], values: Values) -> list[Family]:
    """The families of a scope, by its name."""
    return SCOPES[scope](graph, list(units), values)
