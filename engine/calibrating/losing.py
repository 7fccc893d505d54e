"""The weights that lose slots of what they read, and can be corrected for it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from ...adapters.plan import Plan
from ..coupling import Place
from ..grouping import Groups, Member
from ..tracing import Call
from .readers import Reader, readers, uses
from .told import Told

_PAIRED = "each is several weights that read different data"


@frozen(eq=False)
class Losing:
    """A weight that loses slots of what it reads, what it reads, and the bias that goes with it."""

    weight: Member
    places: tuple[Place, ...]
    bias: str | None
    readers: tuple[Reader, ...]


def losing_weights(graph: Groups, plan: Plan, told: Told) -> list[Losing]:
    """The weights that can be corrected, if data reach them; those that are left alone are told."""
    used = uses(graph)
    by_weight: dict[Member, list[Reader]] = {}
    for reader in readers(graph):
        if reader.weight.axis in plan.tensors.get(reader.weight.tensor, ()):
            by_weight.setdefault(reader.weight, []).append(reader)
    losing = []
    for weight, those in by_weight.items():
        others = used[weight.tensor] - {reader.call for reader in those}
        if others:
            first = min(others, key=lambda call: call.index)
            told.leave(weight.tensor, f"{first.name} uses them as well")
        elif any(reader.paired for reader in those):
            told.leave(weight.tensor, _PAIRED)
        else:
            places = dict.fromkeys(reader.data for reader in those)
            losing.append(Losing(weight, tuple(places), _bias(those, used), tuple(those)))
    return losing


def _bias(those: list[Reader], used: Mapping[str, set[Call]]) -> str | None:
    """The bias that goes with a weight wherever either is used."""
    names = {reader.bias for reader in those}
    name = names.pop() if len(names) == 1 else None
    return name if name is not None and used[name] <= {reader.call for reader in those} else None
