"""Applies a signature to a call: finds the size and the layout of every factor, and unifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

from ..grammar import ast
from ..rules.signatures import argument_defaults
from .axes import UNIT, Atom, Layout, Reason, product, total
from .site import Misfit, Site, as_tuple
from .values import Value

# A dim of one axis, after every star has been opened into its axes.
Key = tuple[str, int]
Axis = ast.Dim | Key  # type: ignore[operator]


def match(site: Site, signature: ast.Signature) -> None:
    """Couple the axes of the call's operands and results as `signature` says."""
    operands = [(one.dims, value) for one in signature.inputs for value in _values(site, one)]
    results = [(one.dims, value) for one, value in zip(signature.outputs, site.call.results)]
    if len(site.call.results) > len(results):
        raise Misfit(f"it names {len(results)} results, the call has {len(site.call.results)}")
    given = _Given(site)
    _expect_named(site, signature, [value for _, value in operands])
    opened = _opened_axes(site, given, operands, results)
    axes = [(one, value) for one, (_, value) in zip(opened, [*operands, *results])]
    inputs, outputs = axes[: len(operands)], axes[len(operands) :]
    sizes = _sizes(given, axes)
    same: dict[Axis, Key] = dict(_slid(site, sizes))
    outputs = [([same.get(axis, axis) for axis in axes], value) for axes, value in outputs]
    _Matcher(site, sizes, given, same).run(inputs, outputs)


def _slid(site: Site, sizes: Mapping[Key, int]) -> Iterator[tuple[Key, Key]]:
    """The axes that a window makes in steps of one, with as many slots, each with the one it slides along."""
    for clause in site.rule.clauses:
        if isinstance(clause, ast.Slides) and clause.step is not None:
            source, result = (name.lstrip("*") for name in clause.factors)
            steps = as_tuple(_argument(site, clause.step))
            indices = [index for name, index in sizes if name == source]
            for index in indices:
                step = steps[index] if len(steps) == len(indices) else steps[0] if len(steps) == 1 else None
                if step == 1 and sizes[source, index] == sizes.get((result, index)):
                    yield (result, index), (source, index)


def _expect_named(site: Site, signature: ast.Signature, named: list[Value]) -> None:
    """A tensor of which the rule says nothing may be coupled with the others all the same."""
    if signature.short:
        return  # it speaks of the first tensor alone
    for name, found in site.arguments.items():
        if name == "out":
            continue
        for value in found if isinstance(found, (list, tuple)) else (found,):
            if isinstance(value, Value) and value not in named and any(size > 1 for size in value.shape):
                raise Misfit(f"it does not speak of '{name}'")


class _Given:
    """What the call says for the rule's ``where`` and ``at`` clauses."""

    def __init__(self, site: Site):
        self.sizes: dict[Key, tuple[object, str]] = {}
        self.counts: dict[str, int] = {}
        self.positions: dict[str, int] = {}
        self.alike: dict[str, str] = {}
        for clause in site.rule.clauses:
            if isinstance(clause, ast.Where) and clause.argument.startswith("*"):
                self.alike[clause.factor] = clause.argument.removeprefix("*")
            elif isinstance(clause, ast.Where):
                site.sizes_read.add(clause.argument.partition("[")[0])
                numbers = as_tuple(_argument(site, clause.argument))
                if clause.star:
                    self.counts[clause.factor] = len(numbers)
                for index, number in enumerate(numbers if clause.star else numbers[:1]):
                    if isinstance(number, int):
                        key = (clause.factor, index - len(numbers) if clause.star else 0)
                        self.sizes[key] = number, clause.argument
            elif isinstance(clause, ast.At):
                site.sizes_read.add(clause.argument.partition("[")[0])
                position = _argument(site, clause.argument)
                if not isinstance(position, int):
                    raise Misfit(f"'{clause.argument}' is not one axis")
                self.positions[clause.factor] = int(position)


def _opened_axes(site: Site, given: _Given, operands: Sequence, results: Sequence) -> list[list[Axis]]:
    """The dims of every axis, with stars opened; found once for all calls of the same ranks."""
    everything = [*operands, *results]
    key = (
        id(site.rule),
        tuple((id(dims), len(value.shape)) for dims, value in everything),
        tuple(given.counts.values()),
        tuple(given.positions.values()),
    )
    known = site.state.opened.get(key)
    if known is None:
        lengths = _star_lengths(given, everything)
        known = [_aligned(dims, lengths, value) for dims, value in operands]
        known += [_opened(dims, lengths) for dims, _ in results]
        site.state.opened[key] = known
    return known


def _values(site: Site, operand: ast.Operand) -> list[Value]:
    """The tensors of an operand in this call; a number in its place simply drops out."""
    if operand.name is None:
        return [site.tensor()]
    found = site.arguments.get(operand.name)
    if operand.many and isinstance(found, (list, tuple)):
        return [one for one in found if isinstance(one, Value)]
    return [found] if isinstance(found, Value) else []


def _star_lengths(given: _Given, operands: Sequence[tuple[tuple, Value]]) -> dict[str, int]:
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
        at = next((positions[name] for name, _ in _keys(dim) if name in positions), None)
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


def _sizes(given: _Given, everything: Iterable[tuple[list[Axis], Value]]) -> dict[Key, int]:
    """The sizes of all factors: given, or read off an axis, or what is left of a product or sum."""
    sizes: dict[Key, int] = {key: int(number) for key, (number, _) in given.sizes.items()}  # type: ignore[call-overload]
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
    known = [_size(part, sizes) for part in dim.parts]
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


def _size(dim: ast.Dim, sizes: Mapping[Key, int]) -> int | None:
    if type(dim) is ast.Fixed:
        return dim.size
    if type(dim) is ast.Factor:
        return sizes.get((dim.name, 0))
    parts = [_size(part, sizes) for part in dim.parts]  # type: ignore[union-attr]
    if any(part is None for part in parts):
        return None
    return sum(parts) if type(dim) is ast.Sum else prod(parts)  # type: ignore[arg-type]


def _argument(site: Site, path: str) -> object:
    """An argument of the call, or its default: ``groups``, ``kernel_size[0]``."""
    name, _, index = path.partition("[")
    given = site.arguments[name] if name in site.arguments else argument_defaults(site.call.target).get(name)
    if index and isinstance(given, (list, tuple)):
        given = given[int(index.rstrip("]"))]
    return given


class _Matcher:
    """The layouts of a signature's factors, as they are met from operand to operand."""

    def __init__(self, site: Site, sizes: dict[Key, int], given: _Given, same: dict[Axis, Key]):
        self.site = site
        self.same = same
        self.sizes = sizes
        self.given = given
        self.known: dict[Key, Layout] = {}
        self.places: dict[Key, list[tuple[Value, int]]] = {}
        self.operands: Counter[Key] = Counter()
        self.read: set[Key] = set()  # the factors that operands or arguments have

    def run(self, inputs: list[tuple[list[Axis], Value]], outputs: list[tuple[list[Axis], Value]]) -> None:
        for axes, value in inputs:
            self._read(axes, value)
        self.read = {*self.operands, *self.given.sizes}
        made = [self._made(axes, value) for axes, value in outputs]
        self._equate_given()
        self._hold_single()
        for value, layouts in made:
            self.site.give(value, layouts)
        for key, layout in self.known.items():
            self.site.factors.setdefault(key[0], []).append(layout)
            self.site.held.append((key[0], layout, tuple(self.places.get(key, ()))))
        for axis, source in self.same.items():
            self.site.factors.setdefault(axis[0], []).append(self.known[source])  # type: ignore[index]
        for key, places in self.places.items():
            if len(places) > 1:
                name = key[0] if key[1] == 0 else f"*{key[0]}"
                self.site.couple(name, places, self.known[key])

    def _read(self, axes: list[Axis], value: Value) -> None:
        layouts = self.site.axes(value)
        met: set[Key] = set()
        for index, axis in enumerate(axes):
            layout, size = layouts[index], self._expected(axis)
            if size is not None and layout.size != size:
                if layout.size != 1:
                    raise Misfit(f"sizes {layout.size} and {size} meet at '{_written(axis)}'")
                continue  # broadcast: the axis drops out
            if type(axis) is tuple:
                if axis in self.known:
                    self.site.unify(layout, self.known[axis])
                else:
                    self.known[axis] = layout
            elif type(axis) is ast.Anything:
                self.site.block(layout, f"{self.site.rule.name} says nothing of this axis")
            else:
                self.site.unify(layout, self._layout(axis))
            self._note(axis, (value, index), met)
        self.operands.update(met)

    def _made(self, axes: list[Axis], value: Value) -> tuple[Value, list[Layout]]:
        surplus = len(axes) - len(value.shape)
        if surplus > 0:
            # Factors of missing leading axes drop out of the result as well.
            missing = [axis for axis in axes if type(axis) is tuple and axis not in self.known][:surplus]
            axes = [axis for axis in axes if axis not in missing]
        if len(axes) != len(value.shape):
            raise Misfit(f"it names {len(axes)} axes of a result of {len(value.shape)}")
        met: set[Key] = set()
        layouts: list[Layout] = []
        for index, axis in enumerate(axes):
            if type(axis) is ast.Anything:
                layouts.append(Atom(value.shape[index], Reason("an axis of which the rule says nothing")))
                continue
            layouts.append(self._layout(axis))
            self._note(axis, (value, index), met)
        self.operands.update(met)
        return value, layouts

    def _expected(self, axis: Axis) -> int | None:
        if isinstance(axis, tuple):
            return self.sizes.get(axis)
        return None if isinstance(axis, ast.Anything) else _size(axis, self.sizes)

    def _layout(self, axis: Axis) -> Layout:
        """What a dim stands for; an atom is made for a factor that is met for the first time."""
        if type(axis) is ast.Factor:
            axis = (axis.name, 0)
        if type(axis) is tuple:
            if axis not in self.known:
                size = self.sizes.get(axis)
                if size is None:
                    raise Misfit(f"the size of '{axis[0]}' cannot be told")
                self.known[axis] = UNIT if size == 1 else Atom(size)
            return self.known[axis]
        if type(axis) is ast.Fixed:
            return UNIT if axis.size == 1 else Atom(axis.size, Reason("a fixed size", self.site.origin))
        parts = [self._layout(part) for part in axis.parts]  # type: ignore[union-attr]
        return total(parts) if type(axis) is ast.Sum else product(parts)

    def _note(self, axis: Axis, place: tuple[Value, int], met: set[Key]) -> None:
        for key in (axis,) if type(axis) is tuple else _keys(axis):  # type: ignore[arg-type]
            self.places.setdefault(key, []).append(place)
            met.add(key)

    def _equate_given(self) -> None:
        for key, (number, argument) in self.given.sizes.items():
            if key in self.known:
                self.operands[key] += 1
                self.site.equate(number, self.known[key], argument)

    def _hold_single(self) -> None:
        tied = [one for one in self.site.rule.clauses if isinstance(one, (ast.Tie, ast.Positions))]
        self.operands.update((name, 0) for clause in tied for name in clause.factors)
        slides = {name.lstrip("*") for name in _slid_factors(self.site.rule)}
        for key, layout in self.known.items():
            if self.operands[key] < 2 or key not in self.read:
                slid = key[0] in slides
                text = f"no other operand of {self.site.rule.name} has '{key[0]}'"
                self.site.block(layout, _SLID.format(self.site.rule.name) if slid else text)


_SLID = "the window of a {} slides along it, and does not give as many slots as there were"


def _slid_factors(rule: ast.Rule) -> Iterator[str]:
    return (name for one in rule.clauses if isinstance(one, ast.Slides) for name in one.factors)


def _keys(dim: ast.Dim) -> list[Key]:
    """The factors that a dim names."""
    if type(dim) is ast.Factor:
        return [(dim.name, 0)]
    return [key for part in getattr(dim, "parts", ()) for key in _keys(part)]


def _written(axis: Axis) -> str:
    if type(axis) is tuple:
        return axis[0] if axis[1] == 0 else f"*{axis[0]}"
    if type(axis) is ast.Factor:
        return axis.name
    if type(axis) is ast.Fixed:
        return str(axis.size)
    joint = " + " if type(axis) is ast.Sum else " "
    return f"({joint.join(_written(part) for part in axis.parts)})"  # type: ignore[union-attr]
