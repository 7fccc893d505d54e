"""Patterns: the strings that say which groups an option is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from ...errors import PlanError
from ..grouping import Group, Groups

T = TypeVar("T")


class ByPattern(Generic[T]):
    """What an `option` gives by pattern, ``{"layer1.*": 0.25}``: of several that fit, the last wins."""

    def __init__(self, graph: Groups, given: Mapping[str, T], option: str):
        for pattern in given:
            check_pattern(graph, pattern, option)
        self._given = list(given.items())[::-1]

    def of(self, group: Group) -> T | None:
        """What is given for a group; `None` if no pattern fits."""
        return next((one for pattern, one in self._given if matches(group, pattern)), None)


def matches(group: Group, pattern: str) -> bool:
    """Whether a pattern names the group, its kind, or a producer or a module that holds one."""
    names = [group.name, group.kind, *group.producers]
    return any(
        name == pattern
        or name.startswith(f"{pattern}.")
        or fnmatchcase(name, pattern)
        or fnmatchcase(name, f"{pattern}.*")
        for name in names
    )


def check_pattern(graph: Groups, pattern: str, option: str) -> None:
    """Raise `PlanError` if a pattern fits nothing: it would be ignored in silence."""
    if not isinstance(pattern, str):
        raise PlanError(f"{option} takes names and patterns, which are strings, not {pattern!r}")
    if not any(matches(group, pattern) for group in [*graph.groups, *graph.blocked]):
        raise PlanError(f"{option}: no group, kind or module fits {pattern!r}; `graph.groups` lists them all")


def as_patterns(given: object) -> Sequence[str]:
    return list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]  # type: ignore[list-item]  # whatever it is, `check_pattern` looks at it
