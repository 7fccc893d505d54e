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

    def carry_out(self) -> None:
        """To be done when all is changed."""
        forget_values()
        for tensor in self._tensors:
            _forget_shape(tensor)

    def take_back(self) -> None:
        """The same, since what was run meanwhile is remembered, too."""
        self.carry_out()


def forget_values() -> None:
    """Autocast keeps the weights that it has cast until it is left, whatever becomes of them."""
    torch.clear_autocast_cache()


def _forget_shape(tensor: Tensor) -> None:
    """Autograd remembers the shape of a gradient as long as a graph is alive; training loops hold a loss.

    It forgets that when the type changes, not when the shape does.
    """
    if tensor.is_leaf and tensor.requires_grad and not is_traceable_wrapper_subclass(tensor):
        data = tensor.data
        other = torch.float16 if tensor.dtype == torch.float32 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=data.device)
        tensor.data = data
