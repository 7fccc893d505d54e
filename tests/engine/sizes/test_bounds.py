"""Attributes that are only compared with a size: they follow where a smaller size would take another path."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from torch import nn

X = torch.randn(5, 6)


class Padding(nn.Module):
    """Pads what is narrower than `width`, and refuses what is wider, as gated graph layers do."""

    def __init__(self, width, turned):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.width, self.turned = width, turned

    def forward(self, x):
        h = self.a(x)
        if h.size(-1) > self.width:
            raise ValueError("too wide")
        if (self.width > h.size(-1)) if self.turned else (h.size(-1) < self.width):
            h = torch.cat([h, h.new_zeros(len(h), self.width - h.size(-1))], 1)
        return self.head(self.b(h).relu() + h)


@pytest.mark.parametrize("turned", [False, True])
def test_a_bound_that_is_just_met_follows(turned):
    """The width becomes that of the pruned layer, so that nothing is padded."""
    torch.manual_seed(0)
    model = Padding(8, turned).eval()
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert plan.attributes["width"] == 4 and len(plan.tensors["a.weight"][0]) == 4
    oracle.check(model, X, plan)
    engine.prune(model, example_inputs=X)
    assert model.width == model.a.out_features == 4


class Limited(nn.Module):
    """A limit that a size happens to reach, of which a smaller one is as good."""

    def __init__(self):
        super().__init__()
        self.a, self.head, self.limit = nn.Linear(6, 8), nn.Linear(8, 3), 8

    def forward(self, x):
        h = self.a(x)
        return self.head(h[:, : self.limit] if h.size(-1) > self.limit else h)


def test_a_limit_that_stays_true_is_left_alone():
    """What is not above eight is not above it with four slots either."""
    torch.manual_seed(0)
    model = Limited().eval()
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert "limit" not in plan.attributes and len(plan.groups["a.out"]) == 4
    oracle.check(model, X, plan)
