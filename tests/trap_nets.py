"""Small nets that pruning tools get wrong, each with what must hold for it.

A net is a function that returns a model; ``@trap`` lists it with its inputs and with the axes that must
be pruned, must stay, or may do either as long as a reason is given. Axes are written ``conv.weight[0]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


class Net(nn.Module):
    """A model from a function of itself and its inputs, and what it holds: layers, parameters, numbers."""

    def __init__(self, forward: Callable, **parts) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


@frozen
class Trap:
    """One net: how to build it, its inputs, and the fate of its axes."""

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    prunes: tuple[str, ...]
    stays: tuple[str, ...]
    either: tuple[str, ...]

    def __str__(self) -> str:
        return self.build.__name__

    def inputs(self) -> tuple[Tensor, ...]:
        """Random example inputs."""
        return tuple(torch.randn(shape) for shape in self.shapes)


TRAPS: list[Trap] = []


def trap(*shapes: tuple[int, ...], prunes: str = "", stays: str = "", either: str = "") -> Callable:
    """List the decorated function as a trap with inputs of these shapes."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        TRAPS.append(Trap(build, shapes, tuple(prunes.split()), tuple(stays.split()), tuple(either.split())))
        return build

    return register


def conv(inputs: int, outputs: int, size: int = 1, **options) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class Head(nn.Module):
    """Pools an image and classifies it."""

    def __init__(self, inputs: int, classes: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(x).mean((2, 3)))


IMAGE = (2, 3, 6, 6)
SEQUENCE = (2, 5, 7)


# --- chunks and concatenations -----------------------------------------------------------------------------


def chunked(combine: Callable) -> nn.Module:
    return Net(combine, a=conv(3, 16), b=conv(8, 10), c=conv(8, 10), head=Head(10))


@trap(IMAGE, prunes="a.weight[0] b.weight[0] b.weight[1] c.weight[1]")
def chunks_used_in_order():
    def forward(self, x):
        u, v = self.a(x).chunk(2, 1)
        return self.head(self.b(u) + self.c(v))

    return chunked(forward)


@trap(IMAGE, prunes="a.weight[0] b.weight[0] b.weight[1] c.weight[1]")
def chunks_used_in_reverse():
    def forward(self, x):
        u, v = self.a(x).chunk(2, 1)
        return self.head(self.c(v) + self.b(u))

    return chunked(forward)


@trap(IMAGE, prunes="enter.weight[0] b1.weight[0] b2.weight[0] leave.weight[0] leave.weight[1]")
def chunk_used_twice():
    """YOLO's C2f: split, a chain of branches, and all of them concatenated."""

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        parts.append(F.silu(self.b1(parts[-1])))
        parts.append(F.silu(self.b2(parts[-1])))
        return self.head(self.leave(torch.cat(parts, 1)))

    return Net(
        forward,
        enter=conv(3, 16),
        b1=conv(8, 8, 3),
        b2=conv(8, 8, 3),
        leave=conv(32, 12),
        head=Head(12),
    )


@trap(IMAGE, prunes="a.weight[0] c.weight[1] c.weight[0]")
def split_by_attribute():
    def forward(self, x):
        u, v = torch.split(self.a(x), self.width, dim=1)
        return self.head(self.c(u * torch.sigmoid(v)))

    return Net(forward, width=8, a=conv(3, 16), c=conv(8, 12), head=Head(12))


@trap(IMAGE, prunes="f.weight[0] g.weight[1] g.weight[0]")
def input_concatenated_before():
    def forward(self, x):
        return self.head(self.g(torch.cat([x, F.relu(self.f(x))], 1)))

    return Net(forward, f=conv(3, 8), g=conv(11, 10), head=Head(10))


@trap(IMAGE, prunes="f.weight[0] g.weight[1] g.weight[0]")
def input_concatenated_after():
    def forward(self, x):
        return self.head(self.g(torch.cat([F.relu(self.f(x)), x], 1)))

    return Net(forward, f=conv(3, 8), g=conv(11, 10), head=Head(10))


# --- reshaping and reordering channels ---------------------------------------------------------------------


@trap(IMAGE, prunes="a.weight[0] out.weight[1]")
def channels_last_flatten():
    def forward(self, x):
        return self.out(F.relu(self.a(x)).permute(0, 2, 3, 1).flatten(1))

    return Net(forward, a=conv(3, 8), out=nn.Linear(8 * 36, 3))


@trap(IMAGE, prunes="a.weight[0] out.weight[1]")
def channels_first_flatten():
    return Net(lambda self, x: self.out(F.relu(self.a(x)).flatten(1)), a=conv(3, 8), out=nn.Linear(8 * 36, 3))


@trap((2, 3, 2, 4, 4), prunes="a.weight[0] out.weight[1]")
def flatten_of_five_axes():
    def forward(self, x):
        return self.out(torch.flatten(F.relu(self.a(x)), 1))

    return Net(forward, a=nn.Conv3d(3, 8, 1), out=nn.Linear(8 * 32, 3))


@trap((2, 3, 9), prunes="a.weight[0] out.weight[1]")
def flatten_of_three_axes():
    def forward(self, x):
        return self.out(F.relu(self.a(x)).view(x.size(0), -1))

    return Net(forward, a=nn.Conv1d(3, 8, 1), out=nn.Linear(72, 3))


@trap(IMAGE, either="a.weight[0]", prunes="b.weight[0]")
def channel_shuffle():
    def forward(self, x):
        x = F.relu(self.a(x))
        n, c, h, w = x.shape
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.b(x))

    return Net(forward, groups=2, a=conv(3, 16), b=conv(16, 12), head=Head(12))


@trap(IMAGE, either="a.weight[0]", prunes="b.weight[0]")
def flipped_channels():
    def forward(self, x):
        return self.head(self.b(F.relu(self.a(x)).flip(1)))

    return Net(forward, a=conv(3, 16), b=conv(16, 12), head=Head(12))


@trap(IMAGE, either="a.weight[0]", prunes="b.weight[0]")
def rolled_channels():
    def forward(self, x):
        return self.head(self.b(F.relu(self.a(x)).roll(3, 1)))

    return Net(forward, a=conv(3, 16), b=conv(16, 12), head=Head(12))


@trap(IMAGE, either="a.weight[0]", prunes="b.weight[0]")
def selected_channels():
    def forward(self, x):
        order = torch.tensor([5, 3, 0, 1, 9, 2, 8, 4, 7, 6])
        return self.head(self.b(F.relu(self.a(x)).index_select(1, order)))

    return Net(forward, a=conv(3, 10), b=conv(10, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] b.weight[1] b.weight[0]")
def pixel_shuffle():
    def forward(self, x):
        return self.head(self.b(F.relu(self.up(self.a(x)))))

    return Net(forward, a=conv(3, 32), up=nn.PixelShuffle(2), b=conv(8, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] b.weight[1] b.weight[0]")
def pixel_unshuffle():
    def forward(self, x):
        return self.head(self.b(F.pixel_unshuffle(F.relu(self.a(x)), 2)))

    return Net(forward, a=conv(3, 8), b=conv(32, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] b.weight[1] b.weight[0]")
def unfold_and_fold():
    def forward(self, x):
        columns = F.unfold(F.relu(self.a(x)), 2, stride=2)
        return self.head(F.fold(self.b(columns.unsqueeze(-1)).squeeze(-1), (6, 6), 2, stride=2))

    return Net(forward, a=conv(3, 8), b=conv(32, 48), head=Head(12))


# --- broadcasting ------------------------------------------------------------------------------------------


@trap(IMAGE, (2, 1, 6, 6), prunes="a.weight[0] b.weight[1] b.weight[0]")
def one_channel_mask():
    def forward(self, x, mask):
        return self.head(self.b(F.relu(self.a(x)) * mask))

    return Net(forward, a=conv(3, 16), b=conv(16, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] gate.weight[1] b.weight[1]", stays="gate.weight[0]")
def one_channel_gate():
    def forward(self, x):
        x = F.relu(self.a(x))
        return self.head(self.b(x * torch.sigmoid(self.gate(x))))

    return Net(forward, a=conv(3, 16), gate=conv(16, 1), b=conv(16, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] squeeze.weight[0] squeeze.weight[1] excite.weight[0] b.weight[1]")
def squeeze_and_excite():
    def forward(self, x):
        x = F.relu(self.a(x))
        n, c, _, _ = x.size()
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1).view(n, c))))
        return self.head(self.b(x * torch.sigmoid(gate).view(n, c, 1, 1)))

    return Net(
        forward,
        a=conv(3, 16),
        squeeze=nn.Linear(16, 8),
        excite=nn.Linear(8, 16),
        b=conv(16, 12),
        head=Head(12),
    )


@trap(IMAGE, prunes="a.weight[0] scale[0] b.weight[1]")
def scale_of_static_shape():
    def forward(self, x):
        return self.head(self.b(F.relu(self.a(x)) * self.scale.view(1, self.channels, 1, 1)))

    return Net(
        forward,
        channels=16,
        scale=nn.Parameter(torch.randn(16)),
        a=conv(3, 16),
        b=conv(16, 12),
        head=Head(12),
    )


@trap(IMAGE, prunes="a.weight[0] scale[0] b.weight[1]")
def scale_of_open_shape():
    def forward(self, x):
        return self.head(self.b(F.relu(self.a(x)) * self.scale.view(1, -1, 1, 1)))

    return Net(forward, scale=nn.Parameter(torch.randn(16)), a=conv(3, 16), b=conv(16, 12), head=Head(12))


# --- convolutions ------------------------------------------------------------------------------------------


@trap(IMAGE, prunes="a.weight[0] deep.weight[0] b.weight[1] b.weight[0]")
def depthwise_multiplier():
    def forward(self, x):
        return self.head(self.b(F.relu(self.deep(self.a(x)))))

    return Net(forward, a=conv(3, 8), deep=conv(8, 24, 3, groups=8), b=conv(24, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] grouped.weight[0] b.weight[1] b.weight[0]")
def grouped_convolution():
    def forward(self, x):
        return self.head(self.b(F.relu(self.grouped(F.relu(self.a(x))))))

    return Net(forward, a=conv(3, 16), grouped=conv(16, 24, 3, groups=4), b=conv(24, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] up.weight[0] b.weight[1] b.weight[0]")
def grouped_transposed_convolution():
    def forward(self, x):
        return self.head(self.b(F.relu(self.up(F.relu(self.a(x))))))

    up = nn.ConvTranspose2d(16, 24, 2, stride=2, groups=4)
    return Net(forward, a=conv(3, 16), up=up, b=conv(24, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] up.weight[0] b.weight[1] b.weight[0]")
def depthwise_transposed_convolution():
    def forward(self, x):
        return self.head(self.b(F.relu(self.up(F.relu(self.a(x))))))

    up = nn.ConvTranspose2d(16, 16, 2, stride=2, groups=16)
    return Net(forward, a=conv(3, 16), up=up, b=conv(16, 12), head=Head(12))


@trap(IMAGE, prunes="a.weight[0] up.weight[0] up.weight[1] b.weight[1]")
def transposed_convolution():
    def forward(self, x):
        return self.head(self.b(F.relu(self.up(F.relu(self.a(x))))))

    return Net(
        forward,
        a=conv(3, 16),
        up=nn.ConvTranspose2d(16, 10, 2, stride=2),
        b=conv(10, 12),
        head=Head(12),
    )


@trap(IMAGE, prunes="kernel[0] bias[0] matrix[1] matrix[0]")
def functional_layers():
    def forward(self, x):
        x = F.relu(F.conv2d(x, self.kernel, self.bias, padding=1)).mean((2, 3))
        return self.out(F.relu(F.linear(x, self.matrix)))

    return Net(
        forward,
        kernel=nn.Parameter(torch.randn(16, 3, 3, 3)),
        bias=nn.Parameter(torch.randn(16)),
        matrix=nn.Parameter(torch.randn(12, 16)),
        out=nn.Linear(12, 3),
    )


# --- norms -------------------------------------------------------------------------------------------------


def normed(norm: nn.Module, inner: int = 12) -> nn.Module:
    """A norm over the channels between two convolutions, and one more convolution, which is exact."""

    def forward(self, x):
        return self.head(self.c(F.relu(self.b(F.relu(self.norm(self.a(x)))))))

    return Net(forward, a=conv(3, 16), norm=norm, b=conv(16, inner), c=conv(inner, 10), head=Head(10))


@trap(IMAGE, prunes="a.weight[0] norm.weight[0] norm.running_mean[0] b.weight[1]")
def batch_norm():
    return normed(nn.BatchNorm2d(16))


@trap(IMAGE, prunes="a.weight[0] norm.weight[0] b.weight[1]")
def group_norm():
    return normed(nn.GroupNorm(4, 16))


@trap(IMAGE, prunes="a.weight[0] b.weight[1] b.weight[0]")
def group_norm_without_affine():
    return normed(nn.GroupNorm(4, 16, affine=False))


@trap(IMAGE, prunes="a.weight[0] norm.weight[0] norm.running_var[0] b.weight[1]")
def instance_norm_with_statistics():
    return normed(nn.InstanceNorm2d(16, affine=True, track_running_stats=True))


@trap(IMAGE, prunes="a.weight[0] norm.weight[0] b.weight[1]")
def instance_norm():
    return normed(nn.InstanceNorm2d(16, affine=True))


def widths_follow(norm: nn.Module) -> nn.Module:
    """A norm over the last axis, with an exact hidden layer after it."""

    def forward(self, x):
        return self.out(F.relu(self.hidden(self.norm(self.enter(x)))))

    return Net(forward, enter=nn.Linear(7, 16), norm=norm, hidden=nn.Linear(16, 20), out=nn.Linear(20, 3))


@trap(SEQUENCE, prunes="hidden.weight[0]")
def layer_norm():
    return widths_follow(nn.LayerNorm(16))


@trap(SEQUENCE, prunes="hidden.weight[0]")
def layer_norm_without_bias():
    return widths_follow(nn.LayerNorm(16, bias=False))


@trap(SEQUENCE, prunes="hidden.weight[0]")
def rms_norm():
    return widths_follow(nn.RMSNorm(16))


class GlobalResponseNorm(nn.Module):
    """The norm of ConvNeXt V2: each channel relative to the mean of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        strength = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        relative = strength / (strength.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * relative) + self.beta + x


@trap((2, 5, 5, 7), prunes="hidden.weight[0]")
def global_response_norm():
    return widths_follow(GlobalResponseNorm(16))


# --- parametrized weights ----------------------------------------------------------------------------------


def two_convolutions(first: nn.Module, second: nn.Module) -> nn.Module:
    """Two convolutions 3 -> 16 -> 12 and a head."""

    def forward(self, x):
        return self.head(self.b(F.relu(self.a(x))))

    return Net(forward, a=first, b=second, head=Head(12))


@trap(IMAGE, prunes="a.weight_v[0] a.weight_g[0] b.weight_v[1] b.weight_v[0] b.weight_g[0]")
def weight_norm_old():
    with torch.no_grad():
        return two_convolutions(weight_norm(conv(3, 16)), weight_norm(conv(16, 12, 3)))


@trap(
    IMAGE,
    prunes="a.parametrizations.weight.original1[0] b.parametrizations.weight.original1[1] "
    "b.parametrizations.weight.original0[0] b.parametrizations.weight.original1[0]",
)
def weight_norm_parametrized():
    return two_convolutions(
        parametrizations.weight_norm(conv(3, 16)), parametrizations.weight_norm(conv(16, 12, 3))
    )


@trap(IMAGE, prunes="a.weight_orig[0] b.weight_orig[1] b.weight_orig[0] head.linear.weight[1]")
def spectral_norm_old():
    with torch.no_grad():
        return two_convolutions(spectral_norm(conv(3, 16)), spectral_norm(conv(16, 12, 3)))


@trap(
    IMAGE,
    prunes="a.parametrizations.weight.original[0] b.parametrizations.weight.original[1] "
    "b.parametrizations.weight.original[0] head.linear.weight[1]",
)
def spectral_norm_parametrized():
    return two_convolutions(
        parametrizations.spectral_norm(conv(3, 16)), parametrizations.spectral_norm(conv(16, 12, 3))
    )


class StandardizedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1, taken over their inputs."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, self.stride, self.padding)


@trap(IMAGE, prunes="b.weight[0] head.linear.weight[1]")
def weight_standardisation():
    return two_convolutions(StandardizedConv(3, 16, 1), StandardizedConv(16, 12, 3, padding=1))


# --- parameters by use, not by size ------------------------------------------------------------------------


@trap(SEQUENCE, prunes="a.weight[0] out.weight[1]")
def square_table():
    """x W x: the table's two axes are the same slots because both are used with x."""

    def forward(self, x):
        x = torch.tanh(self.a(x))
        return self.out(x) + ((x @ self.table) * x).sum(-1, keepdim=True)

    return Net(forward, a=nn.Linear(7, 12), table=nn.Parameter(torch.randn(12, 12)), out=nn.Linear(12, 3))


@trap(SEQUENCE, prunes="a.weight[0] b.weight[0] table[0] table[1] out.weight[1]")
def square_table_between_two_layers():
    """The same size on both sides, but two different layers: not one group."""

    def forward(self, x):
        u, v = torch.tanh(self.a(x)), torch.tanh(self.b(x))
        return self.out(u) + ((u @ self.table) * v).sum(-1, keepdim=True)

    return Net(
        forward,
        a=nn.Linear(7, 12),
        b=nn.Linear(7, 12),
        table=nn.Parameter(torch.randn(12, 12)),
        out=nn.Linear(12, 3),
    )


@trap(SEQUENCE, prunes="a.weight[0] matrix[1]")
def einsum():
    def forward(self, x):
        return self.out(F.relu(torch.einsum("bld,hd->blh", F.relu(self.a(x)), self.matrix)))

    return Net(forward, a=nn.Linear(7, 16), matrix=nn.Parameter(torch.randn(12, 16)), out=nn.Linear(12, 3))


@trap(SEQUENCE, prunes="hidden.weight[0] last.weight[1]", stays="hidden.weight[1] last.weight[0]")
def token_mixing():
    def forward(self, x):
        x = x + self.last(F.gelu(self.hidden(x.transpose(1, 2)))).transpose(1, 2)
        return self.out(x)

    return Net(forward, hidden=nn.Linear(5, 16), last=nn.Linear(16, 5), out=nn.Linear(7, 3))


# --- attention ---------------------------------------------------------------------------------------------


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in [batch, heads, length, size] with a temperature from the size."""
    weight = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return weight.softmax(-1) @ v


def fused(forward: Callable, **numbers: int) -> nn.Module:
    """A fused projection to queries, keys and values of four heads of size six."""
    return Net(
        forward,
        enter=nn.Linear(7, 10),
        qkv=nn.Linear(10, 72),
        proj=nn.Linear(24, 10),
        out=nn.Linear(10, 3),
        **numbers,
    )


FUSED = "qkv.weight[0] qkv.bias[0] proj.weight[1] enter.weight[0]"


@trap(SEQUENCE, prunes=FUSED)
def qkv_by_permute():
    def forward(self, x):
        x = self.enter(x)
        n, l, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, l, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(x + self.proj(attend(q, k, v).transpose(1, 2).reshape(n, l, self.heads * self.size)))

    return fused(forward, heads=4, size=6)


@trap(SEQUENCE, prunes=FUSED)
def qkv_by_chunk():
    def forward(self, x):
        x = self.enter(x)
        n, l, _ = x.shape
        parts = [part.view(n, l, -1, self.size).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)]
        return self.out(x + self.proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)))

    return fused(forward, size=6)


@trap(SEQUENCE, prunes=FUSED)
def qkv_by_split():
    def forward(self, x):
        x = self.enter(x)
        n, l, _ = x.shape
        width = self.heads * self.size
        parts = self.qkv(x).split([width, width, width], dim=-1)
        q, k, v = (part.view(n, l, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        return self.out(x + self.proj(attend(q, k, v).transpose(1, 2).reshape(n, l, -1)))

    return fused(forward, heads=4, size=6)


@trap(SEQUENCE, prunes=FUSED)
def qkv_per_head():
    """GPT-NeoX: heads outside, then queries, keys and values of each head next to each other."""

    def forward(self, x):
        x = self.enter(x)
        n, l, _ = x.shape
        q, k, v = self.qkv(x).view(n, l, -1, 3 * self.size).transpose(1, 2).chunk(3, dim=-1)
        return self.out(x + self.proj(attend(q, k, v).transpose(1, 2).reshape(n, l, -1)))

    return fused(forward, size=6)


def grouped_query(spread: Callable) -> nn.Module:
    """Eight query heads on four key and value heads of size six; ``spread`` shares them out."""

    def forward(self, x):
        n, l, _ = x.shape
        q = self.q(x).view(n, l, -1, self.size).transpose(1, 2)
        k = self.k(x).view(n, l, -1, self.size).transpose(1, 2)
        v = self.v(x).view(n, l, -1, self.size).transpose(1, 2)
        return self.proj(spread(self, q, k, v).transpose(1, 2).reshape(n, l, -1))

    return Net(
        forward,
        size=6,
        shared=2,
        q=nn.Linear(7, 48),
        k=nn.Linear(7, 24),
        v=nn.Linear(7, 24),
        proj=nn.Linear(48, 3),
    )


GROUPED = "q.weight[0] k.weight[0] v.weight[0] proj.weight[1]"


@trap(SEQUENCE, prunes=GROUPED)
def grouped_query_by_repeat_interleave():
    def spread(self, q, k, v):
        return attend(q, k.repeat_interleave(self.shared, dim=1), v.repeat_interleave(self.shared, dim=1))

    return grouped_query(spread)


@trap(SEQUENCE, prunes=GROUPED)
def grouped_query_by_expand():
    def repeat(x, times):
        n, heads, l, size = x.shape
        return x[:, :, None].expand(n, heads, times, l, size).reshape(n, heads * times, l, size)

    return grouped_query(lambda self, q, k, v: attend(q, repeat(k, self.shared), repeat(v, self.shared)))


@trap(SEQUENCE, prunes=GROUPED)
def grouped_query_by_flag():
    return grouped_query(lambda self, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))


def multihead(forward: Callable, batch_first: bool = True, **sizes: int) -> nn.Module:
    """``nn.MultiheadAttention`` with four heads between two layers."""
    return Net(
        forward,
        enter=nn.Linear(7, 24),
        mha=nn.MultiheadAttention(24, 4, batch_first=batch_first, **sizes),
        hidden=nn.Linear(24, 18),
        out=nn.Linear(18, 3),
    )


@trap(SEQUENCE, prunes="mha.in_proj_weight[0] mha.out_proj.weight[1] hidden.weight[0]")
def multihead_attention():
    def forward(self, x):
        x = self.enter(x)
        return self.out(F.relu(self.hidden(self.mha(x, x, x, need_weights=False)[0])))

    return multihead(forward)


@trap(SEQUENCE, prunes="mha.in_proj_weight[0] mha.out_proj.weight[1] hidden.weight[0]")
def multihead_attention_length_first():
    def forward(self, x):
        x = self.enter(x).transpose(0, 1)
        return self.out(F.relu(self.hidden(self.mha(x, x, x)[0]))).transpose(0, 1)

    return multihead(forward, batch_first=False)


@trap(SEQUENCE, prunes="mha.in_proj_weight[0] mha.out_proj.weight[1] hidden.weight[0]")
def multihead_attention_with_weights():
    def forward(self, x):
        x = self.enter(x)
        return self.out(F.relu(self.hidden(self.mha(x, x, x, need_weights=True)[0])))

    return multihead(forward)


@trap(
    SEQUENCE,
    (2, 6, 9),
    (2, 6, 11),
    prunes="mha.q_proj_weight[0] mha.k_proj_weight[0] mha.v_proj_weight[0] mha.out_proj.weight[1]",
)
def multihead_attention_of_other_sizes():
    def forward(self, x, key, value):
        return self.out(F.relu(self.hidden(self.mha(self.enter(x), key, value, need_weights=False)[0])))

    return multihead(forward, kdim=9, vdim=11)


# --- recurrent layers --------------------------------------------------------------------------------------


def recurrent(layer: nn.Module, width: int) -> nn.Module:
    """A linear layer, a recurrent layer and a linear layer on all its states."""

    def forward(self, x):
        return self.out(self.rnn(torch.tanh(self.enter(x)))[0])

    return Net(forward, enter=nn.Linear(7, 10), rnn=layer, out=nn.Linear(width, 3))


RECURRENT = "enter.weight[0] rnn.weight_ih_l0[0] rnn.weight_ih_l0[1] rnn.weight_hh_l0[1] out.weight[1]"


@trap(SEQUENCE, prunes=RECURRENT)
def lstm():
    return recurrent(nn.LSTM(10, 12), 12)


@trap(SEQUENCE, prunes=RECURRENT + " rnn.weight_ih_l1_reverse[0]")
def lstm_deep_bidirectional():
    return recurrent(nn.LSTM(10, 12, num_layers=2, bidirectional=True, batch_first=True), 24)


@trap(
    SEQUENCE,
    prunes="enter.weight[0] rnn.weight_ih_l0[0] rnn.weight_hr_l0[0] rnn.weight_hr_l0[1] out.weight[1]",
)
def lstm_projected():
    return recurrent(nn.LSTM(10, 12, num_layers=2, proj_size=8, batch_first=True), 8)


@trap(SEQUENCE, prunes=RECURRENT)
def gru():
    return recurrent(nn.GRU(10, 12, batch_first=True), 12)


@trap(SEQUENCE, prunes=RECURRENT + " rnn.weight_ih_l1_reverse[0]")
def gru_deep_bidirectional():
    return recurrent(nn.GRU(10, 12, num_layers=2, bidirectional=True), 24)


@trap(SEQUENCE, prunes=RECURRENT)
def plain_rnn():
    return recurrent(nn.RNN(10, 12, num_layers=2, nonlinearity="relu", batch_first=True), 12)


@trap(SEQUENCE, prunes="first.weight[0] rnn.weight_hh_l0[1] out.weight[1]")
def lstm_with_initial_states():
    def forward(self, x):
        h = self.first(x[:, 0]).unsqueeze(0)
        c = torch.zeros(1, x.shape[0], self.rnn.hidden_size)
        return self.out(self.rnn(x, (h, c))[0])

    return Net(forward, first=nn.Linear(7, 12), rnn=nn.LSTM(7, 12, batch_first=True), out=nn.Linear(12, 3))


@trap(SEQUENCE, prunes="rnn.weight_hh_l0[1] out.weight[1]")
def gru_final_state():
    def forward(self, x):
        return self.out(self.rnn(x)[1][-1])

    return Net(forward, rnn=nn.GRU(7, 12, num_layers=2, batch_first=True), out=nn.Linear(12, 3))


# --- sharing -----------------------------------------------------------------------------------------------


@trap(SEQUENCE, prunes="enter.weight[0] twice.weight[0] twice.weight[1] out.weight[1]")
def one_module_called_twice():
    def forward(self, x):
        return self.out(F.relu(self.twice(F.relu(self.twice(F.relu(self.enter(x)))))))

    return Net(forward, enter=nn.Linear(7, 12), twice=nn.Linear(12, 12), out=nn.Linear(12, 3))


@trap(SEQUENCE, prunes="a.weight[0] b.weight[0] out.weight[1]")
def one_parameter_under_two_names():
    def forward(self, x):
        return self.out(F.relu(self.a(x)) * torch.sigmoid(self.b(x)))

    net = Net(forward, a=nn.Linear(7, 12), b=nn.Linear(7, 12), out=nn.Linear(12, 3))
    net.b.weight = net.a.weight
    return net
