"""Criteria score the slots of a group: higher is kept. Own criteria are callables of the same form.

A criterion is called as ``criterion(group, tensors)`` where ``tensors`` are the model's, by name and slot by
slot (`slotwise.Tensors`), and returns a float tensor of shape ``(group.size,)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import PlanError
from .groups import Group
from .slotwise import Tensors

Criterion = Callable[[Group, Tensors], Tensor]


class Magnitude:
    """The group-level L2 norm of DepGraph (Fang et al., CVPR 2023, eq. 6): all members of a slot together.

    The squares of all weights that go with a slot are summed over the group and divided by their mean;
    biases, which are only added, do not count.
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}

    def __call__(self, group: Group, tensors: Tensors) -> Tensor:
        scores = torch.zeros(group.size)
        for member in tensors.weights(group):
            norms = self._along(member.tensor, tensors)[member.axis]
            where = tensors.where(group, member)
            norms = norms if where is None else norms[where.to(norms.device)].sum(1)
            scores = scores.to(norms.device) + norms
        return mean_one(scores)

    def _along(self, name: str, tensors: Tensors) -> list[Tensor]:
        """The sums of squares along every axis of a tensor: one pass over it, kept for its other groups."""
        known = self._squares.get(name)
        if known is None:
            known = self._squares[name] = _sums_of_squares(tensors[name].detach())
        return known


def mean_one(scores: Tensor) -> Tensor:
    """Scores of any scale, made comparable between groups: their mean becomes one."""
    return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)


def _sums_of_squares(tensor: Tensor) -> list[Tensor]:
    """For every axis the sums over all others, in float32."""
    squares = tensor.float().square()
    if tensor.dim() < 2:
        return [squares]
    # The first two axes are those of nearly all groups; reading the tensor flat is several times faster.
    flat = squares.flatten(1)
    sums = [flat.sum(1), flat.sum(0).view(tensor.shape[1], -1).sum(1)]
    for axis in range(2, tensor.dim()):
        sums.append(squares.sum([other for other in range(tensor.dim()) if other != axis]))
    return sums


class Random:
    """Random scores, from a generator of its own with a fixed seed: a baseline."""

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, group: Group, tensors: Tensors) -> Tensor:
        return torch.rand(group.size, generator=self._generator)


CRITERIA: dict[str, Callable[[], Criterion]] = {"magnitude": Magnitude, "random": Random}


def criterion_of(given: str | Criterion) -> Criterion:
    """A criterion by name, or the callable itself; raises `PlanError` for an unknown name."""
    if callable(given):
        return given
    if given not in CRITERIA:
        raise PlanError(
            f"there is no criterion {given!r}; known are {', '.join(CRITERIA)}, or pass a callable"
        )
    return CRITERIA[given]()
