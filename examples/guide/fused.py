"""A gated layer on one fused kernel, which prunus cannot look into; fused.rules describes it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.library.custom_op("guide::glu", mutates_args=())
def glu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer whose first half of features is gated by the second; stands for a CUDA kernel."""
    values, gates = F.linear(x, weight, bias).chunk(2, -1)
    return values * gates.sigmoid()


class GLU(nn.Module):
    """`inputs` features to `hidden` ones."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * hidden, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(2 * hidden))

    def forward(self, x: Tensor) -> Tensor:
        return glu(x, self.weight, self.bias)


class Net(nn.Module):
    """A gated layer between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(20, 32)
        self.gated = GLU(32, 48)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gated(self.stem(x).relu()))
