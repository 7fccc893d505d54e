"""Criteria score the slots of a group: higher is kept. Own criteria are callables of the same form.

A criterion is called as ``criterion(group, graph, tensors)`` where ``tensors`` gives the model's tensors by
name, and returns a float tensor of shape ``(group.size,)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..errors import PlanError
from .axes import spread
from .groups import Group, Groups, Member

Criterion = Callable[["Group", "Groups", Mapping[str, Tensor]], Tensor]


class Magnitude:
    """The group-level L2 norm of DepGraph (Fang et al., CVPR 2023, eq. 6): all members of a slot together.

    The squares of everything that goes with a slot are summed over the group's parameters and divided by
    their mean. A member in which the group is one part of a product is summed over the other parts.
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}
        self._slots: dict[Member, dict] = {}

    def __call__(self, group: Group, graph: Groups, tensors: Mapping[str, Tensor]) -> Tensor:
        scores: Tensor | None = None
        for member in group.members:
            tensor = tensors[member.tensor]
            if not isinstance(tensor, torch.nn.Parameter) or not tensor.is_floating_point():
                continue
            norms = self._along(member.tensor, tensor)[member.axis]
            if scores is None:
                scores = norms.new_zeros(group.size)
            if graph.layout(member) is group.atom:
                scores += norms
            else:
                where, slot = self._spread(member, graph)[group.atom]
                indices = torch.from_numpy(where).to(norms.device), torch.from_numpy(slot).to(norms.device)
                scores.index_add_(0, indices[1], norms[indices[0]])
        if scores is None:
            return torch.ones(group.size)
        return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)

    def _along(self, name: str, tensor: Tensor) -> list[Tensor]:
        """The sums of squares along every axis of a tensor: one pass over it, kept for its other groups."""
        known = self._squares.get(name)
        if known is None:
            known = self._squares[name] = _sums_of_squares(tensor.detach())
        return known

    def _spread(self, member: Member, graph: Groups) -> dict:
        known = self._slots.get(member)
        if known is None:
            known = self._slots[member] = spread(graph.layout(member))
        return known


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

    def __call__(self, group: Group, graph: Groups, tensors: Mapping[str, Tensor]) -> Tensor:
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
