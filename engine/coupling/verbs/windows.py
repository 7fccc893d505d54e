"""The verb for windows of memory: which axes they leave as they are, and which they walk over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from math import prod

from ....adapters.strides import axes_inside
from ...axes import Atom, Layout, Reason, product
from ..call_site import Misfit, Site, as_tuple


def strided(site: Site) -> None:
    """``as_strided`` of dense memory: axes with their size and step stay, others are walked over.

    What is walked over is held, as windows overlap or leave slots out; so is a width of which a step is a
    number in the source.
    """
    source, result = site.tensor("input"), site.result()
    site.sizes_read.add("own")  # of the sizes that the tensor has, however many
    own, steps = as_tuple(site.argument("own")), as_tuple(site.argument("stride"))
    axes, rank = site.axes(source), len(result.shape)
    before, after = _untouched(source.shape, own, result.shape, steps)
    for layout in axes[before : len(axes) - after]:
        site.block(layout, "memory is read in windows along it")
    made = result.shape[before : rank - after]
    walked = [Atom(size, Reason("an axis of windows of memory", site.origin)) for size in made]
    layouts: list[Layout] = [*axes[:before], *walked, *axes[len(axes) - after :]]
    site.give(result, layouts)
    for size, layout in zip(as_tuple(site.argument("size")), layouts):
        site.equate(size, layout, "size")
    stay = [
        *((axis, axis) for axis in range(before)),
        *((-number, -number) for number in range(1, after + 1)),
    ]
    for old, new in stay:
        site.equate(steps[new], product(_inside(axes, own, old)), "stride")
    for step in steps[before : rank - after]:
        last = len(axes) - after - 1
        times = Atom(step // own[last], Reason("a step of windows of memory", site.origin))
        site.equate(step, product([times, *_inside(axes, own, last)]), "stride")
    site.carry(source, result, ((old % max(len(axes), 1), new % max(rank, 1)) for old, new in stay))


def _inside(axes: Sequence[Layout], own: Sequence[int], axis: int) -> list[Layout]:
    """The axes over which one step along an axis goes."""
    found = axes_inside([layout.size for layout in axes], own) or {}
    return [axes[inside] for inside in found.get(axis % len(axes), ())]


def _untouched(
    shape: Sequence[int], own: Sequence[int], made: Sequence[int], steps: Sequence[int]
) -> tuple[int, int]:
    """How many axes at the beginning and at the end have the size and step that they have in the source."""
    old, new = list(zip(shape, own)), list(zip(made, steps))
    before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new)))
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(old), reversed(new))))
    for after in range(min(same, len(old) - before, len(new) - before), -1, -1):
        if _stays_inside(old[before : len(old) - after], new[before : len(new) - after]):
            return before, after
    raise Misfit("its windows are not of axes that lie side by side")


def _stays_inside(old: Sequence[tuple[int, int]], new: Sequence[tuple[int, int]]) -> bool:
    """Whether steps over these axes meet nothing but these axes, which lie one inside the other."""
    if not old:
        return not new
    unit = old[-1][1]
    nested = all(step == inner[0] * inner[1] for (_, step), inner in pairwise(old))
    last = sum((size - 1) * step for size, step in new)
    return nested and all(step % unit == 0 for _, step in new) and last < prod(size for size, _ in old) * unit
