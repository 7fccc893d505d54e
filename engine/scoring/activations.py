"""Criteria that look at what the weights of a group are multiplied with, from calibration data.

A slot is scored wherever a weight reads it, by the weight and the statistics of what it reads there; the
scores of all readers are added up. A group that no weight reads is scored by its `Magnitude`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...errors import PlanError
from ..calibrating import Statistics, calibrate, readers
from ..coupling import Place
from ..grouping import Group, Member
from .magnitude import Magnitude
from .slot_sums import mean_one, powers_along, total
from .slot_tensors import Tensors

# What the indices of a weight's axis are worth, ``(size,)``, by the statistics of what it reads.
Worth = Callable[[Member, Statistics], Tensor]


def wanda(group: Group, tensors: Tensors) -> Tensor:
    """Weights and activations (Sun et al., ICLR 2024): the sum of ``|w| * norm(what w reads)``, mean one.

    The norm is the root of the mean square over ``tensors.inputs``, so that the number of positions does not
    count. Raises `PlanError` without data.
    """

    def worth(weight: Member, read: Statistics) -> Tensor:
        return powers_along(tensors, *weight, power=1) * read.second.sqrt()

    return _score(group, tensors, worth)


def flap(group: Group, tensors: Tensors) -> Tensor:
    """Fluctuation (An et al., AAAI 2024): the sum of ``w ** 2 * variance(what w reads)``, mean one.

    What hardly varies can be replaced by its mean. Raises `PlanError` without data.
    """

    def worth(weight: Member, read: Statistics) -> Tensor:
        return powers_along(tensors, *weight, power=2) * read.variance

    return _score(group, tensors, worth)


def variance(group: Group, tensors: Tensors) -> Tensor:
    """Variance-based pruning (Berisha et al., ICCV 2025): the variance of what is read, mean one.

    Raises `PlanError` without data.
    """
    return _score(group, tensors, lambda _, read: read.variance)


def _score(group: Group, tensors: Tensors, worth: Worth) -> Tensor:
    read = tensors.once("read", lambda: _read(tensors))
    known = {pair: statistics for pair, statistics in read.items() if pair[0] in group.members}
    if not known:
        return Magnitude()(group, tensors)
    parts = (_slots(group, tensors, pair[0], worth(pair[0], found)) for pair, found in known.items())
    return mean_one(total(group, parts))


def _slots(group: Group, tensors: Tensors, weight: Member, worth: Tensor) -> Tensor:
    """What the slots of a group are worth where they are parts of an axis, such as heads: the sum."""
    where = tensors.where(group, weight)
    return worth if where is None else worth[where.to(worth.device)].sum(1)


def _read(tensors: Tensors) -> dict[tuple[Member, Place], Statistics]:
    """The statistics for each weight and what it reads; one that is cut in parts for that counts once."""
    graph = tensors.graph
    pairs = {(one.weight, one.data): None for one in readers(graph) if graph.groups_at(one.weight)}
    statistics = calibrate(graph, tensors.inputs, [data for _, data in pairs])
    if not all(bool(one.second.isfinite().all()) for one in statistics.values()):
        raise PlanError("data= leads to values that are not finite: there is nothing to score by")
    return {pair: statistics[pair[1]] for pair in pairs if pair[1] in statistics}
