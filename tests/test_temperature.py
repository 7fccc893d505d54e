"""The temperature of attention is folded into weights, so that slots inside heads go exactly."""

import copy

import oracle
import pytest
import torch
from prunus import engine
from prunus.errors import PlanError
from torch import nn
from torch.nn import functional as F

TOKENS = torch.randn(2, 5, 24)


def heads(x, count):
    return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


class Attention(nn.Module):
    """Projections of their own for query, key and value; the inside of a head is read off the weights."""

    def __init__(self, kv_heads=4, scale=None):
        super().__init__()
        self.heads, self.kv_heads, self.scale = 4, kv_heads, scale
        self.q = nn.Linear(24, 4 * 6)
        self.k, self.v = (nn.Linear(24, kv_heads * 6) for _ in range(2))
        self.out = nn.Linear(24, 24)

    def made(self, x):
        return heads(self.q(x), self.heads), heads(self.k(x), self.kv_heads), heads(self.v(x), self.kv_heads)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale, enable_gqa=self.kv_heads < 4)

    def forward(self, x):
        return self.out(self.attend(*self.made(x)).transpose(1, 2).flatten(2))


class Fused(Attention):
    """One projection for all three, cut apart as `way` says."""

    def __init__(self, way):
        super().__init__()
        self.qkv, self.way = nn.Linear(24, 72), way

    def made(self, x):
        qkv = self.qkv(x)
        if self.way == "chunk":
            return (heads(one, 4) for one in qkv.chunk(3, dim=-1))
        if self.way == "index":
            size = qkv.shape[-1] // 3
            return (
                heads(one, 4) for one in (qkv[..., :size], qkv[..., size : 2 * size], qkv[..., 2 * size :])
            )
        if self.way == "inside":
            return qkv.view(2, 5, 4, -1).transpose(1, 2).chunk(3, dim=-1)
        return qkv.reshape(2, 5, 3, 4, -1).permute(2, 0, 3, 1, 4).unbind(0)


class Rotary(Attention):
    """Positions turn pairs of slots, as in Llama."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.tensor([0.1, 0.7, 1.1]))

    def made(self, x):
        q, k, v = super().made(x)
        angles = torch.arange(5.0)[:, None] * torch.cat([self.frequencies] * 2)
        return self.turned(q, angles), self.turned(k, angles), v

    def turned(self, x, angles):
        first, second = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()


class Normed(Attention):
    """Queries and keys are normalised over a head."""

    def __init__(self, norm):
        super().__init__()
        self.qn, self.kn = norm(6), norm(6)

    def made(self, x):
        q, k, v = super().made(x)
        return self.qn(q), self.kn(k), v


def slots_of(graph, kind="qk"):
    return [group for group in graph.groups if group.kind == kind]


def pruned(model, x=TOKENS, kinds=("qk",), keep=lambda size: range(1, size, 2)):
    """The graph, and the plan that drops every other slot of these kinds."""
    graph = engine.analyze(model, x, prefer="inner")
    groups = [group for kind in kinds for group in slots_of(graph, kind)]
    return graph, graph.plan({group.name: list(keep(group.size)) for group in groups})
