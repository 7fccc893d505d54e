"""The verbs: operations that rearrange axes according to their own arguments.

Each verb reads one call through its `Site`, gives the results their layouts, and records which axes it
related, so that relations are explained like any other rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .axes import UNIT, Atom, Layout, Reason, product, resolve, total
from .misfit import Misfit
from .sizes import Const, Dim, Expr, Op, expr_of
from .values import Value

if TYPE_CHECKING:
    from .couple import Site

Places = list[tuple[Value, int]]


def split(site: Site) -> None:
    """``split(in) by output sizes`` cuts an axis into results; ``split(out) by input sizes`` joins operands."""
    (direction,) = site.rule.body.factors or ("in",)  # type: ignore[union-attr]
    if direction == "out":
        _concatenate(site)
    else:
        _cut_into_results(site)


def _concatenate(site: Site) -> None:
    result = site.result()
    # torch.cat ignores empty tensors of shape (0,), whatever the others are.
    parts = [part for part in site.tensors() if part.shape != (0,) or result.shape == (0,)]
    dim = _dim(site.argument("dim", "axis", default=0), len(result.shape))
    layouts = list(site.axes(parts[0]))
    for part in parts[1:]:
        for axis, layout in enumerate(site.axes(part)):
            if axis != dim:
                site.unify(layouts[axis], layout)
    layouts[dim] = total([site.axes(part)[dim] for part in parts])
    site.give(result, layouts)
    site.factors["out"] = [layouts[dim]]
    for axis in range(len(result.shape)):
        _couple(site, axis, axis == dim, [(part, axis) for part in parts], [(result, axis)])


def _cut_into_results(site: Site) -> None:
    source, results = site.tensor("input"), site.call.results
    dim = _dim(site.argument("dim", default=0), len(source.shape))
    rest = site.axes(source)[dim]
    site.factors["in"] = [rest]
    pieces: list[Layout] = []
    for result in results[:-1]:
        piece, rest = _cut(site, rest, result.shape[dim])
        pieces.append(piece)
    pieces.append(rest)
    for result, piece in zip(results, pieces):
        layouts = list(site.axes(source))
        layouts[dim] = piece
        site.give(result, layouts)
        for axis in range(len(layouts)):
            _couple(site, axis, axis == dim, [(source, axis)], [(result, axis)])
    _equate_pieces(site, pieces)


def _equate_pieces(site: Site, pieces: list[Layout]) -> None:
    """What the call says of the sizes of the pieces must stay true."""
    name = next((n for n in _SIZES_OF_PIECES if n in site.arguments), None)
    sizes = site.arguments[name] if name else len(pieces)
    if isinstance(sizes, (list, tuple)):
        if name in ("indices", "indices_or_sections"):
            for piece in pieces:
                site.block(piece, "cut at positions that are written in the call")
        for size, piece in zip(sizes, pieces):
            site.equate(size, piece, name or "sections")
    elif name in _NUMBER_OF_PIECES:
        for first, other in pairwise(pieces):
            if first.size == other.size:
                site.same_size(first, other, name or "chunks")
            else:
                site.block(first, "chunks of different sizes")
                site.block(other, "chunks of different sizes")
    else:
        for piece in pieces if pieces[0].size == pieces[-1].size else pieces[:-1]:
            site.equate(sizes, piece, name or "split_size")


_NUMBER_OF_PIECES = ("chunks", "sections", "indices_or_sections")
_SIZES_OF_PIECES = (
    "split_size",
    "split_sizes",
    "chunks",
    "indices_or_sections",
    "sections",
    "indices",
)


def regroup(site: Site) -> None:
    """``view``, ``reshape``, ``flatten``, ``unflatten``: the same slots, row-major, under another shape."""
    source, result = site.tensor("input"), site.result()
    if 0 in source.shape:
        raise Misfit("the tensor is empty")
    layouts = site.state.unifier.regroup(site.axes(source), result.shape)
    site.give(result, layouts)
    for axis, number in enumerate(_target_sizes(site, result)):
        if number != -1:
            site.equate(number, layouts[axis], "shape")
    _couple_shared(site, source, result)


def _target_sizes(site: Site, result: Value) -> list[object]:
    """The numbers that the caller wrote for the axes of the result, ``-1`` where there is none."""
    unknown: list[object] = [-1] * len(result.shape)
    if "start_dim" in site.arguments or "end_dim" in site.arguments:
        return unknown
    sizes = site.argument("shape", "size", "sizes", "other")
    if isinstance(sizes, Value):
        return [Dim(sizes, axis) for axis in range(len(sizes.shape))]
    if isinstance(sizes, int):
        sizes = (sizes,)
    if not isinstance(sizes, (list, tuple)):
        return unknown
    if "dim" in site.arguments:  # unflatten(dim, sizes)
        rank = len(result.shape) - len(sizes) + 1
        start = _dim(site.arguments["dim"], rank)
        return unknown[:start] + list(sizes) + unknown[start + len(sizes) :]
    return list(sizes)


def permute(site: Site) -> None:
    """``permute``, ``transpose``, ``movedim``, ``.T``, ``.mT``: the same axes in another order."""
    source, result = site.tensor("input"), site.result()
    order = _order(site, len(source.shape))
    axes = site.axes(source)
    site.give(result, [axes[old] for old in order])
    for new, old in enumerate(order):
        _couple(site, new, False, [(source, old)], [(result, new)])


def _order(site: Site, rank: int) -> list[int]:
    dims = site.argument("dims", "dim")
    if dims is not None:
        return [_dim(dim, rank) for dim in _tuple(dims)]
    if "source" in site.arguments:
        moved = [_dim(dim, rank) for dim in _tuple(site.arguments["source"])]
        places = [_dim(dim, rank) for dim in _tuple(site.arguments["destination"])]
        order = [dim for dim in range(rank) if dim not in moved]
        for place, dim in sorted(zip(places, moved)):
            order.insert(place, dim)
        return order
    one = site.argument("dim0", "axis0")
    order = list(range(rank))
    if one is None:  # .T turns all axes round, .mT and .t() the last two; they agree on matrices
        whole = site.call.name.endswith(".T") or site.call.name.endswith(".T.__get__")
        return order[::-1] if whole or rank < 2 else [*order[:-2], rank - 1, rank - 2]
    first, second = _dim(one, rank), _dim(site.argument("dim1", "axis1"), rank)
    order[first], order[second] = order[second], order[first]
    return order


def index(site: Site) -> None:
    """``x[...]``: integers drop an axis, slices cut it, tensors pick from it, ``None`` adds one."""
    source, result = site.tensor("input"), site.result()
    layouts, places = _indexed(site, source)
    site.give(result, layouts)
    for axis, origin in enumerate(places):
        if origin is not None:
            _couple(site, axis, False, [origin], [(result, axis)])


def assign(site: Site) -> None:
    """``x[...] = value``: the value is written where the index points; ``x`` keeps its axes."""
    source, result = site.tensor("input"), site.result()
    layouts, places = _indexed(site, source)
    value = site.argument("value")
    if isinstance(value, Value):
        surplus = len(layouts) - len(value.shape)
        for axis, layout in enumerate(site.axes(value)):
            if layout.size != 1 and axis + surplus >= 0:
                site.unify(layouts[axis + surplus], layout)
                origin = places[axis + surplus]
                if origin is not None:
                    _couple(site, axis, False, [(value, axis), origin], [])
    site.give(result, site.axes(source))
    for axis in range(len(result.shape)):
        _couple(site, axis, False, [(source, axis)], [(result, axis)])


def _indexed(site: Site, source: Value) -> tuple[list[Layout], list[tuple[Value, int] | None]]:
    """The axes that indexing `source` gives, and for each the axis it comes from."""
    given = site.argument("index")
    items = list(given) if isinstance(given, tuple) else [given]
    consumed = sum(_axes_taken(item) for item in items)
    missing = [slice(None)] * (len(source.shape) - consumed)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = missing

    axes = site.axes(source)
    layouts: list[Layout] = []
    places: list[tuple[Value, int] | None] = []
    picks: list[Value] = []
    positions: list[int] = []
    axis = 0
    # An integer beside index tensors is one of them, as far as placing the picked axes goes.
    advanced = any(isinstance(item, (Value, list)) for item in items)
    for number, item in enumerate(items):
        if item is None:
            layouts.append(UNIT)
            places.append(None)
        elif isinstance(item, slice):
            layouts.append(_sliced(site, axes[axis], item))
            places.append((source, axis))
            axis += 1
        elif isinstance(item, (bool, int)) and not isinstance(item, bool):
            site.block(axes[axis], "one of its slots is picked by number")
            axis += 1
            if advanced:
                positions.append(number)
        else:
            for taken in range(_axes_taken(item)):
                site.block(axes[axis + taken], "its slots are picked by an index tensor")
            axis += _axes_taken(item)
            picks.append(item)
            positions.append(number)
            if len(positions) == 1:
                before = len(layouts)
    if picks:
        apart = any(after - prior > 1 for prior, after in pairwise(positions))
        new, origins = _picked(site, picks)
        start = 0 if apart else min(before, len(layouts))
        layouts[start:start] = new
        places[start:start] = origins
    return layouts, places


def _axes_taken(item: object) -> int:
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, Value) and "bool" in str(item.dtype):
        return len(item.shape)
    return 1


def _picked(site: Site, picks: Sequence[object]) -> tuple[list[Layout], list[tuple[Value, int] | None]]:
    """The axes that index tensors put in place of those they pick from: their own, broadcast."""
    result = site.result() if not site.rule.body.verb == "assign" else None  # type: ignore[union-attr]
    tensors = [pick for pick in picks if isinstance(pick, Value)]
    if any("bool" in str(pick.dtype) for pick in tensors) or len(tensors) < len(picks):
        if result is None or len(picks) > 1:
            raise Misfit("an index of masks or lists among other tensors")
        if isinstance(picks[0], list):
            size = len(picks[0])
        else:
            rest = sum(1 for _ in result.shape) and [s for s in result.shape]
            source = site.tensor("input")
            size = rest[0] if len(picks[0].shape) == len(source.shape) else None
            if size is None:
                raise Misfit("a mask over some of the axes")
        return [Atom(size, Reason("slots picked by data", site.origin))], [None]
    rank = max(len(pick.shape) for pick in tensors)
    layouts: list[Layout] = [UNIT] * rank
    origins: list[tuple[Value, int] | None] = [None] * rank
    for pick in tensors:
        for axis, layout in enumerate(site.axes(pick)):
            place = axis + rank - len(pick.shape)
            if layout.size == 1:
                continue
            if origins[place] is None:
                layouts[place], origins[place] = layout, (pick, axis)
            else:
                site.unify(layouts[place], layout)
    return layouts, origins


def _sliced(site: Site, layout: Layout, item: slice) -> Layout:
    start, stop, step = item.start, item.stop, item.step
    if any(isinstance(one, Value) for one in (start, stop, step)):
        raise Misfit("a slice bound that is a tensor")
    if start is None and stop is None and step in (None, 1):
        return layout
    size = layout.size
    first, last, stride = slice(start, stop, step).indices(size)
    if stride != 1:
        return _strided(site, layout, first, last, stride)
    last = max(first, last)
    if first == last:
        site.block(layout, "an empty slice is taken of it")
        return Atom(0, Reason("an empty slice", site.origin))
    before, rest = _cut(site, layout, first) if first else (None, layout)
    piece, after = _cut(site, rest, last - first) if last < size else (rest, None)
    # A bound counts from the side on which the number was given.
    if start is not None and first:
        if start < 0:
            site.equate(_negated(start), rest, "index")
        else:
            site.equate(start, before, "index")
    if stop is not None and after is not None:
        if stop < 0:
            site.equate(_negated(stop), after, "index")
        else:
            site.equate(stop, piece if before is None else total([before, piece]), "index")
    elif stop is not None and stop >= 0 and int(stop) == size:
        site.equate(stop, layout, "index")
    return piece


def _strided(site: Site, layout: Layout, first: int, last: int, stride: int) -> Layout:
    """``x[..., k::step]``: slot k of every run of `step`."""
    if stride < 1 or first >= stride or last != layout.size or layout.size % stride:
        site.block(layout, f"it is read with a step of {stride}")
        return Atom(len(range(first, last, stride)), Reason("a strided slice", site.origin))
    outer, inner = site.state.unifier.split_inner(layout, stride)
    site.block(inner, f"it is read with a step of {stride}")
    return outer


def narrow(site: Site) -> None:
    """``narrow(dim, start, length)``: one slice of one axis."""
    start, length = site.argument("start"), site.argument("length")
    if not isinstance(start, int) or not isinstance(length, int):
        raise Misfit("bounds that are tensors")
    source, result = site.tensor("input"), site.result()
    axis = _dim(site.argument("dim"), len(source.shape))
    layouts = list(site.axes(source))
    first = int(start) % max(layouts[axis].size, 1)
    before, rest = _cut(site, layouts[axis], first) if first else (None, layouts[axis])
    piece = _cut(site, rest, int(length))[0] if length < rest.size else rest
    if before is not None:
        site.equate(start, before, "start")
    site.equate(length, piece, "length")
    layouts[axis] = piece
    site.give(result, layouts)
    for one in range(len(layouts)):
        _couple(site, one, False, [(source, one)], [(result, one)])


def select(site: Site) -> None:
    """``select(dim, index)``: one slot of an axis, which therefore stays."""
    source, result = site.tensor("input"), site.result()
    dim = _dim(site.argument("dim"), len(source.shape))
    axes = list(site.axes(source))
    site.block(axes.pop(dim), "one of its slots is picked by number")
    site.give(result, axes)
    for axis in range(len(axes)):
        _couple(site, axis, False, [(source, axis if axis < dim else axis + 1)], [(result, axis)])


def expand(site: Site) -> None:
    """``expand``, ``expand_as``, ``broadcast_to``: axes of size 1 and new leading axes take a given size."""
    source, result = site.tensor("input"), site.result()
    sizes = site.argument("size", "shape", "sizes", "other")
    if isinstance(sizes, Value):
        numbers: list[object] = [Dim(sizes, axis) for axis in range(len(sizes.shape))]
    else:
        numbers = list(_tuple(sizes))
    surplus = len(result.shape) - len(source.shape)
    layouts: list[Layout] = []
    for axis, size in enumerate(result.shape):
        old = site.axes(source)[axis - surplus] if axis >= surplus else UNIT
        if old.size == size:
            layouts.append(old)
            if axis >= surplus:
                _couple(site, axis, False, [(source, axis - surplus)], [(result, axis)])
        else:
            layouts.append(_new_axis(site, size))
        if numbers[axis] != -1:
            site.equate(numbers[axis], layouts[axis], "size")
    site.give(result, layouts)


def repeat(site: Site) -> None:
    """``repeat``/``tile``: copies are outermost; ``repeat_interleave``: copies are innermost."""
    source, result = site.tensor("input"), site.result()
    axes = site.axes(source)
    given = site.argument("repeats", "dims")
    interleaved = not isinstance(given, (list, tuple))
    if interleaved:
        dim = site.argument("dim")
        if dim is None or not isinstance(given, int):
            raise Misfit("repeats that are a tensor, or over the flattened tensor")
        counts: list[object] = [1] * len(axes)
        counts[_dim(dim, len(axes))] = given
    else:
        counts = [1] * (len(axes) - len(given)) + list(given)
    surplus = len(counts) - len(axes)
    layouts: list[Layout] = []
    for axis, number in enumerate(counts):
        old = axes[axis - surplus] if axis >= surplus else UNIT
        if number == 1 and not isinstance(number, Value):
            layouts.append(old)
        else:
            copies = _new_axis(site, int(number))  # type: ignore[call-overload]
            site.equate(number, copies, "repeats")
            layouts.append(product([old, copies] if interleaved else [copies, old]))
        if axis >= surplus:
            _couple(site, axis, False, [(source, axis - surplus)], [(result, axis)])
    site.give(result, layouts)


def _new_axis(site: Site, size: int) -> Layout:
    """An axis of equal slots: free, but for what the number that made it says."""
    return UNIT if size == 1 else Atom(size)


def reduce(site: Site) -> None:
    """``sum``, ``mean``, ``amax``: axes ``r`` are taken out (or left with one slot), the others stay."""
    source = site.tensor("input")
    rank = len(source.shape)
    dims = site.argument("dim", "axis")
    reduced = {_dim(dim, rank) for dim in _tuple(dims)} if dims is not None and dims != () else set(range(rank))
    axes = site.axes(source)
    site.factors["r"] = [axes[axis] for axis in sorted(reduced)]
    for result in site.call.results:
        keep = len(result.shape) == rank
        if keep:
            layouts = [UNIT if axis in reduced else layout for axis, layout in enumerate(axes)]
        else:
            layouts = [layout for axis, layout in enumerate(axes) if axis not in reduced]
        site.give(result, layouts)
        kept = range(rank) if keep else [axis for axis in range(rank) if axis not in reduced]
        for new, old in enumerate(kept):
            if old not in reduced:
                _couple(site, new, False, [(source, old)], [(result, new)])


def stack(site: Site) -> None:
    """``stack``: operands of one shape, side by side on a new axis of fixed size."""
    parts, result = site.tensors(), site.result()
    dim = _dim(site.argument("dim", default=0), len(result.shape))
    layouts = list(site.axes(parts[0]))
    for part in parts[1:]:
        for layout, other in zip(layouts, site.axes(part)):
            site.unify(layout, other)
    size = len(parts)
    layouts.insert(dim, UNIT if size == 1 else Atom(size, Reason("the operands of a stack", site.origin)))
    site.give(result, layouts)
    for axis in range(len(result.shape)):
        if axis != dim:
            old = axis if axis < dim else axis - 1
            _couple(site, axis, False, [(part, old) for part in parts], [(result, axis)])


def unbind(site: Site) -> None:
    """``unbind``: one result for each slot of an axis, which therefore stays."""
    source = site.tensor("input")
    dim = _dim(site.argument("dim", default=0), len(source.shape))
    axes = list(site.axes(source))
    site.block(axes.pop(dim), "each of its slots is a tensor of its own")
    for result in site.call.results:
        site.give(result, axes)
        for axis in range(len(axes)):
            _couple(site, axis, False, [(source, axis if axis < dim else axis + 1)], [(result, axis)])


def insert(site: Site) -> None:
    """``unsqueeze``: a new axis of size 1."""
    source, result = site.tensor("input"), site.result()
    dim = _dim(site.argument("dim"), len(result.shape))
    layouts = list(site.axes(source))
    layouts.insert(dim, UNIT)
    site.give(result, layouts)
    for axis in range(len(source.shape)):
        _couple(site, axis, False, [(source, axis)], [(result, axis if axis < dim else axis + 1)])


def drop(site: Site) -> None:
    """``squeeze``: axes of size 1 go."""
    source, result = site.tensor("input"), site.result()
    rank = len(source.shape)
    dims = site.argument("dim")
    asked = range(rank) if dims is None else [_dim(dim, rank) for dim in _tuple(dims)]
    kept = [axis for axis in range(rank) if axis not in asked or source.shape[axis] != 1]
    site.give(result, [site.axes(source)[axis] for axis in kept])
    for new, old in enumerate(kept):
        _couple(site, new, False, [(source, old)], [(result, new)])


def pad(site: Site) -> None:
    """``pad``: new slots before and after those of an axis; filled from outside, or copies of its own."""
    source, result = site.tensor("input"), site.result()
    widths = list(_tuple(site.argument("pad")))
    constant = site.argument("mode", default="constant") == "constant"
    layouts = list(site.axes(source))
    for number, (before, after) in enumerate(zip(widths[::2], widths[1::2])):
        axis = len(layouts) - 1 - number
        if before == 0 and after == 0:
            continue
        inner = layouts[axis]
        if not constant or before < 0 or after < 0:
            site.block(inner, "it is padded with its own slots, or cropped")
            layouts[axis] = Atom(result.shape[axis], Reason("a padded axis", site.origin))
            continue
        sides = []
        for width in (before, after):
            side = Atom(int(width))
            if width:
                site.equate(width, side, "pad")
            sides.append(side)
        layouts[axis] = total([sides[0], inner, sides[1]])
    site.give(result, layouts)
    for axis in range(len(layouts)):
        _couple(site, axis, False, [(source, axis)], [(result, axis)])


def roll(site: Site) -> None:
    """``roll`` by k: the last k slots come first."""
    source, result = site.tensor("input"), site.result()
    shifts, dims = _tuple(site.argument("shifts")), site.argument("dims", "dim")
    layouts = list(site.axes(source))
    if dims is None:
        raise Misfit("a roll over the flattened tensor")
    for shift, dim in zip(shifts, _tuple(dims)):
        axis = _dim(dim, len(layouts))
        layout = layouts[axis]
        by = int(shift) % max(layout.size, 1)
        if by == 0:
            continue
        head, tail = _cut(site, layout, layout.size - by)
        if shift > 0:
            site.equate(shift, tail, "shifts")
        else:
            site.equate(_negated(shift), head, "shifts")
        layouts[axis] = total([tail, head])
    site.give(result, layouts)
    for axis in range(len(layouts)):
        _couple(site, axis, False, [(source, axis)], [(result, axis)])


def flip(site: Site) -> None:
    """``flip``: slots in reverse order, for which layouts have no word; the axis stays."""
    source, result = site.tensor("input"), site.result()
    layouts = list(site.axes(source))
    dims = site.argument("dims", "dim")
    for dim in _tuple(dims):
        site.block(layouts[_dim(dim, len(layouts))], "its slots are put in reverse order")
    site.give(result, layouts)
    for axis in range(len(layouts)):
        _couple(site, axis, False, [(source, axis)], [(result, axis)])


def einsum(site: Site) -> None:
    """``einsum``: every letter of the equation is a factor."""
    equation = site.argument("equation")
    if not isinstance(equation, str):
        raise Misfit("an equation that is not text")
    result = site.result()
    operands = [value for value in _flat(site.argument("operands", default=site.tensors()))]
    left, arrow, right = equation.replace(" ", "").partition("->")
    subscripts = left.split(",")
    if not arrow:
        letters = sorted(set(left) - set(",."))
        right = ("..." if "..." in left else "") + "".join(x for x in letters if left.count(x) == 1)
    known: dict[str, Layout] = {}
    places: dict[str, Places] = {}
    for subscript, operand in zip(subscripts, operands):
        for axis, letter in enumerate(_letters(subscript, len(operand.shape))):
            layout = site.axes(operand)[axis]
            if layout.size == 1 and letter in known:
                continue
            if letter not in known or known[letter].size == 1:
                known[letter] = layout
            else:
                site.unify(known[letter], layout)
            places.setdefault(letter, []).append((operand, axis))
    letters_out = _letters(right, len(result.shape))
    for axis, letter in enumerate(letters_out):
        places.setdefault(letter, []).append((result, axis))
    site.give(result, [known[letter] for letter in letters_out])
    for letter, layout in known.items():
        site.factors[letter] = [layout]
        site.couple(letter, places[letter], layout)


def _letters(subscript: str, rank: int) -> list[str]:
    """The letters of one operand; the axes of an ellipsis are numbered from the right."""
    if "..." not in subscript:
        return list(subscript)
    before, after = subscript.split("...")
    dots = rank - len(before) - len(after)
    return [*before, *(f".{index}" for index in range(-dots, 0)), *after]


def new(site: Site) -> None:
    """``zeros``, ``full``, ``arange``: axes ``n`` are made here, of the sizes given."""
    result = site.result()
    sizes = site.argument("size", "sizes", "shape", "end", "steps")
    numbers = list(_tuple(sizes)) if sizes is not None else []
    layouts = [_new_axis(site, size) for size in result.shape]
    for axis, layout in enumerate(layouts):
        number = numbers[axis] if len(numbers) == len(layouts) else None
        if isinstance(number, int):
            site.equate(number, layout, "size")
        else:
            site.block(layout, f"made by {site.call.name} of a size that cannot be traced")
    site.factors["n"] = layouts
    site.give(result, layouts)


def lower(site: Site) -> None:
    """Calls that the trace records as the simple calls they stand for never come here whole."""
    raise Misfit("it was not lowered while tracing")


def _cut(site: Site, layout: Layout, at: int) -> tuple[Layout, Layout]:
    if at <= 0 or at >= layout.size:
        raise Misfit(f"an axis of {layout.size} is cut at {at}")
    return site.state.unifier.cut(layout, at)


def _couple_shared(site: Site, source: Value, result: Value) -> None:
    """Relate the axes of `source` and `result` that have an atom in common."""
    from .axes import atoms

    held = [set(atoms(layout)) for layout in site.axes(source)]
    for new_axis, layout in enumerate(site.axes(result)):
        own = {atom for atom in atoms(resolve(layout)) if atom.size > 1}
        shared = [(source, axis) for axis, there in enumerate(held) if own & there]
        if shared:
            _couple(site, new_axis, False, shared, [(result, new_axis)])


def _couple(site: Site, axis: int, named: bool, sources: Places, results: Places) -> None:
    """Record a relation; the axis that the rule names bears that name, any other its number."""
    body = site.rule.body
    name = body.factors[0] if named and body.factors else f"axis {axis}"  # type: ignore[union-attr]
    site.couple(name, [*sources, *results])


def _negated(number: int) -> Expr:
    """The expression of ``-number``, for a bound that counts from the other side."""
    expr = expr_of(number)
    if isinstance(expr, Op) and expr.symbol == "-" and isinstance(expr.left, Const) and expr.left.value == 0:
        return expr.right
    return Const(-expr.value) if isinstance(expr, Const) else Op("-", Const(0), expr)


def _dim(dim: object, rank: int) -> int:
    if not isinstance(dim, int):
        raise Misfit("an axis that is not a number")
    return int(dim) % max(rank, 1)


def _tuple(found: object) -> tuple:
    return tuple(found) if isinstance(found, (list, tuple)) else (found,)


def _flat(found: object) -> list[Value]:
    if isinstance(found, Value):
        return [found]
    return [value for one in found for value in _flat(one)]  # type: ignore[attr-defined]


VERBS: dict[str, Callable[[Site], None]] = {
    verb.__name__: verb
    for verb in (
        split,
        regroup,
        permute,
        index,
        assign,
        narrow,
        select,
        expand,
        repeat,
        reduce,
        stack,
        unbind,
        insert,
        drop,
        pad,
        roll,
        flip,
        einsum,
        new,
        lower,
    )
}
