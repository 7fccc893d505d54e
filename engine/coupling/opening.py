"""The axes of a signature's operands: how many each star stands for, and the sizes of all factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from ...grammar import ast
from ...rules.arguments import argument_defaults
from ..tracing import Value
from .call_site import Misfit, Site, as_tuple

# A dim of one axis, after every star has been opened into its axes.
Key = tuple[str, int]
Axis = ast.Dim | Key


class Given:
    """What the call says for the rule's ``where``, ``at`` and ``slides`` clauses.

    ``lengths`` and ``numbers`` are all of it that can make a difference: to how many axes stars stand for,
    and to what the axes are.
    """

    def __init__(self, site: Site):
        self.sizes: dict[Key, tuple[int, str]] = {}
        self.counts: dict[str, int] = {}
        self.positions: dict[str, int] = {}
        self.alike: dict[str, str] = {}
        self.steps: list[tuple[ast.Slides, tuple[int, ...]]] = []
        for clause in site.rule.of(ast.Where):
            if clause.argument.startswith("*"):
                self.alike[clause.factor] = clause.argument.removeprefix("*")
            else:
                self._note_size(site, clause)
        for at in site.rule.of(ast.At):
            site.sizes_read.add(at.argument.partition("[")[0])
            position = argument_of(site, at.argument)
            if not isinstance(position, int):
                raise Misfit(f"'{at.argument}' is not one axis")
            self.positions[at.factor] = int(position)
        for slides in site.rule.of(ast.Slides):
            if slides.step is not None:
                steps = as_tuple(argument_of(site, slides.step))
                whole = tuple([int(step) if isinstance(step, int) else 0 for step in steps])
                self.steps.append((slides, whole))
        self.lengths = tuple(self.counts.values()), tuple(self.positions.values())
        self.numbers = (
            tuple([(key, int(number)) for key, (number, _) in self.sizes.items()]),
            tuple([steps for _, steps in self.steps]),
        )

    def _note_size(self, site: Site, clause: ast.Where) -> None:
        site.sizes_read.add(clause.argument.partition("[")[0])
        numbers = as_tuple(argument_of(site, clause.argument))
        if clause.star:
            self.counts[clause.factor] = len(numbers)
        for index, number in enumerate(numbers if clause.star else numbers[:1]):
            if isinstance(number, int):
                key = (clause.factor, index - len(numbers) if clause.star else 0)
                self.sizes[key] = number, clause.argument


def opened_axes(
    given: Given, operands: Sequence[tuple[tuple, Value]], results: Sequence[tuple[tuple, Value]]
) -> list[list[Axis]]:
    """The dims of every axis, with stars opened."""
    lengths = _star_lengths(given, [*operands, *results])
    aligned = [_aligned(dims, lengths, value) for dims, value in operands]
    return aligned + [_opened(dims, lengths) for dims, _ in results]


def _star_lengths(given: Given, operands: Sequence[tuple[tuple, Value]]) -> dict[str, int]:
    """How many axes every star stands for: from `where` and `at`, else from what the others leave."""
    lengths = dict(given.counts)
    for dims, value in operands:
        _length_before(dims, len(value.shape), given.positions, lengths)
    for _ in range(3):
        found: dict[str, int] = {}
        for dims, value in operands:
            stars = [dim.name for dim in dims if type(dim) is ast.Star]
            unknown = [star for star in stars if star not in lengths and star not in given.alike]
            if len(unknown) == 1:
                known = sum(lengths.get(dim.name, 0) if type(dim) is ast.Star else 1 for dim in dims)
                left = max(len(value.shape) - known, 0)
                found[unknown[0]] = max(found.get(unknown[0], 0), left)
        if not found:
            break
        lengths.update(found)
        lengths.update({star: lengths[other] for star, other in given.alike.items() if other in lengths})
    return lengths


def _length_before(dims: tuple, rank: int, positions: Mapping[str, int], lengths: dict[str, int]) -> None:
    """``at c = dim`` tells how many axes the star before ``c``, or before a product with it, has."""
    for index, dim in enumerate(dims):
        at = next((positions[name] for name, _ in keys_of(dim) if name in positions), None)
        stars = [one.name for one in dims[:index] if type(one) is ast.Star]
        if at is not None and len(stars) == 1:
            lengths.setdefault(stars[0], at % max(rank, 1) - (index - 1))


def _opened(dims: tuple, lengths: Mapping[str, int]) -> list[Axis]:
    axes: list[Axis] = []
    for dim in dims:
        if type(dim) is ast.Star:
            if dim.name not in lengths:
                raise Misfit(f"the number of axes of '*{dim.name}' cannot be told")
            axes.extend((dim.name, index) for index in range(-lengths[dim.name], 0))
        else:
            axes.append((dim.name, 0) if type(dim) is ast.Factor else dim)
    return axes


def _aligned(dims: tuple, lengths: Mapping[str, int], value: Value) -> list[Axis]:
    """The dims of an operand's axes; as in broadcasting, missing leading axes drop out."""
    axes = _opened(dims, lengths)
    if len(axes) < len(value.shape):
        raise Misfit(f"it names {len(axes)} axes of a tensor of {len(value.shape)}")
    return axes[len(axes) - len(value.shape) :]


def factor_sizes(given: Given, everything: Iterable[tuple[list[Axis], Value]]) -> dict[Key, int]:
    """The sizes of all factors: given, or read off an axis, or what is left of a product or sum."""
    sizes: dict[Key, int] = {key: int(number) for key, (number, _) in given.sizes.items()}
    compound = []
    for axes, value in everything:
        for axis, size in zip(axes[max(len(axes) - len(value.shape), 0) :], value.shape):
            if type(axis) is tuple:
                known = sizes.get(axis, 1)
                sizes[axis] = size if known == 1 else max(known, size) if size != 1 else known
            elif isinstance(axis, (ast.Product, ast.Sum)):
                compound.append((axis, size))
    for _ in compound:
        for axis, size in compound:
            _solve(axis, size, sizes)
    return sizes


def _solve(dim: ast.Product | ast.Sum, size: int, sizes: dict[Key, int]) -> None:
    """Fill in the one unknown part of a product or sum of known size."""
    known = [size_of_dim(part, sizes) for part in dim.parts]
    unknown = [part for part, one in zip(dim.parts, known) if one is None]
    if len(unknown) != 1:
        return
    numbers = [one for one in known if one is not None]
    if type(dim) is ast.Sum:
        left = size - sum(numbers)
    else:
        left, rest = divmod(size, max(prod(numbers), 1))
        if rest:
            return
    part = unknown[0]
    if type(part) is ast.Factor:
        sizes[part.name, 0] = left
    elif isinstance(part, (ast.Product, ast.Sum)):
        _solve(part, left, sizes)


def size_of_dim(dim: ast.Dim, sizes: Mapping[Key, int]) -> int | None:
    """How many slots an axis of this dim has, if that is known."""
    if type(dim) is ast.Fixed:
        return dim.size
    if type(dim) is ast.Factor:
        return sizes.get((dim.name, 0))
    parts = [size_of_dim(part, sizes) for part in dim.parts]  # type: ignore[union-attr]  # stars are opened
    if any(part is None for part in parts):
        return None
    return sum(parts) if type(dim) is ast.Sum else prod(parts)  # type: ignore[arg-type]  # all are known here


def keys_of(dim: ast.Dim) -> list[Key]:
    """The factors that a dim names."""
    if type(dim) is ast.Factor:
        return [(dim.name, 0)]
    return [key for part in getattr(dim, "parts", ()) for key in keys_of(part)]


def argument_of(site: Site, path: str) -> object:
    """An argument of the call, or its default: ``groups``, ``kernel_size[0]``."""
    name, _, index = path.partition("[")
    given = site.arguments[name] if name in site.arguments else argument_defaults(site.call.target).get(name)
    if index and isinstance(given, (list, tuple)):
        given = given[int(index.rstrip("]"))]
    return given
