"""Operators and modules of users, of which the corpus speaks: nothing can look into a custom operator."""

# Schemas are read off the annotations, which must not be strings.
import math

import torch
from torch import Tensor, nn
from torch.library import custom_op


def operator(function):
    """Make a function an opaque operator of its own."""
    return custom_op(f"corpus::{function.__name__}", function, mutates_args=())


# --- gates ----------------------------------------------------------------------------------------------


@operator
def gate(x: Tensor) -> Tensor:
    """The first half of the channels, each weighted by one of the second half."""
    values, weights = x.chunk(2, 1)
    return values * weights.sigmoid()


@operator
def interleaved_gate(x: Tensor) -> Tensor:
    """Every other channel weighted by the one that follows it."""
    return x[:, ::2] * x[:, 1::2].sigmoid()


@operator
def fused_gate(x: Tensor, up: Tensor, gates: Tensor) -> Tensor:
    """Two projections, of which one gates the other."""
    return nn.functional.silu(x @ gates.T) * (x @ up.T)


@operator
def packed_gate(x: Tensor, weight: Tensor) -> Tensor:
    """The same with both projections in one weight, one after the other."""
    gates, up = nn.functional.linear(x, weight).chunk(2, -1)
    return nn.functional.silu(gates) * up


@operator
def cell(x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM cell: four gates one after the other on the first axis of the weights."""
    i, f, g, o = (x @ w.T + h @ u.T + bias).chunk(4, -1)
    new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * new.tanh(), new


# --- weights --------------------------------------------------------------------------------------------


@operator
def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return nn.functional.linear(x, weight, bias)


@operator
def transposed(x: Tensor, weight: Tensor) -> Tensor:
    """A linear layer whose weight has the inputs first."""
    return x @ weight


@operator
def square(x: Tensor, weight: Tensor) -> Tensor:
    """A linear layer for square weights only."""
    if weight.shape[0] != weight.shape[1]:
        raise ValueError("the weight must be square")
    return x @ weight.T


@operator
def grouped_linear(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Each group of inputs has a weight of its own, of shape (groups * out, in)."""
    parts = zip(x.chunk(groups, -1), weight.chunk(groups, 0))
    return torch.cat([part @ own.T for part, own in parts], -1)


@operator
def separable(x: Tensor, depth: Tensor, point: Tensor) -> Tensor:
    """A depthwise convolution and one of single pixels."""
    y = torch.conv2d(x, depth[:, None], groups=x.shape[1])
    return torch.conv2d(y, point[:, :, None, None])


@operator
def unshuffle_linear(x: Tensor, weight: Tensor, r: int) -> Tensor:
    """Blocks of r by r pixels become channels, which a linear layer reads."""
    y = nn.functional.pixel_unshuffle(x, r)
    return torch.einsum("nchw,oc->nohw", y, weight)


@operator
def layer_scale(x: Tensor, scale: Tensor) -> Tensor:
    return x * scale


@operator
def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * scale + shift


@operator
def token_mixing(x: Tensor, weight: Tensor) -> Tensor:
    """Positions are mixed by a weight, channels are left alone."""
    return torch.einsum("bnc,mn->bmc", x, weight)


@operator
def bag(indices: Tensor, table: Tensor) -> Tensor:
    """The sum of some rows of a table."""
    return table[indices].sum(-2)


@operator
def low_rank(x: Tensor, down: Tensor, up: Tensor, scale: float = 2.0) -> Tensor:
    return scale * (x @ down.T @ up.T)


# --- statistics -----------------------------------------------------------------------------------------


@operator
def weights_of_rows(x: Tensor) -> Tensor:
    return x.softmax(-1)


@operator
def standardise(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], scale, shift)


@operator
def root_mean_square(x: Tensor, scale: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale


@operator
def by_running(x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return nn.functional.batch_norm(x, mean, var, scale, shift)


@operator
def by_groups(x: Tensor, groups: int) -> Tensor:
    return nn.functional.group_norm(x, groups)


@operator
def plus_total(x: Tensor) -> Tensor:
    """Every channel, and the sum of all."""
    return x + x.sum(-1, keepdim=True)


@operator
def global_response(x: Tensor, scale: Tensor) -> Tensor:
    """Each channel by its norm relative to the mean norm of all (ConvNeXt V2)."""
    norm = x.norm(dim=(1, 2), keepdim=True)
    return x * scale * norm / (norm.mean(-1, keepdim=True) + 1e-6) + x


@operator
def above_largest(x: Tensor) -> Tensor:
    return x - x.amax(-1, keepdim=True)


# --- attention ------------------------------------------------------------------------------------------


@operator
def grouped_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in which a run of query heads shares a head of key and value; of (b, heads, length, size)."""
    shared = q.shape[1] // k.shape[1]
    k, v = (one.repeat_interleave(shared, 1) for one in (k, v))
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


@operator
def qkv_attention(qkv: Tensor, heads: int) -> Tensor:
    """Self-attention on packed (b, length, 3 * heads * size)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@operator
def linear_scores(q: Tensor, k: Tensor) -> Tensor:
    """Products of queries and keys without a temperature."""
    return q @ k.mT


# --- arrangements ---------------------------------------------------------------------------------------


@operator
def mirrored(x: Tensor) -> Tensor:
    return x.flip(1)


@operator
def rolled(x: Tensor) -> Tensor:
    return x.roll(1, 1)


@operator
def swapped_ends(x: Tensor) -> Tensor:
    """Only the first and the last channel change places."""
    return torch.cat([x[:, -1:], x[:, 1:-1], x[:, :1]], 1)


@operator
def swapped_middle(x: Tensor) -> Tensor:
    """Only the third and the fourth channel change places."""
    return x[:, [0, 1, 3, 2, *range(4, x.shape[1])]] if x.shape[1] > 3 else x.clone()


@operator
def shuffled(x: Tensor, groups: int) -> Tensor:
    return nn.functional.channel_shuffle(x, groups)


@operator
def to_pixels(x: Tensor, r: int) -> Tensor:
    return nn.functional.pixel_shuffle(x, r)


@operator
def ordered(x: Tensor) -> Tensor:
    return x.sort(-1).values


@operator
def joined(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a, b], 1)


@operator
def joined_swapped(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([b, a], 1)


@operator
def reversed_sum(a: Tensor, b: Tensor) -> Tensor:
    return a + b.flip(1)


@operator
def joined_doubled(a: Tensor, b: Tensor) -> Tensor:
    """Both, each channel twice, side by side."""
    return torch.cat([a, b], 1).repeat_interleave(2, 1)


@operator
def total_of(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


@operator
def all_joined(parts: list[Tensor], dim: int) -> Tensor:
    return torch.cat(parts, dim)


@operator
def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    one, other = x.chunk(2, 1)
    return one.clone(), other.clone()


@operator
def even_and_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, ::2].clone(), x[:, 1::2].clone()


@operator
def repeated(x: Tensor) -> Tensor:
    """All channels twice, one run after the other."""
    return torch.cat([x, x], 1)


@operator
def doubled(x: Tensor) -> Tensor:
    """Each channel twice, side by side."""
    return x.repeat_interleave(2, 1)


@operator
def turned(x: Tensor) -> Tensor:
    return x.mT.clone()


@operator
def added_transposed(x: Tensor, y: Tensor) -> Tensor:
    return x + y.mT


# --- numbers that stand for something -------------------------------------------------------------------


@operator
def rectified(x: Tensor) -> Tensor:
    return x.relu()


@operator
def squashed(x: Tensor) -> Tensor:
    return x.sigmoid()


@operator
def lifted(x: Tensor) -> Tensor:
    return x + 0.5


@operator
def by_first(x: Tensor) -> Tensor:
    """Every channel by the first."""
    return x * x[:, :1]


@operator
def by_position(x: Tensor) -> Tensor:
    """Each channel by its own number."""
    return x * torch.arange(1.0, x.shape[1] + 1).to(x)


@operator
def by_count(x: Tensor) -> Tensor:
    """Divided by the root of the number of channels."""
    return x / math.sqrt(x.shape[1])


@operator
def only_three(x: Tensor) -> Tensor:
    """The first three channels count, whatever there are."""
    return x[:, :3].sum(1)


@operator
def pairs(x: Tensor) -> Tensor:
    """Neighbouring channels turn about each other."""
    if x.shape[1] % 2:
        raise ValueError("an even number of channels is needed")
    a, b = x[:, ::2], x[:, 1::2]
    return torch.stack([a - b, a + b], -1).flatten(1)


@operator
def with_neighbour(x: Tensor) -> Tensor:
    return x + 0.1 * x.roll(1, -1)


@operator
def running_total(x: Tensor, dim: int = 1, reverse: bool = False) -> Tensor:
    return x.flip(dim).cumsum(dim).flip(dim) if reverse else x.cumsum(dim)


@operator
def turning(x: Tensor, reverse: bool = False) -> Tensor:
    """Nothing happens unless it is asked for."""
    return x.flip(-1) if reverse else x.clone()


@operator
def masked_scores(x: Tensor, causal: bool = False) -> Tensor:
    """Scores of (queries, keys), of which those of later keys do not count if causal."""
    return x.tril() if causal else x.clone()


@operator
def mode_of(x: Tensor, mode: str = "keep") -> Tensor:
    return x.flip(-1) if mode == "flip" else x.clone()


@operator
def along(x: Tensor, dim: int, other: int = 0) -> Tensor:
    return x.softmax(dim)


@operator
def noisy(x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


@operator
def noisy_mirror(x: Tensor) -> Tensor:
    return x.flip(-1) + torch.randn_like(x)


CALLS = [0]


@operator
def counting(x: Tensor) -> Tensor:
    """Each call adds one more."""
    CALLS[0] += 1
    return x + CALLS[0]


@operator
def far_off(x: Tensor) -> Tensor:
    """Large channels are turned round, small ones are not."""
    return torch.where(x.abs().amax() > 1e3, x.flip(-1), x)


@operator
def kept_positive(x: Tensor) -> Tensor:
    """Turned round if the sum is negative."""
    return x.flip(-1) if x.sum() < 0 else x.clone()


@operator
def no_tensor(x: Tensor) -> float:
    return float(x.sum())


# --- modules and autograd functions ---------------------------------------------------------------------


class Gated(nn.Module):
    """A feed-forward block that one operator computes, with two weights and one that brings it back."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(fused_gate(x, self.up.weight, self.gate.weight))


class Scaled(nn.Module):
    """Layer scale with a number that must stay that of its channels."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.heads = 2
        self.scale = nn.Parameter(torch.ones(width))
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.width:
            raise ValueError(f"{self.width} channels are expected")
        return (x - self.mean) * self.scale


class Stored(nn.Module):
    """A weight of (groups, out, in), and the number of groups."""

    def __init__(self, groups: int, size: int):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(groups, size, size + 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bgi,goi->bgo", x.unflatten(-1, (self.groups, -1)), self.weight).flatten(1)


class Swish(torch.autograd.Function):
    """x times its sigmoid."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return grad * (gate + x * gate * (1 - gate))


class SquareGate(torch.autograd.Function):
    """The first half of the last axis, each by the square of one of the second half."""

    @staticmethod
    def forward(ctx, x):
        values, weights = x.chunk(2, -1)
        return values * weights.square()


@custom_op("corpus::scale_into", mutates_args=("out",))
def scale_into(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """Writes its result where it is told to."""
    out.copy_(x * weight)
