"""What calibration data tells of the values that weights are multiplied with: means and second moments."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor


@frozen(eq=False)
class Statistics:
    """Of the slots of one axis, over all batches and all other axes.

    ``count`` is the number of entries of a slot, ``mean`` of shape ``(size,)``; ``scatter`` the sums of
    squares around the mean, of shape ``(size,)``, or of products, ``(size, size)``. They are float32, or
    wider if the values are; two of them add up without cancellation (Chan, Golub, LeVeque 1979).
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, values: Tensor, axis: int, products: bool = False) -> Statistics:
        """Those of one tensor along one axis."""
        rows = values.detach().movedim(axis, -1).flatten(0, -2)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
        rows = rows - mean
        return cls(len(rows), mean, rows.T @ rows if products else rows.square().sum(0))

    def __add__(self, other: Statistics) -> Statistics:
        count = self.count + other.count
        part = other.count / max(count, 1)
        step = other.mean - self.mean
        weight = self.count * part
        scatter = self.scatter + other.scatter
        if scatter.dim() == 2:
            scatter.addr_(step, step, alpha=weight)
        else:
            scatter.add_(step.square(), alpha=weight)
        return Statistics(count, self.mean + step * part, scatter)

    @property
    def variance(self) -> Tensor:
        """Of each slot, ``(size,)``."""
        scatter = self.scatter.diagonal() if self.scatter.dim() == 2 else self.scatter
        return scatter / max(self.count, 1)

    @property
    def second(self) -> Tensor:
        """The mean of the squares of each slot, ``(size,)``."""
        return self.variance + self.mean.square()
