"""Models whose modules hold one another oddly: very deep, in circles, in more ways than can be listed."""

from __future__ import annotations

import pytest
import torch
from prunus import TraceError, engine
from torch import nn


class Meshed(nn.Module):
    """Layers of which each has all of them as its neighbours."""

    def __init__(self, count: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(count))
        for layer in self.layers:
            layer.neighbours = self.layers

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Twice(nn.Module):
    """Has its part under two names, and runs it once."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.first = self.second = part

    def forward(self, x):
        return self.first(x)


def chain(kind, depth: int) -> nn.Module:
    """Two layers, the first of which is inside many modules."""
    inside: nn.Module = nn.Linear(8, 8)
    for _ in range(depth):
        inside = kind(inside)
    return nn.Sequential(inside, nn.ReLU(), nn.Linear(8, 4))


def test_modules_that_hold_one_another_are_pruned():
    """A layer leads to the list that it is in."""
    model = Meshed(3)
    result = engine.prune(model, example_inputs=torch.ones(1, 8), ratio=0.5)
    assert result.after < result.before


@pytest.mark.parametrize("make", [lambda: chain(Twice, 40), lambda: chain(nn.Sequential, 3000)])
def test_names_without_bound_are_one_error(make):
    """As many names as no memory has, and a depth at which no forward runs."""
    model = make()
    weight = model[2].weight.detach().clone()
    with pytest.raises(TraceError):
        engine.prune(model, example_inputs=torch.ones(1, 8), ratio=0.5)
    assert torch.equal(model[2].weight, weight)


def test_a_part_with_several_names_is_pruned_once():
    """Under all of them."""
    model = chain(Twice, 4)
    result = engine.prune(model, example_inputs=torch.ones(1, 8), ratio=0.5)
    assert model[2].in_features == model[2].weight.shape[1] == 4
    assert result.after < result.before
