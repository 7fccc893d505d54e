"""The model as the trace sees it: its integers remember where they are, and all goes back afterwards."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from operator import is_
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from attrs import define, field

from .sizes import Attribute, Ledger, NumpySizeInt, SizeInt

MODULE_STATE = frozenset(vars(torch.nn.Module()))  # what every module has: parameters, hooks, flags
# What holds no traced integer and no tensor.
_PLAIN = frozenset({int, bool, float, str, type(None), FunctionType, BuiltinFunctionType, torch.dtype})
_CONFIG_DEPTH = 2
_LARGEST = 4096  # a longer container is data, not a setting
_NOT_CONFIGS = frozenset({"torch", "numpy", "builtins", *sys.stdlib_module_names})


class Stage:
    """Puts traced integers (and fake tensors, if any) in the place of a model's own, and takes them out.

    `fakes` maps the id of a tensor to what stands for it during the trace.
    """

    def __init__(self, model: torch.nn.Module, ledger: Ledger, fakes: dict[int, torch.Tensor]) -> None:
        self.model = model
        self.ledger = ledger
        self.fakes = fakes
        self.originals: dict[tuple[str, str, tuple | None], int] = {}
        self._replaced: dict[int, tuple[Any, Any]] = {}  # id of a stand-in -> (stand-in, original)
        self._prepared: list[_Prepared] = []
        self._visited: dict[int, Any] = {}

    def prepare(self, modules: list[tuple[str, torch.nn.Module]]) -> None:
        """Replace every integer that one of `modules` holds, also in containers and on config objects."""
        for path, module in modules:
            if isinstance(module, torch.jit.ScriptModule) or not self._is_new(module):
                continue
            tables = (module._parameters, module._buffers, module._modules)
            current = _Prepared(module, own_attributes(module), [(table, table.copy()) for table in tables])
            self._prepared.append(current)
            self._set_names(vars(module), current.before, path, "", _CONFIG_DEPTH)
            if self.fakes:
                for tensors in (module._parameters, module._buffers):
                    self._set_names(tensors, tensors.copy(), path, "", 0)
            current.placed = [own_attributes(module), *[holder.copy() for holder, _ in current.holders]]

    def written(self) -> list[Any]:
        """What the forward has written to modules, and to what they hold."""
        return [item for one in self._prepared for item in one.written()]

    def restore(self) -> None:
        """Put everything back, also what the forward itself wrote; objects of its own lose their traced
        integers."""
        for one in self._prepared:
            if one.written():
                one.put_back()
        visited: set[int] = set()
        for _, module in modules_of(self.model):
            self._clean_names(vars(module), own_attributes(module), visited, _CONFIG_DEPTH + 1)
            if self.fakes:
                for tensors in (module._parameters, module._buffers):
                    self._clean_names(tensors, tensors.copy(), visited, 0)

    # Preparing

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
            return self._replace(value, size(value, Attribute(*place), self.ledger))
        if kind in _PLAIN:
            return value
        if kind is tuple or kind is torch.Size or (isinstance(value, tuple) and hasattr(kind, "_make")):
            parts = [self._stand_in(part, path, name, (*key, i), depth) for i, part in enumerate(value)]
            return self._replace(value, _tuple_like(value, parts)) if _differ(parts, value) else value
        if kind in (list, dict, OrderedDict):
            if len(value) <= _LARGEST and self._is_new(value):
                self._prepared[-1].holders.append((value, value.copy()))
                for i, part in list(_items(value)):
                    stand_in = self._stand_in(part, path, name, (*key, i), depth)
                    if stand_in is not part:
                        value[i] = stand_in
        elif isinstance(value, torch.Tensor):
            fake = self.fakes.get(id(value))
            return value if fake is None else self._replace(value, fake)
        elif depth and not key and _is_config(value) and self._is_new(value):
            names, before = vars(value), vars(value).copy()
            self._prepared[-1].holders.append((names, before))
            self._set_names(names, before, path, name + ".", depth - 1)
        return value

    def _replace(self, original: Any, stand_in: Any) -> Any:
        self._replaced[id(stand_in)] = (stand_in, original)
        return stand_in

    def _is_new(self, value: Any) -> bool:
        """Whether this object is met for the first time; keeps it alive, so that ids stay unique."""
        if id(value) in self._visited:
            return False
        self._visited[id(value)] = value
        return True

    # Restoring

    def _clean_names(self, names: dict[str, Any], now: dict[str, Any], visited: set[int], depth: int) -> None:
        for name, value in now.items():
            if type(value) not in _PLAIN:
                clean = self._clean(value, visited, depth)
                if clean is not value:
                    names[name] = clean

    def _clean(self, value: Any, visited: set[int], depth: int) -> Any:
        """The value as it was, or, if it is the forward's, with plain integers."""
        stand_in, original = self._replaced.get(id(value), (None, None))
        if stand_in is value and value is not None:
            return original
        if type(value) in _PLAIN:
            return value
        if isinstance(value, SizeInt):
            return int(value)
        if isinstance(value, (tuple, frozenset)):
            parts = [self._clean(part, visited, depth) for part in value]
            if not _differ(parts, value):
                return value
            return frozenset(parts) if isinstance(value, frozenset) else _tuple_like(value, parts)
        if id(value) in visited or isinstance(value, torch.nn.Module):
            return value
        if isinstance(value, (list, deque)):
            visited.add(id(value))
            for i, part in enumerate(value):
                clean = self._clean(part, visited, depth)
                if clean is not part:
                    value[i] = clean
        elif isinstance(value, (dict, set)):
            visited.add(id(value))
            self._clean_keys(value, visited, depth)
        elif depth and _is_config(value):
            visited.add(id(value))
            self._clean_names(vars(value), vars(value).copy(), visited, depth - 1)
        return value

    def _clean_keys(self, value: Any, visited: set[int], depth: int) -> None:
        """Clean a set, or a dict with its keys: the forward may have filed a mask under a traced size."""
        keys = list(value)
        clean_keys = [self._clean(key, visited, depth) for key in keys]
        if isinstance(value, set):
            if _differ(clean_keys, keys):
                value.clear()
                value.update(clean_keys)
            return
        items = list(value.values())
        clean_items = [self._clean(item, visited, depth) for item in items]
        if _differ(clean_keys, keys):
            value.clear()
            value.update(zip(clean_keys, clean_items, strict=True))
        else:
            for key, item, clean in zip(keys, items, clean_items, strict=True):
                if clean is not item:
                    value[key] = clean


def modules_of(module: torch.nn.Module, path: str = "") -> list[tuple[str, torch.nn.Module]]:
    """The module and all below it with their paths, one that has several names once for each."""
    found = [(path, module)]
    for name, child in module._modules.items():
        if child is not None:
            found += modules_of(child, f"{path}.{name}" if path else name)
    return found


def own_attributes(module: torch.nn.Module) -> dict[str, Any]:
    """What a module holds beside parameters, buffers, modules and what else every module has."""
    return {name: value for name, value in vars(module).items() if name not in MODULE_STATE}


@define(eq=False)
class _Prepared:
    """What a module and its tables, lists, dicts and configs held before it was prepared, and after."""

    module: torch.nn.Module
    before: dict[str, Any]
    holders: list[tuple[Any, Any]]
    placed: list[Any] = field(factory=list)

    def written(self) -> list[Any]:
        """What was written since, and what was taken out."""
        present = [own_attributes(self.module), *[holder for holder, _ in self.holders]]
        pairs = zip(present, self.placed, strict=False)
        return [item for now, old in pairs if not _is_same(now, old) for item in _changes(now, old)]

    def put_back(self) -> None:
        """Undo all of it."""
        names = vars(self.module)
        for name in own_attributes(self.module):
            del names[name]
        names.update(self.before)
        for holder, before in self.holders:
            if isinstance(holder, list):
                holder[:] = before
            else:
                holder.clear()
                holder.update(before)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two dicts or two lists hold the same objects."""
    if not one or len(one) != len(other) or not all(map(is_, one, other)):
        return not one and not other
    return type(one) is list or all(map(is_, one.values(), other.values()))


def _changes(now: Any, old: Any) -> Iterator[Any]:
    now, old = dict(_items(now)), dict(_items(old))
    for name in {**old, **now}:
        if now.get(name) is not old.get(name):
            yield now.get(name, old.get(name))


def _items(holder: Any) -> Iterable[tuple[Any, Any]]:
    return holder.items() if isinstance(holder, dict) else enumerate(holder)


def _is_config(value: Any) -> bool:
    """Whether an object is a plain bag of settings: a transformers config, a dataclass, a namespace."""
    if isinstance(value, (SimpleNamespace, Namespace)):
        return True
    if (
        isinstance(value, (type, torch.nn.Module, torch.Tensor))
        or type(value).__module__.split(".")[0] in _NOT_CONFIGS
    ):
        return False
    return isinstance(getattr(value, "__dict__", None), dict)


def _tuple_like(value: tuple[Any, ...], parts: list[Any]) -> tuple[Any, ...]:
    kind = type(value)
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)


def _differ(parts: list[Any], value: Any) -> bool:
    return not all(map(is_, parts, value))
