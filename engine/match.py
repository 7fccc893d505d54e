"""Applies a signature to a call: finds the size and the layout of every factor, and unifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ..grammar import ast
from .axes import UNIT, Atom, Layout, Reason, product, total
from .opening import Axis, Given, Key, argument_of, factor_sizes, keys_of, opened_axes, size_of_dim
from .site import Misfit, Site, as_tuple
from .values import Value


def match(site: Site, signature: ast.Signature) -> None:
    """Couple the axes of the call's operands and results as `signature` says."""
    operands = [(one.dims, value) for one in signature.inputs for value in _values(site, one)]
    results = [(one.dims, value) for one, value in zip(signature.outputs, site.call.results)]
    if len(site.call.results) > len(results):
        raise Misfit(f"it names {len(results)} results, the call has {len(site.call.results)}")
    given = Given(site)
    _expect_named(site, signature, [value for _, value in operands])
    opened = opened_axes(site, given, operands, results)
    axes = [(one, value) for one, (_, value) in zip(opened, [*operands, *results])]
    inputs, outputs = axes[: len(operands)], axes[len(operands) :]
    sizes = factor_sizes(given, axes)
    same: dict[Axis, Key] = dict(_slid(site, sizes))
    outputs = [([same.get(axis, axis) for axis in axes], value) for axes, value in outputs]
    _Matcher(site, sizes, given, same).run(inputs, outputs)


def _slid(site: Site, sizes: Mapping[Key, int]) -> Iterator[tuple[Key, Key]]:
    """The axes that a window makes in steps of one, with as many slots, each with the one it slides along."""
    for clause in site.rule.clauses:
        if isinstance(clause, ast.Slides) and clause.step is not None:
            source, result = (name.lstrip("*") for name in clause.factors)
            steps = as_tuple(argument_of(site, clause.step))
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


def _values(site: Site, operand: ast.Operand) -> list[Value]:
    """The tensors of an operand in this call; a number in its place simply drops out."""
    if operand.name is None:
        return [site.tensor()]
    found = site.arguments.get(operand.name)
    if operand.many and isinstance(found, (list, tuple)):
        return [one for one in found if isinstance(one, Value)]
    return [found] if isinstance(found, Value) else []


class _Matcher:
    """The layouts of a signature's factors, as they are met from operand to operand."""

    def __init__(self, site: Site, sizes: dict[Key, int], given: Given, same: dict[Axis, Key]):
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
        return None if isinstance(axis, ast.Anything) else size_of_dim(axis, self.sizes)

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
        for key in (axis,) if type(axis) is tuple else keys_of(axis):  # type: ignore[arg-type]
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


def _written(axis: Axis) -> str:
    if type(axis) is tuple:
        return axis[0] if axis[1] == 0 else f"*{axis[0]}"
    if type(axis) is ast.Factor:
        return axis.name
    if type(axis) is ast.Fixed:
        return str(axis.size)
    joint = " + " if type(axis) is ast.Sum else " "
    return f"({joint.join(_written(part) for part in axis.parts)})"  # type: ignore[union-attr]
