"""Multiplies slots of the real tensors, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from ..errors import PlanError

Scales = Mapping[str, Mapping[int, Sequence[float]]]


def check_scales(
    tensors: Mapping[str, Tensor], scales: Scales, slices: Mapping[str, Mapping[int, Sequence[int]]]
) -> None:
    """Raise `PlanError` unless there is one finite factor for each index that is kept of an axis."""
    for name, axes in scales.items():
        tensor = tensors.get(name)
        if tensor is None or not tensor.is_floating_point():
            raise PlanError(f"the plan scales {name}, which this model does not have as one of fractions")
        for axis, factors in axes.items():
            kept = slices.get(name, {}).get(axis)
            inside = 0 <= axis < tensor.dim()
            if not inside or len(factors) != (tensor.shape[axis] if kept is None else len(kept)):
                raise PlanError(f"the plan scales slots of axis {axis} of {name} that are not there")
            if not all(isfinite(factor) and factor for factor in factors):
                raise PlanError(f"the plan scales {name} by what is no number, or by nothing")


class ScaledTensor:
    """One tensor, multiplied slot by slot; its gradient is divided, as the loss is of other numbers now."""

    def __init__(self, tensor: Tensor, axes: Mapping[int, Sequence[float]]):
        self._tensor, self._axes = tensor, axes
        self._before: tuple[Tensor, Tensor | None] | None = None

    def carry_out(self) -> None:
        """Multiply; the old data is kept for `take_back`, and what shares it does not change."""
        data, grad = self._before = self._tensor.data, self._tensor.grad
        self._tensor.grad = None
        self._tensor.data = self._multiplied(data, torch.Tensor.mul)
        if grad is not None:
            self._tensor.grad = self._multiplied(grad, torch.Tensor.div)

    def take_back(self) -> None:
        """Put data and gradient back, as the same objects."""
        if self._before is not None:
            data, grad = self._before
            self._tensor.grad = None
            self._tensor.data, self._tensor.grad = data, grad

    def _multiplied(self, tensor: Tensor, by: object) -> Tensor:
        # In float32 at least, or half precision would round the factor before it rounds the product.
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        result = tensor
        for axis, factors in self._axes.items():
            shape = [-1 if other == axis else 1 for other in range(tensor.dim())]
            scale = torch.tensor(factors, dtype=dtype, device=tensor.device).reshape(shape)
            result = by(result, scale)  # type: ignore[operator]
        return result.to(tensor.dtype)
