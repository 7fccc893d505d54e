"""Slots leave one after the other, and those that are left make up for them: what each leaving costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor

# Of the mean square of a slot so much is added to each, as the data do not tell all.
RIDGE = 0.01
# In so many steps all slots leave: one at a time is hardly better, and far slower.
STEPS = 96


@define(eq=False)
class Read:
    """What a weight reads: ``(left * times + others, ...)`` rows, the slots' own first, each with its run.

    ``rows`` are the weights of each entry, ``inverse`` that of the entries' products, and ``times`` the
    entries of a slot. The others never leave.
    """

    rows: Tensor
    inverse: Tensor
    times: int

    @classmethod
    def of(cls, weights: Tensor, moments: Tensor, where: Tensor | None) -> Read:
        """From the weights ``(size, ...)`` and the moments ``(size, size)`` of an axis.

        `where` are the entries of each slot, ``(slots, times)``; `None` if entry i is slot i.
        """
        rows, moments = weights.detach().flatten(1).double(), moments.double()
        times = 1 if where is None else where.shape[1]
        if where is not None:
            own = where.flatten().to(rows.device)
            others = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            others[own] = False
            order = torch.cat([own, others.nonzero().flatten()])
            rows, moments = rows[order], moments[order][:, order]
        level = moments.diagonal().mean() + torch.finfo(torch.float32).tiny
        ridge = RIDGE * level * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        return cls(rows, torch.linalg.inv(moments + ridge), times)

    def rises(self, left: int) -> Tensor:
        """By how much the squared error of the result rises if one of the slots leaves, ``(left,)``."""
        blocks = torch.linalg.inv(self._blocks(left))
        rows = self.rows[: left * self.times].unflatten(0, (left, self.times))
        return (rows * (blocks @ rows)).sum((1, 2))

    def _blocks(self, left: int) -> Tensor:
        """The part of the inverse that is each slot's own, ``(left, times, times)``."""
        own = left * self.times
        parts = self.inverse[:own, :own].unflatten(1, (left, self.times)).unflatten(0, (left, self.times))
        return parts.diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def leave(self, gone: Tensor) -> None:
        """Take slots out, ``(left,)`` of them are marked; what stays makes up for them as well as it can."""
        out = gone.repeat_interleave(self.times)
        out = torch.cat([out, out.new_zeros(len(self.rows) - len(out))])
        across = torch.linalg.solve(self.inverse[out][:, out], self.inverse[out][:, ~out])
        self.rows = self.rows[~out] - across.T @ self.rows[out]
        self.inverse = self.inverse[~out][:, ~out] - self.inverse[~out][:, out] @ across


def elimination(reads: Sequence[Read], size: int) -> Tensor:
    """What it costs, ``(size,)``, in squared error of all results, when the turn of a slot comes.

    The cheapest leave first; none is worth less than those before it.
    """
    device = reads[0].rows.device
    costs = torch.zeros(size, dtype=torch.float64, device=device)
    slots = torch.arange(size, device=device)
    while len(slots):
        rises = reads[0].rises(len(slots))
        for read in reads[1:]:
            rises = rises + read.rises(len(slots)).to(device)
        chosen = rises.topk(min(len(slots), -(-size // STEPS)), largest=False)
        order = chosen.values.argsort()
        rising = chosen.values[order].clamp_min(costs.max()).cummax(0).values
        costs[slots[chosen.indices[order]]] = rising
        gone = torch.zeros(len(slots), dtype=torch.bool, device=device)
        gone[chosen.indices] = True
        for read in reads:
            read.leave(gone.to(read.rows.device))
        slots = slots[~gone]
    return costs
