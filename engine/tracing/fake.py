"""Tensors without data, to trace models that are larger than the machine."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ...errors import TraceError
from ...torch_private import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

Tensor = torch.Tensor


class Fakes:
    """Makes fake tensors that belong to one run; those of meta tensors are on the CPU."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def convert(self, tensor: Tensor) -> Tensor:
        """A fake tensor of the same size, stride, dtype and device."""
        if tensor.layout is not torch.strided:
            raise TraceError(f"a tensor of {tensor.layout} has no fake one: analyse without fake=True")
        device = "cpu" if tensor.is_meta else tensor.device
        with self.mode:
            return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)

    def stand_ins(self, tensors: Iterable[Tensor]) -> dict[int, Tensor]:
        """A fake for each tensor, by the id of the tensor; parameters stay parameters."""
        return {id(tensor): self._stand_in(tensor) for tensor in tensors}

    def _stand_in(self, tensor: Tensor) -> Tensor:
        fake = self.convert(tensor)
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
        return fake


def depends_on_data(error: BaseException | None) -> bool:
    """Whether an error came up because fake tensors have no data."""
    while error is not None:
        if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
            return True
        error = error.__cause__ or error.__context__
    return False
