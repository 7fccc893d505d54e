"""The verbs that work along axes: these go, are left with one slot, or give way to new ones."""

from __future__ import annotations

from ...axes import UNIT, Atom, Layout, Reason
from ...tracing import Value
from ..call_site import Site, as_tuple, axis_number


def reduce(site: Site) -> None:
    """``sum``, ``mean``, ``amax``: axes ``r`` are taken out (or left with one slot), the others stay."""
    source = site.tensor("input")
    rank = len(source.shape)
    dims = site.argument("dim", default=site.default("dim"))
    every = dims is None or dims == () or dims == []
    reduced = set(range(rank)) if every else {axis_number(dim, rank) for dim in as_tuple(dims)}
    axes = site.axes(source)
    site.factors["r"] = [axes[axis] for axis in sorted(reduced)]
    stay = [axis for axis in range(rank) if axis not in reduced]
    site.placed += [("r", axes[axis], ((source, axis),)) for axis in sorted(reduced)]
    for result in site.call.results:
        new = stay if len(result.shape) == rank else range(len(stay))
        for old, axis in zip(stay, new):
            site.placed.append((f"axis {axis}", axes[old], ((source, old), (result, axis))))
        if len(result.shape) == rank:
            site.give(result, [UNIT if axis in reduced else layout for axis, layout in enumerate(axes)])
            site.carry(source, result, ((axis, axis) for axis in stay))
        else:
            site.give(result, [axes[axis] for axis in stay])
            site.carry(source, result, ((old, new) for new, old in enumerate(stay)))


def remake(site: Site) -> None:
    """``fft``, ``diff``: the axes worked on give way to new ones, and the others stay."""
    source, result = site.tensor("input"), site.result()
    rank = len(source.shape)
    worked = _worked_on(site, rank)
    layouts = list(site.axes(source))
    for axis in worked:
        site.block(layouts[axis], "it is worked on as a whole")
        layouts[axis] = Atom(result.shape[axis], Reason("an axis that the call makes", site.origin))
    for name in ("prepend", "append"):
        _join(site, layouts, worked, site.argument(name))
    site.give(result, layouts)
    site.carry(source, result, ((axis, axis) for axis in range(rank) if axis not in worked))


def _worked_on(site: Site, rank: int) -> set[int]:
    """The axes named, or those that the operation takes by itself: the last ones, or all."""
    dims, sizes = site.argument("dim", default=site.default("dim")), site.argument("s")
    if dims is None and sizes is not None:
        return set(range(rank - len(as_tuple(sizes)), rank))
    return set(range(rank)) if dims is None else {axis_number(dim, rank) for dim in as_tuple(dims)}


def _join(site: Site, layouts: list[Layout], worked: set[int], other: object) -> None:
    """What is put before or behind a tensor has its other axes."""
    if isinstance(other, Value) and other.shape:
        for axis, layout in enumerate(site.axes(other)):
            if axis in worked:
                site.block(layout, "it is worked on as a whole")
            else:
                site.unify(layouts[axis], layout)
