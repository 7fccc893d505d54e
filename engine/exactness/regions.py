"""Parts of tensors, and where calls that only move slots take them.

A *region* is a boolean tensor that broadcasts to the shape of a value and is longer than 1 along one axis at
most: it marks the whole value, or some of the slots of that axis. How a call moves slots is not derived but
tried: it is made again on the marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ...adapters.contents import tensors_in
from ...rules.examples import called
from ..coupling import Reading
from ..tracing import Call, SizeInt, Value, mapped


class NoRegion(Exception):
    """What would have to be marked is no region, or cannot be told; the message says why."""


def whole(value: Value) -> Tensor:
    """The region of all of `value`."""
    return torch.ones([1] * len(value.shape), dtype=torch.bool, device="cpu")


def along(value: Value, axis: int, slots: Tensor) -> Tensor:
    """The region of these slots, bool of shape ``(n,)``, of an axis of `value`."""
    return slots.reshape([-1 if other == axis else 1 for other in range(len(value.shape))])


def is_whole(region: Tensor) -> bool:
    """Whether everything is marked."""
    return bool(region.all())


def marked_axis(region: Tensor) -> int | None:
    """The axis of which some slots are marked, ``None`` where all is."""
    return next((axis for axis, size in enumerate(region.shape) if size > 1), None)


def united(one: Tensor | None, other: Tensor) -> Tensor:
    """What one or both of two regions of a value mark; raises `NoRegion`."""
    return other if one is None else _region_of(one | other)


class Moves:
    """Where calls that only move slots take regions, and where they take them from.

    Calls that are alike are tried once: a model makes the same ones in every layer.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], list[Tensor | None]] = {}

    def moved(self, call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
        """The regions of the results of `call` where `regions` of its operands go."""
        return self._once(_moved, call, regions, call.values, call.results)

    def came_from(self, call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
        """The regions of the operands of `call` from which those of its results come."""
        return self._once(_came_from, call, regions, call.results, call.values)

    def _once(
        self,
        tried: Callable[[Call, Mapping[Value, Tensor]], dict[Value, Tensor]],
        call: Call,
        regions: Mapping[Value, Tensor],
        starts: Sequence[Value],
        ends: Sequence[Value],
    ) -> dict[Value, Tensor]:
        key = tried, call.target, _likeness(call), tuple(_marks(regions.get(value)) for value in starts)
        known = self._known.get(key)
        if known is None:
            found = tried(call, regions)
            known = self._known[key] = [found.get(value) for value in ends]
        return {value: region for value, region in zip(ends, known) if region is not None}


def _likeness(call: Call) -> str:
    """The same for calls of the same arguments, but for other tensors of the same shapes."""
    numbers: dict[Value, int] = {}

    def described(item: Any) -> Any:
        if isinstance(item, Value):
            return "value", numbers.setdefault(item, len(numbers)), item.shape, item.dtype
        return int(item) if isinstance(item, SizeInt) else item

    return repr(mapped(call.arguments, described))


def _marks(region: Tensor | None) -> tuple[Any, ...] | None:
    return None if region is None else (tuple(region.shape), region.numpy().tobytes())


def _moved(call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
    """The regions of the results of `call`, which only moves slots, where `regions` of its operands go."""

    def marked(value: Value) -> Tensor:
        return regions.get(value, torch.tensor(False, device="cpu")).float().expand(value.shape)

    return _regions_of(zip(call.results, _made_again(call, marked)))


def _came_from(call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
    """The regions of the operands of `call`, which only moves slots, from which those of its results come."""
    sources = list(dict.fromkeys(call.values))
    every = sum(map(_numel, sources)) == sum(map(_numel, call.results))
    if every and all(value in regions and is_whole(regions[value]) for value in call.results):
        return {value: whole(value) for value in sources}
    with torch.inference_mode(False):
        zero = torch.zeros((), requires_grad=True, device="cpu")
        given = {value: zero.expand(value.shape) for value in sources}
        made = list(zip(call.results, _made_again(call, given.__getitem__)))
        # The gradient of a call that moves slots moves them back.
        marks = [regions[value].float().expand(value.shape) for value, _ in made if value in regions]
        results = [found for value, found in made if value in regions]
        if not all(found.requires_grad for found in results):
            raise NoRegion(f"{call.name} does not tell where its slots come from")
        reached = torch.autograd.grad(results, list(given.values()), marks, allow_unused=True)
    return _regions_of(zip(sources, reached))


def corresponding(reading: Reading, region: Tensor, value: Value, other: Value) -> Tensor | None:
    """The region of `other` that has the same slots as `region` of `value`, as the call's rule says."""
    axis = marked_axis(region)
    if axis is None:
        return whole(other)
    factors = _factors(reading, value, axis)
    for there, size in enumerate(other.shape):
        if size == value.shape[axis] and _factors(reading, other, there) == factors:
            return along(other, there, region.flatten())
    return None


def _factors(reading: Reading, value: Value, axis: int) -> list[int]:
    """Which factor instances an axis of a value in a call is made of."""
    return [number for number, (_, _, places) in enumerate(reading.factors) if (value, axis) in places]


def _numel(value: Value) -> int:
    return torch.Size(value.shape).numel()


def _region_of(marks: Tensor) -> Tensor:
    """The region that is these marks; raises `NoRegion` where they are not slots of one axis.

    It is as small as can be from the first axis on that is the same all along: values may be long.
    """
    for axis in range(marks.dim()):
        first = marks.narrow(axis, 0, 1)
        if marks.stride(axis) == 0 or torch.equal(marks, first.expand(marks.shape)):
            marks = first
    if sum(size > 1 for size in marks.shape) > 1:
        raise NoRegion("it is made of slots that do not lie along one axis")
    return marks != 0


def _regions_of(marks: Iterable[tuple[Value, Tensor | None]]) -> dict[Value, Tensor]:
    """The regions of the values that are not zero everywhere."""
    found = {value: _region_of(one) for value, one in marks if one is not None}
    return {value: region for value, region in found.items() if bool(region.any())}


def _made_again(call: Call, tensor_for: Callable[[Value], Tensor]) -> list[Tensor]:
    """The results of a call on other tensors; raises `NoRegion` if it cannot be made again."""
    if not all(value.dtype.is_floating_point or value.dtype.is_complex for value in call.values):
        raise NoRegion(f"{call.name} moves slots as data tell it")
    # Marks take next to no memory, but a view may need them written out.
    for tensors in (tensor_for, lambda value: tensor_for(value).contiguous()):
        arguments = _filled(call.arguments, tensors)
        named = called(call.name, call.target, arguments)
        # Some of an operation's forms have arguments in between that this one has not, and no names.
        for args, kwargs in ((named.args, named.kwargs), (tuple(arguments.values()), {})):
            with suppress(Exception), torch.enable_grad():
                return list(tensors_in(call.target(*args, **kwargs)))
    raise NoRegion(f"{call.name} cannot be made again")


def _filled(arguments: dict[str, Any], tensor_for: Callable[[Value], Tensor]) -> dict[str, Any]:
    """Arguments with tensors in the places of values, and plain numbers in those of traced ones."""

    def filled(item: Any) -> Any:
        if isinstance(item, Value):
            return tensor_for(item)
        return int(item) if isinstance(item, SizeInt) else item

    return mapped(arguments, filled)
