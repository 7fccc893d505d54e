"""The verbs that make one tensor of several, or several of one."""

from __future__ import annotations

from itertools import pairwise

from ...axes import UNIT, Atom, Layout, Reason, total
from ..call_site import Site, axis_number


def split(site: Site) -> None:
    """``split(in) by output sizes`` cuts an axis, ``split(out) by input sizes`` joins operands."""
    if "out" in site.rule.body.factors:  # type: ignore[union-attr]  # a verb's rule has a relation
        _concatenate(site)
    else:
        _cut_into_results(site)


def _concatenate(site: Site) -> None:
    result = site.result()
    # torch.cat ignores empty tensors of shape (0,), whatever the others are.
    parts = [part for part in site.tensors() if part.shape != (0,) or result.shape == (0,)]
    dim = axis_number(site.argument("dim", default=0), len(result.shape))
    layouts = list(site.axes(parts[0]))
    for part in parts[1:]:
        for axis, layout in enumerate(site.axes(part)):
            if axis != dim:
                site.unify(layouts[axis], layout)
    layouts[dim] = total([site.axes(part)[dim] for part in parts])
    site.give(result, layouts)
    site.factors["out"] = [layouts[dim]]
    for axis in range(len(result.shape)):
        name = "out" if axis == dim else f"axis {axis}"
        site.couple(name, [*((part, axis) for part in parts), (result, axis)])


def _cut_into_results(site: Site) -> None:
    source, results = site.tensor("input"), site.call.results
    dim = axis_number(site.argument("dim", default=0), len(source.shape))
    layouts = list(site.axes(source))
    rest = layouts[dim]
    site.factors["in"] = [rest]
    pieces: list[Layout] = []
    for result in results:
        size = result.shape[dim]
        if size == 0:
            pieces.append(Atom(0, Reason("an empty part", site.origin)))
        elif size == rest.size:
            pieces.append(rest)
            rest = Atom(0, Reason("an empty part", site.origin))
        else:
            piece, rest = site.cut(rest, size)
            pieces.append(piece)
    for result, piece in zip(results, pieces):
        site.give(result, [*layouts[:dim], piece, *layouts[dim + 1 :]])
        for axis in range(len(layouts)):
            site.couple("in" if axis == dim else f"axis {axis}", [(source, axis), (result, axis)])
    _equate_pieces(site, pieces)


def _equate_pieces(site: Site, pieces: list[Layout]) -> None:
    """What the call says of the sizes of the pieces must stay true."""
    if "chunks" in site.arguments:
        _keep_equal(site, pieces, "chunks")
        return
    name = site.name_of("split_size", "split_sizes", "indices_or_sections")
    given = site.argument(name)
    if name == "indices_or_sections" and isinstance(given, int):
        _keep_equal(site, pieces, name)
    elif name == "indices_or_sections":
        for piece in pieces:
            site.block(piece, "it is cut at positions that are written in the call")
    elif isinstance(given, (list, tuple)):
        for size, piece in zip(given, pieces):
            site.equate(size, piece, name)
    else:
        for piece in pieces if pieces[0].size == pieces[-1].size else pieces[:-1]:
            site.equate(given, piece, name)


def _keep_equal(site: Site, pieces: list[Layout], argument: str) -> None:
    """A number of pieces is given: they are as large as each other, and must stay so."""
    for first, other in pairwise(pieces):
        if first.size == other.size:
            site.same_size(first, other, argument)
        else:
            site.block(first, "it is cut into pieces of different sizes")
            site.block(other, "it is cut into pieces of different sizes")


def stack(site: Site) -> None:
    """``stack``: operands of one shape, side by side on a new axis of fixed size."""
    parts, result = site.tensors(), site.result()
    dim = axis_number(site.argument("dim", default=0), len(result.shape))
    layouts = list(site.axes(parts[0]))
    for part in parts[1:]:
        for layout, other in zip(layouts, site.axes(part)):
            site.unify(layout, other)
    beside = UNIT if len(parts) == 1 else Atom(len(parts), Reason("the operands of a stack", site.origin))
    site.give(result, [*layouts[:dim], beside, *layouts[dim:]])
    for axis in range(len(layouts)):
        new = axis if axis < dim else axis + 1
        site.couple(f"axis {new}", [*((part, axis) for part in parts), (result, new)])


def unbind(site: Site) -> None:
    """``unbind``: one result for each slot of an axis, which therefore stays."""
    source = site.tensor("input")
    dim = axis_number(site.argument("dim", default=0), len(source.shape))
    axes = list(site.axes(source))
    site.block(axes.pop(dim), "each of its slots is a tensor of its own")
    for result in site.call.results:
        site.give(result, axes)
        site.carry(source, result, ((axis if axis < dim else axis + 1, axis) for axis in range(len(axes))))
