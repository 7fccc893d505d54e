"""Slices the real tensors, on their own device and in their own dtype, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PlanError


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers and plain tensor attributes by dotted name; tied ones under every name."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        own = {**module._parameters, **module._buffers}
        own.update({name: value for name, value in vars(module).items() if isinstance(value, Tensor)})
        found.update({prefix + name: value for name, value in own.items() if value is not None})
    return found


def check_fits(
    tensors: Mapping[str, Tensor], slices: Mapping[str, Mapping[int, Sequence[int]]], shapes: Mapping
) -> None:
    """Raise `PlanError` unless every tensor of a plan is there in the shape that the plan was made for."""
    for name, axes in slices.items():
        if name not in tensors:
            raise PlanError(
                f"the plan prunes {name}, which this model does not have; was it made for another?"
            )
        shape = tuple(tensors[name].shape)
        if name in shapes and tuple(shapes[name]) != shape:
            raise PlanError(f"the plan is for {name} of shape {tuple(shapes[name])}, here it has {shape}")
        for axis, kept in axes.items():
            if not 0 <= axis < len(shape) or not _increasing_within(kept, shape[axis]):
                raise PlanError(
                    f"the plan keeps slots of axis {axis} of {name} that shape {shape} does not have"
                )


def _increasing_within(kept: Sequence[int], size: int) -> bool:
    slots = np.asarray(kept)
    return slots.size > 0 and slots[0] >= 0 and slots[-1] < size and bool((slots[1:] > slots[:-1]).all())


class Indices:
    """Kept slots as torch takes them; a list that several tensors share is only turned once a device."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, torch.device], tuple[Sequence[int], slice | Tensor]] = {}

    def of(self, axes: Mapping[int, Sequence[int]], device: torch.device) -> dict[int, slice | Tensor]:
        """For every axis a slice where the kept slots are one run, else an index tensor on `device`."""
        return {axis: self._one(kept, device) for axis, kept in axes.items()}

    def _one(self, kept: Sequence[int], device: torch.device) -> slice | Tensor:
        known = self._known.get((id(kept), device))
        if known is None:
            run = kept[-1] - kept[0] + 1 == len(kept)
            index = slice(kept[0], kept[-1] + 1) if run else torch.tensor(kept, device=device)
            known = self._known[id(kept), device] = kept, index
        return known[1]


class SlicedTensor:
    """One tensor and its gradient, sliced in place: the object stays, so ties and references do, too."""

    def __init__(self, tensor: Tensor, axes: Mapping[int, slice | Tensor]):
        self.tensor = tensor
        self.axes = axes
        self._before = (tensor.data, tensor.grad)

    def carry_out(self) -> None:
        """Slice; the old data is kept for `take_back`."""
        data, grad = self._before
        self.tensor.grad = None
        self.tensor.data = sliced(data, self.axes)
        if grad is not None:
            self.tensor.grad = sliced(grad, self.axes)

    def take_back(self) -> None:
        """Put data and gradient back, as the same objects."""
        data, grad = self._before
        self.tensor.grad = None
        self.tensor.data = data
        self.tensor.grad = grad


def sliced(tensor: Tensor, axes: Mapping[int, slice | Tensor]) -> Tensor:
    """`tensor` with only these indices of these axes, contiguous and with no tie to the old storage."""
    result = tensor
    for axis, kept in axes.items():
        if isinstance(kept, slice):
            result = result.narrow(axis, kept.start, kept.stop - kept.start)
        else:
            result = result.index_select(axis, kept)
    if all(isinstance(kept, slice) for kept in axes.values()):
        return result.clone(memory_format=torch.contiguous_format)
    return result.contiguous()
