"""Scopes: among which slots it is decided which go first, for every ratio at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...adapters.inputs import has_config
from ...adapters.submodules import module_at
from ..grouping import Group, Groups, owner_of
from .bundles import Bundle

# The scores of a bundle's steps, those with the highest scores first.
Values = Callable[[Bundle], np.ndarray]


class Family:
    """Bundles whose steps compete: of all their slots a fraction goes, those with the lowest scores first."""

    def __init__(self, bundles: Sequence[Bundle], values: Values | None = None):
        self.bundles = bundles
        removable = [bundle.whole - bundle.least for bundle in bundles]
        owner = np.repeat(np.arange(len(bundles)), removable)
        per_step = np.array([bundle.slots // bundle.whole for bundle in bundles])
        if values is not None:
            scores = np.concatenate([values(bundle)[bundle.least :] for bundle in bundles])
            later_first = -np.concatenate([np.arange(bundle.least, bundle.whole) for bundle in bundles])
            owner = owner[np.lexsort((later_first, scores))]
        self._owner = owner
        self._removed = np.cumsum(per_step[owner]) / max(1, sum(bundle.slots for bundle in bundles))

    def shrink(self, ratio: float) -> None:
        """Remove no more than `ratio` of the family's slots."""
        gone = np.searchsorted(self._removed, ratio + 1e-12, side="right")
        counts = np.bincount(self._owner[:gone], minlength=len(self.bundles))
        for bundle, steps in zip(self.bundles, counts.tolist()):
            bundle.steps = bundle.rounded(bundle.whole - steps)


def local(graph: Groups, bundles: Sequence[Bundle], values: Values) -> list[Family]:
    """The same fraction goes everywhere."""
    return [Family([bundle]) for bundle in bundles]


def isomorphic(graph: Groups, bundles: Sequence[Bundle], values: Values) -> list[Family]:
    """Bundles of the same structure compete (Isomorphic Pruning, Fang et al., ECCV 2024).

    The structure is told by the kinds of the groups and by the classes, parameters and axes that hold them.
    """
    alike: dict[object, list[Bundle]] = defaultdict(list)
    for bundle in bundles:
        alike[tuple(sorted(_structure(graph, group) for group in bundle.groups))].append(bundle)
    return [Family(found, values if len(found) > 1 else None) for found in alike.values()]


def _structure(graph: Groups, group: Group) -> tuple:
    parts: Counter[tuple[str, str, int]] = Counter()
    for member in group.members:
        owner = owner_of(member.tensor)
        name = member.tensor[len(owner) :].removeprefix(".")
        parts[type(module_at(graph.model, owner)).__name__, name, member.axis] += 1
    return group.kind, tuple(sorted(parts.items()))


def everywhere(graph: Groups, bundles: Sequence[Bundle], values: Values) -> list[Family]:
    """One ranking of all slots."""
    return [Family(bundles, values)] if bundles else []


# What is uniform is local for the bundles that `uniform.merged` makes.
SCOPES = {"local": local, "global": everywhere, "isomorphic": isomorphic, "uniform": local}


def scope_of(graph: Groups, scope: str | None) -> str:
    """The scope that was asked for, or what fits the model: a config has one number for all blocks."""
    return scope or ("uniform" if has_config(graph.model) else "local")


def families_of(scope: str, graph: Groups, bundles: Iterable[Bundle], values: Values) -> list[Family]:
    """The families of a scope, by its name."""
    return SCOPES[scope](graph, list(bundles), values)
