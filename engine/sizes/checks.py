"""What must hold at other sizes as it does at the model's own, and what of it does not.

A comparison of the model's own code must come out as it did, a size that it computed be that of the tensor,
and an operation may take some sizes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush

from attrs import frozen

from ..axes import Atom, atoms
from ..tracing import Condition, Source
from .equations import Equation, Side, Sizes
from .multiples import Multiples

Count = Callable[[Atom], int]


@frozen(eq=False)
class Check:
    """One demand: whether it holds with other numbers of slots, and what to say where it does not.

    ``depends`` are the atoms that have a part in it, ``atoms`` those of them whose slots may go.
    """

    depends: frozenset[Atom]
    atoms: frozenset[Atom]
    holds: Callable[[Count], bool]
    text: Callable[[Count], str]
    source: Source | None


class Checks:
    """All that a model demands of its sizes, found by the atoms that it depends on."""

    def __init__(self, sizes: Sizes, multiples: Multiples):
        self._root = sizes.ties.root
        self._all = [*_of_equations(sizes), *_of_conditions(sizes), *_of_multiples(multiples)]
        self._by_root: dict[Atom, list[int]] = {}
        for number, check in enumerate(self._all):
            for root in dict.fromkeys(map(self._root, check.depends)):
                self._by_root.setdefault(root, []).append(number)

    def broken(self, count: Count) -> Check | None:
        """The first that does not hold with `count` slots kept of each atom."""
        return next((check for check in self._all if not check.holds(count)), None)

    def watched(self, count: Count) -> Watched:
        """Those that do not hold, while the numbers that `count` gives change."""
        return Watched(self, count)

    def on(self, changed: Iterable[Atom]) -> dict[int, Check]:
        """By number the checks that depend on these atoms, or on others that are tied with them."""
        roots = dict.fromkeys(map(self._root, changed))
        return {number: self._all[number] for root in roots for number in self._by_root.get(root, ())}

    def __getitem__(self, number: int) -> Check:
        return self._all[number]

    def __iter__(self) -> Iterator[Check]:
        return iter(self._all)


class Watched:
    """The checks that do not hold: after a change only those are looked at that depend on it."""

    def __init__(self, checks: Checks, count: Count):
        self._checks = checks
        self._count = count
        self._broken = {number for number, check in enumerate(checks) if not check.holds(count)}
        self._waiting = list(self._broken)
        heapify(self._waiting)

    @property
    def first(self) -> Check | None:
        """The first of them, if there is one."""
        while self._waiting and self._waiting[0] not in self._broken:
            heappop(self._waiting)
        return self._checks[self._waiting[0]] if self._waiting else None

    def changed(self, atoms: Iterable[Atom]) -> None:
        """Look again at what depends on these atoms."""
        for number, check in self._checks.on(atoms).items():
            if check.holds(self._count):
                self._broken.discard(number)
            elif number not in self._broken:
                self._broken.add(number)
                heappush(self._waiting, number)


def _of_equations(sizes: Sizes) -> Iterator[Check]:
    for one in sizes.equations:
        text = partial(_said_of_equation, sizes, one)
        yield from _compared(sizes, (one.left, one.right), partial(sizes.equal, one), text, one.where)


def _of_conditions(sizes: Sizes) -> Iterator[Check]:
    for one in sizes.conditions:
        text = partial(_said_of_condition, sizes, one)
        yield from _compared(sizes, (one.left, one.right), partial(sizes.same, one), text, one.source)


def _compared(
    sizes: Sizes,
    sides: tuple[Side, Side],
    holds: Callable[[Count], bool],
    text: Callable[[Count], str],
    source: Source | None,
) -> Iterator[Check]:
    """The check of two sides, unless both stay whatever goes."""
    depends = frozenset([atom for side in sides for atom in sizes.atoms(side)])
    free = frozenset([atom for atom in depends if atom.reason is None])
    if free:
        yield Check(depends, free, holds, text, source)


def _said_of_equation(sizes: Sizes, one: Equation, _: Count) -> str:
    return f"{sizes.describe(one.left)} is no longer {one.argument}"


def _said_of_condition(sizes: Sizes, one: Condition, _: Count) -> str:
    return f"{sizes.describe(one.left)} {one.symbol} {sizes.describe(one.right)} is no longer {one.outcome}"


def _of_multiples(multiples: Multiples) -> Iterator[Check]:
    for one in multiples:
        depends = frozenset(atoms(one.layout))
        free = frozenset([atom for atom in depends if atom.reason is None])
        yield Check(depends, free, one.holds, one.complaint, one.origin.call.source)
