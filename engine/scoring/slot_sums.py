"""Sums of a tensor's entries along its axes, and of these over the slots of a group: what most scores are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..grouping import Group, Member
from .slot_tensors import Tensors

# Of how many entries of a tensor the powers are in memory at a time.
_ENTRIES = 2**22

# For the name of a tensor and an axis, the sums along that; dimensions before the last one are batches.
Along = Callable[[str, int], Tensor]


def sums_along(tensor: Tensor) -> list[Tensor]:
    """For every axis the sums over all others, in float32: one pass for all groups that the tensor is in."""
    tensor = tensor.float()
    return first_sums(tensor) + [sum_along(tensor, axis) for axis in range(2, tensor.dim())]


def first_sums(tensor: Tensor) -> list[Tensor]:
    """The sums along the first two axes: reading the tensor flat is several times faster."""
    if tensor.dim() < 2:
        return [tensor]
    if not tensor.numel():  # an axis without slots: nothing to add up for those of the others
        return [tensor.new_zeros(size) for size in tensor.shape[:2]]
    flat = tensor.flatten(1)
    return [flat.sum(1), flat.sum(0).view(tensor.shape[1], -1).sum(1)]


def sum_along(tensor: Tensor, axis: int) -> Tensor:
    """The sums over all axes but one."""
    return tensor.sum([other for other in range(tensor.dim()) if other != axis])


def powers_along(tensors: Tensors, name: str, axis: int, power: int) -> Tensor:
    """Along an axis of a tensor the sums of ``|entry| ** power``."""

    def powers(entries: Tensor) -> Tensor:
        if entries.dim() > 1 and entries.numel() <= _ENTRIES:
            # The same memory each time: pieces of many sizes would leave holes between them.
            room = tensors.once(
                ("room", entries.device), lambda: entries.new_empty(_ENTRIES, dtype=torch.float)
            )
            entries = room[: entries.numel()].view(entries.shape).copy_(entries)
            return entries.square_() if power == 2 else entries.abs_().pow_(power)
        entries = entries.float()
        return entries.square() if power == 2 else entries.abs() ** power

    def first() -> list[Tensor]:
        return _by_rows(tensors[name].detach(), lambda rows: first_sums(powers(rows)))

    def one() -> list[Tensor]:
        return _by_rows(
            tensors[name].detach(), lambda rows: [rows.new_empty(0), sum_along(powers(rows), axis)]
        )

    if axis < 2:  # those of nearly all groups
        return tensors.once((name, power), first)[axis]
    return tensors.once((name, power, axis), one)[1]


def _by_rows(tensor: Tensor, sums: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Sums along the first axis and along others, of some rows at a time: the tensor may fill the memory."""
    if tensor.numel() <= _ENTRIES or tensor.dim() < 2:
        return sums(tensor)
    parts = [sums(rows) for rows in tensor.split(max(1, _ENTRIES // tensor[0].numel()))]
    along, others = zip(*parts)
    return [torch.cat(along), torch.stack(others).sum(0)]


def slot_sums(group: Group, tensors: Tensors, member: Member, along: Along) -> Tensor:
    """The sum of all entries of each slot on one axis, ``(..., group.size)``."""
    sums = along(member.tensor, member.axis)
    where = tensors.where(group, member)
    return sums if where is None else sums[..., where.to(sums.device)].sum(-1)


def total(group: Group, parts: Iterable[Tensor]) -> Tensor:
    """The parts ``(group.size,)`` added up, wherever each of them lies; zeros if there are none."""
    scores = torch.zeros(group.size, device="cpu")
    for part in parts:
        scores = scores.to(part.device) + part
    return scores


def mean_one(scores: Tensor) -> Tensor:
    """Scores of any scale, made comparable between groups: their mean becomes one.

    A score that is not a number counts as zero, so that it does not spoil the others.
    """
    tiny = torch.finfo(scores.dtype).tiny
    scores = scores.nan_to_num()
    scores = scores / scores.abs().amax().clamp_min(tiny)  # their sum may be more than a float can hold
    return scores / scores.mean().clamp_min(tiny)
