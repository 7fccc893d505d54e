"""Slices optimizer state along with its parameter, so that training goes on without a reset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..engine.values import tensors_in
from ..errors import PlanError
from .tensors import sliced


class SlicedState:
    """The state tensors of one parameter: momentum, Adam's moments, and factors of these.

    An axis of a state tensor is that of the parameter or has size 1 (Adafactor keeps rows and columns).
    State of any other form, such as what LBFGS keeps of all parameters at once, is a `PlanError`.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameter: Tensor, axes: Mapping[int, slice | Tensor]
    ):
        self._state = optimizer.state.get(parameter, {})
        self._axes = axes
        held = {name: value for name, value in self._state.items() if list(tensors_in(value))}
        self._before = {name: value for name, value in held.items() if not _is_number(value)}
        for name, value in self._before.items():
            if not (isinstance(value, Tensor) and _follows(value, parameter)):
                raise PlanError(
                    f"the optimizer ({type(optimizer).__name__}) keeps '{name}' in another form than the "
                    "parameter has: prune without optimizer= and make a new one"
                )

    def carry_out(self) -> None:
        """Slice; the old tensors are kept for `take_back`."""
        for name, value in self._before.items():
            axes = {axis: kept for axis, kept in self._axes.items() if value.shape[axis] != 1}
            self._state[name] = sliced(value, axes)

    def take_back(self) -> None:
        """Put the old tensors back."""
        self._state.update(self._before)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _follows(value: Tensor, parameter: Tensor) -> bool:
    return value.dim() == parameter.dim() and all(
        size in (1, whole) for size, whole in zip(value.shape, parameter.shape)
    )
