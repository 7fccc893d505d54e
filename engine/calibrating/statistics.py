"""What calibration data tells of the values that weights are multiplied with: means and second moments."""

from __future__ import annotations

import torch
from attrs import define
from torch import Tensor


def rows_of(values: Tensor, axis: int) -> Tensor:
    """The entries of the slots along an axis, ``(count, size)``."""
    return values.detach().movedim(axis, -1).flatten(0, -2)


@define(eq=False)
class Statistics:
    """Of the slots of one axis, over all batches and all other axes.

    ``count`` is the number of entries of a slot, ``mean`` of shape ``(size,)``; ``scatter`` the sums of
    squares around the mean, of shape ``(size,)``, or of products, ``(size, size)``. They are float32, or
    wider if the values are; what is added is so without cancellation (Chan, Golub, LeVeque 1979).
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, values: Tensor, axis: int, products: bool = False) -> Statistics:
        """Those of one tensor along one axis."""
        rows = rows_of(values, axis)
        found = cls.none(rows, products)
        found.take(rows)
        return found

    @classmethod
    def none(cls, rows: Tensor, products: bool = False) -> Statistics:
        """Those of no entries yet, of the size, the device and at least the precision of these."""
        size = rows.shape[1]
        shape = (size, size) if products else (size,)
        mean = rows.new_zeros(size, dtype=torch.promote_types(rows.dtype, torch.float32))
        return cls(0, mean, mean.new_zeros(shape))

    def take(self, rows: Tensor) -> None:
        """Count more entries, ``(count, size)``, in place: a new matrix for each batch costs more than it."""
        if not len(rows):
            return
        rows = rows.to(self.mean.dtype)
        mean = rows.mean(0)
        rows = rows - mean
        if self.scatter.dim() == 2:
            self.scatter.addmm_(rows.T, rows)
        else:
            self.scatter += rows.square().sum(0)
        self._join(len(rows), mean)

    def __add__(self, other: Statistics) -> Statistics:
        found = Statistics(self.count, self.mean, self.scatter + other.scatter)
        found._join(other.count, other.mean)
        return found

    def _join(self, count: int, mean: Tensor) -> None:
        """Move the mean to that of all, when the scatter of others around their own was added."""
        part = count / max(self.count + count, 1)
        step, weight = mean - self.mean, self.count * part
        if self.scatter.dim() == 2:
            self.scatter.addr_(step, step, alpha=weight)
        else:
            self.scatter.add_(step.square(), alpha=weight)
        self.count, self.mean = self.count + count, self.mean + step * part

    @property
    def variance(self) -> Tensor:
        """Of each slot, ``(size,)``."""
        scatter = self.scatter.diagonal() if self.scatter.dim() == 2 else self.scatter
        return scatter / max(self.count, 1)

    @property
    def second(self) -> Tensor:
        """The mean of the squares of each slot, ``(size,)``."""
        return self.variance + self.mean.square()

    def around(self, centre: Tensor) -> Tensor:
        """The means of the products of all pairs of slots around a point, ``(size, size)``."""
        step = self.mean - centre
        return (self.scatter / max(self.count, 1)).addr_(step, step)
