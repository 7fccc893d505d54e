"""The verbs that pick slots of an axis by number, slice or index tensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ...axes import UNIT, Atom, Layout, Reason, total
from ...tracing import Value, values_in
from ..call_site import ByData, Misfit, Site, axis_number, negated, told_by_data
from ..coupled import Place

# An axis that indexing gives, the axis it comes from if there is one; ``None`` for a layout whose size only
# the data tells.
Indexed = tuple["Layout | None", "Place | None"]


def index(site: Site) -> None:
    """``x[...]``: integers drop an axis, slices cut it, tensors pick from it, ``None`` adds one."""
    source, result = site.tensor("input"), site.result()
    axes = _indexed(site, source)
    if len(axes) != len(result.shape):
        raise Misfit(f"its index gives {len(axes)} axes, the call {len(result.shape)}")
    by_data = ByData("slots picked by data", site.origin)
    layouts = [
        Atom(size, by_data) if layout is None else layout for size, (layout, _) in zip(result.shape, axes)
    ]
    site.give(result, layouts)
    for axis, (_, place) in enumerate(axes):
        if place is not None:
            site.couple(f"axis {axis}", [place, (result, axis)])


def assign(site: Site) -> None:
    """``x[...] = value``, ``index_put``: the value is written, or added, where the index points."""
    source, result = site.tensor("input"), site.result()
    axes = _indexed(site, source)
    for item in values_in(_given_index(site)):
        for layout in site.axes(item):
            site.block(layout, "it says which slots are written")
    value = site.argument("value", "values")
    if isinstance(value, Value):
        surplus = len(axes) - len(value.shape)
        for axis, layout in enumerate(site.axes(value)):
            target, place = axes[axis + surplus] if axis + surplus >= 0 else (None, None)
            if layout.size == 1:
                continue
            if target is None:
                site.block(layout, "it is written to slots picked by data")
            else:
                site.unify(target, layout)
            if place is not None:
                site.couple(f"axis {axis}", [(value, axis), place])
    site.give(result, site.axes(source))
    site.carry(source, result)


def narrow(site: Site) -> None:
    """``narrow(dim, start, length)``: one slice of one axis."""
    start, length = site.argument("start"), site.argument("length")
    source, result = site.tensor("input"), site.result()
    axis = axis_number(site.argument("dim"), len(source.shape))
    layouts = list(site.axes(source))
    if not isinstance(start, int) or not isinstance(length, int):
        site.block(layouts[axis], "it is cut where data says")
        layouts[axis] = told_by_data(site, result.shape[axis])
        site.give(result, layouts)
        site.carry(source, result, ((other, other) for other in range(len(layouts)) if other != axis))
        return
    if int(length) == 0:
        layouts[axis] = _nothing_of(site, layouts[axis])
    else:
        first = int(start) % layouts[axis].size
        before, layouts[axis], _ = _cut_out(site, layouts[axis], first, first + int(length))
        if before is not None:
            site.equate(start, before, "start")
        site.equate(length, layouts[axis], "length")
    site.give(result, layouts)
    site.carry(source, result)


def select(site: Site) -> None:
    """``select(dim, index)``: one slot of an axis, which therefore stays."""
    source, result = site.tensor("input"), site.result()
    dim = axis_number(site.argument("dim"), len(source.shape))
    axes = list(site.axes(source))
    site.pick(source, axes.pop(dim), site.argument("index"))
    site.give(result, axes)
    site.carry(source, result, ((axis if axis < dim else axis + 1, axis) for axis in range(len(axes))))


def find(site: Site) -> None:
    """``nonzero``, ``unique``, non-maximum suppression: the data tell how many results there are."""
    for operand in site.call.values:
        for layout in site.axes(operand):
            site.block(layout, "its values tell what is found")
    found = ByData("as many as are found", site.origin)
    for result in site.call.results:
        site.give(result, [Atom(size, found) for size in result.shape])


def _indexed(site: Site, source: Value) -> list[Indexed]:
    """The axes that indexing `source` gives, in order."""
    layouts = site.axes(source)
    found: list[Indexed] = []
    picks: list[object] = []
    positions: list[int] = []
    first_pick = 0
    axis = 0
    items = _items(_given_index(site), len(source.shape))
    # An integer beside index tensors is one of them, as far as the place of the picked axes goes.
    advanced = any(isinstance(item, (Value, list)) for item in items)
    for position, item in enumerate(items):
        taken = _axes_taken(item)
        if item is None:
            found.append((UNIT, None))
        elif isinstance(item, slice):
            found.append((_sliced(site, layouts[axis], item), (source, axis)))
        else:
            by_number = isinstance(item, int)
            for layout in layouts[axis : axis + taken]:
                if by_number:
                    site.pick(source, layout, item)
                else:
                    site.block(layout, "its slots are picked by an index")
            if advanced:
                first_pick = first_pick if positions else len(found)
                positions.append(position)
            if not by_number:
                picks.append(item)
        axis += taken
    if picks:
        apart = any(after - before > 1 for before, after in pairwise(positions))
        start = 0 if apart else first_pick
        found[start:start] = _picked(site, picks)
    return found


def _given_index(site: Site) -> object:
    """What stands in the brackets; ``index_put`` has a list, with ``None`` for a whole axis."""
    indices = site.argument("indices")
    if isinstance(indices, (list, tuple)):
        return tuple(slice(None) if item is None else item for item in indices)
    return site.argument("index")


def _items(given: object, rank: int) -> list[object]:
    """The items of an index, with every axis that it leaves out as a whole slice."""
    items = list(given) if isinstance(given, tuple) else [given]
    missing = rank - sum(map(_axes_taken, items))
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * missing
    return items


def _axes_taken(item: object) -> int:
    if item is None or item is Ellipsis:
        return 0
    return len(item.shape) if _is_mask(item) else 1  # type: ignore[attr-defined]  # a mask is a Value


def _is_mask(item: object) -> bool:
    return isinstance(item, Value) and not item.dtype.is_floating_point and "bool" in str(item.dtype)


def _picked(site: Site, picks: Sequence[object]) -> list[Indexed]:
    """The axes that index tensors put in place of those they pick from: their own, broadcast."""
    tensors = [pick for pick in picks if isinstance(pick, Value) and not _is_mask(pick)]
    by_data = len(tensors) < len(picks)  # masks and lists make one axis, of a size that the data tells
    rank = max([len(pick.shape) for pick in tensors] + [1] * by_data)
    found: list[Indexed] = [(UNIT, None)] * rank
    for pick in tensors:
        for axis, layout in enumerate(site.axes(pick)):
            at = axis + rank - len(pick.shape)
            known, place = found[at]
            if layout.size == 1:
                continue
            if place is None:
                found[at] = layout, (pick, axis)
            elif known is not None:
                site.unify(known, layout)
    if by_data:
        known, _ = found[-1]
        if known is not None:
            site.block(known, "it is picked together with a mask")
        found[-1] = None, None
    return found


def _nothing_of(site: Site, layout: Layout) -> Layout:
    site.block(layout, "an empty slice is taken of it")
    return Atom(0, Reason("an empty slice", site.origin))


def _sliced(site: Site, layout: Layout, item: slice) -> Layout | None:
    start, stop, step = item.start, item.stop, item.step
    if any(isinstance(one, Value) for one in (start, stop, step)):
        site.block(layout, "it is cut where data says")
        return None
    if start is None and stop is None and step in (None, 1):
        return layout
    first, last, stride = slice(start, stop, step).indices(layout.size)
    if stride != 1:
        return _strided(site, layout, first, last, stride)
    if first >= last:
        return _nothing_of(site, layout)
    before, piece, after = _cut_out(site, layout, first, last)
    # A bound counts from the side on which the number was given.
    if start is not None and before is not None:
        if start < 0:
            site.equate(negated(start), piece if after is None else total([piece, after]), "index")
        else:
            site.equate(start, before, "index")
    if stop is not None and after is not None:
        if stop < 0:
            site.equate(negated(stop), after, "index")
        else:
            site.equate(stop, piece if before is None else total([before, piece]), "index")
    elif stop is not None and int(stop) == layout.size:
        site.equate(stop, layout, "index")
    return piece


def _cut_out(
    site: Site, layout: Layout, first: int, last: int
) -> tuple[Layout | None, Layout, Layout | None]:
    """The pieces of `layout` before, between and after two slots; ``None`` for an empty one."""
    if not 0 <= first < last <= layout.size:
        raise Misfit(f"slots {first} to {last} of an axis of {layout.size}")
    size = layout.size
    before, piece = site.cut(layout, first) if first else (None, layout)
    piece, after = site.cut(piece, last - first) if last < size else (piece, None)
    return before, piece, after


def _strided(site: Site, layout: Layout, first: int, last: int, stride: int) -> Layout:
    """``x[..., k::step]``: slot k of every run of `step`."""
    if stride < 1 or first >= stride or last != layout.size or layout.size % stride:
        site.block(layout, f"it is read with a step of {stride}")
        return Atom(len(range(first, last, stride)), Reason("a strided slice", site.origin))
    outer, inner = site.coupled.unifier.split_inner(layout, stride)
    site.block(inner, f"it is read with a step of {stride}")
    return outer
