"""The tensors of an analysed model as a criterion sees them: by name, and slot by slot."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...adapters.tensors import named_tensors
from ..axes import Atom, Layout, resolve, spread
from ..calibrating import Measured, batches, inputs_of
from ..coupling import Reading
from ..grouping import Group, Groups, Member
from ..tracing import Value
from .slot_scales import slotwise_weights

Loss = Callable[[nn.Module, Any], Tensor]


class Tensors(Mapping[str, Tensor]):
    """What a criterion may look at: ``tensors[name]``, and the entries of each slot by `slots`.

    Parameters
    ----------
    graph : the analysed model.
    data : batches of inputs, in the forms that `analyze` takes; with a loss batches as that takes them.
        Statistics are collected from ``inputs``, which are the first of each pair then, without labels.
        What was measured is ``inputs`` alone.
    loss : ``loss(model, batch) -> scalar``, for criteria that need gradients.
    tokenizer : what `data` are tokens of, if they are.
    values : the tensors by name, where the model's own are on the meta device; each is asked for anew.
    """

    def __init__(
        self,
        graph: Groups,
        data: Iterable[Any] | Measured | None = None,
        loss: Loss | None = None,
        tokenizer: Any = None,
        values: Mapping[str, Tensor] | None = None,
    ):
        self.graph = graph
        self.data: list[Any] | None = None
        self.inputs: Any = data
        if data is not None and not isinstance(data, Measured):
            self.data = batches(data)
            self.inputs = inputs_of(graph.model, self.data, paired=loss is not None)
        self.loss = loss
        self.tokenizer = tokenizer
        self._named = named_tensors(graph.model)
        self._values = values or {}
        self._known: dict[Hashable, Any] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._values[name] if name in self._values else self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives: computed when a criterion first asks for it, and kept for the other groups."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def weights(self, group: Group) -> list[Member]:
        """The group's axes of floating parameters that multiply: not biases, nor tables to look up."""
        return [member for member in group.members if member.tensor in self.multiplying]

    def slotwise(self, group: Group) -> list[Member]:
        """The group's weights that multiply data slot by slot: scales, and kernels of one slot each."""
        found = self.once("slotwise", lambda: slotwise_weights(self.graph))
        like = self.graph.coupled.followed
        return [
            member
            for member in self.weights(group)
            if (like.get(member.tensor, member.tensor), member.axis, group.atom) in found
        ]

    def scales(self, group: Group) -> list[Member]:
        """Those of one number for each index, such as batch norm's."""
        return [
            member
            for member in self.slotwise(group)
            if self._named[member.tensor].numel() == self._named[member.tensor].shape[member.axis]
        ]

    def slots(self, group: Group, member: Member, of: Tensor | None = None) -> Tensor:
        """The entries of each slot on an axis, as a matrix of ``(group.size, entries)``.

        Where the group is one part of the axis (a head among heads x head size) the entries of a slot are
        those at all its indices. `of` is another tensor of the same shape, such as a gradient.
        """
        tensor = self[member.tensor] if of is None else of
        rows = tensor.detach().movedim(member.axis, 0)
        where = self.where(group, member)
        return (rows if where is None else rows[where.to(rows.device)]).reshape(group.size, -1)

    def where(self, group: Group, member: Member) -> Tensor | None:
        """The indices of each slot on an axis, ``(group.size, times)``; ``None`` if slot i is index i."""
        layout = resolve(self.graph.layout(member))
        if layout is group.atom:
            return None
        return self.once(("where", layout), lambda: _by_slot(layout))[group.atom]

    @cached_property
    def multiplying(self) -> frozenset[str]:
        """The floating parameters that calls multiply with something, by name."""
        return frozenset(
            name
            for name, tensor in self._named.items()
            if isinstance(tensor, nn.Parameter) and tensor.is_floating_point() and name not in self.alone
        )

    @cached_property
    def alone(self) -> frozenset[str]:
        """The tensors that no call multiplies with anything, by name: biases are added, tables looked up."""
        multiplied: set[Value] = set()
        by_themselves: set[Value] = set()
        for reading in self.graph.coupled.readings.values():
            terms = reading.terms or ()
            for term in terms:
                added = len(term) == 1 and (len(terms) > 1 or _is_looked_up(term[0], reading))
                (by_themselves if added else multiplied).update(one for one in term if isinstance(one, Value))
        alone = by_themselves - multiplied
        found = {name for name, value in self.graph.trace.tensors.items() if value in alone}
        followed = self.graph.coupled.followed.items()
        return frozenset(found | {name for name, sibling in followed if sibling in found})


def _by_slot(layout: Layout) -> dict[Atom, Tensor]:
    """For each atom of a layout the indices of each of its slots, ``(size, times)``."""
    found = {}
    for atom, (where, slots) in spread(layout).items():
        order = np.argsort(slots, kind="stable")
        found[atom] = torch.from_numpy(where[order]).view(atom.size, -1)
    return found


def _is_looked_up(value: object, reading: Reading) -> bool:
    """Whether a call picks rows of a tensor: one of its factors has no place in the results."""
    call = reading.origin.call
    return any(
        any(place[0] is value for place in places) and not any(place[0] in call.results for place in places)
        for _, _, places in reading.factors
    )
