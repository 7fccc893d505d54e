"""A network with an operator of its own, which no shipped rule can know; gated.rules describes it."""

import torch
from torch import Tensor, nn


@torch.library.custom_op("prunus_examples::gate", mutates_args=())
def gate(x: Tensor) -> Tensor:
    """The first half of the channels, each weighted by one of the second half."""
    values, weights = x.chunk(2, 1)
    return values * weights.sigmoid()


class Net(nn.Module):
    """A convolution whose channels gate each other, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(gate(self.conv(x)).mean((2, 3)))
