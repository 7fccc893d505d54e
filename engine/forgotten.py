"""Dicts as caches: a trace runs without what an earlier run has filed there, if it files the same again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from .contents import tensors_in

Entry = tuple[dict[Any, Any], Any]  # a dict and a key
_DEPTH = 2  # a cache holds tensors, or tuples and lists of them


@contextmanager
def without(entries: Iterable[Entry]) -> Iterator[Callable[[], bool]]:
    """Take entries out of their dicts, then put back all that the dicts had.

    What it gives tells whether what runs meanwhile has made equal ones.
    """
    taken = [(holder, key, holder[key]) for holder, key in entries if key in holder]
    saved = {id(holder): (holder, holder.copy()) for holder, _, _ in taken}
    for holder, key, _ in taken:
        del holder[key]
    try:
        yield lambda: all(_is_remade(*one) for one in taken)
    finally:
        for holder, before in saved.values():
            holder.clear()
            holder.update(before)


def entries_of(tensors: Iterable[torch.Tensor]) -> list[Entry]:
    """The entries of dicts, but for namespaces, that hold one of the tensors, also in a tuple or list."""
    found: list[Entry] = []
    held: list[Any] = list(tensors)
    for _ in range(_DEPTH):
        ids = set(map(id, held))
        users = [one for one in gc.get_referrers(*held) if one is not held] if held else []
        holders = [one for one in users if isinstance(one, dict) and not _is_namespace(one)]
        found += [(holder, key) for holder in holders for key, item in holder.items() if id(item) in ids]
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


def _is_remade(holder: dict[Any, Any], key: Any, before: Any) -> bool:
    """Whether the run has filed equal tensors under the same key, which tells all their sizes.

    What is filed without its sizes is found again by a pruned model, and is then a constant indeed.
    """
    one, other = list(tensors_in(holder.get(key))), list(tensors_in(before))
    told = {1, *(part for part in (key if isinstance(key, tuple) else (key,)) if isinstance(part, int))}
    same = len(one) == len(other) and all(map(_is_equal, one, other))
    return same and all(told.issuperset(tensor.shape) for tensor in one)


def _is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
