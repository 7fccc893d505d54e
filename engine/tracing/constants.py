"""Tensors that were there before a forward: kept in lists, caches and closures, of modules or of nobody.

A trace meets them as tensors that no call made, like the results of a kernel that it cannot see. But a
kernel makes new ones in each run, and these are the same objects again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch

_SMALL = 2**16  # as many numbers of a tensor from elsewhere are looked at
# By id, with how often each was changed in place until it was remembered.
_known: dict[int, tuple[weakref.ref[torch.Tensor], int | None]] = {}


def remember(found: Iterable[weakref.ref[torch.Tensor]]) -> list[torch.Tensor]:
    """Remember the tensors that have outlived the run in which they came up, and return them."""
    alive = {id(tensor): (one, tensor) for one in found if (tensor := one()) is not None}
    _known.update((key, (one, version(tensor))) for key, (one, tensor) in alive.items())
    return [tensor for _, tensor in alive.values()]


def is_constant(tensor: torch.Tensor) -> bool:
    """Whether this very tensor was there before, and nobody has written into it since."""
    known, changed = _known.get(id(tensor), (None, None))
    return known is not None and known() is tensor and changed == version(tensor)


def version(item: Any) -> int | None:
    """How often a tensor was changed in place, which is unknown for inference tensors."""
    return item._version if isinstance(item, torch.Tensor) and not item.is_inference() else None


def content_of(tensor: torch.Tensor) -> int:
    """A hash of what a small tensor holds, if it can be read: a fake tensor holds nothing."""
    try:
        return hash(tensor.detach().cpu().numpy().tobytes()) if tensor.numel() <= _SMALL else 0
    except (RuntimeError, TypeError):
        return 0
