"""Criteria score the slots of a group: higher is kept. Own criteria are callables of the same form.

A criterion is called as ``criterion(group, graph, tensors)`` where ``tensors`` gives the model's tensors by
name, and returns a float tensor of shape ``(group.size,)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from ..errors import PlanError
from .axes import slots

if TYPE_CHECKING:
    from .graph import DependencyGraph, Group

Criterion = Callable[["Group", "DependencyGraph", Mapping[str, Tensor]], Tensor]


class Magnitude:
    """The group-level L2 norm of DepGraph (Fang et al., CVPR 2023, eq. 6): all members of a slot together.

    The squares of everything that goes with a slot are summed over the group's parameters and divided by
    their mean. A member in which the group is one part of a product is summed over the other parts.
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}

    def __call__(self, group: Group, graph: DependencyGraph, tensors: Mapping[str, Tensor]) -> Tensor:
        scores: Tensor | None = None
        for member in group.members:
            tensor = tensors[member.tensor]
            if not isinstance(tensor, torch.nn.Parameter) or not tensor.is_floating_point():
                continue
            norms = self._along(member.tensor, tensor)[member.axis]
            where = slots(graph.layout(member), group.atom)
            if scores is None:
                scores = torch.zeros(group.size, device=norms.device)
            if len(where) == group.size:
                scores += norms[torch.from_numpy(where.argsort()).to(norms.device)]
                continue
            held = torch.from_numpy((where >= 0).nonzero()[0]).to(norms.device)
            index = torch.from_numpy(where[where >= 0]).to(norms.device)
            scores.index_add_(0, index, norms.to(scores.device)[held])
        if scores is None:
            return torch.ones(group.size)
        return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)

    def _along(self, name: str, tensor: Tensor) -> list[Tensor]:
        """The sums of squares along every axis of a tensor: one pass over it, kept for its other groups."""
        known = self._squares.get(name)
        if known is None:
            known = self._squares[name] = _sums_of_squares(tensor.detach())
        return known


def _sums_of_squares(tensor: Tensor) -> list[Tensor]:
    if tensor.dim() <= 1:
        return [tensor.float().square()]
    matrix = tensor.float().flatten(2) if tensor.dim() > 2 else tensor.float().unsqueeze(-1)
    if matrix.shape[-1] == 1 and tensor.dim() == 2:
        plane = matrix.squeeze(-1).square()
    else:
        plane = torch.linalg.vector_norm(matrix, dim=2).square()
    sums = [plane.sum(1), plane.sum(0)]
    for axis in range(2, tensor.dim()):
        others = [other for other in range(tensor.dim()) if other != axis]
        sums.append(tensor.float().square().sum(others) if tensor.shape[axis] > 1 else tensor.new_ones(1).float())
    return sums


class Random:
    """Random scores, from a generator of its own with a fixed seed: a baseline."""

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, group: Group, graph: DependencyGraph, tensors: Mapping[str, Tensor]) -> Tensor:
        return torch.rand(group.size, generator=self._generator)


CRITERIA: dict[str, Callable[[], Criterion]] = {"magnitude": Magnitude, "random": Random}


def criterion_of(given: Union[str, Criterion]) -> Criterion:
    """A criterion by name, or the callable itself; raises `PlanError` for an unknown name."""
    if callable(given):
        return given
    if given not in CRITERIA:
        raise PlanError(f"there is no criterion {given!r}; known are {', '.join(CRITERIA)}, or pass a callable")
    return CRITERIA[given]()
