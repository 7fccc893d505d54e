"""The bundles of choice: groups that shrink together, in steps."""

from __future__ import annotations

from math import ceil, gcd, lcm

from attrs import define, field

from ..axes import Atom
from ..grouping import Group
from ..sizes import Multiple, Multiples


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
