"""Small networks that can be trained, one of each kind, with an input that each takes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Convolutions with batch norms, and an addition that couples two of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """A bidirectional LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0].mean(1))


class Attentive(nn.Module):
    """Self-attention and a perceptron, without a layer norm, whose statistic would not be exact."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down = nn.Linear(16, 12), nn.Linear(12, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x.mean(1))


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.head(x + self.down(torch.tanh(self.up(x))))


def perceptron() -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5))


NETS = {
    "residual": (Residual, lambda: torch.randn(6, 3, 5, 5)),
    "perceptron": (perceptron, lambda: torch.randn(6, 6)),
    "recurrent": (Recurrent, lambda: torch.randn(3, 4, 6)),
    "attentive": (Attentive, lambda: torch.randn(3, 4, 6)),
    "tied": (Tied, lambda: torch.randint(0, 11, (3, 4))),
}
"""By name, how a network and a batch of inputs are made."""


def moved(value: torch.Tensor, where) -> torch.Tensor:
    """A batch on another device or in another floating type; whole numbers keep theirs."""
    return value.to(where) if value.is_floating_point() or isinstance(where, str) else value
