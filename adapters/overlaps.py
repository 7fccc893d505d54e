"""Tensors whose memory holds one number in several places: of their own, or of another tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from ..torch_private import is_traceable_wrapper_subclass


def overlapping(tensors: Iterable[Tensor]) -> set[int]:
    """The ids of those that cannot be written into without changing others, or other places of their own.

    Where it is not plain that two are apart (views of every other column) they count as such.
    """
    found: set[int] = set()
    by_memory: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for tensor in {id(one): one for one in tensors}.values():
        if tensor.layout is torch.strided and tensor.numel() and not is_traceable_wrapper_subclass(tensor):
            start = tensor.storage_offset() * tensor.itemsize
            region = int(start), int(start + _extent(tensor) * tensor.itemsize), id(tensor)
            by_memory[tensor.untyped_storage()._cdata].append(region)
            if _overlaps_itself(tensor):
                found.add(id(tensor))
    for regions in by_memory.values():
        end, last = 0, 0  # how far the regions so far reach, and which reaches so far
        for start, stop, tensor_id in sorted(regions):
            if start < end:
                found |= {tensor_id, last}
            if stop > end:
                end, last = stop, tensor_id
    return found


def _extent(tensor: Tensor) -> int:
    """How many numbers there are in memory from the first to the last."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether a step along an axis may lead to where steps along inner ones have led."""
    inside = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size > 1 and stride <= inside:
            return True
        inside += (size - 1) * stride
    return False
