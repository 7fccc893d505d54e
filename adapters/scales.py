"""Multiplies slots of the real tensors, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from ..errors import PlanError, shown
from .tensors import Replaced

Scales = Mapping[str, Mapping[int, Sequence[float]]]


def check_scales(
    tensors: Mapping[str, Tensor], scales: Scales, slices: Mapping[str, Mapping[int, Sequence[int]]]
) -> None:
    """Raise `PlanError` unless there is one finite factor for each index that is kept of an axis."""
    for name, axes in scales.items():
        tensor = tensors.get(name)
        if tensor is None or not tensor.is_floating_point():
            raise PlanError(
                f"the plan scales {shown(name)}, which this model does not have as one of fractions"
            )
        for axis, factors in axes.items():
            kept = slices.get(name, {}).get(axis)
            inside = 0 <= axis < tensor.dim()
            if not inside or len(factors) != (tensor.shape[axis] if kept is None else len(kept)):
                raise PlanError(f"the plan scales slots of axis {axis} of {name} that are not there")
            if not all(isfinite(factor) and factor for factor in factors):
                raise PlanError(f"the plan scales {name} by what is no number, or by nothing")


def multiplied(tensor: Tensor, axes: Mapping[int, Sequence[float]]) -> Tensor:
    """A tensor multiplied slot by slot, in its own dtype."""
    return _multiplied(tensor, axes, torch.Tensor.mul)


def scaled(tensor: Tensor, axes: Mapping[int, Sequence[float]]) -> Replaced:
    """The step that multiplies a tensor slot by slot; its gradient is divided, as the weights are others."""
    return Replaced(
        tensor,
        lambda data: multiplied(data, axes),
        lambda grad: _multiplied(grad, axes, torch.Tensor.div),
    )


def _multiplied(
    tensor: Tensor, axes: Mapping[int, Sequence[float]], by: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    # In float32 at least, or half precision would round the factor before it rounds the product.
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    result = tensor
    for axis, factors in axes.items():
        shape = [-1 if other == axis else 1 for other in range(tensor.dim())]
        result = by(result, torch.tensor(factors, dtype=dtype, device=tensor.device).reshape(shape))
    return result.to(tensor.dtype)
