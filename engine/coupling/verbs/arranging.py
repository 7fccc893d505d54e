"""Verbs of one tensor: the axes of its result are its own, in another shape, order, number or size."""

from __future__ import annotations

from math import prod

from ...axes import UNIT, Atom, Layout, Reason, atoms, product, total
from ...tracing import Dim, Value
from ..call_site import Misfit, Site, as_tuple, axis_number, negated, new_axis, told_by_data


def regroup(site: Site) -> None:
    """``view``, ``reshape``, ``flatten``, ``unflatten``: the same slots, row-major, under another shape."""
    source, result = site.tensor("input"), site.result()
    if "dtype" in site.arguments:
        raise Misfit("the tensor is read as another dtype")
    layouts = _regrouped(site, source, result)
    site.give(result, layouts)
    name = site.name_of(*_SHAPES)
    for axis, number in enumerate(_target_sizes(site, result)):
        if number != -1:
            site.equate(number, layouts[axis], name)
    held = [{atom for atom in atoms(layout) if atom.size > 1} for layout in site.axes(source)]
    for new, layout in enumerate(layouts):
        own = set(atoms(layout))
        places = [(source, old) for old, there in enumerate(held) if own & there]
        if places:
            site.couple(f"axis {new}", [*places, (result, new)])


def _regrouped(site: Site, source: Value, result: Value) -> list[Layout]:
    """The axes of the result. Those of an empty tensor are told by their sizes beside the empty axis."""
    axes, sizes = list(site.axes(source)), list(result.shape)
    if 0 not in sizes:
        return site.coupled.unifier.regroup(axes, sizes)
    if sizes.count(0) > 1 or source.shape.count(0) > 1:
        raise Misfit("the tensor is empty")
    at, empty = sizes.index(0), axes[source.shape.index(0)]
    axes[source.shape.index(0)], sizes[at] = UNIT, 1
    if prod(axis.size for axis in axes) != prod(sizes):
        raise Misfit("the tensor is empty")
    layouts = site.coupled.unifier.regroup(axes, sizes)
    layouts[at] = empty
    return layouts


def _target_sizes(site: Site, result: Value) -> list[object]:
    """The numbers that the caller wrote for the axes of the result, ``-1`` where there is none."""
    unknown: list[object] = [-1] * len(result.shape)
    if "start_dim" in site.arguments or "end_dim" in site.arguments:
        return unknown
    sizes = site.argument(*_SHAPES)
    if isinstance(sizes, Value):
        return [Dim(sizes, axis) for axis in range(len(sizes.shape))]
    if sizes is None:
        return unknown
    sizes = as_tuple(sizes)
    if "dim" in site.arguments:  # unflatten(dim, sizes)
        start = axis_number(site.arguments["dim"], len(result.shape) - len(sizes) + 1)
        return unknown[:start] + list(sizes) + unknown[start + len(sizes) :]
    return list(sizes)


def permute(site: Site) -> None:
    """``permute``, ``transpose``, ``movedim``, ``.T``, ``.mT``: the same axes in another order."""
    source, result = site.tensor("input"), site.result()
    order = _order(site, len(source.shape))
    axes = site.axes(source)
    site.give(result, [axes[old] for old in order])
    site.carry(source, result, ((old, new) for new, old in enumerate(order)))


def _order(site: Site, rank: int) -> list[int]:
    """For each axis of the result the axis of the operand that it is."""
    order = list(range(rank))
    dims = site.argument("dims", "dim")
    if dims is not None:
        return [axis_number(dim, rank) for dim in as_tuple(dims)]
    if "source" in site.arguments:
        moved = [axis_number(dim, rank) for dim in as_tuple(site.arguments["source"])]
        places = [axis_number(dim, rank) for dim in as_tuple(site.arguments["destination"])]
        order = [dim for dim in order if dim not in moved]
        for place, dim in sorted(zip(places, moved)):
            order.insert(place, dim)
    elif "dim0" in site.arguments:
        first, second = (axis_number(site.arguments[name], rank) for name in ("dim0", "dim1"))
        order[first], order[second] = order[second], order[first]
    elif rank < 2 or site.call.name.removesuffix(".__get__").endswith((".T", ".H")):
        order.reverse()
    else:  # .mT, .mH, .adjoint() and .t() turn the last two
        order[-2:] = [rank - 1, rank - 2]
    return order


def expand(site: Site) -> None:
    """``expand``, ``expand_as``, ``broadcast_to``: axes of size 1 and new leading axes take a given size."""
    source, result = site.tensor("input"), site.result()
    name = site.name_of("size", "shape", "other")
    sizes = site.argument(name)
    if isinstance(sizes, Value):
        sizes = tuple(Dim(sizes, axis) for axis in range(len(sizes.shape)))
    surplus = len(result.shape) - len(source.shape)
    layouts: list[Layout] = []
    kept: list[tuple[int, int]] = []
    for axis, (size, number) in enumerate(zip(result.shape, as_tuple(sizes))):
        old = site.axes(source)[axis - surplus] if axis >= surplus else UNIT
        if old.size == size:
            layouts.append(old)
            kept.append((axis - surplus, axis))
        else:
            layouts.append(new_axis(size))
        if number != -1:
            site.equate(number, layouts[axis], name)
    site.give(result, layouts)
    site.carry(source, result, ((old, new) for old, new in kept if old >= 0))


def repeat(site: Site) -> None:
    """``repeat``/``tile``: copies are outermost; ``repeat_interleave``: copies are innermost."""
    source, result = site.tensor("input"), site.result()
    name = site.name_of("repeats", "dims")
    given = site.argument(name)
    interleaved = not isinstance(given, (list, tuple))
    rank = len(source.shape)
    counts = [1] * rank if interleaved else list(as_tuple(given))
    if interleaved:
        dim = site.argument("dim", default=0 if rank == 1 else None)
        if dim is None:
            raise Misfit("the flattened tensor is repeated")
        counts[axis_number(dim, rank)] = given
    surplus = len(result.shape) - rank
    axes = [UNIT] * surplus + list(site.axes(source))
    counts = [1] * (len(axes) - len(counts)) + counts
    layouts: list[Layout] = []
    for old, number, size in zip(axes, counts, result.shape):
        if isinstance(number, Value):
            for layout in (old, *site.axes(number)):
                site.block(layout, "its slots are repeated as often as data says")
            layouts.append(told_by_data(site, size))
            continue
        copies = new_axis(int(number))
        if copies is not UNIT:
            site.equate(number, copies, name)
        layouts.append(product([old, copies] if interleaved else [copies, old]))
    site.give(result, layouts)
    site.carry(source, result, ((axis, axis + surplus) for axis in range(rank)))


def insert(site: Site) -> None:
    """``unsqueeze``: a new axis of size 1."""
    source, result = site.tensor("input"), site.result()
    dim = axis_number(site.argument("dim"), len(result.shape))
    axes = site.axes(source)
    site.give(result, [*axes[:dim], UNIT, *axes[dim:]])
    site.carry(source, result, ((axis, axis if axis < dim else axis + 1) for axis in range(len(axes))))


def drop(site: Site) -> None:
    """``squeeze``: axes of size 1 go."""
    source, result = site.tensor("input"), site.result()
    rank = len(source.shape)
    dims = site.argument("dim")
    asked = range(rank) if dims is None else [axis_number(dim, rank) for dim in as_tuple(dims)]
    kept = [axis for axis in range(rank) if axis not in asked or source.shape[axis] != 1]
    site.give(result, [site.axes(source)[axis] for axis in kept])
    site.carry(source, result, ((old, new) for new, old in enumerate(kept)))


def pad(site: Site) -> None:
    """``pad``: new slots before and after those of an axis; filled from outside, or copies of its own."""
    source, result = site.tensor("input"), site.result()
    widths = as_tuple(site.argument("pad"))
    constant = site.argument("mode", default="constant") == "constant"
    layouts = list(site.axes(source))
    for number, (before, after) in enumerate(zip(widths[::2], widths[1::2])):
        axis = len(layouts) - 1 - number
        if isinstance(before, Value) or isinstance(after, Value):
            site.block(layouts[axis], "it is padded or cut by as much as data says")
            layouts[axis] = told_by_data(site, result.shape[axis])
            continue
        if before == 0 and after == 0:
            site.keep((before, after))
            continue
        if not constant or before < 0 or after < 0:
            site.block(layouts[axis], "it is padded with its own slots, or cropped")
            layouts[axis] = Atom(result.shape[axis], Reason("a padded axis", site.origin))
            continue
        sides = Atom(int(before)), Atom(int(after))
        for width, side in zip((before, after), sides):
            if width:
                site.equate(width, side, "pad")
            else:
                site.keep(width)
        layouts[axis] = total([sides[0], layouts[axis], sides[1]])
    site.give(result, layouts)
    site.carry(source, result)


def roll(site: Site) -> None:
    """``roll`` by k: the last k slots come first."""
    source, result = site.tensor("input"), site.result()
    dims = site.argument("dims")
    if dims is None or dims == () or dims == []:
        raise Misfit("a roll over the flattened tensor")
    layouts = list(site.axes(source))
    for shift, dim in zip(as_tuple(site.argument("shifts")), as_tuple(dims)):
        axis = axis_number(dim, len(layouts))
        if isinstance(shift, Value):
            site.block(layouts[axis], "it is rolled by as many slots as data says")
            continue
        by = int(shift) % max(layouts[axis].size, 1)
        if by == 0:
            site.keep(shift)
            continue
        head, tail = site.cut(layouts[axis], layouts[axis].size - by)
        if shift > 0:
            site.equate(shift, tail, "shifts")
        else:
            site.equate(negated(shift), head, "shifts")
        layouts[axis] = total([tail, head])
    site.give(result, layouts)
    site.carry(source, result)


def flip(site: Site) -> None:
    """``flip``: slots in reverse order, for which layouts have no word; the axis stays."""
    source, result = site.tensor("input"), site.result()
    layouts = site.axes(source)
    for dim in as_tuple(site.argument("dims")) if not site.is_unread else ():
        site.block(layouts[axis_number(dim, len(layouts))], "its slots are put in reverse order")
    site.give(result, layouts)
    site.carry(source, result)


def new(site: Site) -> None:
    """``zeros``, ``full``, ``arange``: axes ``n`` are made here, of the sizes given."""
    for result in site.call.results:
        numbers = as_tuple(site.argument(*_NEW_SIZES))
        site.sizes_read.update(_NEW_SIZES)
        layouts = [new_axis(size) for size in result.shape]
        for axis, layout in enumerate(layouts):
            if len(numbers) == len(layouts) and isinstance(numbers[axis], (int, Value)):
                site.equate(numbers[axis], layout, "size")
            else:
                site.block(layout, f"made by {site.call.name} of a size that cannot be traced")
        site.factors.setdefault("n", []).extend(layouts)
        site.give(result, layouts)
    for operand in site.call.values:
        if operand is not site.arguments.get("input"):  # new_zeros and its like only take their kind from it
            for layout in site.axes(operand):
                site.block(layout, "its values are copied one by one")
    for name, found in site.arguments.items():
        if name not in _NEW_SIZES:
            site.depend_on(found)


# What the calls that make a tensor call its sizes.
_SHAPES = ("shape", "size", "sizes", "other")
_NEW_SIZES = ("size", "end", "steps", "n", "window_length")
