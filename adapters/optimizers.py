"""Slices optimizer state along with its parameter, so that training goes on without a reset."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .tensors import sliced


class SlicedState:
    """The state tensors of one parameter that have its shape: momentum, Adam's moments."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameter: Tensor, axes: Mapping[int, slice | Tensor]
    ):
        self._state = optimizer.state.get(parameter, {})
        self._axes = axes
        self._before = {
            name: value
            for name, value in self._state.items()
            if isinstance(value, Tensor) and value.shape == parameter.shape
        }

    def carry_out(self) -> None:
        """Slice; the old tensors are kept for `take_back`."""
        for name, value in self._before.items():
            self._state[name] = sliced(value, self._axes)

    def take_back(self) -> None:
        """Put the old tensors back."""
        self._state.update(self._before)
