"""A recorded call made again outside of its model, on any tensors of its shapes or of smaller ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import gcd
from typing import Any

import torch
from attrs import evolve
from torch import nn

from ...adapters.submodules import module_at
from ...rules.examples import Example, called
from ...rules.targets import written_name
from ..tracing import Call, SizeInt, Value, mapped
from .child import CannotBeTried

_SMALL = 8  # sizes up to here are left alone: they may be what the operation insists on
_FRESH = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def replays(call: Call, model: nn.Module) -> Iterator[Example]:
    """The call with small tensors in the place of large ones, then with those of its own shapes."""
    given = {name: item for name, item in call.arguments.items() if not name.startswith("self.")}
    is_module = isinstance(call.target, type) and issubclass(call.target, nn.Module)
    name = written_name(call.target, call.name)
    for small in ({},) if is_module else (_smaller(size for one in call.values for size in one.shape), {}):
        example = called(name, call.target, mapped(given, partial(_made, small)))
        if is_module:
            written = example.text.replace("(", "(...)(", 1)  # nobody knows how it was made
            example = evolve(example, target=module_at(model, call.module), text=written)
        yield example


def _smaller(sizes: Iterable[int]) -> dict[int, int]:
    """A small size for each large one; where one is a few times another, so it stays."""
    large = sorted({size for size in sizes if size > _SMALL})
    fresh = iter(_FRESH)
    small: dict[int, int] = {}
    for size in large:
        root = next((one for one in small if size % one == 0 and size // one <= _SMALL), None)
        # What an operation can halve, or take a third of, it still can.
        small[size] = small[root] * (size // root) if root else gcd(size, 12) * next(fresh, size)
    return {size: one for size, one in small.items() if one < size}


def _made(small: Mapping[int, int], item: Any) -> Any:
    """Any tensor in the place of a value, plain numbers in the place of traced ones."""
    if isinstance(item, Value):
        shape = [small.get(size, size) for size in item.shape]
        is_whole = not (item.dtype.is_floating_point or item.dtype.is_complex)
        try:
            return (torch.zeros if is_whole else torch.randn)(shape, device="cpu").to(item.dtype)
        except (NotImplementedError, RuntimeError) as error:  # a quantised or packed one
            raise CannotBeTried(f"it is given a tensor of {item.dtype}, which no trial can make") from error
    return small.get(int(item), int(item)) if type(item) in (int, SizeInt) else item
