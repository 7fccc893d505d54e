"""The units of choice: groups, tied ones together, that may be pruned at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, gcd, lcm
from types import MappingProxyType

from attrs import define, field

from ..axes import Atom, atoms, factors
from ..grouping import Group, Groups
from ..sizes import Multiple, Multiples
from .patterns import as_patterns, check_pattern, matches


@define(eq=False)
class Unit:
    """Groups that shrink together in `whole` equal steps, of which `steps` are kept.

    At least `least` steps stay, and multiples of `every` or all of them. `multiples` are the demands of
    operations that have a part in it.
    """

    groups: list[Group]
    whole: int
    every: int
    least: int
    steps: int
    multiples: list[Multiple] = field(factory=list)

    @classmethod
    def of(
        cls,
        groups: list[Group],
        round_to: int = 1,
        min_keep: float = 1,
        multiples: Multiples = Multiples(()),  # noqa: B008
    ) -> Unit:
        """The unit of tied groups, with all slots kept.

        `round_to` is what the kept slots are multiples of, `min_keep` the number of slots (from 1) or the
        fraction (below 1) that stays of every group, `multiples` what operations demand.
        """
        whole = gcd(*(group.size for group in groups))
        grain, causes = multiples.grain([group.atom for group in groups])
        every = lcm(grain, *(round_to // gcd(round_to, group.size // whole) for group in groups))
        fractions = (min_keep if min_keep < 1 else min_keep / group.size for group in groups)
        unit = cls(groups, whole, every, 1, whole, causes)
        unit.least = unit.rounded(max(1, _ceil(whole * max(fractions))))
        return unit

    def keep(self, fraction: float) -> None:
        """Keep no less than `fraction` of the slots."""
        self.steps = self.rounded(max(self.least, _ceil(self.whole * fraction)))

    def rounded(self, steps: int) -> int:
        """The next number of steps from `steps` up that may be kept."""
        return min(self.whole, -(-steps // self.every) * self.every)

    def kept(self, group: Group, steps: int | None = None) -> int:
        """How many slots of `group` are kept."""
        return group.size * (self.steps if steps is None else steps) // self.whole

    @property
    def fewest(self) -> str:
        """Why no fewer slots may be kept."""
        return f"no fewer slots may be kept ({'; '.join(['round_to, min_keep', *map(str, self.multiples)])})"

    @property
    def atoms(self) -> set[Atom]:
        """The atoms of all groups."""
        return {group.atom for group in self.groups}

    @property
    def slots(self) -> int:
        """How many slots all groups have together."""
        return sum(group.size for group in self.groups)


def _ceil(number: float) -> int:
    return ceil(number - 1e-9)


def units_of(
    graph: Groups, skip: Sequence[str] = (), only: Sequence[str] = (), round_to: int = 1
) -> list[Unit]:
    """The units that are free, wanted, and made by some producer; one for each product of several."""
    return units_and_others(graph, skip, only, round_to=round_to)[0]


def units_and_others(
    graph: Groups,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    exact_only: bool = False,
    rigid: Mapping[Atom, str] = MappingProxyType({}),
    round_to: int = 1,
    min_keep: float = 1,
) -> tuple[list[Unit], dict[str, str]]:
    """The units, and for each group with a producer that is in none the reason, by its name.

    `rigid` atoms are those found to be unable to shrink, and why; the other parts of their products take
    their turn.
    """
    skip, only = as_patterns(skip), as_patterns(only)
    for option, patterns in (("skip", skip), ("only", only)):
        for pattern in patterns:
            check_pattern(graph, pattern, option)

    def why_not(unit: Unit) -> str | None:
        for pattern in skip:
            if any(matches(group, pattern) for group in unit.groups):
                return f"skip={pattern!r}"
        if only and not any(matches(group, pattern) for group in unit.groups for pattern in only):
            return "not among only="
        for group in unit.groups:
            if group.atom in rigid:
                return f"left whole, {rigid[group.atom]}"
            if exact_only and not group.exact:
                return "not exact"
        if unit.whole == 1:
            return "one slot" if len(unit.groups) == 1 else "tied sizes without a common divisor"
        return None

    units: list[Unit] = []
    left_alone: dict[str, str] = {}
    for unit in (Unit.of(tied, round_to, min_keep, graph.multiples) for tied in graph.tied()):
        if not any(group.producers for group in unit.groups):
            continue
        reason = why_not(unit)
        if reason is None:
            units.append(unit)
        else:
            left_alone.update((group.name, reason) for group in unit.groups)
    passed_over = _passed_over(graph, units)
    for unit, other in passed_over.items():
        reason = f"{other.groups[0].name} is pruned in the same axes (prefer={graph.prefer!r})"
        left_alone.update((group.name, reason) for group in unit.groups)
    return [unit for unit in units if unit not in passed_over], left_alone


def _passed_over(graph: Groups, units: list[Unit]) -> dict[Unit, Unit]:
    """The units that stay whole, and the one that is pruned instead in an axis that is a product of both.

    That is the outer one, unless asked.
    """
    unit_of = {group.atom: unit for unit in units for group in unit.groups}
    passed_over: dict[Unit, Unit] = {}
    for whole in graph.products:
        inside = [_units_in(atoms(part), unit_of) for part in factors(whole)]
        if graph.prefer == "inner":
            inside.reverse()
        chosen: dict[Unit, None] = {}  # in order
        for units_inside in inside:
            found = [unit for unit in units_inside if unit not in passed_over]
            if not chosen:
                chosen = dict.fromkeys(found)
            else:
                passed_over.update((unit, next(iter(chosen))) for unit in found if unit not in chosen)
    return passed_over


def _units_in(found: Iterable[Atom], unit_of: Mapping[Atom, Unit]) -> Iterable[Unit]:
    return dict.fromkeys(unit_of[atom] for atom in found if atom in unit_of)
