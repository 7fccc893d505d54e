"""A small residual net loses half of its multiply-accumulates, and tells why."""

import torch
from prunus import engine
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((x + self.conv(x)).mean((2, 3)))


model, x = Net(), torch.randn(1, 3, 32, 32)
print(engine.analyze(model, x).why("stem", "conv"))
print(engine.prune(model, macs=0.5, example_inputs=x))
