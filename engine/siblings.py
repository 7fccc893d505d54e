"""Tensors that no forward has reached, and their siblings in a list or dict that one has: they go along.

Of four experts the example inputs may reach one, of the norms that an argument picks the one that was asked
for. Where the others are of the same class and shapes, they have the layouts of the one that was reached.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field
from torch import Tensor, nn

from ..adapters.tensors import named_tensors
from .axes import Atom, Layout, Product, Sum, atoms, blocked, resolve
from .couplings import Coupling, Couplings
from .equations import Sizes
from .origin import Origin
from .values import Call, Value

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential, nn.ParameterList, nn.ParameterDict)
Shapes = Mapping[str, tuple[int, ...]]


def follow_siblings(model: nn.Module, state: Couplings) -> None:
    """Give every tensor that was left the layouts of its sibling, where one was reached and all agree.

    What follows is one of the trace's tensors from then on; ``state.followed`` has its sibling.
    """
    if not state.trace.left:
        return
    families = _Families(model, state)
    waiting = dict(state.trace.left)
    found = list(waiting)
    while found:
        found = [name for name, value in waiting.items() if families.follow(name, value)]
        for name in found:
            del waiting[name]
    for name in waiting:
        sibling = families.sibling(name)
        if sibling is not None:
            state.doubtful[name] = sibling


def follow_attributes(sizes: Sizes, state: Couplings) -> None:
    """An integer of an element that was not reached is what it is in the sibling that it goes along with."""
    for own, other in state.twins.items():
        for (path, name, key), side in list(sizes.definitions.items()):
            if path == other or path.startswith(f"{other}."):
                same = own + path[len(other) :], name, key
                if sizes.originals.get(same) == sizes.originals[path, name, key]:
                    sizes.definitions.setdefault(same, side)


def same_as_sibling(tensor: Tensor) -> Tensor:
    """What explanations call the step from a tensor to its sibling."""
    return tensor


@define(eq=False)
class _Twin:
    """An element of a container, another that was reached, and what is the same in both."""

    own: str
    other: str
    tensor: str
    atoms: dict[Atom, Layout]


@define(eq=False)
class _Families:
    """The elements of the model's lists and dicts that are alike."""

    model: nn.Module
    state: Couplings
    modules: dict[str, nn.Module] = field(init=False)
    holders: dict[Atom, set[str]] = field(init=False)
    _shapes: dict[str, tuple[Any, Shapes]] = field(factory=dict, init=False)
    _used: dict[Value, Call] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.modules = dict(self.model.named_modules(remove_duplicate=False))
        self.holders = defaultdict(set)
        for name, value in self.state.trace.tensors.items():
            for layout in self.state.of(value):
                for atom in atoms(layout):
                    self.holders[atom].add(name)
        for call in reversed(self.state.trace.calls):
            self._used.update((value, call) for value in call.values)

    def follow(self, name: str, value: Value) -> bool:
        """Let a tensor go along with its sibling, if there is one, and no two say different things."""
        twins = next(filter(None, (list(self._reached(*level)) for level in self._levels(name))), [])
        twins.sort(key=lambda twin: twin.tensor in self.state.followed)
        if not twins:
            return False
        said = [self._layouts(twin) for twin in twins]
        if not all(self._agree(one, twin, said[0], twins[0]) for one, twin in zip(said, twins)):
            return False
        first = twins[0]
        if first.own not in self.state.twins and not first.atoms:
            if len([twin for twin in twins if twin.tensor not in self.state.followed]) == 1:
                self._join_ends(first.other)
            self.state.twins[first.own] = first.other
        self.state.trace.tensors[name] = value
        self.state.layouts[value] = said[0]
        self.state.followed[name] = first.tensor
        other = self.state.trace.tensors[first.tensor]
        for axis, layout in enumerate(said[0]):
            self._couple(other, [(other, axis), (value, axis)], layout)
        return True

    def sibling(self, name: str) -> str | None:
        """A tensor of the same name in another element of the same container that was reached."""
        for path, key, rest in self._levels(name):
            for other in self._other_keys(path, key):
                sibling = self._first_name(_join(_join(path, other), rest))
                if sibling in self.state.trace.tensors:
                    return sibling
        return None

    def _levels(self, name: str) -> Iterator[tuple[str, str, str]]:
        """The containers that a tensor is in, the innermost first: path, key of the element, and the rest."""
        parts = name.split(".")
        for depth in reversed(range(len(parts))):
            path = ".".join(parts[:depth])
            if isinstance(self.modules.get(path), _CONTAINERS):
                yield path, parts[depth], ".".join(parts[depth + 1 :])

    def _reached(self, path: str, key: str, rest: str) -> Iterator[_Twin]:
        """The elements beside one that are like it, as far as their tensor of the same name is known."""
        own = _join(path, key)
        for other_key in self._other_keys(path, key):
            other = _join(path, other_key)
            if self._alike(own) != self._alike(other):
                continue
            name = self._first_name(_join(other, rest))
            translation = self._translation(own, other) if name in self.state.trace.tensors else None
            if translation is not None:
                yield _Twin(own, other, name, translation)

    def _other_keys(self, path: str, key: str) -> list[str]:
        container = self.modules[path]
        return [other for other in (*container._modules, *container._parameters) if other != key]

    def _alike(self, path: str) -> tuple[Any, Shapes]:
        """The class of an element, and the shapes of all tensors in it by their names there."""
        if path not in self._shapes:
            module = self.modules.get(path)
            if module is not None:
                found = {name: tuple(one.shape) for name, one in named_tensors(module).items()}
                self._shapes[path] = type(module), found
            else:
                owner, _, last = path.rpartition(".")
                parameter = self.modules[owner]._parameters[last]
                self._shapes[path] = Tensor, {"": () if parameter is None else tuple(parameter.shape)}
        return self._shapes[path]

    def _first_name(self, name: str) -> str:
        return self.state.trace.aliases.get(name, name)

    def _translation(self, own: str, other: str) -> dict[Atom, Layout] | None:
        """The atoms of an element by those of its sibling, from tensors that were reached in both.

        ``None`` if they do not correspond.
        """
        found: dict[Atom, Layout] = {}
        reached = self.state.trace.tensors.keys() - self.state.followed.keys()
        for rest in self._alike(own)[1]:
            names = [self._first_name(_join(path, rest)) for path in (other, own)]
            if names[0] == names[1] or not reached.issuperset(names):
                continue
            values = (self.state.trace.tensors[name] for name in names)
            for layout, ours in zip(*map(self.state.of, values)):
                if not _pair(layout, ours, found):
                    return None
        return found

    def _layouts(self, twin: _Twin) -> list[Layout]:
        return [_put(twin.atoms, one) for one in self.state.of(self.state.trace.tensors[twin.tensor])]

    def _agree(self, one: list[Layout], twin: _Twin, other: list[Layout], second: _Twin) -> bool:
        """Whether two siblings say the same of all slots that are not of their own."""
        return all(
            _same(a, b) or (self._is_inside(a, twin.other) and self._is_inside(b, second.other))
            for a, b in zip(one, other)
        )

    def _is_inside(self, layout: Layout, element: str) -> bool:
        """Whether only tensors of this element, and those that follow them, have slots of a layout."""
        return all(
            name == element or name.startswith(f"{element}.")
            for atom in atoms(layout)
            for name in self.holders[atom]
        )

    def _join_ends(self, element: str) -> None:
        """Where one element alone was reached, another may come before or behind: ends as wide go together.

        One that is left may take what the reached one takes, as an expert does, or what that gives.
        """
        ends: dict[int, tuple[Value, int]] = {}
        for rest in self._alike(element)[1]:
            value = self.state.trace.tensors.get(self._first_name(_join(element, rest)))
            for axis, layout in enumerate(self.state.of(value) if value else ()):
                if layout.size == 1 or self._is_inside(layout, element):
                    continue
                first = ends.setdefault(layout.size, (value, axis))  # type: ignore[arg-type]
                before = self.state.of(first[0])[first[1]]
                if not _same(before, layout):
                    origin = self._couple(value, [first, (value, axis)], before)  # type: ignore[arg-type, list-item]
                    self.state.unifier.unify(before, layout, origin)

    def _couple(self, reached: Value, places: list[tuple[Value, int]], layout: Layout) -> Origin:
        """Note for explanations that two axes go together because of the call that uses a sibling."""
        used = self._used.get(reached)
        while used is None:  # it follows another
            reached = self.state.trace.tensors[self.state.followed[reached.name or ""]]
            used = self._used.get(reached)
        call = Call(used.index, same_as_sibling, {}, used.module, used.module_class, used.source)
        self.state.couplings.append(Coupling(Origin(call), "sibling", tuple(places), layout))
        return Origin(call)


def _pair(layout: Layout, ours: Layout, found: dict[Atom, Layout]) -> bool:
    """Note which atom of `ours` each atom of `layout` is; whether that is clear."""
    layout, ours = resolve(layout), resolve(ours)
    if isinstance(layout, Atom):
        return _same(found.setdefault(layout, ours), ours)
    if isinstance(ours, Atom) or type(layout) is not type(ours) or len(layout.parts) != len(ours.parts):
        return blocked(layout) is not None and blocked(ours) is not None
    return all(_pair(one, other, found) for one, other in zip(layout.parts, ours.parts))


def _put(found: Mapping[Atom, Layout], layout: Layout) -> Layout:
    """A layout with other atoms."""
    layout = resolve(layout)
    if not any(atom in found for atom in atoms(layout)):
        return layout
    if isinstance(layout, Atom):
        return found[layout]
    parts = [_put(found, part) for part in layout.parts]
    return Sum(parts) if type(layout) is Sum else Product(parts)


def _same(one: Layout, other: Layout) -> bool:
    """Whether the slots are the same, as far as any may go."""
    one, other = resolve(one), resolve(other)
    if one is other or (blocked(one) is not None and blocked(other) is not None):
        return True
    if isinstance(one, Atom) or isinstance(other, Atom) or type(one) is not type(other):
        return False
    return len(one.parts) == len(other.parts) and all(map(_same, one.parts, other.parts))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
