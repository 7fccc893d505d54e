"""A small ENet: where pooling found the largest, unpooling puts what is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(entering: int, leaving: int, size: int | tuple[int, int], **options) -> nn.Sequential:
    """A convolution that keeps the image's size, unless strided, with its norm and activation."""
    sizes = size if isinstance(size, tuple) else (size, size)
    reach = options.get("dilation", 1)
    padding = tuple(reach * (one - 1) // 2 for one in sizes)
    return nn.Sequential(
        nn.Conv2d(entering, leaving, sizes, padding=padding, bias=False, **options),
        nn.BatchNorm2d(leaving),
        nn.PReLU(leaving),
    )


class Bottleneck(nn.Module):
    """Narrow convolutions beside the image itself."""

    def __init__(self, channels: int, inside: int, size: int | tuple[int, int] = 3, **options) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            convolution(channels, inside, 1),
            convolution(inside, inside, size, **options),
            convolution(inside, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.inside(x))


class Down(nn.Module):
    """Half the image: convolved, beside the pooled one with zeros for the channels that it has not."""

    def __init__(self, entering: int, leaving: int, inside: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            convolution(entering, inside, 3, stride=2),
            convolution(inside, leaving, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.inside(x)
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        missing = pooled.new_zeros(x.shape[0], made.shape[1] - pooled.shape[1], *pooled.shape[2:])
        return F.relu(made + torch.cat([pooled, missing], 1)), places


class Up(nn.Module):
    """Twice the image: what is left is put where `places` say."""

    def __init__(self, entering: int, leaving: int, inside: int) -> None:
        super().__init__()
        self.main = nn.Conv2d(entering, leaving, 1)
        self.narrow = convolution(entering, inside, 1)
        self.grow = nn.ConvTranspose2d(inside, leaving, 2, stride=2)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return F.relu(F.max_unpool2d(self.main(x), places, 2) + self.grow(self.narrow(x)))


class ENet(nn.Module):
    """Segmentation, as in the ENet paper, with fewer blocks."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.start = convolution(3, 13, 3, stride=2)
        self.down = Down(16, 40, 12)
        self.blocks = nn.Sequential(Bottleneck(40, 20, dilation=2), Bottleneck(40, 28, (1, 5)))
        self.up = Up(40, 16, 24)
        self.last = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.start(x), F.max_pool2d(x, 2)], 1)
        x, places = self.down(x)
        return self.last(self.up(self.blocks(x), places))
