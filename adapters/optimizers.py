"""Slices optimizer state along with its parameters, so that training goes on without a reset."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import PlanError
from .contents import tensors_in
from .tensors import sliced

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
"""One optimizer, or several that share a model's parameters between them (Muon and AdamW)."""

Axes = Mapping[int, slice | Tensor]

# What an optimizer has counted once and would not count again: LBFGS, the elements of all its parameters.
_COUNTED = ("_numel_cache",)


def sliced_optimizers(
    optimizers: Optimizers, slices: Mapping[Tensor, Axes], tensors: Collection[Tensor]
) -> list[SlicedOptimizer]:
    """One step for each optimizer of a model with these `tensors`; raises `PlanError` for a foreign one."""
    several = list(optimizers) if isinstance(optimizers, Sequence) else [optimizers]
    for optimizer in several:
        _check_serves(optimizer, tensors)
    inner = [inside for optimizer in several for inside in _inside(optimizer)]
    return [SlicedOptimizer(optimizer, slices) for optimizer in [*several, *inner]]


class SlicedOptimizer:
    """The state of one optimizer: momentum, Adam's moments, and factors of these.

    An axis of a state tensor is that of its parameter or has size 1 (Adafactor keeps rows and columns).
    State of any other form, such as what LBFGS keeps of all parameters at once, cannot follow. All that is
    kept for such a parameter is dropped, so that the optimizer starts with it anew; `notes` says so.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, slices: Mapping[Tensor, Axes]):
        self._optimizer = optimizer
        self._slices = slices
        self._before = {parameter: (state, dict(state)) for parameter, state in optimizer.state.items()}
        self._counted = {name: vars(optimizer)[name] for name in _COUNTED if name in vars(optimizer)}
        odd = _odd_names(optimizer) if any(p in slices for p in parameters(optimizer)) else set()
        self._dropped = [parameter for parameter, state in optimizer.state.items() if odd & state.keys()]
        self.notes = [_note(optimizer, odd, len(self._dropped))] if self._dropped else []

    def carry_out(self) -> None:
        """Slice; the old tensors are kept for `take_back`."""
        for parameter in self._dropped:
            del self._optimizer.state[parameter]
        for parameter, axes in self._slices.items():
            state = self._optimizer.state.get(parameter, {})
            for name, value in state.items():
                if isinstance(value, Tensor) and value.numel() > 1:
                    along = {axis: kept for axis, kept in axes.items() if value.shape[axis] != 1}
                    state[name] = sliced(value, along)
        vars(self._optimizer).update(dict.fromkeys(self._counted))

    def take_back(self) -> None:
        """Put the old tensors back, in the old order."""
        self._optimizer.state.clear()
        for parameter, (state, contents) in self._before.items():
            state.clear()
            state.update(contents)
            self._optimizer.state[parameter] = state
        vars(self._optimizer).update(self._counted)


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _check_serves(optimizer: Any, tensors: Collection[Tensor]) -> None:
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")):
        raise PlanError(f"optimizer= takes torch optimizers, not a {type(optimizer).__name__}")
    if getattr(optimizer, "parameters_as_bucket_view", False):
        raise PlanError(
            f"{type(optimizer).__name__} holds the parameters in buckets of the old sizes: "
            "prune without optimizer=, and make a new one for the pruned model"
        )
    own = set(tensors)
    if not any(parameter in own for parameter in parameters(optimizer)):
        raise PlanError(
            f"the optimizer ({type(optimizer).__name__}) holds no parameter of this model: "
            "was it made for another, or for a copy?"
        )


def _inside(optimizer: Any) -> list[torch.optim.Optimizer]:
    """The optimizers that one steers (sharpness-aware ones, those that share state out over ranks)."""
    return [
        inside
        for inside in vars(optimizer).values()
        if isinstance(inside, torch.optim.Optimizer) and inside.state is not optimizer.state
    ]


def _odd_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """The names under which state has another form than the parameter, be it for one parameter only.

    One is enough: the factors that Shampoo keeps of a square weight look like the weight.
    """
    return {
        name
        for parameter, state in optimizer.state.items()
        for name, value in state.items()
        if not _follows(value, parameter)
    }


def _follows(value: Any, parameter: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return not any(True for _ in tensors_in(value))
    return value.numel() == 1 or (
        value.dim() == parameter.dim()
        and all(size in (1, whole) for size, whole in zip(value.shape, parameter.shape))
    )


def _note(optimizer: torch.optim.Optimizer, odd: set[str], dropped: int) -> str:
    return (
        f"{type(optimizer).__name__} keeps {', '.join(map(repr, sorted(odd)))} in another form than the "
        f"parameters have: its state of {dropped} parameters was dropped and starts anew"
    )
