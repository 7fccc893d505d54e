"""A member of an enumeration is one for all models: its value is read, and never changed."""

from enum import Enum, IntEnum

import pytest
import torch
from prunus import engine
from torch import nn


class Width(Enum):
    HIDDEN = 32


class Size(IntEnum):
    HIDDEN = 32


class Net(nn.Module):
    """Writes the width of its hidden layer as a member of an enumeration."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.first, self.second, self.head = nn.Linear(16, 32), nn.Linear(32, 24), nn.Linear(24, 8)

    def forward(self, x):
        h = self.first(x).view(len(x), self.width.value).relu()
        return self.head(self.second(h).relu())


@pytest.mark.parametrize("kind", [Width, Size])
def test_a_member_fixes_the_size(kind, said):
    """What is as wide stays, and the reason names the line."""
    net, other, x = Net(kind.HIDDEN), Net(kind.HIDDEN), torch.randn(4, 16)
    result = engine.prune(net, example_inputs=x)
    assert list(result.plan.groups) == ["second.out"]
    held = next(group for group in result.graph.blocked if group.name == "first.out")
    said(held.blocked)
    assert kind.HIDDEN.value == 32 and other(x).shape == net(x).shape == (4, 8)
