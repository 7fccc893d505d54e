"""Functions that are short for others, written as these.

`REWRITES` maps a callable to a function of the same arguments and results. While a model is traced it runs in
the callable's place, so that the operations it is made of are recorded, each with a rule of its own. Whatever
a rewrite does not cover it leaves to the original. Sizes come from shapes and arguments only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from .calls import one_call
from .strides import axes_inside

# Products


def _matmul(original: Callable) -> Callable:
    """A product with a vector is one with a matrix of one row or column."""

    def call(input: Tensor, other: Tensor, **options: Any) -> Tensor:
        if options or (input.dim() > 1 and other.dim() > 1):
            return original(input, other, **options)
        left = input.unsqueeze(0) if input.dim() == 1 else input
        right = other.unsqueeze(-1) if other.dim() == 1 else other
        result = torch.matmul(left, right)
        result = result.squeeze(-1) if other.dim() == 1 else result
        return result.squeeze(-1 if other.dim() == 1 else -2) if input.dim() == 1 else result

    return call


def _turned(matmul: Callable) -> Callable:
    """``other @ input`` as ``input.__rmatmul__(other)``."""
    return lambda input, other: matmul(other, input)


def _multi_dot(tensors: Sequence[Tensor], *others: Any) -> Tensor:
    """``torch.linalg.multi_dot(tensors)`` and ``torch.chain_matmul(*tensors)``."""
    several = (tensors, *others) if isinstance(tensors, Tensor) else tensors
    return functools.reduce(torch.matmul, several)


def _tensordot(original: Callable) -> Callable:
    """A sum over pairs of axes, as an einsum."""

    def call(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
        if out is not None or isinstance(dims, Tensor):
            return original(a, b, dims, out=out)
        if isinstance(dims, int):
            dims = range(a.dim() - dims, a.dim()), range(dims)
        left, right = (
            [dim % one.dim() for dim in ([which] if isinstance(which, int) else which)]
            for one, which in zip((a, b), dims)
        )
        letters = iter(ascii_letters)
        first = [next(letters) for _ in range(a.dim())]
        paired = {other: first[dim] for dim, other in zip(left, right)}
        second = [paired[dim] if dim in paired else next(letters) for dim in range(b.dim())]
        stay = [first[dim] for dim in range(a.dim()) if dim not in left]
        stay += [second[dim] for dim in range(b.dim()) if dim not in paired]
        return torch.einsum(f"{''.join(first)},{''.join(second)}->{''.join(stay)}", a, b)

    return call


def _solve_triangular(original: Callable) -> Callable:
    """``X A = B`` as ``A^T X^T = B^T``."""

    def call(input: Tensor, B: Tensor, *, upper: bool, left: bool = True, **options: Any) -> Tensor:
        if left or options.get("out") is not None:
            return original(input, B, upper=upper, left=left, **options)
        return original(input.mT, B.mT, upper=not upper, **options).mT

    return call


# Joining, cutting and turning


def _at_least(rank: int) -> Callable:
    """``torch.atleast_2d`` and its like; in three dimensions a vector lies in the middle."""

    def one(x: Tensor) -> Tensor:
        if rank == 3 and 0 < x.dim() < 3:
            return x.unsqueeze(-1) if x.dim() == 2 else x.unsqueeze(0).unsqueeze(-1)
        while x.dim() < rank:
            x = x.unsqueeze(0)
        return x

    def call(*tensors: Any) -> Any:
        several = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
        found = tuple(map(one, several))
        return found[0] if isinstance(tensors[0], Tensor) and len(tensors) == 1 else found

    return call


def _joined(rank: int, dim: int) -> Callable:
    """``torch.hstack`` and its like: a concatenation of tensors of so many axes at least."""

    def call(tensors: Sequence[Tensor]) -> Tensor:
        several = [_at_least(rank)(one) for one in tensors]
        return torch.cat(several, 0 if several[0].dim() == 1 else dim)

    return call


def _column_stack(tensors: Sequence[Tensor]) -> Tensor:
    columns = [one if one.dim() > 1 else _at_least(1)(one).unsqueeze(-1) for one in tensors]
    return torch.cat(columns, 1)


def _cut(dim: int) -> Callable:
    """``torch.hsplit`` and its like; a vector has one axis to cut."""

    def call(input: Tensor, *where: Any, **named: Any) -> Sequence[Tensor]:
        (pieces,) = (*where, *named.values())
        return torch.tensor_split(input, pieces, dim=0 if input.dim() == 1 else dim)

    return call


def _flipped(dim: int) -> Callable:
    return lambda input: torch.flip(input, (dim,))


def _rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    first, second = dims
    if k % 4 == 2:
        return torch.flip(input, (first, second))
    if k % 4 == 1:
        return torch.flip(input, (second,)).transpose(first, second)
    return torch.flip(input, (first,)).transpose(first, second) if k % 4 else input.clone()


def _broadcast_tensors(*tensors: Any) -> Sequence[Tensor]:
    """All of one shape; the size of an axis is that of the tensors that have more than one slot there."""
    several = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    shape: list[int] = [1] * max(one.dim() for one in several)
    for one in several:
        for axis, size in enumerate(one.shape, len(shape) - one.dim()):
            shape[axis] = size if shape[axis] == 1 else shape[axis]
    return tuple(one.expand(*shape) for one in several)


@one_call
def strided(input: Tensor, size: Sequence[int], stride: Sequence[int], own: Sequence[int]) -> Tensor:
    """`torch.as_strided` of a tensor whose steps are its ``own``, from its beginning."""
    return torch.as_strided(input, size, stride)


def _as_strided(original: Callable) -> Callable:
    def call(input: Tensor, size: Sequence[int], stride: Sequence[int], *offset: Any, **named: Any) -> Tensor:
        own = input.stride()
        dense = axes_inside(tuple(map(int, input.shape)), tuple(map(int, own))) is not None
        if offset or named.get("storage_offset") is not None or not dense:
            return original(input, size, stride, *offset, **named)
        return strided(input, size, stride, own)

    return call


# Writing into a copy, and diagonals


def _select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    result = input.clone()
    result[(slice(None),) * (dim % input.dim()) + (index,)] = src
    return result


def _slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    result = input.clone()
    result[(slice(None),) * (dim % input.dim()) + (slice(start, end, step),)] = src
    return result


def _diag(original: Callable) -> Callable:
    """A matrix with this diagonal, or the diagonal of this matrix."""

    def call(input: Tensor, diagonal: int = 0) -> Tensor:
        if diagonal:
            return original(input, diagonal)
        return torch.diagonal(input) if input.dim() == 2 else torch.diag_embed(input)

    return call


def _masked_scatter_(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    return input.copy_(torch.masked_scatter(input, mask, source))


_METHODS: dict[str, Callable] = {
    "hsplit": _cut(1),
    "vsplit": _cut(0),
    "dsplit": _cut(2),
    "fliplr": _flipped(1),
    "flipud": _flipped(0),
    "rot90": _rot90,
    "select_scatter": _select_scatter,
    "slice_scatter": _slice_scatter,
}

REWRITES: dict[Callable, Callable] = {
    **{
        getattr(home, name): one
        for name, one in _METHODS.items()
        for home in (torch, Tensor)
        if hasattr(home, name)
    },
    **{one: _matmul(torch.matmul) for one in (torch.matmul, torch.linalg.matmul)},
    **{one: _matmul(one) for one in (Tensor.matmul, Tensor.__matmul__)},
    Tensor.__rmatmul__: _turned(_matmul(torch.matmul)),
    torch.linalg.multi_dot: _multi_dot,
    torch.chain_matmul: _multi_dot,
    torch.as_strided: _as_strided(torch.as_strided),
    Tensor.as_strided: _as_strided(Tensor.as_strided),
    torch.tensordot: _tensordot(torch.tensordot),
    torch.linalg.solve_triangular: _solve_triangular(torch.linalg.solve_triangular),
    torch.atleast_1d: _at_least(1),
    torch.atleast_2d: _at_least(2),
    torch.atleast_3d: _at_least(3),
    torch.hstack: _joined(1, 1),
    torch.vstack: _joined(2, 0),
    torch.row_stack: _joined(2, 0),
    torch.dstack: _joined(3, 2),
    torch.column_stack: _column_stack,
    torch.broadcast_tensors: _broadcast_tensors,
    torch.diag: _diag(torch.diag),
    Tensor.diag: _diag(Tensor.diag),
    Tensor.masked_scatter_: _masked_scatter_,
}
