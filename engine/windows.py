"""The verb for windows of memory: which axes they leave as they are, and which they walk over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import prod

from .axes import Atom, Layout, Reason, product
from .site import Site, as_tuple
from .values import Value


def strided(site: Site) -> None:
    """``as_strided`` of contiguous memory: axes with their size and step stay, others are walked over.

    What is walked over is held, as windows overlap or leave slots out; so is a width of which a step is a
    number in the source.
    """
    source, result = site.tensor("input"), site.result()
    sizes, steps = as_tuple(site.argument("size")), as_tuple(site.argument("stride"))
    axes = site.axes(source)
    before, after = _untouched(source, result, steps)
    inner = list(axes[len(axes) - after :])
    for layout in axes[before : len(axes) - after]:
        site.block(layout, "memory is read in windows along it")
    layouts: list[Layout] = list(axes[:before])
    for size in result.shape[before : len(result.shape) - after]:
        layouts.append(Atom(size, Reason("an axis of windows of memory", site.origin)))
    layouts += inner
    site.give(result, layouts)
    for axis, (size, step) in enumerate(zip(sizes, steps)):
        site.equate(size, layouts[axis], "size")
        site.equate(step, _step_of(site, axes, inner, axis, before, int(step), len(result.shape)), "stride")
    places = [(axis, axis) for axis in range(before)]
    places += [(len(axes) - number, len(result.shape) - number) for number in range(1, after + 1)]
    site.carry(source, result, places)


def _untouched(source: Value, result: Value, steps: Sequence[int]) -> tuple[int, int]:
    """How many axes at the beginning and at the end have the size and step that they have in the source.

    All other steps must be whole numbers of what lies at the end.
    """
    own = [prod(source.shape[axis + 1 :]) for axis in range(len(source.shape))]
    old, new = list(zip(source.shape, own)), list(zip(result.shape, steps))
    before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new)))
    after = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(old), reversed(new))))
    after = min(after, len(old) - before, len(new) - before)
    while any(step % prod(source.shape[len(old) - after :]) for step in steps[before : len(new) - after]):
        after -= 1
    return before, after


def _step_of(
    site: Site, axes: Sequence[Layout], inner: Sequence[Layout], axis: int, before: int, step: int, rank: int
) -> Layout:
    """What a step goes over: the axes inside, or so many times those at the end."""
    if axis < before:
        return product(axes[axis + 1 :])
    if axis >= rank - len(inner):
        return product(inner[axis - (rank - len(inner)) + 1 :])
    times = Atom(step // prod(layout.size for layout in inner), Reason("a step in memory", site.origin))
    return product([times, *inner])
