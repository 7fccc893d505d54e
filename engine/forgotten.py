"""Caches: a trace runs without what an earlier run has left in dicts and attributes, if it makes it again."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from attrs import frozen

from .contents import tensors_in

_GONE = object()
_DEPTH = 2  # a cache holds tensors, or tuples and lists of them


@frozen(eq=False)
class Entry:
    """A dict and a key, and what is left there: nothing, or in a module's namespace ``None``."""

    holder: dict[Any, Any]
    key: Any
    left: Any = _GONE
    is_attribute: bool = False


@contextmanager
def without(entries: Iterable[Entry]) -> Iterator[Callable[[], bool]]:
    """Take entries out of their dicts, then put back all that the dicts had.

    What it gives tells whether what runs meanwhile has filed equal ones.
    """
    taken = [(one, one.holder[one.key]) for one in entries if one.key in one.holder]
    saved = {id(one.holder): (one.holder, one.holder.copy()) for one, _ in taken}
    for one, _ in taken:
        if one.left is _GONE:
            del one.holder[one.key]
        else:
            one.holder[one.key] = one.left
    try:
        yield lambda: all(_is_remade(one, before) for one, before in taken if not one.is_attribute)
    finally:
        for holder, before in saved.values():
            holder.clear()
            holder.update(before)


def attributes_of(model: torch.nn.Module, names: Iterable[str]) -> list[list[Entry]]:
    """The plain attributes of these dotted names, those of the same name and class together."""
    found: dict[Any, list[Entry]] = defaultdict(list)
    for dotted in names:
        path, _, name = dotted.rpartition(".")
        module = model.get_submodule(path)
        if name in vars(module):
            is_property = isinstance(getattr(type(module), name, None), cached_property)
            entry = Entry(vars(module), name, _GONE if is_property else None, is_attribute=True)
            found[type(module), name].append(entry)
    return list(found.values())


def are_equal(entries: Iterable[Entry], made: Mapping[tuple[int, str], torch.Tensor]) -> bool:
    """Whether what was made in attributes is what they hold; `made` is by the id of a namespace and name."""
    pairs = ((made.get((id(one.holder), one.key)), one.holder[one.key]) for one in entries)
    return all(now is not None and _is_equal(now, before) for now, before in pairs)


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
