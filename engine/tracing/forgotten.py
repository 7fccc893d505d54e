"""Caches: a trace runs without what an earlier run has left in dicts and attributes, if it makes it again."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from inspect import getattr_static
from types import ModuleType
from typing import Any

import torch
from attrs import frozen

from ...adapters.contents import tensors_in, text_of
from ...adapters.submodules import each_module, own_attributes
from ...adapters.undo import undoing
from .size_int import SizeInt

EntryKey = tuple[int, Any]
_GONE = object()
_WITHOUT = frozenset({bool, int, float, str, type(None), SizeInt})  # what most attributes are
_DEPTH = 2  # a cache holds tensors, or tuples and lists of them


@frozen(eq=False)
class Entry:
    """A dict and a key, and what is left there: nothing, or in a module's namespace ``None``."""

    holder: dict[Any, Any]
    key: Any
    left: Any = _GONE
    is_attribute: bool = False

    @property
    def place(self) -> EntryKey:
        """Which dict, and the key without traced sizes."""
        return id(self.holder), _plain(self.key)


@contextmanager
def without(entries: Iterable[Entry]) -> Iterator[Callable[[], bool]]:
    """Take entries out of their dicts, then put back all that the dicts had.

    What it gives tells whether what runs meanwhile has filed equal ones.
    """
    taken = [(one, one.holder[one.key]) for one in entries if one.key in one.holder]
    saved = {id(one.holder): (one.holder, one.holder.copy()) for one, _ in taken}
    with undoing() as undo:
        for holder, before in saved.values():
            undo.add(_refill, holder, before)
        for one, _ in taken:
            if one.left is _GONE:
                del one.holder[one.key]
            else:
                one.holder[one.key] = one.left
        yield lambda: all(_is_remade(one, before) for one, before in taken if not one.is_attribute)


def _refill(holder: dict[Any, Any], before: dict[Any, Any]) -> None:
    holder.clear()
    holder.update(before)


def places_in(module: torch.nn.Module) -> Iterator[tuple[Entry, str, list[torch.Tensor]]]:
    """Where a module keeps tensors: its attributes and the entries of its dicts, with names and tensors."""
    for name, item in own_attributes(module).items():
        if type(item) in _WITHOUT:
            continue
        if type(item) is dict:
            for key, part in item.items():
                if tensors := _tensors_of(part):
                    yield Entry(item, key, is_attribute=True), f"{name}[{text_of(_plain(key))}]", tensors
        elif tensors := _tensors_of(item):
            is_property = isinstance(getattr_static(type(module), name, None), cached_property)
            yield Entry(vars(module), name, _GONE if is_property else None, is_attribute=True), name, tensors


def _tensors_of(item: Any) -> list[torch.Tensor]:
    """The tensors that an attribute or an entry is, or that are in it as a tuple or a list."""
    if isinstance(item, (tuple, list)):
        return [one for one in item if isinstance(one, torch.Tensor)]
    return [item] if isinstance(item, torch.Tensor) else []


def _plain(key: Any) -> Any:
    """A key as it is told, without traced sizes."""
    if type(key) is tuple:
        return tuple(map(_plain, key))
    return int(key) if isinstance(key, int) and not isinstance(key, bool) else key


def caches_of(model: torch.nn.Module, tensors: Iterable[torch.Tensor]) -> list[list[Entry]]:
    """The places in which a model's modules keep these, those of the same name and class together."""
    ids = set(map(id, tensors))
    found: dict[Any, list[Entry]] = defaultdict(list)
    for _, module in each_module(model) if ids else ():
        for entry, name, held in places_in(module):
            if not ids.isdisjoint(map(id, held)):
                found[type(module), name].append(entry)
    return list(found.values())


def are_equal(entries: Iterable[Entry], made: Mapping[EntryKey, list[torch.Tensor]]) -> bool:
    """Whether what was made is what they hold; `made` is by place."""
    for one in entries:
        now, before = made.get(one.place, []), _tensors_of(one.holder.get(one.key))
        if len(now) != len(before) or not all(map(_is_equal, now, before)):
            return False
    return True


def entries_of(tensors: Iterable[torch.Tensor]) -> list[Entry]:
    """The entries of dicts, but for namespaces, that hold one of the tensors, also in a tuple or list."""
    found: list[Entry] = []
    held: list[Any] = list(tensors)
    for _ in range(_DEPTH):
        ids = set(map(id, held))
        users = [one for one in gc.get_referrers(*held) if one is not held] if held else []
        holders = [one for one in users if isinstance(one, dict) and not _is_namespace(one)]
        found += [Entry(holder, key) for holder in holders for key, item in holder.items() if id(item) in ids]
        held = [one for one in users if type(one) in (tuple, list)]
    return found


def _is_namespace(holder: dict[Any, Any]) -> bool:
    """Whether a dict has the names of a file, a class or an object: they are no entries of a cache."""
    users = gc.get_referrers(holder)
    return any(isinstance(one, (ModuleType, type)) or _names(one) is holder for one in users)


def _names(one: Any) -> Any:
    try:
        return object.__getattribute__(one, "__dict__")
    except AttributeError:
        return None


def _is_remade(entry: Entry, before: Any) -> bool:
    """Whether the run has filed equal tensors under the same key, which tells all their sizes.

    What is filed without its sizes is found again by a pruned model, and is then a constant indeed.
    """
    one, other = list(tensors_in(entry.holder.get(entry.key))), list(tensors_in(before))
    parts = entry.key if isinstance(entry.key, tuple) else (entry.key,)
    told = {1, *(part for part in parts if isinstance(part, int))}
    same = len(one) == len(other) and all(map(_is_equal, one, other))
    return same and all(told.issuperset(tensor.shape) for tensor in one)


def _is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
