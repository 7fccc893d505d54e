"""Applies a signature to a call: finds the layout of every factor, and unifies."""

from __future__ import annotations

from ...grammar import ast
from ..axes import UNIT, Atom, Layout, Reason, product, total
from ..tracing import Value
from .call_site import Misfit, Site
from .fitting import Fit, fitted
from .opening import Axis, Given, Key


def match(site: Site, signature: ast.Signature) -> None:
    """Couple the axes of the call's operands and results as `signature` says."""
    operands = [(one.dims, value) for one in signature.inputs for value in _values(site, one)]
    results = [(one.dims, value) for one, value in zip(signature.outputs, site.call.results)]
    if len(site.call.results) > len(results):
        raise Misfit(f"it names {len(results)} results, the call has {len(site.call.results)}")
    given = Given(site)
    _expect_named(site, signature, [value for _, value in operands])
    values = [value for _, value in (*operands, *results)]
    _Matcher(site, fitted(site, given, operands, results), values).run(given, values[len(operands) :])


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

    def __init__(self, site: Site, fit: Fit, values: list[Value]):
        self.site = site
        self.fit = fit
        self.values = values
        self.known: dict[Key, Layout] = {}

    def run(self, given: Given, results: list[Value]) -> None:
        site, known = self.site, self.known
        for (number, index), axis in self.fit.read:
            self._read(axis, site.axes(self.values[number])[index])
        made = [self._made(axes, value) for axes, value in zip(self.fit.made, results)]
        for key, (number, argument) in given.sizes.items():
            if key in known:
                site.equate(number, known[key], argument)
        for key, layout in known.items():
            if key in self.fit.alone:
                site.block(layout, self.fit.alone[key])
        for value, layouts in zip(results, made):
            site.give(value, layouts)
        self._tell()

    def _tell(self) -> None:
        """What the call's clauses, and explanations, need to know of the factors."""
        site, values = self.site, self.values
        places = {
            key: tuple([(values[number], index) for number, index in found])
            for key, found in self.fit.places.items()
        }
        for key, layout in self.known.items():
            site.factors.setdefault(key[0], []).append(layout)
            site.placed.append((key[0], layout, places[key]))
        for axis, source in self.fit.same.items():
            site.factors.setdefault(axis[0], []).append(self.known[source])
        for key, found in places.items():
            if len(found) > 1:
                name = key[0] if key[1] == 0 else f"*{key[0]}"
                site.couple(name, found, self.known[key])

    def _read(self, axis: Axis, layout: Layout) -> None:
        if type(axis) is tuple:
            known = self.known.setdefault(axis, layout)
            if known is not layout:
                self.site.unify(layout, known)
        elif type(axis) is ast.Anything:
            self.site.block(layout, f"{self.site.rule.name} says nothing of this axis")
        else:
            self.site.unify(layout, self._layout(axis))

    def _made(self, axes: list[Axis], value: Value) -> list[Layout]:
        return [
            Atom(size, Reason("an axis of which the rule says nothing"))
            if type(axis) is ast.Anything
            else self._layout(axis)
            for axis, size in zip(axes, value.shape)
        ]

    def _layout(self, axis: Axis) -> Layout:
        """What a dim stands for; an atom is made for a factor that is met for the first time."""
        if type(axis) is ast.Factor:
            axis = (axis.name, 0)
        if type(axis) is tuple:
            known = self.known.get(axis)
            if known is None:
                size = self.fit.sizes.get(axis)
                if size is None:
                    raise Misfit(f"the size of '{axis[0]}' cannot be told")
                known = self.known[axis] = UNIT if size == 1 else Atom(size)
            return known
        if type(axis) is ast.Fixed:
            return UNIT if axis.size == 1 else Atom(axis.size, Reason("a fixed size", self.site.origin))
        parts = [self._layout(part) for part in axis.parts]  # type: ignore[union-attr]  # stars are opened
        return total(parts) if type(axis) is ast.Sum else product(parts)
