"""The units of choice: groups, tied ones together, that may be pruned at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import ceil, gcd

from attrs import define

from ..errors import PlanError
from .axes import Atom, atoms, factors
from .groups import Group, Groups


@define(eq=False)
class Unit:
    """Groups that shrink together in `whole` equal steps, of which `steps` are kept."""

    groups: list[Group]
    whole: int
    steps: int

    @classmethod
    def of(cls, groups: list[Group]) -> Unit:
        """The unit of tied groups, with all slots kept."""
        whole = gcd(*(group.size for group in groups))
        return cls(groups, whole, whole)

    def keep(self, fraction: float, round_to: int) -> None:
        """Keep no less than `fraction` of the slots, one step at least, and multiples of `round_to`."""
        self.steps = max(1, ceil(self.whole * fraction - 1e-9))
        self._round_up(round_to)

    def grow(self, round_to: int) -> None:
        """Keep one step more, or the next that `round_to` allows."""
        self.steps += 1
        self._round_up(round_to)

    def kept(self, group: Group) -> int:
        """How many slots of `group` are kept."""
        return group.size * self.steps // self.whole

    def _round_up(self, round_to: int) -> None:
        while self.steps < self.whole and any(self.kept(group) % round_to for group in self.groups):
            self.steps += 1


def units_of(
    graph: Groups,
    skip: Sequence[str],
    only: Sequence[str],
    exact_only: bool,
    rigid: Collection[Atom],
) -> list[Unit]:
    """The units that are free, wanted, and made by some producer; one for each product of several.

    `rigid` atoms are those found to be unable to shrink; the other parts of their products take their turn.
    """
    skip, only = _patterns(skip), _patterns(only)
    for option, patterns in (("skip", skip), ("only", only)):
        for pattern in patterns:
            check_pattern(graph, pattern, option)

    def fits(unit: Unit) -> bool:
        if any(matches(group, pattern) for group in unit.groups for pattern in skip):
            return False
        if only and not any(matches(group, pattern) for group in unit.groups for pattern in only):
            return False
        if any(group.atom in rigid for group in unit.groups):
            return False
        if exact_only and not all(group.exact for group in unit.groups):
            return False
        return unit.whole > 1 and any(group.producers for group in unit.groups)

    return _one_of_each_product(graph, [unit for unit in map(Unit.of, graph.tied()) if fits(unit)])


def matches(group: Group, pattern: str) -> bool:
    """Whether a pattern names the group, its kind, or a producer or a module that holds one."""
    names = [group.name, group.kind, *group.producers]
    return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for name in names)


def check_pattern(graph: Groups, pattern: str, option: str) -> None:
    """Raise `PlanError` if a pattern fits nothing: it would be ignored in silence."""
    if not any(matches(group, pattern) for group in [*graph.groups, *graph.blocked]):
        raise PlanError(f"{option}: no group, kind or module fits {pattern!r}; `graph.groups` lists them all")


def _patterns(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _one_of_each_product(graph: Groups, units: list[Unit]) -> list[Unit]:
    """Where an axis is a product of several groups only one is pruned: the outer one, unless asked."""
    unit_of = {group.atom: unit for unit in units for group in unit.groups}
    passed_over: set[Unit] = set()
    for whole in graph.products:
        inside = [_units_in(atoms(part), unit_of) for part in factors(whole)]
        if graph.prefer == "inner":
            inside.reverse()
        chosen: set[Unit] = set()
        for found in inside:
            found -= passed_over
            if not chosen:
                chosen = found
            else:
                passed_over |= found - chosen
    return [unit for unit in units if unit not in passed_over]


def _units_in(found: Iterable[Atom], unit_of: Mapping[Atom, Unit]) -> set[Unit]:
    return {unit_of[atom] for atom in found if atom in unit_of}
