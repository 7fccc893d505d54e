"""What torch remembers of a parameter besides its data, and would go on with after a change."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ..torch_private import is_traceable_wrapper_subclass


def forget_values() -> None:
    """Autocast keeps the weights that it has cast until it is left, whatever becomes of them."""
    torch.clear_autocast_cache()


class ForgottenValues:
    """Lets torch ask for the values of tensors again, which were changed."""

    def carry_out(self) -> None:
        """To be done when all is changed."""
        forget_values()

    def take_back(self) -> None:
        """The same, since what was run meanwhile is remembered, too."""
        forget_values()


class ForgottenShapes:
    """Lets autograd ask `tensors`, of which the shapes were changed, for these again.

    It remembers the shape of a gradient as long as a graph is alive, or somebody listens to the gradient:
    training loops hold a loss. Who listens hears nothing more then, so this is the last thing to do.
    """

    def __init__(self, tensors: Collection[Tensor]):
        self._tensors = tensors
        self._data: list[tuple[Tensor, Tensor]] = []

    @property
    def begun(self) -> bool:
        """Whether some may be forgotten."""
        return bool(self._data)

    def carry_out(self) -> None:
        """To be done when all is changed, and nothing can fail any more."""
        self._data = [(tensor, tensor.data) for tensor in self._tensors if _is_remembered(tensor)]
        for tensor, data in self._data:
            _forget_shape(tensor, data)

    def take_back(self) -> None:
        """Put the data back into one that an interrupt has left without."""
        for tensor, data in self._data:
            tensor.data = data


def _is_remembered(tensor: Tensor) -> bool:
    is_tracked = tensor.is_leaf and tensor.requires_grad and not tensor.is_inference()
    return is_tracked and not is_traceable_wrapper_subclass(tensor)


def _forget_shape(tensor: Tensor, data: Tensor) -> None:
    """It forgets that when the type changes, not when the shape does."""
    other = torch.float16 if data.dtype == torch.float32 else torch.float32
    tensor.data = torch.empty(0, dtype=other, device=data.device)
    tensor.data = data
