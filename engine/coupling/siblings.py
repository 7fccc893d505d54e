"""Tensors that no forward has reached, and their siblings in a list or dict that one has: they go along.

Of four experts the example inputs may reach one, of the norms that an argument picks the one that was asked
for. Where the others are of the same class and shapes, they have the layouts of the one that was reached.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from attrs import define, field
from torch import Tensor, nn

from ...adapters.submodules import modules_of
from ...adapters.tensors import named_tensors
from ..axes import Atom, Layout, atoms, blocked, pair, put, resolve, same
from ..sizes import Sizes
from ..tracing import Call, KnownElements, Origin, Value, levels
from .coupled import Coupling, Couplings, Produced

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential, nn.ParameterList, nn.ParameterDict)
_NUMBER = re.compile(r"\d+")
_MOST = 8  # of as many as are joined for the sake of what was not reached; beyond, it is only named
Shapes = Mapping[str, tuple[int, ...]]


def follow_siblings(model: nn.Module, coupled: Couplings) -> None:
    """Give every tensor that was left the layouts of its sibling, where one was reached and all agree.

    What follows is one of the trace's tensors from then on; ``coupled.followed`` has its sibling.
    """
    for name in coupled.trace.left:  # the trace may be coupled for another time
        coupled.trace.tensors.pop(name, None)
    if not coupled.trace.left:
        return
    families = _Families(model, coupled)
    waiting = dict(coupled.trace.left)
    found = list(waiting)
    while found:
        found = [name for name, value in waiting.items() if families.follow(name, value)]
        for name in found:
            del waiting[name]
    for name in waiting:
        sibling = families.sibling(name)
        if sibling is not None:
            coupled.unfollowed[name] = sibling


def follow_attributes(sizes: Sizes, coupled: Couplings) -> None:
    """An integer of an element that was not reached is what it is in the sibling that it goes along with."""
    for own, other in coupled.twins.items():
        for (path, name, key), side in list(sizes.definitions.items()):
            if is_below(path, other):
                there = own + path[len(other) :], name, key
                if sizes.originals.get(there) == sizes.originals[path, name, key]:
                    sizes.definitions.setdefault(there, side)


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
    coupled: Couplings
    modules: dict[str, nn.Module] = field(init=False)
    known: KnownElements = field(init=False)
    _shapes: dict[str, tuple[Any, Shapes]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.modules = dict(modules_of(self.model))
        self.known = KnownElements(self.coupled.trace)

    @cached_property
    def holders(self) -> dict[Atom, set[str]]:
        """The tensors that were reached, by the atoms whose slots they have."""
        found: dict[Atom, set[str]] = defaultdict(set)
        for name, value in self.coupled.trace.tensors.items():
            for layout in self.coupled.of(value) if name not in self.coupled.followed else ():
                for atom in atoms(layout):
                    found[atom].add(name)
        return found

    @cached_property
    def used(self) -> dict[Value, Call]:
        """The first call that takes a value."""
        return {value: call for call in reversed(self.coupled.trace.calls) for value in call.values}

    def follow(self, name: str, value: Value) -> bool:
        """Let a tensor go along with its sibling, if there is one, and no two say different things."""
        twins = next(filter(None, (list(self._reached(*level)) for level in levels(name))), [])
        twins.sort(key=lambda twin: twin.tensor in self.coupled.followed)
        if not twins:
            return False
        said = [self._layouts(twin) for twin in twins]
        if not all(self._agree(one, twin, said[0], twins[0]) for one, twin in zip(said, twins)):
            return False
        first = twins[0]
        if first.own not in self.coupled.twins and not first.atoms:
            alone = len([twin for twin in twins if twin.tensor not in self.coupled.followed]) == 1
            if alone and not self._join_ends(first.other):
                return False
            self.coupled.twins[first.own] = first.other
        self.coupled.trace.tensors[name] = value
        self.known.add(name)
        self.coupled.layouts[value] = said[0]
        self.coupled.followed[name] = first.tensor
        other = self.coupled.trace.tensors[first.tensor]
        for axis, layout in enumerate(said[0]):
            self._couple(other, [(other, axis), (value, axis)], layout)
        return True

    def sibling(self, name: str) -> str | None:
        """A tensor of the same name in another element of the same container that was reached."""
        for path, key, rest in levels(name):
            for other in self._other_keys(path, key, rest):
                return self._first_name(_join(_join(path, other), rest))
        return None

    def _reached(self, path: str, key: str, rest: str) -> Iterator[_Twin]:
        """The elements beside one that are like it, as far as their tensor of the same name is known."""
        own = _join(path, key)
        for other_key in self._other_keys(path, key, rest):
            other = _join(path, other_key)
            if self._alike(own) == self._alike(other):
                translation = self._translation(own, other)
                if translation is not None:
                    yield _Twin(own, other, self._first_name(_join(other, rest)), translation)

    def _other_keys(self, path: str, key: str, rest: str) -> list[str]:
        """The other elements of a list or dict, or of one by their names (``norm1``, ``norm2``), of which
        the tensor of that name in them is known."""
        known, module = self.known.of(path, rest), self.modules.get(path)
        if not known or module is None:
            return []
        others = [other for other in (*module._modules, *module._parameters) if other in known]
        if not isinstance(module, _CONTAINERS):
            others = [other for other in others if _NUMBER.sub("", other) == _NUMBER.sub("", key)]
        return [other for other in others if other != key]

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
        return self.coupled.trace.aliases.get(name, name)

    def _translation(self, own: str, other: str) -> dict[Atom, Layout] | None:
        """The atoms of an element by those of its sibling, from tensors that were reached in both.

        ``None`` if they do not correspond.
        """
        found: dict[Atom, Layout] = {}
        reached = self.coupled.trace.tensors.keys() - self.coupled.followed.keys()
        for rest in self._alike(own)[1]:
            names = [self._first_name(_join(path, rest)) for path in (other, own)]
            if names[0] == names[1] or not reached.issuperset(names):
                continue
            values = (self.coupled.trace.tensors[name] for name in names)
            for layout, ours in zip(*map(self.coupled.of, values)):
                if not pair(layout, ours, found):
                    return None
        return found

    def _layouts(self, twin: _Twin) -> list[Layout]:
        return [put(twin.atoms, one) for one in self.coupled.of(self.coupled.trace.tensors[twin.tensor])]

    def _agree(self, one: list[Layout], twin: _Twin, other: list[Layout], second: _Twin) -> bool:
        """Whether two siblings say the same of all slots that are not of their own."""
        return all(
            same(a, b) or (self._is_inside(a, twin.other) and self._is_inside(b, second.other))
            for a, b in zip(one, other)
        )

    def _is_inside(self, layout: Layout, element: str) -> bool:
        """Whether only tensors of this element, and those that follow them, have slots of a layout."""
        return all(is_below(name, element) for atom in atoms(layout) for name in self.holders[atom])

    def _join_ends(self, element: str) -> bool:
        """Where one element alone was reached, let its ends and what is as wide around it go together.

        Another may be used where this one is, as experts are, but also behind it, or beside it on something
        else that the owner of the list makes. One layout for all is right for each of these. False if that
        would be too much.
        """
        container = element.rpartition(".")[0]
        ends: dict[int, list[tuple[Value, int]]] = defaultdict(list)
        for place in self._places(element):
            if self._is_end(place, element):
                ends[self._size(place)].append(place)
        as_wide = {size: self._as_wide(container, first) for size, (first, *_) in ends.items()}
        if any(len(found) > _MOST for found in as_wide.values()):
            return False
        for size, (first, *more) in ends.items():
            for place in [*more, *as_wide[size]]:
                if not same(self._layout(first), self._layout(place)):
                    self._couple(first[0], [first, place], self._layout(first))
                    self.coupled.unifier.unify(self._layout(first), self._layout(place))
        return True

    def _places(self, element: str) -> Iterator[tuple[Value, int]]:
        """The axes of an element's tensors that were reached."""
        for rest in self._alike(element)[1]:
            value = self.coupled.trace.tensors.get(self._first_name(_join(element, rest)))
            yield from ((value, axis) for axis in range(len(value.shape))) if value else ()

    def _layout(self, place: tuple[Value, int]) -> Layout:
        return self.coupled.of(place[0])[place[1]]

    def _size(self, place: tuple[Value, int]) -> int:
        return place[0].shape[place[1]]

    def _is_end(self, place: tuple[Value, int], element: str) -> bool:
        """Whether what is around an element has the slots of an axis as well."""
        return self._size(place) > 1 and not self._is_inside(self._layout(place), element)

    def _as_wide(self, container: str, place: tuple[Value, int]) -> list[tuple[Value, int]]:
        """Axes of what the owner of a list makes elsewhere, where it has as many slots as an end."""
        owner = container.rpartition(".")[0]
        layout = self._layout(place)
        if blocked(layout) is not None:
            return []
        made = (resolve(one.layout) for one in self._made_by(owner, container))
        whole = [one for one in made if isinstance(one, Atom) and one.reason is None]
        others = (one for one in dict.fromkeys(whole) if one.size == layout.size and not same(one, layout))
        return [place for one in others for place in self._axes_of(one)[:1]]

    def _axes_of(self, atom: Atom) -> list[tuple[Value, int]]:
        """The axes of the model's tensors that have just these slots."""
        values = (self.coupled.trace.tensors[name] for name in sorted(self.holders[atom]))
        places = ((value, axis) for value in values for axis in range(len(value.shape)))
        return [place for place in places if resolve(self._layout(place)) is atom]

    def _made_by(self, owner: str, container: str) -> Iterator[Produced]:
        """What the layers of a module make, but for those in one of its containers."""
        for one in self.coupled.produced:
            module = one.origin.call.module
            if is_below(module, owner) and not is_below(module, container):
                yield one

    def _couple(self, reached: Value, places: list[tuple[Value, int]], layout: Layout) -> None:
        """Note for explanations that two axes go together because of the call that uses a sibling."""
        used = self.used.get(reached)
        while used is None:  # it follows another
            reached = self.coupled.trace.tensors[self.coupled.followed[reached.name or ""]]
            used = self.used.get(reached)
        call = Call(used.index, same_as_sibling, {}, used.module, used.module_class, used.source)
        self.coupled.couplings.append(Coupling(Origin(call), "sibling", tuple(places), layout))


def is_below(name: str, path: str) -> bool:
    """Whether a module or tensor is the one of this path, or inside of it."""
    return not path or name == path or name.startswith(f"{path}.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
