"""Small models that can be made as long, as wide or as branched as one likes; all take ``(batch, WIDTH)``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 8


class Deep(nn.Module):
    """`n` layers, one after the other."""

    def __init__(self, n: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(n))
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms):
            x = norm(layer(x)).relu()
        return x


class Residual(nn.Module):
    """`n` layers that add to one stream: one group that all of them have a part in."""

    def __init__(self, n: int):
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.last(x)


class Attentions(nn.Module):
    """`n` blocks of attention with heads, whose sizes the code computes."""

    def __init__(self, n: int, width: int = 32, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.first, self.last = nn.Linear(WIDTH, width), nn.Linear(width, WIDTH)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(n))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)[None]
        for qkv, out in zip(self.qkv, self.out):
            batch, length, width = x.shape
            parts = qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            found = nn.functional.scaled_dot_product_attention(q, k, v)
            x = x + out(found.transpose(1, 2).flatten(2))
        return self.last(x)


class Concatenation(nn.Module):
    """`n` layers side by side, put together."""

    def __init__(self, n: int, width: int = 4):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(WIDTH, width) for _ in range(n))
        self.last = nn.Linear(n * width, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([part(x) for part in self.parts], 1))


class Split(nn.Module):
    """One layer whose result is cut in `n` parts, each for a layer of its own."""

    def __init__(self, n: int, width: int = 4):
        super().__init__()
        self.n = n
        self.first = nn.Linear(WIDTH, n * width)
        self.parts = nn.ModuleList(nn.Linear(width, WIDTH) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        pieces = self.first(x).chunk(self.n, 1)
        return torch.stack([part(piece) for part, piece in zip(self.parts, pieces)]).sum(0)


class DenseBlock(nn.Module):
    """`n` layers, each of which reads what all before it have made."""

    def __init__(self, n: int):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH * (i + 1), WIDTH) for i in range(n))
        self.last = nn.Linear(WIDTH * (n + 1), WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        made = [self.first(x)]
        for layer in self.layers:
            made.append(layer(torch.cat(made, 1)).relu())
        return self.last(torch.cat(made, 1))


class Wide(nn.Sequential):
    """Two square layers of `n` slots."""

    def __init__(self, n: int):
        super().__init__(
            nn.Linear(WIDTH, n),
            nn.ReLU(),
            nn.Linear(n, n),
            nn.ReLU(),
            nn.Linear(n, n),
            nn.ReLU(),
            nn.Linear(n, WIDTH),
        )


class Slots(nn.Sequential):
    """One hidden layer of `n` slots."""

    def __init__(self, n: int):
        super().__init__(nn.Linear(WIDTH, n), nn.ReLU(), nn.Linear(n, WIDTH))


class Branches(nn.Module):
    """`n` hidden layers side by side, whose results are added up."""

    def __init__(self, n: int):
        super().__init__()
        self.ups = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(n))
        self.downs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        return sum(down(up(x).relu()) for up, down in zip(self.ups, self.downs))


def llama(layers: int) -> nn.Module:
    """A Llama 3 of 70 billion parameters at 80 layers, on the meta device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=layers,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        use_cache=False,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).eval()
