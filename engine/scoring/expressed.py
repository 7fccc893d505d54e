"""Criteria that choose with a correction in mind: a slot that the others can express costs nothing.

They look at the products of all pairs of what a weight of the group is multiplied with, over the data, see
`calibrating.compensate`. A group that no weight reads is scored by its `Magnitude`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor

from ...errors import PlanError
from ..calibrating import Reader, Statistics, calibrate, readers, rounds
from ..coupling import Place
from ..grouping import Group, Member
from .eliminate import RIDGE, Read, elimination
from .magnitude import Magnitude
from .sensitivity import sensitivity
from .slot_sums import mean_one, total
from .slot_tensors import Tensors


def obs(group: Group, tensors: Tensors) -> Tensor:
    """Structured optimal brain surgeon (ZipLM, Kurtic et al., NeurIPS 2023; OSSCAR, Meng et al., ICML 2024).

    Slots leave one after the other, the cheapest first, and those that are left make up for each: a slot is
    worth what its leaving costs then. The cost is the squared error of what reads the group. With a loss,
    which a model that takes ``labels`` has of its own, an error counts by the gradients there, see
    `sensitivity`: so the cost is the rise of the loss to second order, for all groups on one scale. Without
    one the mean of a group is one. Raises `PlanError` without data.
    """
    seen = _seen(group, tensors, weighed=True)
    if not seen:
        return Magnitude()(group, tensors)
    reads = [Read.of(_weights(tensors, one), one.moments, tensors.where(group, one.weight)) for one in seen]
    costs = elimination(reads, group.size).float()
    return mean_one(costs) if any(one.gradients is None for one in seen) else costs


def leverage(group: Group, tensors: Tensors) -> Tensor:
    """Ridge leverage scores (MoDeGPT, Lin et al., ICLR 2025): how much of a slot the others do not express.

    ``diagonal(G (G + r)^-1)`` of the products G of what a weight reads; the mean is one. Raises `PlanError`
    without data.
    """
    seen = _seen(group, tensors, weighed=False)
    if not seen:
        return Magnitude()(group, tensors)
    return mean_one(total(group, (_leverage(tensors.where(group, one.weight), one) for one in seen)))


@frozen(eq=False)
class _Seen:
    """A weight, the moments of what it reads, ``(size, size)``, and those of its results' gradients."""

    weight: Member
    moments: Tensor
    gradients: Tensor | None


def _weights(tensors: Tensors, seen: _Seen) -> Tensor:
    """The weights ``(size, ...)`` in units of the loss, if gradients tell these."""
    rows = tensors[seen.weight.tensor].detach().movedim(seen.weight.axis, 0).double()
    if seen.gradients is None:
        return rows
    if seen.gradients.dim() == 1:
        return rows * seen.gradients.double().sqrt()
    values, vectors = torch.linalg.eigh(seen.gradients.double())
    return rows @ (vectors * values.clamp_min(0).sqrt())


def _leverage(where: Tensor | None, seen: _Seen) -> Tensor:
    values, vectors = torch.linalg.eigh(seen.moments.double())
    values = values.clamp_min(0)
    ridge = RIDGE * values.mean() + torch.finfo(torch.float32).tiny
    worth = (vectors.square() @ (values / (values + ridge))).float()
    return worth if where is None else worth[where.to(worth.device)].sum(1)


def _seen(group: Group, tensors: Tensors, weighed: bool) -> list[_Seen]:
    """What the weights of a group read. Groups are asked for in order: the next few are seen in one round."""
    read, known = tensors.once(("expressed", weighed), lambda: (_by_group(tensors), {}))
    if group in read and group not in known:
        known.clear()
        groups = list(read)
        some = next(rounds(groups[groups.index(group) :], lambda one: [each.data for each in read[one]]))
        now = [each for one in some for each in read[one]]
        moments = calibrate(tensors.graph, tensors.inputs, [each.data for each in now], products=True)
        gradients = sensitivity(tensors, now) if weighed else {}
        known.update((one, _of(read[one], moments, gradients)) for one in some)
    return known.get(group, [])


def _of(
    read: list[Reader], moments: Mapping[Place, Statistics], gradients: Mapping[str, Tensor]
) -> list[_Seen]:
    return [
        _Seen(one.weight, _moments(moments[one.data], one.bias is not None), gradients.get(one.weight.tensor))
        for one in read
        if one.data in moments
    ]


def _moments(read: Statistics, biased: bool) -> Tensor:
    """Around the mean if a bias can make up for it, else around zero, ``(size, size)``."""
    moments = read.around(read.mean if biased else torch.zeros_like(read.mean))
    if not bool(moments.isfinite().all()):
        raise PlanError("data= leads to values that are not finite: there is nothing to score by")
    return moments


def _by_group(tensors: Tensors) -> dict[Group, list[Reader]]:
    """What reads each group; a weight that is cut in parts for that counts once."""
    graph = tensors.graph
    found: dict[Group, dict[object, Reader]] = {}
    for one in readers(graph):
        for group in graph.groups_at(one.weight):
            found.setdefault(group, {}).setdefault((one.weight, one.data), one)
    return {group: list(read.values()) for group, read in found.items()}
