"""Whether an answer that is no tensor depends on a tensor's data, or only on what is known without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...errors import raise_foreign
from .arguments import mapped

# By target: functions and descriptors, of which torch makes equal ones over and over.
_known: dict[Callable[..., Any], bool] = {}


def reads_data(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether `target` looks at the data of the tensors that it is given.

    A tensor on the meta device has a shape, a dtype, strides and flags, but no data: what can be answered
    of such a one does not depend on data (``dim``, ``stride``, ``is_floating_point``), and what cannot,
    does (``item``, ``tolist``, ``bool``, ``torch.equal``). It is tried once for each target.
    """
    known = _known.get(target)
    if known is None:
        known = _known[target] = not _is_answered_without_data(target, args, kwargs)
    return known


def _is_answered_without_data(target: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    try:
        with torch.no_grad():
            target(*mapped(args, _without_data), **mapped(kwargs, _without_data))
    except Exception as error:
        raise_foreign(error)
        return False
    return True


def _without_data(item: Any) -> Any:
    """The same item, or a tensor of the same shape and dtype that has no data."""
    if not isinstance(item, torch.Tensor):
        return item
    return torch.empty(item.shape, dtype=item.dtype, device="meta")
