"""Functions of which one name stands for several operations, each with a rule of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..calls import one_call


def _extremum(original: Callable, of_two: Callable, of_all: Callable) -> Callable:
    """A replacement for ``torch.max`` and its like: of two tensors, of a whole one, or along an axis."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            return of_all(input)
        other = args[0] if args else kwargs.get("other")
        return of_two(input, other) if isinstance(other, Tensor) else original(input, *args, **kwargs)

    return call


def _where(condition: Tensor, *others: Any, **named: Any) -> Any:
    """``torch.where`` of one tensor finds positions; of three it chooses between the others."""
    return torch.where(condition, *others, **named) if others or named else condition.nonzero(as_tuple=True)


@one_call
def scatter_rows(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``[*b, c], [*b, c], [*d, c] -> [*b, c]``: rows of source, in order, where the mask is true."""
    return torch.masked_scatter(input, mask, source)


def _masked_scatter(original: Callable) -> Callable:
    """A replacement for ``torch.masked_scatter``: of whole rows, if the mask is the same along them."""

    def call(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
        same = mask.dim() > 0 and (mask.size(-1) == 1 or mask.stride(-1) == 0)
        rows = same and source.shape[-1:] == input.shape[-1:]
        return (scatter_rows if rows else original)(input, mask, source)

    return call


HOMONYMS: dict[Callable, Callable] = {
    torch.max: _extremum(torch.max, torch.maximum, torch.amax),
    torch.min: _extremum(torch.min, torch.minimum, torch.amin),
    Tensor.max: _extremum(Tensor.max, torch.maximum, torch.amax),
    Tensor.min: _extremum(Tensor.min, torch.minimum, torch.amin),
    torch.where: _where,
    torch.masked_scatter: _masked_scatter(torch.masked_scatter),
    Tensor.masked_scatter: _masked_scatter(Tensor.masked_scatter),
}
