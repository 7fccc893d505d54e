"""Sizes that must stay multiples: kernels take rows of whole 16 bytes, or channels eight at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import gcd, lcm

from attrs import frozen

from ..axes import Atom, Layout, free_atoms
from ..tracing import Origin
from .equations import size_of


@frozen(eq=False)
class Multiple:
    """A call takes its rule's `factor`, of this layout, only in multiples of `of` slots."""

    layout: Layout
    of: int
    factor: str
    origin: Origin
    bytes: int | None = None

    def __str__(self) -> str:
        slots = f"{self.bytes} bytes, here {self.of} slots" if self.bytes else f"{self.of} slots"
        return f"{self.origin.call.name} takes '{self.factor}' in multiples of {slots}"

    def holds(self, count: Callable[[Atom], int]) -> bool:
        """Whether it does with `count` slots kept of each atom."""
        return size_of(self.layout, count) % self.of == 0

    def complaint(self, count: Callable[[Atom], int]) -> str:
        """What to say where it does not."""
        return f"{self}, and {size_of(self.layout, count)} is none"


class Multiples:
    """All that a model's calls demand, found by the atoms that it is about."""

    def __init__(self, multiples: Iterable[Multiple]):
        self._all = list(multiples)
        self._by_atom: dict[Atom, list[Multiple]] = {}
        for one in self._all:
            for atom in free_atoms(one.layout):
                self._by_atom.setdefault(atom, []).append(one)

    def __iter__(self) -> Iterator[Multiple]:
        return iter(self._all)

    def grain(self, tied: Sequence[Atom]) -> tuple[int, list[Multiple]]:
        """In steps of how many the atoms of a tie may shrink, if all others stay, and why not one by one.

        The atoms shrink together, in as many steps as the greatest common divisor of their sizes says; where
        no multiple of any number of them will do, that is all of them.
        """
        whole = gcd(*(atom.size for atom in tied))
        own = set(tied)
        causes = list(dict.fromkeys(one for atom in tied for one in self._by_atom.get(atom, ())))
        grains = [_grain(one, own, whole) for one in causes]
        return lcm(1, *grains), [one for one, grain in zip(causes, grains) if grain > 1]


def _grain(one: Multiple, own: set[Atom], whole: int) -> int:
    """The least number of steps of which all multiples fulfil `one`."""

    def holds(steps: int) -> bool:
        return one.holds(lambda atom: atom.size * steps // whole if atom in own else atom.size)

    for grain in (number for number in range(1, one.of + 1) if one.of % number == 0):
        # Sizes are sums of products of counts, so the remainders come again after `of` steps.
        if all(map(holds, range(grain, min(whole, one.of + grain) + 1, grain))):
            return grain
    return whole
