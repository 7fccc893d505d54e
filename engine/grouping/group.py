"""One group: slots that go together, and the axes of tensors that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from attrs import define, field

from ..axes import Atom
from ..tracing import Flattening


def owner_of(tensor: str) -> str:
    """The path of the module that has a tensor, or the weight that is computed from it."""
    head, inside, _ = f".{tensor}".partition(".parametrizations.")
    return head[1:] if inside else tensor.rpartition(".")[0]


class Member(NamedTuple):
    """An axis of a parameter or buffer that holds slots of a group."""

    tensor: str
    axis: int

    @property
    def layer(self) -> str:
        """The module that owns the tensor; a tensor of the model itself stands for itself."""
        return owner_of(self.tensor) or self.tensor

    def __str__(self) -> str:
        return f"{self.tensor}[{self.axis}]"


@define(eq=False)
class Group(Flattening):
    """One free atom with everything that goes when its slots go.

    ``kind`` is the factor that named it; ``producers`` are the names of the layers and factors that make
    its slots; ``exact`` says that removing slots equals zeroing them; ``tied`` are the groups that shrink by
    the same proportion, itself among them; ``blocked`` is the reason why no slot may go.
    """

    name: str
    kind: str
    size: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    exact: bool = True
    blocked: str | None = None
    atom: Atom = field(repr=False, default=None)
    tied: list[Group] = field(repr=False, factory=list)  # the same list for all of them

    @property
    def tie(self) -> tuple[tuple[str, int], ...] | None:
        """The names and sizes of the groups that shrink by the same proportion, if there are any."""
        return tuple([(one.name, one.size) for one in self.tied if one is not self]) or None

    @property
    def layers(self) -> list[str]:
        """The modules that own the group's tensors, in order; a tensor of the model itself by its name."""
        return list(dict.fromkeys(member.layer for member in self.members))

    @property
    def shared(self) -> bool:
        """Whether anything else may hold these slots: the extent of a kernel is one tensor's alone."""
        return len(self.members) > 1 or bool(self.producers)

    def made_by(self, members: Iterable[Member]) -> bool:
        """Whether one of the layers that own these tensors makes slots of the group."""
        owners = {owner_of(member.tensor) for member in members}
        return any(producer.rpartition(".")[0] in owners for producer in self.producers)
