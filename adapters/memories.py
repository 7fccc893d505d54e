"""What torch remembers of a parameter besides its data, and would go on with after a change."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


class Forgotten:
    """Lets torch ask `tensors`, which were changed, for their shapes and values again."""

    def __init__(self, tensors: Collection[Tensor]):
        self._tensors = tensors
        self._data: list[tuple[Tensor, Tensor]] = []

    def carry_out(self) -> None:
        """To be done when all is changed."""
        forget_values()
        self._data = [(tensor, tensor.data) for tensor in self._tensors if _is_remembered(tensor)]
        for tensor, data in self._data:
            _forget_shape(tensor, data)

    def take_back(self) -> None:
        """The same, since what was run meanwhile is remembered, too."""
        forget_values()
        for tensor, data in self._data:
            _forget_shape(tensor, data)
        self._data = []


def forget_values() -> None:
    """Autocast keeps the weights that it has cast until it is left, whatever becomes of them."""
    torch.clear_autocast_cache()


def _is_remembered(tensor: Tensor) -> bool:
    return tensor.is_leaf and tensor.requires_grad and not is_traceable_wrapper_subclass(tensor)


def _forget_shape(tensor: Tensor, data: Tensor) -> None:
    """Autograd remembers the shape of a gradient as long as a graph is alive; training loops hold a loss.

    It forgets that when the type changes, not when the shape does. Whoever is interrupted in between does
    it again: hence the tensor does not give the data, which it may lack.
    """
    other = torch.float16 if data.dtype == torch.float32 else torch.float32
    tensor.data = torch.empty(0, dtype=other, device=data.device)
    tensor.data = data
