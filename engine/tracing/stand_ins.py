"""The model as the trace sees it: its integers remember where they are."""

from __future__ import annotations

from collections import OrderedDict
from operator import is_
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch

from ...adapters.contents import can_be_told
from ...adapters.settings import is_config
from ...adapters.submodules import own_attributes
from .expressions import Attribute
from .size_int import Ledger, NumpySizeInt, SizeInt

# What holds no traced integer and no tensor.
_PLAIN = frozenset({int, bool, float, str, type(None), FunctionType, BuiltinFunctionType, torch.dtype})
_CONFIG_DEPTH = 2
_LARGEST = 4096  # a longer container is data, not a setting


class Stage:
    """Puts traced integers (and fake tensors, if any) in the place of a model's own; a snapshot has those.

    `fakes` maps the id of a tensor to what stands for it during the trace. ``originals`` are the integers.
    """

    def __init__(self, ledger: Ledger, fakes: dict[int, torch.Tensor]) -> None:
        self.ledger = ledger
        self.fakes = fakes
        self.originals: dict[tuple[str, str, tuple | None], int] = {}
        self._visited: dict[int, Any] = {}

    def prepare(self, modules: list[tuple[str, torch.nn.Module]]) -> None:
        """Replace every integer that one of `modules` holds, also in containers and on config objects."""
        for path, module in modules:
            if isinstance(module, torch.jit.ScriptModule) or not self._is_new(module):
                continue
            self._set_names(vars(module), own_attributes(module), path, "", _CONFIG_DEPTH)
            if self.fakes:
                for tensors in (module._parameters, module._buffers):
                    self._set_names(tensors, tensors.copy(), path, "", 0)

    def _set_names(
        self, names: dict[str, Any], before: dict[str, Any], path: str, prefix: str, depth: int
    ) -> None:
        for name, value in before.items():
            if type(value) is int or type(value) not in _PLAIN:
                stand_in = self._stand_in(value, path, prefix + name, (), depth)
                if stand_in is not value:
                    names[name] = stand_in

    def _stand_in(self, value: Any, path: str, name: str, key: tuple[Any, ...], depth: int) -> Any:
        kind = type(value)
        if kind is int or isinstance(value, np.integer):
            if value <= 0:
                return value  # not a size
            place = (path, name, key or None)
            self.originals[place] = int(value)
            size = SizeInt if kind is int else NumpySizeInt
            return size(value, Attribute(*place), self.ledger)
        if kind in _PLAIN:
            return value
        if kind is tuple or kind is torch.Size or (isinstance(value, tuple) and hasattr(kind, "_make")):
            parts = [self._stand_in(part, path, name, (*key, i), depth) for i, part in enumerate(value)]
            return value if all(map(is_, parts, value)) else _tuple_like(value, parts)
        if kind in (list, dict, OrderedDict):
            if len(value) <= _LARGEST and self._is_new(value):
                for i, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
                    if not can_be_told(i):
                        continue
                    stand_in = self._stand_in(part, path, name, (*key, i), depth)
                    if stand_in is not part:
                        value[i] = stand_in
        elif isinstance(value, torch.Tensor):
            return self.fakes.get(id(value), value)
        elif depth and not key and is_config(value) and self._is_new(value):
            self._set_names(vars(value), vars(value).copy(), path, name + ".", depth - 1)
        return value

    def _is_new(self, value: Any) -> bool:
        """Whether this object is met for the first time; keeps it alive, so that ids stay unique."""
        if id(value) in self._visited:
            return False
        self._visited[id(value)] = value
        return True


def _tuple_like(value: tuple[Any, ...], parts: list[Any]) -> tuple[Any, ...]:
    kind = type(value)
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)
