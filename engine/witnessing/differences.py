"""What the forward does otherwise at other sizes than its first trace says: two traces, call by call.

Every number that is given to a call must be what it was, or what its expression says of the new sizes, and
every result must have the shape that its layouts say. A number that moved by itself is a size in disguise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from numbers import Number
from typing import Any

import numpy as np
import torch
from attrs import define, field, frozen

from ...grammar import ast
from ..axes import Atom, Layout, resolve
from ..grouping import Groups
from ..sizes import size_of
from ..tracing import Call, Key, Origin, SizeInt, Source, Trace, Value, paired

_WORDS = (str, bytes, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_COMPARED = (*_WORDS, tuple, list, dict, slice)
_NUMBERS = (int, float, Number, np.generic)  # those that are met most come first


@frozen(eq=False)
class Difference:
    """One thing that the second trace has otherwise; ``key`` tells it again in further traces.

    ``number`` says that it is a number that the call computes with. Anything else (a size, a position, the
    calls themselves) decides what the forward does. ``now`` is what an argument has become.
    """

    key: Key
    text: str
    origin: Origin | Source | None
    number: bool = False
    now: Any = None

    @property
    def where(self) -> Source | None:
        """The user's line."""
        return self.origin.call.source if isinstance(self.origin, Origin) else self.origin


def differences(graph: Groups, second: Trace, count: Callable[[Atom], int]) -> list[Difference]:
    """What `second`, with `count` slots of each atom, has otherwise than the trace of `graph` says."""
    first, expected = graph.trace, _Expected(graph, count)
    found = list(_of_paths(first, second))
    same_path = not found
    for one, other in _aligned(first, second):
        found += _of_calls(one, other, expected, same_path)
    if same_path:
        found += _of_contents(first, second)
        found += _of_seeds(first, second)
    return found


@define(eq=False)
class _Expected:
    """What the first trace says of shapes and numbers with `count` slots of each atom."""

    graph: Groups
    count: Callable[[Atom], int]
    _sizes: dict[int, tuple[Layout, int]] = field(factory=dict)  # keeps the layouts, so that ids stay unique

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape that a value must have."""
        return tuple(map(self._size, self.graph.coupled.of(value)))

    def _size(self, layout: Layout) -> int:
        layout = resolve(layout)
        if id(layout) not in self._sizes:
            self._sizes[id(layout)] = layout, size_of(layout, self.count)
        return self._sizes[id(layout)][1]

    def is_told_by_data(self, value: Value, shape: tuple[int, ...]) -> bool:
        """Whether a value may well have this shape: it differs only in axes whose sizes the data tell."""
        if len(shape) != len(value.shape):
            return False
        axes = (axis for axis, pair in enumerate(zip(shape, self.shape(value))) if pair[0] != pair[1])
        return all(self.graph.told_by_data((value, axis)) for axis in axes)

    def of(self, call: Call, argument: str) -> Callable[[Any], list[Any]]:
        """What a number in an argument may be: some are taken for sizes, and have to follow."""
        trusted = self.graph.coupled.trusted.get((call.index, argument), ())

        def numbers(was: Any) -> list[Any]:
            if isinstance(was, SizeInt):
                return [self.graph.sizes.exactly(was.expr, self.count)]
            sizes = [self._size(one.right.layout) for one in trusted if one.left.value == was]  # type: ignore[union-attr]  # literals are trusted as sizes
            return sizes or [was]

        return numbers


def _of_paths(first: Trace, second: Trace) -> Iterator[Difference]:
    """The first call that only one of them makes."""
    for number, (one, other) in enumerate(zip(first.calls, second.calls)):
        if one.code != other.code:
            yield Difference(("path", number), "the forward takes another way", Origin(one))
            return
    if len(first.calls) != len(second.calls):
        shorter, longer = sorted((first.calls, second.calls), key=len)
        where = Origin(longer[len(shorter)])
        yield Difference(("path", len(shorter)), "the forward makes another number of calls", where)


def _aligned(first: Trace, second: Trace) -> Iterator[tuple[Call, Call]]:
    """The calls that correspond: where the paths part, those of places that make as many of them."""
    places: dict[tuple, tuple[list[Call], list[Call]]] = defaultdict(lambda: ([], []))
    for side, trace in enumerate((first, second)):
        for call in trace.calls:
            places[call.code][side].append(call)
    for ones, others in places.values():
        if len(ones) == len(others):
            yield from zip(ones, others)


def _of_calls(one: Call, other: Call, expected: _Expected, same_path: bool) -> Iterator[Difference]:
    origin = Origin(one, expected.graph.rules.rule_for(one.target))
    for key, *items in paired(one.arguments, other.arguments):
        was, now = map(_without_state, items)
        if _differs(was, now, expected.of(one, key[0]), same_path):
            name = key[0]
            computes = isinstance(was, Number) and _computes_with(expected.graph, origin, name)
            text = f"{_written(was)} becomes {_written(now)}"
            yield Difference((one.index, *key), text, origin, computes, now)
    for number, (value, result) in enumerate(zip(one.results, other.results)):
        if result.shape != expected.shape(value) and not expected.is_told_by_data(value, result.shape):
            text = f"a result of {expected.shape(value)} comes out as {result.shape}"
            yield Difference((one.index, "result", number), text, origin)


def _of_contents(first: Trace, second: Trace) -> Iterator[Difference]:
    """Tensors that came from nowhere may be made from sizes, too."""
    for number, (one, other) in enumerate(zip(first.untracked, second.untracked)):
        was, now = first.contents.get(one), second.contents.get(other)
        user = next((call for call in first.calls if one in call.values), None)
        if was != now and one.shape == other.shape and user is not None:
            yield Difference(("untracked", number), "a tensor has other contents", Origin(user), True)


def _of_seeds(first: Trace, second: Trace) -> Iterator[Difference]:
    """What is drawn by chance depends on a seed, which may be a size."""
    for number, ((call, was), (_, now)) in enumerate(zip(first.seeds, second.seeds)):
        if was != now:
            text = f"the seed of random numbers, {was}, becomes {now}"
            yield Difference(("seed", number), text, Origin(call), True)


def _without_state(item: Any) -> Any:
    """Of a source of random numbers only the seed counts."""
    is_source = issubclass(type(item), torch.Generator)  # torch makes `isinstance` slow here
    return item.initial_seed() if is_source else item


def _differs(was: Any, now: Any, may_be: Callable[[Any], list[Any]], same_path: bool) -> bool:
    """Whether a part of an argument is not what the first trace says of it."""
    if isinstance(was, Value):
        return not isinstance(now, Value) or (same_path and was.index != now.index)
    if isinstance(was, _NUMBERS):
        return not any(_is_same(number, now) for number in may_be(was))
    if isinstance(was, np.ndarray) and isinstance(now, np.ndarray):
        return not np.array_equal(was, now, equal_nan=was.dtype.kind in "fc")
    return isinstance(was, _COMPARED) and bool(was != now)


def _is_same(was: Any, now: Any) -> bool:
    if not isinstance(now, (Number, np.generic)):
        return False
    return bool(was == now) or (was != was and now != now)


def _computes_with(graph: Groups, origin: Origin, name: str) -> bool:
    """Whether a call computes with the numbers of an argument: they are neither sizes nor positions."""
    body = origin.rule.body if origin.rule else None
    moves = isinstance(body, ast.Relation) and body.verb not in ("new", "pad")
    return not moves and name not in graph.coupled.sizes_read.get(origin.call, ())


def _written(item: Any) -> str:
    if isinstance(item, Value):
        return repr(item)
    text = f"{item:.5g}" if isinstance(item, float) else str(item)
    return text if len(text) <= 20 else f"{text[:17]}..."
