"""Small networks that share what threads share: classes, and files with cached functions."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@functools.lru_cache
def angles(length: int, width: int) -> Tensor:
    """A table that all models of this file share."""
    return torch.outer(torch.arange(length).float(), 1 / torch.arange(1, width + 1).float())


class Cubed(torch.autograd.Function):
    """What torch sees no call of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Block(nn.Module):
    """Convolutions with a residual, widths as attributes, a function of autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 10, 1), nn.Conv2d(10, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.outer(Cubed.apply(self.inner(x)))
        return self.head(x.view(len(x), self.width, -1).mean(2))


class Attention(nn.Module):
    """Attention of torch, with its fast path, and attention by hand whose sizes a config tells."""

    def __init__(self) -> None:
        super().__init__()
        self.config = config = SimpleNamespace(width=12, heads=3)
        self.embed = nn.Linear(5, config.width)
        self.attention = nn.MultiheadAttention(config.width, config.heads, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(config.width, 2, 16, batch_first=True)
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)
        self.head = nn.Linear(config.width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + angles(x.shape[1], self.config.width)
        x = self.encoder(x + self.attention(x, x, x, need_weights=False)[0])
        heads, length = self.config.heads, self.config.width // self.config.heads
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, heads, length).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x).sum(1)


class Recurrent(nn.Module):
    """An LSTM, layers in a plain list, noise of a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.order = [self.layers[1], self.layers[0]]
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        x = self.lstm(x)[0]
        noise = torch.rand(x.shape[:2], generator=self.generator.manual_seed(1))
        for layer in self.order:
            x = torch.tanh(layer(x)) * noise[..., None]
        return x.mean(1)


NETS: dict[type[nn.Module], Tensor] = {
    Block: torch.linspace(-1, 1, 2 * 3 * 5 * 5).view(2, 3, 5, 5),
    Attention: torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5),
    Recurrent: torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5),
}


def made(kind: type[nn.Module], seed: int) -> nn.Module:
    """A network of that kind with the weights of that seed, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model = kind().eval()
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model
