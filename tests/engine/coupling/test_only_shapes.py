"""Slots picked where it does not matter which: of equal ones, or where only a shape is used."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from trap_nets import Net

X = torch.randn(5, 7, 6)


def net(use):
    """Two layers; what `use` makes of the first one's result goes into the second one's."""

    def forward(self, x):
        h = self.a(x)
        return self.head(self.b(h).relu()) * use(h)

    return Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3)).eval()


def positions(ids):
    """Of its argument only the shape is read, as position embeddings do."""
    return torch.arange(ids.shape[1])[:, None] / ids.shape[0]


def filled_later(h):
    z = torch.zeros_like(h)
    z[..., 1:] = h[..., 1:]
    return z[..., -1:] + z[..., -1, None]


def filled_through_a_view(h):
    z = torch.zeros_like(h)
    z[..., 1:].add_(h[..., 1:])
    return z[..., -1, None]


def read(h):
    return 1.0 if h[0, 0, 0] < 1e9 else 2.0


FREE = {
    "zeros_like": lambda h: 1 + torch.zeros_like(h)[..., 0, None],
    "ones_like, the last": lambda h: torch.ones_like(h)[:, :, -1].unsqueeze(-1),
    "ones_like of a pick": lambda h: torch.ones_like(h[..., 0]).cumsum(1).unsqueeze(-1),
    "full_like, select": lambda h: torch.full_like(h, 0.5).select(-1, 0)[..., None],
    "new_ones of the shape": lambda h: h.new_ones(h.shape)[..., -1][..., None],
    "new_zeros of the size": lambda h: 1 + h.new_zeros(h.size())[..., 0][..., None],
    "ones of the shape": lambda h: torch.ones(*h.shape)[..., 0, None],
    "moved and scaled": lambda h: (torch.ones_like(h).transpose(0, 1) * 3).to(h.dtype)[..., 0].T[..., None],
    "positions": lambda h: positions(h[:, :, -1]),
    "select": lambda h: positions(h.select(-1, 0)),
    "argmax": lambda h: positions(h.argmax(-1)),
    "flip and cumprod": lambda h: positions(h.flip(-1)) + positions(h.cumprod(-1)),
    "a view of a pick": lambda h: positions(h[:, :, 0].reshape(h.shape[0], -1)),
}

HELD = {
    "a slot that counts": lambda h: h[..., 0, None],
    "its position counts": lambda h: h.argmax(-1)[..., None],
    "filled later": filled_later,
    "filled through a view": filled_through_a_view,
    "read by Python": read,
    "two numbers": lambda h: torch.cat([torch.zeros_like(h), torch.ones_like(h)], -1)[..., -1, None],
    "random": lambda h: torch.rand_like(h)[..., 0, None] * 0 + h[..., -1, None],
    "counted": lambda h: torch.ones_like(h).cumsum(-1)[..., -1, None],
}


@pytest.mark.parametrize("use", FREE)
def test_a_pick_that_does_not_matter_holds_nothing(use):
    """Half of the first layer goes, and the pruned model is the masked one."""
    torch.manual_seed(0)
    model = net(FREE[use])
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert len(plan.groups["a.out"]) == 4
    oracle.check(model, X, plan)
    result = engine.prune(model, example_inputs=X)
    assert result.model.a.out_features == 4


@pytest.mark.parametrize("use", HELD)
def test_a_pick_that_matters_holds(use):
    """The first layer keeps its slots, or says that it is not exact."""
    torch.manual_seed(0)
    model = net(HELD[use])
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert "a.out" not in plan.groups and "b.out" in plan.groups
