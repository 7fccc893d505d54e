"""Small networks that keep much beside their weights: counts, caches, hooks, frozen and shared parts."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .disturbances import user_code


class Picture(nn.Module):
    """Convolutions, batch norms, a residual, a size as an attribute; it counts, keeps a list and a cache."""

    shared: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.width = 8
        self.register_buffer("runs", torch.zeros(1))
        self.seen: list[int] = []
        self.cache: dict[int, Tensor] = {}
        self.last: Tensor | None = None

    @staticmethod
    @functools.lru_cache
    def scale(size: int) -> float:
        return 1 / size

    def forward(self, x: Tensor) -> Tensor:
        user_code()
        self.runs += 1
        self.seen.append(len(x))
        self.shared.append(1)
        if len(x) not in self.cache:
            self.cache[len(x)] = torch.ones(len(x), 1, 1, 1)
        x = F.relu(self.norm(self.stem(x * self.cache[len(x)])))
        user_code()
        self.last = x
        x = F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        if self.training:
            x = F.dropout(x, 0.1)
        return self.head(x.view(len(x), self.width, -1).sum(2) * self.scale(16))


class Sentence(nn.Module):
    """A tied embedding, attention on its fast path, a layer norm and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.back = nn.Linear(6, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        user_code()
        x = self.embed(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        user_code()
        x = x + self.down(torch.tanh(self.up(x)))
        return self.head(x + self.back(self.lstm(x)[0]))


class Plain(nn.Module):
    """Three layers; two share a list of sizes, one is frozen, one is expanded from a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 8), nn.Linear(8, 10), nn.Linear(10, 4)
        self.two.weight.requires_grad_(False)
        self.sizes = [8, 10]
        self.register_buffer("scale", torch.ones(1).expand(10))

    def forward(self, x: Tensor) -> Tensor:
        user_code()
        x = torch.tanh(self.one(x)).view(-1, self.sizes[0])
        return self.three(F.relu(self.two(x) * self.scale).view(-1, self.sizes[1]))


def _picture() -> tuple[nn.Module, Tensor]:
    return Picture(), torch.randn(2, 3, 4, 4)


def _sentence() -> tuple[nn.Module, Tensor]:
    return Sentence(), torch.randint(0, 11, (2, 3))


def _plain() -> tuple[nn.Module, Tensor]:
    return Plain(), torch.randn(3, 6)


NETS = {"picture": _picture, "sentence": _sentence, "plain": _plain}
