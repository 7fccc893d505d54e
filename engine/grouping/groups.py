"""The groups of a model: free atoms with all the axes that hold them, and the atoms that are blocked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from ...rules import RuleSet
from ..axes import Atom, Layout, Product, Reason, atoms, collect_parts
from ..coupling import ByData, Couplings, Place
from ..exactness import inexact_atoms, temperatures
from ..sizes import AttributeKey, Check, Checks, Multiple, Multiples, Sizes, key_of
from ..tracing import Attribute, Flattening, SizeInt, Trace, found_in, leaves
from .coupling_graph import CouplingIndex
from .data_flow import DataFlow
from .group import Group, Member
from .names import Names, producers_of, unknown_name


class Groups(Flattening):
    """What may be pruned in a model, what must go along, and what stays."""

    def __init__(
        self,
        model: Any,
        coupled: Couplings,
        sizes: Sizes,
        rules: RuleSet,
        prefer: str,
        free_outputs: Sequence[int] = (),
        example_inputs: Any = None,
    ):
        self.model = model
        self.trace: Trace = coupled.trace
        self.rules = rules
        self.prefer = prefer
        self.sizes = sizes
        self.coupled = coupled  # what the rules said of the trace
        self.temperatures = temperatures(coupled)
        self.multiples = Multiples(coupled.multiples)
        self._inexact = inexact_atoms(coupled, sizes, self.temperatures.unmended)
        self._by_atom: dict[Atom, Group] = {}
        self._tied: dict[Atom, list[Group]] = {}
        self._demands: dict[Atom, list[Multiple]] = {}
        self.groups: list[Group] = []
        self.blocked: list[Group] = []
        self.example_inputs = example_inputs
        self.free_outputs = tuple(free_outputs)
        self._collect()

    def inexact(self, group: Group) -> Reason | None:
        """Why removing slots of `group` is not the same as zeroing them, if it is not."""
        return self._inexact.get(group.atom)

    def is_exact(self, atom: Atom) -> bool:
        """Whether removing slots of `atom` is the same as zeroing them."""
        return atom not in self._inexact

    def layout(self, member: Member) -> Layout:
        """The layout of a tensor's axis."""
        return self.coupled.of(self.trace.tensors[member.tensor])[member.axis]

    def layout_at(self, place: Place) -> Layout:
        """The layout of any value's axis."""
        value, axis = place
        return self.coupled.of(value)[axis]

    def place(self, member: Member) -> Place:
        """The axis of the traced value that a tensor's axis is."""
        return self.trace.tensors[member.tensor], member.axis

    def groups_at(self, member: Member) -> list[Group]:
        """The groups that a tensor's axis holds slots of, in the order of its layout."""
        found = (self._by_atom.get(atom) for atom in atoms(self.layout(member)))
        return list(dict.fromkeys(group for group in found if group is not None))

    def told_by_data(self, place: Place) -> bool:
        """Whether the size of an axis depends on the values of tensors, not on their shapes."""
        return any(isinstance(atom.reason, ByData) for atom in atoms(self.layout_at(place)))

    @cached_property
    def checks(self) -> Checks:
        """What the model's own code, and its operations, demand of the sizes."""
        return Checks(self.sizes, self.multiples)

    def broken(self, count: Callable[[Atom], int]) -> Check | None:
        """The first that they would not take if `count` slots of each group stay."""
        return self.checks.broken(self.whole_count(count))

    def whole_count(self, count: Callable[[Atom], int]) -> Callable[[Atom], int]:
        """`count`, also for atoms that no tensor holds, such as those of `zeros`: they follow their ties."""

        def number(atom: Atom) -> int:
            leader = None if atom in self._by_atom else self._leaders.get(self.sizes.ties.root(atom))
            return count(atom) if leader is None else atom.size * count(leader) // leader.size

        return number

    def group_of(self, atom: Atom) -> Group | None:
        """The group, free or blocked, of an atom that some tensor holds."""
        return self._by_atom.get(atom)

    def group(self, name: str) -> Group:
        """The group of that name, or that has a producer of that name."""
        found = self._names.get(name)
        if found is None:
            raise unknown_name("group", name, self._names)
        return found

    @cached_property
    def coupling_index(self) -> CouplingIndex:
        """The factor instances of every axis, which only explanations need."""
        return CouplingIndex(self.coupled)

    @cached_property
    def flow(self) -> DataFlow:
        """The flow of the data, which only explanations need."""
        return DataFlow(self.trace)

    @cached_property
    def products(self) -> list[Product]:
        """Every product of parts that a tensor's axis or a producer's output is made of."""
        met: dict[Layout, None] = {}  # the axes of tensors share layouts, and these share parts
        for group in self.groups:
            for member in group.members:
                collect_parts(self.layout(member), met)
        for produced in self.coupled.produced:
            collect_parts(produced.layout, met)
        return [layout for layout in met if type(layout) is Product]

    def _collect(self) -> None:
        members: dict[Atom, list[Member]] = defaultdict(list)
        for name, value in self.trace.tensors.items():
            for axis, layout in enumerate(self.coupled.of(value)):
                for atom in dict.fromkeys(atoms(layout)):
                    members[atom].append(Member(name, axis))
        producers = producers_of(self.coupled)
        order = {atom: None for atom in [*producers, *members] if atom in members}
        names = Names(self.coupled)
        for atom in order:
            if atom.size == 0 or (atom.size == 1 and atom.reason is not None):
                continue
            name, kind = names.of(atom, members[atom][0])
            group = Group(
                name=name,
                kind=kind,
                size=atom.size,
                members=tuple(members[atom]),
                producers=tuple(dict.fromkeys(producers.get(atom, ()))),
                exact=atom not in self._inexact,
                blocked=None if atom.reason is None else atom.reason.text,
                atom=atom,
            )
            self._by_atom[atom] = group
            (self.groups if atom.reason is None else self.blocked).append(group)
        for group in self.groups:
            group.tied = self._tied.setdefault(self.sizes.ties.root(group.atom), [])
            group.tied.append(group)

    def tied(self) -> list[list[Group]]:
        """The groups, those that shrink by the same proportion together."""
        return list(self._tied.values())

    def demands(self, group: Group) -> list[Multiple]:
        """What operations ask of the number of slots of a group, or of those tied with it, each kind once."""
        root = self.sizes.ties.root(group.atom)
        if root not in self._demands:
            _, causes = self.multiples.grain([one.atom for one in self._tied[root]])
            self._demands[root] = list({str(one): one for one in causes}.values())
        return self._demands[root]

    @cached_property
    def attributes_read(self) -> set[AttributeKey]:
        """The attributes that calls and comparisons are made of; the witness sees other uses."""
        sides = [side for one in self.trace.conditions for side in (one.left, one.right)]
        numbers = (number for call in self.trace.calls for number in found_in(call.arguments, SizeInt))
        found = (leaf for expr in [*sides, *(number.expr for number in numbers)] for leaf in leaves(expr))
        return {key_of(leaf) for leaf in found if isinstance(leaf, Attribute)}

    @cached_property
    def _leaders(self) -> dict[Atom, Atom]:
        """An atom of some group for the root of each tie."""
        return {self.sizes.ties.root(group.atom): group.atom for group in self.groups}

    @cached_property
    def _names(self) -> dict[str, Group]:
        names: dict[str, Group] = {}
        for group in self.groups:
            for producer in group.producers:
                names.setdefault(producer, group)
        names.update({group.name: group for group in [*self.blocked, *self.groups]})
        return names
