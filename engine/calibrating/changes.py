"""What corrections do to tensors: functions of a whole one, right where the plan keeps it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import Factory, define, frozen
from torch import Tensor

from .ridge import Fit


@define(eq=False)
class Corrections:
    """What is done to tensors before they are sliced; ``notes`` tell which readers are left alone.

    ``tensors`` gives by name a function from the whole tensor to a new one of the same shape and dtype,
    which is right where the plan keeps it.
    """

    tensors: dict[str, Callable[[Tensor], Tensor]] = Factory(dict)
    notes: list[str] = Factory(list)


@frozen(eq=False)
class Mixed:
    """Adds to the weights of the kept slots their shares of those of the dropped ones."""

    axis: int
    fit: Fit

    def __call__(self, weight: Tensor) -> Tensor:
        assert self.fit.shares is not None
        gained = torch.tensordot(dropped(weight, self.axis, self.fit), self.fit.shares, ([self.axis], [0]))
        kept = weight.index_select(self.axis, self.fit.kept) + gained.movedim(-1, self.axis)
        return weight.index_copy(self.axis, self.fit.kept, kept.to(weight.dtype))


@frozen(eq=False)
class Added:
    """Adds a step to a bias."""

    step: Tensor

    def __call__(self, bias: Tensor) -> Tensor:
        return (bias + self.step).to(bias.dtype)


@frozen(eq=False)
class Shifted:
    """Adds to the entries of a matrix where rows ``made`` meet columns ``read``, along its axis ``axis``."""

    axis: int
    read: Tensor
    made: Tensor
    shares: Tensor

    def __call__(self, weight: Tensor) -> Tensor:
        found = weight.clone()
        found.movedim(self.axis, 1)[self.made[:, None], self.read] += self.shares.to(weight.dtype)
        return found


def dropped(weight: Tensor, axis: int, fit: Fit) -> Tensor:
    """What a weight has at the slots that are dropped."""
    return weight.detach().index_select(axis, fit.dropped).to(fit.rest.dtype)
