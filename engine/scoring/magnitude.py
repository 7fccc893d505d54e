"""Criteria that look at the weights alone: norms, scales, distances."""

from __future__ import annotations

from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from ..grouping import Group, Member
from .slot_sums import mean_one, powers_along, slot_sums, total
from .slot_tensors import Tensors

# Entries of a matrix of distances that are in memory at a time.
_DISTANCES = 2**26


@frozen
class Magnitude:
    """The group-level norm of DepGraph (Fang et al., CVPR 2023): all weights of a slot together.

    ``score[i] = sum(|w| ** power for all weights w of slot i)``, divided by its mean over the group. Biases,
    which are only added, do not count.

    Parameters
    ----------
    power : 2 for the L2 norm, 1 for L1.
    own_kernels : whether a kernel that is applied to each slot by itself (depthwise) counts. By default it
        does not, as in Torch-Pruning, so that the same slots are kept.
    """

    power: int = 2
    own_kernels: bool = False

    def __call__(self, group: Group, tensors: Tensors) -> Tensor:
        members = tensors.weights(group)
        if not self.own_kernels:
            kernels = set(tensors.slotwise(group)).difference(tensors.scales(group))
            members = [member for member in members if member not in kernels]
        return mean_one(_norms(group, tensors, members, self.power))


def bn_scale(group: Group, tensors: Tensors) -> Tensor:
    """Network slimming (Liu et al., ICCV 2017): the scales of the normalisations that a slot goes through.

    ``score[i] = sum(|scale[i]|)`` over all weights of one number a slot that multiply the slots one by one,
    divided by its mean: those of normalisations, layer scale. A group without any gets its `Magnitude`.
    """
    scales = tensors.scales(group)
    if not scales:
        return Magnitude()(group, tensors)
    return mean_one(_norms(group, tensors, scales, power=1))


def lamp(group: Group, tensors: Tensors) -> Tensor:
    """Layer-adaptive magnitude (Lee et al., ICLR 2021), of slots instead of weights.

    ``score[i] = m[i] / sum(m[j] for all j with m[j] >= m[i])``, where ``m`` is the `Magnitude`. The order
    within a group is that of the magnitude; between groups it tells how much of the rest a slot is.
    """
    ordered, order = Magnitude()(group, tensors).sort(stable=True)
    rest = ordered.flip(0).cumsum(0).flip(0)
    scores = ordered / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    return torch.empty_like(scores).scatter(0, order, scores)


def fpgm(group: Group, tensors: Tensors) -> Tensor:
    """Filter pruning via geometric median (He et al., CVPR 2019): the slots that others can stand for go.

    ``score[i] = sum(|x[i] - x[j]| for all j)``, divided by its mean, where the point ``x[i]`` has as
    coordinates all weights of slot i in the group.
    """
    members = tensors.weights(group)
    distances = []
    for some in torch.arange(group.size, device="cpu").split(max(1, _DISTANCES // group.size)):
        squares = (_squared_distances(tensors.slots(group, member), some) for member in members)
        first = next(squares, torch.zeros(len(some), group.size, device="cpu"))
        for other in squares:
            first = first.to(other.device) + other
        distances.append(first.sqrt().sum(1))
    return mean_one(torch.cat(distances))


def _squared_distances(points: Tensor, some: Tensor) -> Tensor:
    """Of some points to all, ``(len(some), len(points))``."""
    points = points.float().nan_to_num()
    points = points - points.mean(0)  # what all have in common would cost digits
    return torch.cdist(points[some.to(points.device)], points).square()


def _norms(group: Group, tensors: Tensors, members: list[Member], power: int) -> Tensor:
    """The sums of the powers of all entries of each slot."""
    along = partial(powers_along, tensors, power=power)
    return total(group, (slot_sums(group, tensors, member, along) for member in members))
