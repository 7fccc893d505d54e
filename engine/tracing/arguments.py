"""Ways through the arguments of a call as a trace keeps them: nested tuples, lists, dicts and slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
Key = tuple[Any, ...]


def found_in(item: Any, kind: type[T]) -> Iterator[T]:
    """What is of a kind, in order."""
    if isinstance(item, kind):
        yield item
    elif isinstance(item, dict):
        for part in item.values():
            yield from found_in(part, kind)
    elif isinstance(item, (tuple, list)):
        for part in item:
            yield from found_in(part, kind)
    elif isinstance(item, slice):
        yield from found_in(_bounds(item), kind)


def mapped(item: Any, change: Callable[[Any], Any]) -> Any:
    """The same with everything that is no container changed."""
    if isinstance(item, dict):
        return {key: mapped(part, change) for key, part in item.items()}
    if isinstance(item, (tuple, list)):
        parts = [mapped(part, change) for part in item]
        return parts if isinstance(item, list) else tuple(parts)
    if isinstance(item, slice):
        return slice(*[mapped(bound, change) for bound in _bounds(item)])
    return change(item)


def paired(one: Any, other: Any, key: Key = ()) -> Iterator[tuple[Key, Any, Any]]:
    """The parts of two arguments that correspond, each with where it is, and lengths that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from paired(one.get(name), other.get(name), (*key, name))
    elif isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        if len(one) != len(other):
            yield (*key, "length"), len(one), len(other)
        for number, pair in enumerate(zip(one, other)):
            yield from paired(*pair, (*key, number))
    elif isinstance(one, slice) and isinstance(other, slice):
        yield from paired(_bounds(one), _bounds(other), key)
    else:
        yield key, one, other


def _bounds(item: slice) -> tuple[Any, Any, Any]:
    return item.start, item.stop, item.step
