"""Replaces the contents of the real tensors, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class CorrectedTensor:
    """One tensor with new numbers of the same shape and dtype: the object stays, the old data is kept."""

    def __init__(self, tensor: Tensor, correct: Callable[[Tensor], Tensor]):
        self._tensor, self._correct = tensor, correct
        self._before: Tensor | None = None

    def carry_out(self) -> None:
        """Compute the new numbers, which share no memory with the old ones."""
        before = self._tensor.data
        self._tensor.data = self._correct(before)
        self._before = before

    def take_back(self) -> None:
        """Put the old data back, as the same object."""
        if self._before is not None:
            self._tensor.data = self._before
