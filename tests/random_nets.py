"""Random nets over images: a chain of steps, each of which may use any of the last few results."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": lambda x: x.clamp(max=2).exp(),
    "cos": torch.cos,
    "plus": lambda x: x + 1,
    "square": lambda x: x.tanh() * x.tanh(),
    "power": lambda x: (x.abs() + 1) ** -0.5,
    "clamp": lambda x: x.clamp(min=-0.1, max=3),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "softmax": lambda x: x.softmax(1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "numbers": lambda x: x * (x.sum(1, keepdim=True) / x.shape[1]).tanh(),
    "total": lambda x: x * x.sum(1, keepdim=True).tanh(),
    "mean": lambda x: x * x.mean(1, keepdim=True).tanh(),
    "largest": lambda x: x * x.amax(1, keepdim=True).tanh(),
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(x.shape[1] // 2, 1),
    "shuffle": lambda x: x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2),
    "chunk": lambda x: torch.cat([part.relu() for part in reversed(x.chunk(2, 1))], 1),
    "split": lambda x: torch.cat([part.relu() for part in reversed(x.split(x.shape[1] // 2, 1))], 1),
    "cut": lambda x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2].relu()], 1),
}

# Those that change the number of channels, and how.
RESHAPING: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[int], int]]] = {
    "half": (lambda x: x[:, : x.shape[1] // 2], lambda width: width // 2),
    "stride": (lambda x: x[:, ::2], lambda width: width // 2),
    "narrow": (lambda x: x.narrow(1, 0, x.shape[1] // 2), lambda width: width // 2),
    "glu": (lambda x: F.glu(x, 1), lambda width: width // 2),
    "pad": (lambda x: F.pad(x, (0, 0, 0, 0, 2, 2)), lambda width: width + 4),
    "pad ones": (lambda x: F.pad(x, (0, 0, 0, 0, 2, 2), value=1.0), lambda width: width + 4),
    "inner": (lambda x: x.repeat_interleave(2, 1), lambda width: 2 * width),
    "outer": (lambda x: x.repeat(1, 2, 1, 1), lambda width: 2 * width),
}


def added_to_chunk(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    first, second = x.chunk(2, 1)
    first += second.sigmoid()
    return x + y


def written_to_slice(x: Tensor, y: Tensor) -> Tensor:
    x, half = x.clone(), x.shape[1] // 2
    x[:, :half] = y[:, half:]
    return x


def changed_through_view(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(len(x), -1).mul_(2).add_(0.5)
    return x * y.sigmoid()


def mixed(x: Tensor, y: Tensor) -> Tensor:
    gram = torch.einsum("nchw,ndhw->ncd", x.tanh(), y.tanh()) / x[0, 0].numel()
    return torch.einsum("ncd,ndhw->nchw", gram, y)


PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "multiply": lambda x, y: x * y.tanh(),
    "dot": lambda x, y: x * (x * y).sum(1, keepdim=True).tanh(),
    "mixed": mixed,
    "chunk": added_to_chunk,
    "slice": written_to_slice,
    "view": changed_through_view,
}

FEATURES = ("relu", "exp", "normalize", "tanh", "plus")


class Tokens(nn.Module):
    """A layer that wants the channels last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layer(x.mean((2, 3), keepdim=True)).sigmoid()


class Weights(nn.Module):
    """Own parameters: a scale for each channel and a matrix."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(width))
        self.matrix = nn.Parameter(torch.randn(wide, width) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", self.matrix, x * self.scale.view(1, -1, 1, 1))


class Attention(nn.Module):
    """Attention between pixels, with softmax or with features of queries and keys."""

    def __init__(self, width: int, feature: str) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.feature = feature

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        q, k = self.q(tokens), self.k(tokens)
        if self.feature == "softmax":
            y = (q @ k.transpose(1, 2)).softmax(-1) @ tokens
        else:
            q, k = (FUNCTIONS[self.feature](one) for one in (q, k))
            y = q @ (k.transpose(1, 2) @ tokens) / 10
        return y.transpose(1, 2).reshape(x.shape)


class RandomNet(nn.Module):
    """A random net of 4 to 10 steps; about every third has the same size on all of its axes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.same = self._random.random() < 0.3
        self.layers = nn.ModuleList()
        self.steps: list[tuple] = []
        self.widths = [3]
        self._add_layer(0, lambda _, wide: nn.Conv2d(3, wide, 3, padding=1), self._width())
        for _ in range(self._random.randint(3, 9)):
            self._add()
        self.head = nn.Linear(self.widths[-1], 3)

    def inputs(self) -> Tensor:
        """Images that fit."""
        return torch.randn(8, 3, 8, 8) if self.same else torch.randn(2, 3, 6, 6)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for kind, name, *sources in self.steps:
            if kind == "layer":
                seen.append(self.layers[name](seen[sources[0]]))
            else:
                seen.append(self._function(kind, name)(*(seen[source] for source in sources)))
        return self.head(seen[-1].mean((2, 3)))

    @staticmethod
    def _function(kind: str, name: str) -> Callable[..., Tensor]:
        if kind == "cat":
            return lambda *parts: torch.cat(parts, 1)
        return RESHAPING[name][0] if kind == "reshape" else (FUNCTIONS if kind == "function" else PAIRS)[name]

    def _width(self) -> int:
        return 8 if self.same else self._random.choice([4, 8, 12, 16])

    def _add(self) -> None:
        choose = self._random.choice
        source = self._random.randint(max(1, len(self.widths) - 3), len(self.widths) - 1)
        width = self.widths[source]
        kind = "layer" if width % 4 else choose(["layer", "layer", "function", "reshape", "pair", "cat"])
        if kind == "layer":
            self._add_layer(source, *choose(self._layers(width)))
        elif kind == "function":
            self._step(kind, choose(list(FUNCTIONS)), source, width=width)
        elif kind == "reshape":
            name = choose(list(RESHAPING))
            self._step(kind, name, source, width=RESHAPING[name][1](width))
        else:
            twins = [at for at, other in enumerate(self.widths) if at and (kind == "cat" or other == width)]
            twin = choose(twins)
            wide = width + self.widths[twin] if kind == "cat" else width
            self._step(kind, choose(list(PAIRS)), source, twin, width=wide)

    def _layers(self, width: int) -> list[tuple[Callable[[int, int], nn.Module], int]]:
        """What may follow a result of that many channels: how to build it, and its own number of them."""
        wide, choose = self._width(), self._random.choice
        groups = choose([number for number in (1, 2, 4) if width % number == 0 == wide % number])
        found = [
            (lambda n, m: nn.Conv2d(n, m, choose([1, 3]), padding="same"), wide),
            (lambda n, m: nn.Conv2d(n, m, 1, groups=groups), wide),
            (lambda n, m: Tokens(nn.Linear(n, m)), wide),
            (Weights, wide),
        ]
        if width % 4 == 0:
            found += [
                (lambda n, _: nn.Conv2d(n, n, 3, padding=1, groups=n), width),
                (lambda n, _: choose([nn.BatchNorm2d(n), nn.GroupNorm(2, n)]), width),
                (lambda n, _: nn.InstanceNorm2d(n, affine=True), width),
                (lambda n, _: Tokens(nn.LayerNorm(n)), width),
                (lambda n, _: Gate(n), width),
                (lambda n, _: Attention(n, choose(["softmax", *FEATURES])), width),
            ]
        return found

    def _add_layer(self, source: int, build: Callable[[int, int], nn.Module], wide: int) -> None:
        self.layers.append(build(self.widths[source], wide))
        self._step("layer", len(self.layers) - 1, source, width=wide)

    def _step(self, kind: str, name: object, *sources: int, width: int) -> None:
        self.steps.append((kind, name, *sources))
        self.widths.append(width)
