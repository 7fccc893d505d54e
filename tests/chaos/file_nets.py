"""Models whose files are tampered with: of each kind of thing that a file says something of."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def images() -> nn.Module:
    """Convolutions, one of them depthwise, with their channels last in memory."""
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(6, 4, 3)).to(memory_format=torch.channels_last)


class Language(nn.Module):
    """Attention with heads, tied weights, and tensors that are no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.table, self.out = nn.Embedding(11, 16), nn.Linear(16, 11, bias=False)
        self.out.weight = self.table.weight
        self.qkv, self.join, self.norm = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)
        self.hidden, self.back = nn.Linear(16, 24), nn.Linear(24, 16)
        self.register_buffer("gain", torch.rand(24), persistent=False)
        self.shift = torch.rand(24)
        self.register_buffer("steps", torch.tensor(3))
        self.rate, self.name = 0.5, "language"

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        n, l, _ = x.shape
        q, k, v = self.qkv(x).view(n, l, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, l, -1))
        x = self.norm(x)
        return self.out(x + self.back(F.gelu(self.hidden(x)) * self.gain + self.shift))


class Settings(nn.Module):
    """Sizes wherever a module can keep them, and a table that the forward makes for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Namespace(width=12, inner=Namespace(heads=3), flag=True)
        self.sizes = {"wide": [12, 5], None: 4, (1, "a"): 12}
        self.ordered = OrderedDict(width=12)
        self.shape, self.pair, self.count = torch.Size([12]), (4, 12), np.int64(12)
        self.table = None
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        if self.table is None:
            self.table = torch.ones(h.shape[1]) / 2
        h = F.layer_norm(h, self.shape) * self.table
        h = h.view(-1, self.config.width // self.pair[0], self.pair[0]).flatten(1)
        h = h.view(-1, self.sizes["wide"][0]).view(-1, self.count).view(-1, self.ordered["width"])
        return self.leave(h.relu())


class Half(nn.Module):
    """In half precision, with a weight that is computed from two others."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x.to(torch.bfloat16)).relu())


NETS = {
    "images": (images, torch.randn(2, 3, 8, 8)),
    "language": (Language, torch.arange(6).reshape(2, 3)),
    "settings": (Settings, torch.randn(2, 6)),
    "half": (Half, torch.randn(2, 6)),
}
