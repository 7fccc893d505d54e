"""Parameters with an axis of size 0, such as the registers of a transformer that has none."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from prunus.engine.scoring.criteria import CRITERIA
from torch import nn


class Registers(nn.Module):
    """Tokens with some learned ones before them."""

    def __init__(self, count):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
        self.registers = nn.Parameter(torch.randn(1, count, 8))
        self.nothing = nn.Parameter(torch.randn(0))

    def forward(self, x):
        h = self.enter(x)
        h = torch.cat([self.registers.expand(len(x), -1, -1), h], 1)
        return self.leave(h).mean(1) + self.nothing.sum()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_model_without_registers_is_pruned_like_one_with(count):
    """The other axes of an empty parameter shrink with the rest."""
    torch.manual_seed(0)
    model, x = Registers(count).eval(), torch.randn(2, 4, 6)
    graph = engine.analyze(model, x)
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    oracle.check(model, x, plan)
    assert len(plan.tensors["registers"][2]) == 4
    result = engine.prune(model, example_inputs=x)
    assert model.registers.shape == (1, count, 4) and "registers" not in result.left_alone


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_ranks_past_an_empty_parameter(criterion):
    """It has no numbers to say anything."""
    model, x = Registers(0), torch.randn(2, 4, 6)
    loss = lambda net, batch: net(batch).sum()  # noqa: E731
    result = engine.prune(model, example_inputs=x, criterion=criterion, data=[x], loss=loss)
    assert result.plan.groups
