"""Parts of tensors, and where calls that only move slots take them.

A *region* is a boolean tensor that broadcasts to the shape of a value and is longer than 1 along one axis at
most: it marks the whole value, or some of the slots of that axis. How a call moves slots is not derived but
tried: it is made again on the numbers of the places of its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ..rules.examples import called
from .couplings import Reading
from .sizes import SizeInt
from .values import Call, Value, tensors_in


class NoRegion(Exception):
    """What would have to be marked is no region, or cannot be told; the message says why."""


def whole(value: Value) -> Tensor:
    """The region of all of `value`."""
    return torch.ones([1] * len(value.shape), dtype=torch.bool)


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


def moved(call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
    """The regions of the results of `call`, which only moves slots, where `regions` of its operands go."""

    def marked(value: Value) -> Tensor:
        region = regions.get(value)
        return torch.zeros(value.shape) if region is None else region.expand(value.shape).float().contiguous()

    results = _made_again(call, marked)
    return {value: _region_of(found != 0) for value, found in zip(call.results, results) if bool(found.any())}


def came_from(call: Call, regions: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
    """The regions of the operands of `call`, which only moves slots, that `regions` of its results come from."""
    sources = list(dict.fromkeys(call.values))
    if len(sources) == 1 and len(call.results) == 1 and _as_large(sources[0], call.results[0]):
        if is_whole(regions[call.results[0]]):
            return {sources[0]: whole(sources[0])}
    ends: dict[Value, int] = {}
    total = 0
    for value in sources:
        total += torch.Size(value.shape).numel()
        ends[value] = total

    def numbered(value: Value) -> Tensor:
        size = torch.Size(value.shape).numel()
        return torch.arange(ends[value] - size, ends[value], dtype=torch.float64).reshape(value.shape)

    results = _made_again(call, numbered)
    reached = torch.zeros(total, dtype=torch.bool)
    for value, found in zip(call.results, results):
        if value in regions:
            reached[found[regions[value].expand(value.shape)].long()] = True
    pieces = reached.split([torch.Size(value.shape).numel() for value in sources])
    return {
        value: _region_of(piece.reshape(value.shape)) for value, piece in zip(sources, pieces) if piece.any()
    }


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
    return [number for number, (_, _, places) in enumerate(reading.held) if (value, axis) in places]


def _as_large(one: Value, other: Value) -> bool:
    return torch.Size(one.shape).numel() == torch.Size(other.shape).numel()


def _region_of(marks: Tensor) -> Tensor:
    """The region that is these marks; raises `NoRegion` where they are not slots of one axis."""
    if bool(marks.all()):
        return torch.ones([1] * marks.dim(), dtype=torch.bool)
    for axis in range(marks.dim()):
        first = marks[tuple(slice(None) if other == axis else slice(0, 1) for other in range(marks.dim()))]
        if bool((marks == first).all()):
            return first
    raise NoRegion("it is made of slots that do not lie along one axis")


def _made_again(call: Call, tensor_for: Callable[[Value], Tensor]) -> list[Tensor]:
    """The results of a call on other tensors; raises `NoRegion` if it cannot be made again."""
    if not all(value.dtype.is_floating_point or value.dtype.is_complex for value in call.values):
        raise NoRegion(f"{call.name} moves slots as data tell it")
    arguments = _filled(call.arguments, tensor_for)
    named = called(call.name, call.target, arguments)
    # Some of an operation's forms have arguments in between that this one has not, and no names.
    for args, kwargs in ((named.args, named.kwargs), (tuple(arguments.values()), {})):
        with suppress(Exception), torch.no_grad():
            return list(tensors_in(call.target(*args, **kwargs)))
    raise NoRegion(f"{call.name} cannot be made again")


def _filled(item: Any, tensor_for: Callable[[Value], Tensor]) -> Any:
    """An argument with tensors in the places of values, and plain numbers in those of traced ones."""
    if isinstance(item, Value):
        return tensor_for(item)
    if isinstance(item, SizeInt):
        return int(item)
    if isinstance(item, dict):
        return {key: _filled(part, tensor_for) for key, part in item.items()}
    if isinstance(item, slice):
        return slice(*(_filled(part, tensor_for) for part in (item.start, item.stop, item.step)))
    if isinstance(item, (list, tuple)):
        parts = [_filled(part, tensor_for) for part in item]
        return parts if isinstance(item, list) else tuple(parts)
    return item
