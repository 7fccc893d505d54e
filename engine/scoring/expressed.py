"""Criteria that choose with a correction in mind: a slot that the others can express costs nothing.

They look at the products of all pairs of what a weight of the group is multiplied with, over the data, see
`calibrating.compensate`. A group that no weight reads is scored by its `Magnitude`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import PlanError
from ..calibrating import Statistics, calibrate, readers, rounds
from ..coupling import Place
from ..grouping import Group, Member
from .eliminate import RIDGE, Read, elimination
from .magnitude import Magnitude
from .sensitivity import sensitivity
from .slot_sums import mean_one, total
from .slot_tensors import Tensors

Pair = tuple[Member, Place]


def obs(group: Group, tensors: Tensors) -> Tensor:
    """Structured optimal brain surgeon (ZipLM, Kurtic et al., NeurIPS 2023; OSSCAR, Meng et al., ICML 2024).

    Slots leave one after the other, the cheapest first, and those that are left make up for each: a slot is
    worth what its leaving costs then. The cost is the squared error of what reads the group. With a loss,
    which a model that takes ``labels`` has of its own, each result counts by its mean squared gradient: so
    the cost is the rise of the loss to second order, for all groups on one scale. Without one the mean of a
    group is one. Raises `PlanError` without data.
    """
    read = _read(group, tensors)
    if not read:
        return Magnitude()(group, tensors)
    weighed = tensors.once("sensitivity", lambda: sensitivity(tensors))
    parts = []
    for (weight, _), moments in read.items():
        weights = tensors[weight.tensor].detach().movedim(weight.axis, 0)
        if weighed:
            weights = weights.float() * weighed[weight.tensor].sqrt()
        parts.append(Read.of(weights, moments, tensors.where(group, weight)))
    costs = elimination(parts, group.size).float()
    return costs if weighed else mean_one(costs)


def leverage(group: Group, tensors: Tensors) -> Tensor:
    """Ridge leverage scores (MoDeGPT, Lin et al., ICLR 2025): how much of a slot the others do not express.

    ``diagonal(G (G + r)^-1)`` of the products G of what a weight reads; the mean is one. Raises `PlanError`
    without data.
    """
    read = _read(group, tensors)
    if not read:
        return Magnitude()(group, tensors)
    return mean_one(total(group, (_leverage(group, tensors, *one) for one in read.items())))


def _leverage(group: Group, tensors: Tensors, pair: Pair, moments: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(moments.double())
    values = values.clamp_min(0)
    ridge = RIDGE * values.mean() + torch.finfo(torch.float32).tiny
    worth = (vectors.square() @ (values / (values + ridge))).float()
    where = tensors.where(group, pair[0])
    return worth if where is None else worth[where.to(worth.device)].sum(1)


def _read(group: Group, tensors: Tensors) -> dict[Pair, Tensor]:
    """The moments of what the weights of a group read.

    Groups are asked for in order: the next few are seen in one round.
    """
    pairs, known = tensors.once("expressed", lambda: (_pairs(tensors), {}))
    if group in pairs and group not in known:
        known.clear()
        groups = list(pairs)
        some = next(rounds(groups[groups.index(group) :], lambda one: [place for _, place in pairs[one]]))
        places = [place for one in some for _, place in pairs[one]]
        found = calibrate(tensors.graph, tensors.inputs, places, products=True)
        for one in some:
            read = {pair: biased for pair, biased in pairs[one].items() if pair[1] in found}
            known[one] = {pair: _moments(found[pair[1]], biased) for pair, biased in read.items()}
    return known.get(group, {})


def _moments(read: Statistics, biased: bool) -> Tensor:
    """Around the mean if a bias can make up for it, else around zero, ``(size, size)``."""
    moments = read.around(read.mean if biased else torch.zeros_like(read.mean))
    if not bool(moments.isfinite().all()):
        raise PlanError("data= leads to values that are not finite: there is nothing to score by")
    return moments


def _pairs(tensors: Tensors) -> dict[Group, dict[Pair, bool]]:
    """By group its weights, what each reads, and whether it has a bias; cut in parts it counts once."""
    graph = tensors.graph
    found: dict[Group, dict[Pair, bool]] = {}
    for one in readers(graph):
        for group in graph.groups_at(one.weight):
            found.setdefault(group, {})[one.weight, one.data] = one.bias is not None
    return found
