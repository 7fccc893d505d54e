"""How a signature fits a call: what its axes are, told once for all calls of the same shapes and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from ...grammar import ast
from ..tracing import Value
from .call_site import Misfit, Site
from .opening import Axis, Given, Key, factor_sizes, keys_of, opened_axes, size_of_dim

Position = tuple[int, int]  # the number of a tensor, operands first, and one of its axes
Tensors = Sequence[tuple[tuple, Value]]  # dims as written, and what the call has there


@frozen(eq=False)
class Fit:
    """What the axes of a call's operands and results are.

    ``read`` are the axes of operands, but for those that broadcasting drops, ``made`` those of each result.
    ``places`` are by factor the axes that have it, ``same`` the axes of results that are what a window slides
    along. ``alone`` are the factors whose slots nothing else in the call has, and why these are held.
    """

    sizes: dict[Key, int]
    read: list[tuple[Position, Axis]]
    made: list[list[Axis]]
    places: dict[Key, list[Position]]
    same: dict[Key, Key]
    alone: dict[Key, str]


def fitted(site: Site, given: Given, operands: Tensors, results: Tensors) -> Fit:
    """How the rule of a call fits it; raises `Misfit` if it does not."""
    shapes = tuple([(id(dims), value.shape) for dims, value in (*operands, *results)])
    key = (id(site.rule), shapes, *given.lengths, *given.numbers)
    known = site.coupled.fits.get(key)
    if known is None:
        opened = _opened(site, given, operands, results)
        known = site.coupled.fits[key] = _Fitting(site, given).fit(opened, operands, results)
    return known


def _opened(site: Site, given: Given, operands: Tensors, results: Tensors) -> list[list[Axis]]:
    """The dims of every axis, found once for all calls of the same ranks."""
    ranks = tuple([(id(dims), len(value.shape)) for dims, value in (*operands, *results)])
    key = (id(site.rule), ranks, *given.lengths)
    known = site.coupled.opened.get(key)
    if known is None:
        known = site.coupled.opened[key] = opened_axes(given, operands, results)
    return known


class _Fitting:
    """Finds the `Fit` of a call, axis by axis."""

    def __init__(self, site: Site, given: Given):
        self._rule = site.rule
        self._given = given
        self._places: dict[Key, list[Position]] = {}
        self._operands: Counter[Key] = Counter()  # how many tensors, and arguments, have a factor

    def fit(self, opened: list[list[Axis]], operands: Tensors, results: Tensors) -> Fit:
        values = [value for _, value in (*operands, *results)]
        sizes = factor_sizes(self._given, zip(opened, values))
        same = dict(_slid(self._given, sizes))
        read: list[tuple[Position, Axis]] = []
        for number, axes in enumerate(opened[: len(operands)]):
            read += self._read(number, axes, values[number].shape, sizes)
        met = {*self._operands, *self._given.sizes}
        made: list[list[Axis]] = []
        for number, axes in enumerate(opened[len(operands) :], len(operands)):
            moved: list[Axis] = [same.get(axis, axis) if type(axis) is tuple else axis for axis in axes]
            made.append(self._made(number, moved, values[number]))
        return Fit(sizes, read, made, self._places, same, self._alone(met))

    def _read(
        self, number: int, axes: list[Axis], shape: Sequence[int], sizes: Mapping[Key, int]
    ) -> Iterator[tuple[Position, Axis]]:
        met: set[Key] = set()
        for index, (axis, own) in enumerate(zip(axes, shape)):
            size = _expected(axis, sizes)
            if size is not None and own != size:
                if own != 1:
                    raise Misfit(f"sizes {own} and {size} meet at '{_written(axis)}'")
                continue  # broadcast: the axis drops out
            self._note(axis, (number, index), met)
            yield (number, index), axis
        self._operands.update(met)

    def _made(self, number: int, axes: list[Axis], value: Value) -> list[Axis]:
        surplus = len(axes) - len(value.shape)
        if surplus > 0:
            # Factors of missing leading axes drop out of the result as well.
            missing = [axis for axis in axes if type(axis) is tuple and axis not in self._places][:surplus]
            axes = [axis for axis in axes if axis not in missing]
        if len(axes) != len(value.shape):
            raise Misfit(f"it names {len(axes)} axes of a result of {len(value.shape)}")
        met: set[Key] = set()
        for index, axis in enumerate(axes):
            self._note(axis, (number, index), met)
        self._operands.update(met)
        return axes

    def _note(self, axis: Axis, place: Position, met: set[Key]) -> None:
        for key in (axis,) if type(axis) is tuple else keys_of(axis):  # type: ignore[arg-type]  # else it is a dim
            self._places.setdefault(key, []).append(place)
            met.add(key)

    def _alone(self, met: set[Key]) -> dict[Key, str]:
        """The factors that only one tensor has, or only results have, and the text that holds them."""
        rule = self._rule
        self._operands.update(key for key in self._given.sizes if key in self._places)
        tied = [one.factors for one in rule.of(ast.Tie)] + [one.factors for one in rule.of(ast.Positions)]
        self._operands.update((name, 0) for names in tied for name in names)
        slides = {name.lstrip("*") for clause in rule.of(ast.Slides) for name in clause.factors}
        return {
            key: _SLID.format(rule.name) if key[0] in slides else _ALONE.format(rule.name, key[0])
            for key in self._places
            if self._operands[key] < 2 or key not in met
        }


_ALONE = "no other operand of {} has '{}'"
_SLID = "the window of a {} slides along it, and does not give as many slots as there were"


def _slid(given: Given, sizes: Mapping[Key, int]) -> Iterator[tuple[Key, Key]]:
    """The axes that a window makes in steps of one, with as many slots, each with the one it slides along."""
    for clause, steps in given.steps:
        source, result = (name.lstrip("*") for name in clause.factors)
        indices = [index for name, index in sizes if name == source]
        for index in indices:
            step = steps[index] if len(steps) == len(indices) else steps[0] if len(steps) == 1 else None
            if step == 1 and sizes[source, index] == sizes.get((result, index)):
                yield (result, index), (source, index)


def _expected(axis: Axis, sizes: Mapping[Key, int]) -> int | None:
    if type(axis) is tuple:
        return sizes.get(axis)
    return None if type(axis) is ast.Anything else size_of_dim(axis, sizes)  # type: ignore[arg-type]  # else it is a dim


def _written(axis: Axis) -> str:
    if type(axis) is tuple:
        return axis[0] if axis[1] == 0 else f"*{axis[0]}"
    if type(axis) is ast.Factor:
        return axis.name
    if type(axis) is ast.Fixed:
        return str(axis.size)
    joint = " + " if type(axis) is ast.Sum else " "
    return f"({joint.join(_written(part) for part in axis.parts)})"  # type: ignore[union-attr]  # stars are opened
