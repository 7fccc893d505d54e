"""The bundles of choice: groups, tied ones together, that may be pruned at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, gcd, lcm
from types import MappingProxyType

from attrs import define, field

from ..axes import Atom, atoms, factors
from ..grouping import Group, Groups
from ..sizes import Multiple, Multiples
from .kinds import Kinds
from .patterns import as_patterns, check_pattern, matches


@define(eq=False)
class Bundle:
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
    ) -> Bundle:
        """The bundle of tied groups, with all slots kept.

        `round_to` is what the kept slots are multiples of, `min_keep` the number of slots (from 1) or the
        fraction (below 1) that stays of every group, `multiples` what operations demand.
        """
        whole = gcd(*(group.size for group in groups))
        grain, causes = multiples.grain([group.atom for group in groups])
        every = lcm(grain, *(round_to // gcd(round_to, group.size // whole) for group in groups))
        fractions = (min_keep if min_keep < 1 else min_keep / group.size for group in groups)
        bundle = cls(groups, whole, every, 1, whole, causes)
        bundle.least = bundle.rounded(max(1, _ceil(whole * max(fractions))))
        return bundle

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


def bundles_of(
    graph: Groups,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    round_to: int = 1,
    kinds: Sequence[str] = (),
) -> list[Bundle]:
    """The bundles that are free, wanted, and made by some producer; one for each product of several."""
    return bundles_and_others(graph, skip, only, round_to=round_to, kinds=kinds)[0]


def bundles_and_others(
    graph: Groups,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    exact_only: bool = False,
    rigid: Mapping[Atom, str] = MappingProxyType({}),
    round_to: int = 1,
    min_keep: float = 1,
    kinds: Sequence[str] = (),
) -> tuple[list[Bundle], dict[str, str]]:
    """The bundles, and for each group with a producer that is in none the reason, by its name.

    `rigid` atoms are those found to be unable to shrink, and why; the other parts of their products take
    their turn.
    """
    skip, only = as_patterns(skip), as_patterns(only)
    for option, patterns in (("skip", skip), ("only", only)):
        for pattern in patterns:
            check_pattern(graph, pattern, option)
    of_kind = Kinds(graph, kinds, only)

    def why_not(bundle: Bundle) -> str | None:
        for pattern in skip:
            if any(matches(group, pattern) for group in bundle.groups):
                return f"skip={pattern!r}"
        if only and not any(matches(group, pattern) for group in bundle.groups for pattern in only):
            return "not among only="
        for group in bundle.groups:
            if (reason := of_kind.why_not(group)) is not None:
                return reason
            if group.atom in rigid:
                return f"left whole, {rigid[group.atom]}"
            if exact_only and not group.exact:
                return "not exact"
        if bundle.whole == 1:
            return "one slot" if len(bundle.groups) == 1 else "tied sizes without a common divisor"
        return None

    bundles: list[Bundle] = []
    left_alone: dict[str, str] = {}
    for bundle in (Bundle.of(tied, round_to, min_keep, graph.multiples) for tied in graph.tied()):
        if not any(group.producers for group in bundle.groups):
            continue
        reason = why_not(bundle)
        if reason is None:
            bundles.append(bundle)
        else:
            left_alone.update((group.name, reason) for group in bundle.groups)
    passed_over = _passed_over(graph, bundles)
    for bundle, other in passed_over.items():
        reason = f"{other.groups[0].name} is pruned in the same axes (prefer={graph.prefer!r})"
        left_alone.update((group.name, reason) for group in bundle.groups)
    return [bundle for bundle in bundles if bundle not in passed_over], left_alone


def _passed_over(graph: Groups, bundles: list[Bundle]) -> dict[Bundle, Bundle]:
    """The bundles that stay whole, and the one that is pruned instead in an axis that is a product of both.

    That is the outer one, unless asked.
    """
    bundle_of = {group.atom: bundle for bundle in bundles for group in bundle.groups}
    passed_over: dict[Bundle, Bundle] = {}
    for whole in graph.products:
        inside = [_bundles_in(atoms(part), bundle_of) for part in factors(whole)]
        if graph.prefer == "inner":
            inside.reverse()
        chosen: dict[Bundle, None] = {}  # in order
        for bundles_inside in inside:
            found = [bundle for bundle in bundles_inside if bundle not in passed_over]
            if not chosen:
                chosen = dict.fromkeys(found)
            else:
                passed_over.update((bundle, next(iter(chosen))) for bundle in found if bundle not in chosen)
    return passed_over


def _bundles_in(found: Iterable[Atom], bundle_of: Mapping[Atom, Bundle]) -> Iterable[Bundle]:
    return dict.fromkeys(bundle_of[atom] for atom in found if atom in bundle_of)
