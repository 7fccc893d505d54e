"""Finds the coupling of an operation by trial: which axes of its operands must shrink together.

For each axis the smallest set of axes is looked for with which it may lose slots: the operation takes what is
left, and its results are those that zeros would give. Where there is just one such set, it is a factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice, product

import numpy as np
import torch
from attrs import define, field, frozen
from torch import Tensor

from ...rules.examples import Example
from .probe import Probe, draws_of, has_fractions, is_equal, results_of, tensors_of
from .verdict import EXACT, MIXES

_LARGEST = 1 << 17  # elements of all operands together: beyond, trying takes too long
_TRIES = 2000
_FUSED = 8  # as many gates there may be on one axis
_TOGETHER = 6  # as many axes as shrink together


@frozen
class PartOfAxis:
    """An axis of an operand or a result, with the fixed parts around the factor: ``(2 c)`` or ``(c 2)``.

    A number among the arguments is a place too, with an `axis` of -1.
    """

    name: str
    axis: int
    outer: int = 1
    inner: int = 1


@frozen
class Found:
    """A factor: its size, the axes that have it, and whether a statistic is taken over it."""

    size: int
    operands: tuple[PartOfAxis, ...]
    results: tuple[PartOfAxis, ...]
    mixes: bool


@define
class Trial:
    """One call of an operation, to be tried on changed operands."""

    example: Example
    probes: list[Probe] = field(init=False)
    wholes: list[list[Tensor]] = field(init=False)
    tries: int = 0

    def __attrs_post_init__(self) -> None:
        tried = [
            (probe, whole) for probe in islice(draws_of(self.example), 2) if (whole := results_of(probe))
        ]
        self.probes = [probe for probe, _ in tried]
        self.wholes = [whole for _, whole in tried]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The operands by name, arguments before parameters of a module, which begin with ``module.``."""
        return dict(sorted(tensors_of(self.probes[0]).items(), key=lambda item: "." in item[0]))

    def factors(self) -> list[Found]:
        """The factors that trial singles out, in the order of the axes; an axis in none is not settled."""
        found: list[Found] = []
        if not self.probes or sum(tensor.numel() for tensor in self.tensors.values()) > _LARGEST:
            return found
        for name, tensor in self.tensors.items():
            for axis, length in enumerate(tensor.shape):
                taken = {(place.name, place.axis) for one in found for place in one.operands}
                if length > 1 and (name, axis) not in taken:
                    found += self._factor_at(name, axis, length, taken)
        return found

    def _factor_at(self, name: str, axis: int, length: int, taken: set[tuple[str, int]]) -> list[Found]:
        """The factor of an axis: all of it, or what repeats on it; nothing if there are several choices."""
        for fused in [1, *(k for k in range(2, _FUSED + 1) if length % k == 0 and length > k)]:
            fitting = self._smallest_sets(name, axis, length // fused, fused, taken)
            exact = [one for one in fitting if not one.mixes]
            if fitting:
                best = exact or fitting
                return best if len(best) == 1 else []
        return []

    def _smallest_sets(
        self, name: str, axis: int, size: int, fused: int, taken: set[tuple[str, int]]
    ) -> list[Found]:
        seeds = [PartOfAxis(name, axis, *form) for form in _forms(fused)]
        others = [places for key, places in self._places(size).items() if key not in {*taken, (name, axis)}]
        for count in range(min(len(others), _TOGETHER - 1) + 1):
            fitting: list[Found] = []
            for chosen in combinations(others, count):
                for places in product(seeds, *chosen):
                    self.tries += 1
                    if self.tries > _TRIES:
                        return []
                    fitting += self._fit(size, places)
            if fitting:
                return fitting
        return []

    def _places(self, size: int) -> dict[tuple[str, int], list[PartOfAxis]]:
        """Every axis and number that could have a factor of that size, with the ways in which it could."""
        found: dict[tuple[str, int], list[PartOfAxis]] = {}
        for name, tensor in self.tensors.items():
            for axis, length in enumerate(tensor.shape):
                if length % size == 0 and length // size <= _FUSED:
                    found[name, axis] = [PartOfAxis(name, axis, *form) for form in _forms(length // size)]
        for path, number in zip(self.probes[0].paths, self.probes[0].numbers):
            if number == size:
                found[path, -1] = [PartOfAxis(path, -1)]
        return found

    def _fit(self, size: int, operands: Sequence[PartOfAxis]) -> Iterator[Found]:
        """The factor that these places of the operands make, if the operation agrees."""
        kept = np.delete(np.arange(size), 1)
        pruned = results_of(rearranged(self.probes[0], operands, kept))
        for results in _shrunk(self.wholes[0], pruned, size):
            kinds = {
                self._kind(probe, whole, operands, results, dropped, size)
                for probe, whole in zip(self.probes, self.wholes)
                for dropped in ([0], [1], [0, size - 1])
                if size - len(dropped) > 1 or len(dropped) == 1
            }
            if None not in kinds:
                yield Found(size, tuple(operands), results, MIXES in kinds)
                return

    def _kind(
        self,
        probe: Probe,
        whole: list[Tensor],
        operands: Sequence[PartOfAxis],
        results: Sequence[PartOfAxis],
        dropped: list[int],
        size: int,
    ) -> str | None:
        """What the law says of these places without the dropped slots; nothing if they break it."""
        kept = np.delete(np.arange(size), dropped)
        pruned = results_of(rearranged(probe, operands, kept))
        zeroed = _taken(results_of(zeroed_in(probe, operands, dropped, size)), results, kept)
        if not pruned or [one.shape for one in pruned] != [one.shape for one in zeroed]:
            return None
        if is_equal(pruned, zeroed):
            return EXACT
        if size == 2:
            return None  # whatever treats two slots alike looks like a statistic
        for order in (np.roll(np.arange(size), 1), np.array([1, 0, *range(2, size)])):  # they make all others
            moved = results_of(rearranged(probe, operands, order))
            if not moved or not is_equal(moved, _taken(whole, results, order)):
                return None
        return MIXES


def _forms(fused: int) -> list[tuple[int, int]]:
    """The ways in which an axis can be `fused` times a factor: what is outside of it, and inside."""
    return [(1, 1)] if fused == 1 else [(fused, 1), (1, fused)]


def _indices(tensor: Tensor, place: PartOfAxis, slots: np.ndarray | list[int], size: int) -> Tensor:
    """The indices of an axis of `tensor` that these slots of its factor have."""
    whole = np.arange(place.outer * size * place.inner).reshape(place.outer, size, place.inner)
    return torch.as_tensor(whole[:, slots].reshape(-1), device=tensor.device)


def rearranged(probe: Probe, operands: Sequence[PartOfAxis], slots: np.ndarray) -> Probe:
    """The call with these slots of a factor, in this order."""
    copied = probe.copy()
    tensors = tensors_of(copied)
    for place in operands:
        if place.axis < 0:
            copied.numbers[copied.paths.index(place.name)] = len(slots)
        else:
            tensor = tensors[place.name]
            size = tensor.shape[place.axis] // (place.outer * place.inner)
            tensor.data = tensor.data.index_select(place.axis, _indices(tensor, place, slots, size))
    return copied


def zeroed_in(probe: Probe, operands: Sequence[PartOfAxis], slots: list[int], size: int) -> Probe:
    """The call with zeros in these slots of a factor."""
    copied = probe.copy()
    tensors = tensors_of(copied)
    places = [place for place in operands if place.axis >= 0]
    for place in [one for one in places if has_fractions(tensors[one.name])] or places:
        data = tensors[place.name].data
        data.index_fill_(place.axis, _indices(data, place, slots, size), 0)
    return copied


def _shrunk(whole: Sequence[Tensor], pruned: Sequence[Tensor], size: int) -> Iterator[tuple[PartOfAxis, ...]]:
    """Which axes of the results have lost a slot of a factor, in every way that it can lie on them."""
    places: list[list[PartOfAxis]] = []
    if len(whole) != len(pruned) or any(one.dim() != other.dim() for one, other in zip(whole, pruned)):
        return
    for number, (before, after) in enumerate(zip(whole, pruned)):
        for axis, (length, left) in enumerate(zip(before.shape, after.shape)):
            if length != left:
                fused, rest = divmod(length, size)
                if rest or left != fused * (size - 1):
                    return
                places.append([PartOfAxis(str(number), axis, *form) for form in _forms(fused)])
    yield from product(*places)


def _taken(results: Sequence[Tensor], places: Sequence[PartOfAxis], slots: np.ndarray) -> list[Tensor]:
    """The results with these slots of a factor, in this order."""
    taken = list(results)
    for place in places if taken else ():
        number = int(place.name)
        tensor = taken[number]
        size = tensor.shape[place.axis] // (place.outer * place.inner)
        taken[number] = tensor.index_select(place.axis, _indices(tensor, place, slots, size))
    return taken
