"""How much is measured at a time: products of all pairs of slots take more memory than the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ..coupling import Place

T = TypeVar("T")

# Bytes of the products that are collected in one run over the data.
MEMORY = 2**30


def rounds(
    items: Iterable[T], places_of: Callable[[T], Sequence[Place]], parts: int = 1
) -> Iterator[list[T]]:
    """The items in order, as many at a time as the products at their places have room for; at least one.

    Each round is one more run of the model. `parts` of the data have products of their own.
    """
    some: list[T] = []
    places: set[Place] = set()
    for item in items:
        added = {*places_of(item)}
        if some and parts * sum(map(_bytes, places | added)) > MEMORY:
            yield some
            some, places = [], set()
        some.append(item)
        places |= added
    if some:
        yield some


def _bytes(place: Place) -> int:
    value, axis = place
    return 4 * value.shape[axis] ** 2
