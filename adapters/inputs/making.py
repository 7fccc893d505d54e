"""A guess at example inputs, and the tensors that one is made of."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn

from ..submodules import tensors_of

TOKENS = 16
# The usual sizes first; the others serve networks with a fixed size, which refuse every size but theirs.
IMAGE_SIDES = (224, 256, 299, 128, 64, 32, 28, 96, 112, 160, 192, 240, 384, 448, 512, 48, 16, 8)
FIRST_LAYERS = 4  # so many different layers are taken for the one that reads the input


@frozen
class Guess:
    """Arguments for one forward, and where they come from."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(factory=dict)
    source: str = ""

    @property
    def shapes(self) -> str:
        """Every tensor with its shape."""
        named = [("input", value) for value in self.args] + list(self.kwargs.items())
        tensors = [(name, value.shape) for name, value in named if isinstance(value, Tensor)]
        return ", ".join(f"{name} of {'x'.join(map(str, shape))}" for name, shape in tensors) or "no input"

    def __str__(self) -> str:
        return f"{self.shapes}, guessed from {self.source}"


# All that a model is given is made on the CPU, from a generator of its own, and then moved.
@frozen
class Maker:
    """Makes tensors of a model's device and floating-point type."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module) -> Maker:
        """As the first floating-point parameter (or else buffer) of ``model`` is."""
        for tensor in tensors_of(model):
            if tensor.is_floating_point():
                return cls(tensor.device, tensor.dtype)
        return cls(torch.device("cpu"), torch.get_default_dtype())

    def floats(self, *shape: int) -> Tensor:
        """Normal noise."""
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        return noise.to(self.device, self.dtype)

    def whole(self, *shape: int, below: int, start: int = 0) -> Tensor:
        """Whole numbers from ``start`` on, which start again at ``below``."""
        return torch.arange(start, start + math.prod(shape), device=self.device).view(shape) % below


def arguments_of(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The arguments of the model's forward."""
    return dict(inspect.signature(model.forward).parameters)
