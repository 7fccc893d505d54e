"""The slots of many groups counted through: what is done to all of them takes a few tensor operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..grouping import Group, Member
from ..scoring import Tensors

# Slots that are compared with each other, those of a group, and the axes of weights that count for them.
Part = tuple[Group, Sequence[Member]]


class NumberedSlots:
    """The slots of several parts, counted through, and where in the weights their entries are.

    ``axes`` gives for each weight, by name, its axes with the number of the slot at every index. An index of
    no slot has the number ``count``. An axis comes twice if its indices are in two slots each (heads and
    head size, both pruned). ``part`` is the part of each slot, ``parts`` how many there are.
    """

    def __init__(self, tensors: Tensors, parts: Sequence[Part]):
        sizes = torch.tensor([group.size for group, _ in parts], device="cpu")
        self.count, self.parts = int(sizes.sum()), len(parts)
        self.part = torch.arange(self.parts, device="cpu").repeat_interleave(sizes)
        self.axes: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        for (group, members), numbers in zip(
            parts, torch.arange(self.count, device="cpu").split(sizes.tolist())
        ):
            for member in members:
                self._note(member, tensors[member.tensor].shape, tensors.where(group, member), numbers)
        self._flat = torch.cat([numbers for axes in self.axes.values() for _, numbers in axes])

    def _note(self, member: Member, shape: Sequence[int], where: Tensor | None, numbers: Tensor) -> None:
        """Write the numbers of a member's slots where nothing is written yet: sums hold several groups."""
        if where is None:
            where = torch.arange(len(numbers), device="cpu")
        else:
            numbers = numbers[:, None].expand_as(where)
        for axis, known in self.axes[member.tensor]:
            if axis == member.axis and bool((known[where] == self.count).all()):
                known[where] = numbers
                return
        fresh = torch.full((shape[member.axis],), self.count, device="cpu")
        fresh[where] = numbers
        self.axes[member.tensor].append((member.axis, fresh))

    def norms(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The squared L2 norm of each slot, ``(count,)``: of all its entries in all axes of its part."""
        sums = [
            one
            for name, axes in self.axes.items()
            for one in _sums_of_squares(weights[name], [axis for axis, _ in axes])
        ]
        self._to(sums[0].device)
        found = torch.cat([one.to(self._flat.device) for one in sums])
        return found.new_zeros(self.count + 1).index_add_(0, self._flat, found)[:-1]

    def per_entry(self, factors: Tensor, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """For each weight the factors of its slots, in a shape that broadcasts with it.

        Where an entry is in the slots of several axes their factors are summed.
        """
        self._to(factors.device)
        found = torch.cat([factors, factors.new_zeros(1)])[self._flat]
        along = iter(found.split([len(numbers) for axes in self.axes.values() for _, numbers in axes]))
        for name, axes in self.axes.items():
            weight = weights[name]
            shaped = [next(along).view(-1, *[1] * (weight.dim() - axis - 1)) for axis, _ in axes]
            yield name, sum(shaped[1:], shaped[0]).to(weight.device, weight.dtype)

    def place(self, scores: Tensor) -> Tensor:
        """Where each slot is between the highest score of its part, 0, and the lowest, 1."""
        self._to(scores.device)
        ends = scores.new_zeros(self.parts)
        high = ends.scatter_reduce(0, self.part, scores, "amax", include_self=False)[self.part]
        low = ends.scatter_reduce(0, self.part, scores, "amin", include_self=False)[self.part]
        return (high - scores) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)

    def rank(self, scores: Tensor) -> Tensor:
        """The fraction of the slots of its part that score lower than each slot, from 0 to below 1."""
        self._to(scores.device)
        order = scores.argsort(stable=True)
        order = order[self.part[order].argsort(stable=True)]
        sizes = self.part.bincount(minlength=self.parts)
        first = (sizes.cumsum(0) - sizes)[self.part]
        position = torch.empty_like(order)
        position[order] = torch.arange(self.count, device=order.device)
        return (position - first) / sizes[self.part]

    def _to(self, device: torch.device) -> None:
        """A model may have moved to another device since it was analysed."""
        if self._flat.device != device:
            self._flat, self.part = self._flat.to(device), self.part.to(device)


def _sums_of_squares(weight: Tensor, axes: Sequence[int]) -> list[Tensor]:
    """For these axes the sums over all others, in float32 at least."""
    squares = weight.detach().to(torch.promote_types(weight.dtype, torch.float32)).square()
    # Reading a tensor flat is several times faster than a sum over scattered axes.
    from_axis = [squares.flatten(0, axis - 1).sum(0) if axis else squares for axis in axes]
    return [one.flatten(1).sum(1) if one.dim() > 1 else one for one in from_axis]
