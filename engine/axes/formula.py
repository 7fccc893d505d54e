"""Which indices of an axis belong to a slot, as a formula, and how the slots of two axes are related."""

from __future__ import annotations

from math import prod

import numpy as np
from attrs import evolve, frozen

from .layout import Atom, Layout, Sum, parts_of, resolve


@frozen
class Run:
    """The indices ``start + step * i + w`` of slot ``i``, with ``w`` below ``width``.

    All of them are there again at each of ``repeats``: so many times, so many indices apart; outermost first.
    """

    start: int = 0
    step: int = 1
    width: int = 1
    repeats: tuple[tuple[int, int], ...] = ()

    def of(self, slot: int) -> np.ndarray:
        """The indices of one slot, int array of shape ``[each]``."""
        found = self.start + self.step * slot + np.arange(self.width)
        for times, apart in reversed(self.repeats):
            found = (np.arange(times)[:, None] * apart + found).reshape(-1)
        return found

    @property
    def each(self) -> int:
        """How many indices a slot has."""
        return self.width * prod(times for times, _ in self.repeats)

    def __str__(self) -> str:
        repeats = self.repeats
        if self.width == 1 and len(repeats) == 1 and repeats[0][0] <= 3:
            times, apart = repeats[0]
            return _listed([_linear(self.start + k * apart, self.step) for k in range(times)])
        letters = "kmnpqr"[: len(repeats)]
        before = "".join(f"{_times(apart, k)} + " for k, (_, apart) in zip(letters, repeats))
        first = before + _linear(self.start, self.step)
        if self.width > 1:
            first += f" to {before}{_last(self)}"
        ranges = (f"{k} from 0 to {times - 1}" for k, (times, _) in zip(letters, repeats))
        return f"{first} ({', '.join(ranges)})" if repeats else first


@frozen
class Spread:
    """The indices of an axis of ``size`` that belong to the slots of a group of ``slots``."""

    size: int
    slots: int
    runs: tuple[Run, ...]

    def of(self, slot: int) -> list[int]:
        """The indices of one slot, in order."""
        return sorted({int(index) for run in self.runs for index in run.of(slot)})

    @property
    def each(self) -> int:
        """How many indices a slot has, where no two of its runs overlap."""
        return sum(run.each for run in self.runs)

    @property
    def whole(self) -> bool:
        """Whether every index of the axis belongs to some slot."""
        return self.each * self.slots >= self.size

    def __str__(self) -> str:
        return _listed([str(run) for run in self.runs])

    def inverse(self) -> str | None:
        """The slot to which index ``i`` belongs, ``i // 16`` or ``i % 16``, where that is one formula."""
        run, *more = self.runs
        period = run.step * self.slots
        if more or run.width != run.step or (run.repeats and run.repeats[1:]):
            return None
        if run.repeats and run.repeats[0][1] != period:
            return None
        text = f"(i - {run.start})" if run.start else "i"
        text += f" % {period}" if run.repeats else ""
        return text + (f" // {run.step}" if run.step > 1 else "")


@frozen
class SlotRelation:
    """Which indices of the one axis go together with which of the other."""

    one: Spread
    other: Spread

    def __str__(self) -> str:
        one, other = self.one, self.other
        inverse = one.inverse()
        if one.each > 1 and one.runs != other.runs and inverse is not None and _single(other):
            start = other.runs[0].start
            run = one.runs[0]
            first, last = run.start, run.start + one.each * one.slots - 1
            target = f"{start} + {inverse}" if start else inverse
            return f"slot i of the one goes with slot {target} of the other{_range(one.whole, first, last)}."
        many = one.each > 1
        subject = f"slots {one} of the one {'are' if one.runs == other.runs else 'go with'}"
        if not many:
            subject = f"slot {one} of the one {'is' if one.runs == other.runs else 'goes with'}"
        target = f"slot{'s' if other.each > 1 else ''} {other} of the other"
        return f"{subject} {target}{_range(one.whole, 0, one.slots - 1)}."


def spread_of(layout: Layout, atom: Atom) -> Spread:
    """Where the slots of `atom` are on an axis of that layout."""
    return Spread(layout.size, atom.size, tuple(_runs(layout).get(atom, ())))


def spreads_of(layout: Layout) -> dict[Atom, Spread]:
    """Where the slots of every atom are on an axis of that layout."""
    return {atom: Spread(layout.size, atom.size, tuple(runs)) for atom, runs in _runs(layout).items()}


def _runs(layout: Layout) -> dict[Atom, list[Run]]:
    layout = resolve(layout)
    if type(layout) is Atom:
        return {layout: [Run()]}
    found: dict[Atom, list[Run]] = {}
    before = 0 if type(layout) is Sum else 1
    for part in parts_of(layout):
        for atom, runs in _runs(part).items():
            if type(layout) is Sum:
                moved = [evolve(run, start=run.start + before) for run in runs]
            else:
                moved = [_inside(run, before, part.size, layout.size // (before * part.size)) for run in runs]
            found.setdefault(atom, []).extend(moved)
        before = before + part.size if type(layout) is Sum else before * part.size
    return found


def _inside(run: Run, outside: int, size: int, inside: int) -> Run:
    """The run in a product, with so many slots of the parts outside of its own, of that size, and inside."""
    repeats = [(times, apart * inside) for times, apart in run.repeats]
    if outside > 1:
        repeats.insert(0, (outside, size * inside))
    if len(repeats) > 1 and repeats[0][1] == repeats[1][0] * repeats[1][1]:
        repeats[:2] = [(repeats[0][0] * repeats[1][0], repeats[1][1])]
    return Run(run.start * inside, run.step * inside, run.width * inside, tuple(repeats))


def _single(spread: Spread) -> bool:
    """Whether every slot is one index, and the next slot the next index."""
    return spread.each == 1 and spread.runs[0].step == 1


def _linear(start: int, step: int) -> str:
    return f"{start} + {_times(step, 'i')}" if start else _times(step, "i")


def _last(run: Run) -> str:
    last = run.start + run.width - 1
    return f"{last} + {_times(run.step, 'i')}" if run.start else f"{_times(run.step, 'i')} + {last}"


def _times(number: int, letter: str) -> str:
    return letter if number == 1 else f"{number} {letter}"


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else texts[0]


def _range(whole: bool, first: int, last: int) -> str:
    return "" if whole else f", for i from {first} to {last}"
