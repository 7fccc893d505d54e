"""How the axes of a tensor lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def axes_inside(shape: Sequence[int], steps: Sequence[int]) -> dict[int, list[int]] | None:
    """For each axis of more than one slot those over which one of its steps goes.

    ``None`` for memory with gaps or overlaps: only where it has neither are steps products of sizes, in
    whatever order the axes lie.
    """
    order = sorted((axis for axis, size in enumerate(shape) if size != 1), key=lambda axis: -steps[axis])
    found = {axis: order[number + 1 :] for number, axis in enumerate(order)}
    dense = all(steps[axis] == prod(shape[other] for other in inside) for axis, inside in found.items())
    return found if dense else None


def is_dense(shape: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether these are steps for that shape, and each place in memory is that of one entry, from 0 up."""
    if len(shape) != len(steps) or 0 in shape or min(steps, default=1) < 1:
        return False
    # A step that is never taken says nothing, but torch would go on to count with it.
    return axes_inside(shape, steps) is not None and max(steps, default=1) <= prod(shape)
