"""Wrappers of DistributedDataParallel that outlive a change of the sizes in them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from ..errors import PlanError
from .torch_caches import ForgottenShapes


class Outdated:
    """Lets the next forward of each DistributedDataParallel around `tensors` fail: its buckets are outdated.

    It would not fail by itself: with ``find_unused_parameters=True`` the ranks would drift apart.
    """

    def __init__(self, tensors: Collection[Tensor], shapes: ForgottenShapes):
        self._shapes = shapes
        found = _wrappers_of(tensors)
        self._wrappers = [one for one in found if _refuse not in one._forward_pre_hooks.values()]

    def carry_out(self) -> None:
        """Put a hook on each that has none yet."""
        for wrapper in self._wrappers:
            wrapper.register_forward_pre_hook(_refuse, prepend=True)

    def take_back(self) -> None:
        """Let them run as before, unless an interrupt came so late that they hear nothing more."""
        if self._shapes.begun:
            return
        for wrapper in self._wrappers:
            hooks = wrapper._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if hook is _refuse]:
                hooks.pop(key, None)


def is_distributed() -> bool:
    """Whether this process has joined others by torch.distributed; nothing is imported to find that out."""
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _refuse(wrapper: nn.Module, args: Any) -> None:
    raise PlanError(
        "the model in this DistributedDataParallel was pruned, and its buckets have the old sizes\n"
        "wrap the model again: ddp = DistributedDataParallel(ddp.module)"
    )


def _wrappers_of(tensors: Collection[Tensor]) -> list[nn.Module]:
    """The wrappers around any of these, which nothing on a parameter leads to: all objects are looked at."""
    if not tensors or not is_distributed():
        return []
    from torch.nn.parallel import DistributedDataParallel  # which takes long to import

    ids = set(map(id, tensors))
    wrappers = [one for one in _all_objects() if issubclass(type(one), DistributedDataParallel)]
    found = [one for one in wrappers if not ids.isdisjoint(map(id, one.parameters()))]
    if any(isinstance(one.module, nn.ParameterList) for one in found):
        raise PlanError(
            "the model is part of one that `replicate` has made data parallel, which would go on with the "
            "old sizes\nprune the model before `replicate`"
        )
    return found


def _all_objects() -> list[Any]:
    """Those that the garbage collector knows, also those that ``gc.freeze`` hides."""
    frozen = gc.get_freeze_count()
    if frozen:
        gc.unfreeze()
    try:
        return gc.get_objects()
    finally:
        if frozen:
            gc.freeze()
