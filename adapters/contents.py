"""What is inside of anything that a forward takes or gives: the tensors in it, and a copy of it."""

from __future__ import annotations

import copy
import itertools
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from io import IOBase
from logging import Logger
from threading import Thread
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from ..torch_private import DisableTorchFunction

Tensor = torch.Tensor
Parts = Iterable[tuple[Any, Any]]

# What has no tensors inside, or only those of somebody else: a module's are its own, not an output's.
_CLOSED = (
    *(int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device),
    *(type, ModuleType, torch.nn.Module, FunctionType, MethodType, Logger, Thread, IOBase),
)
MISSING = object()
_ENDLESS = (itertools.count, itertools.cycle, itertools.repeat)


def tensors_in(item: Any) -> Iterator[Tensor]:
    """The tensors in nested containers and objects, in order; nothing of the user's is run to find them."""
    return _walk(item, Tensor, parts_of, {})


def outputs_in(result: Any) -> list[Tensor]:
    """The tensors in what a forward returns, in order, also those that are only made when asked for.

    Generators and iterators are run to their end, mappings are asked for every item, and functions for what
    they have captured. A numpy array counts as a tensor of its numbers that came from nowhere.
    """
    found = list(_walk(result, (Tensor, np.ndarray), _parts_asked_for, {}))
    return [one for one in map(_as_tensor, found) if one is not None]


def named_tensors_in(item: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an argument of that name, and their own names: ``x``, ``xs.0``, ``batch.mask``."""
    yield from _named(item, name, {})


def copied(item: Any, copy_of: Callable[[Tensor], Tensor]) -> Any:
    """`item` with other tensors and containers of its own.

    Modules, keys, and what cannot be copied, are shared.
    """
    known: dict[int, Any] = {id(one): one for one in _walk(item, torch.nn.Module, parts_of, {})}
    known.update({id(key): key for key in _keys_in(item, {})})
    known.update({id(one): copy_of(one) for one in tensors_in(item)})
    return _copied(item, known)


def names_of(item: Any) -> dict[str, Any] | None:
    """The namespace of an object, if it has one; its class is not asked."""
    try:
        own = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return None
    return own if isinstance(own, dict) else None


def attribute_or_missing(item: Any, name: str) -> Any:
    """What an object has in a slot or under a name, or `MISSING`; its class is not asked for more."""
    try:
        return object.__getattribute__(item, name)
    except Exception:  # a property's own
        return MISSING


def can_be_told(key: Any) -> bool:
    """Whether a key lets itself be written, as a part of the name of what it leads to."""
    if type(key) not in (str, int):
        try:
            repr(key)
        except Exception:  # the key's own
            return False
    return True


def text_of(key: Any, write: Callable[[Any], str] = repr) -> str:
    """A key as it is told; by its class if it does not let itself be written."""
    if type(key) in (str, int):
        return write(key)
    try:
        return write(key)
    except Exception:  # the key's own
        return f"<{type(key).__name__} without a text>"


def parts_of(item: Any) -> Parts:
    """What is directly inside of a container or an object, by key, position or name."""
    kind = type(item)
    if kind in (list, tuple, deque):
        return enumerate(item)
    if kind is dict:
        return item.items()
    if isinstance(item, _CLOSED):
        return ()
    if isinstance(item, (set, frozenset)):
        return enumerate(sorted(item, key=_shapes_in))
    if isinstance(item, np.ndarray):
        return enumerate(item.flat) if item.dtype == object else ()
    if isinstance(item, UserDict):
        return _with_attributes(item, item.data.items())
    if isinstance(item, dict):
        return _with_attributes(item, dict.items(item))
    if isinstance(item, (list, tuple, deque)):
        return _with_attributes(item, enumerate(item))
    return _attributes(item)


def _parts_asked_for(item: Any) -> Parts:
    """The same of an output, of which everything is asked that can be."""
    if isinstance(item, FunctionType):
        cells = zip(item.__code__.co_freevars, item.__closure__ or ())
        return [(name, cell.cell_contents) for name, cell in cells]
    if isinstance(item, MethodType):
        return [("self", item.__self__)]
    if isinstance(item, _CLOSED) or type(item) in (dict, list, tuple):
        return parts_of(item)
    if isinstance(item, Mapping):
        return _with_attributes(item, [(key, item[key]) for key in item])
    if isinstance(item, Iterator) or (isinstance(item, Iterable) and not isinstance(item, Sized)):
        return parts_of(item) if isinstance(item, _ENDLESS) else enumerate(item)
    return parts_of(item)


def _walk(item: Any, kinds: Any, parts: Callable[[Any], Parts], seen: dict[int, Any]) -> Iterator[Any]:
    """What is of these kinds; a container is entered once, as it may be inside of itself."""
    if isinstance(item, kinds) and not (isinstance(item, np.ndarray) and item.dtype == object):
        yield item
    elif not isinstance(item, Tensor) and id(item) not in seen:
        seen[id(item)] = item  # which keeps it alive, so that the number stays its own
        for _, part in parts(item):
            yield from _walk(part, kinds, parts, seen)


def _keys_in(item: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """The keys of all dicts inside: the forward asks for these very ones."""
    if not isinstance(item, Tensor) and id(item) not in seen:
        seen[id(item)] = item
        if isinstance(item, dict):
            yield from dict.keys(item)
        for _, part in parts_of(item):
            yield from _keys_in(part, seen)


def _named(item: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(item, Tensor):
        yield name, item
    elif id(item) not in seen:
        seen[id(item)] = item
        for key, part in parts_of(item):
            hidden = isinstance(key, str) and key.startswith("_")  # the user knows what is in it by its name
            yield from _named(part, name if hidden else f"{name}.{text_of(key, str)}", seen)


def _attributes(item: Any) -> list[tuple[str, Any]]:
    """What an object itself has, in fields, slots and ``__dict__``; properties are not asked."""
    kind = type(item)
    found = {name: attribute_or_missing(item, name) for name in getattr(kind, "__dataclass_fields__", ())}
    for base in kind.__mro__:
        for name, slot in vars(base).items():
            if isinstance(slot, MemberDescriptorType) and name != "__dict__":
                found[name] = attribute_or_missing(item, slot.__name__)
    found.update(names_of(item) or {})
    return [(name, value) for name, value in found.items() if value is not MISSING]


def _with_attributes(item: Any, parts: Parts) -> Parts:
    """The parts of a container, and the tensors of its attributes that are not in its parts already."""
    parts = list(parts)
    known = {id(one) for one in tensors_in(parts)}
    others = [one for one in tensors_in(dict(_attributes(item))) if id(one) not in known]
    return [*parts, *((f"_{number}", one) for number, one in enumerate(others))]


def _shapes_in(item: Any) -> list[tuple[int, ...]]:
    """What orders the parts of a set the same way in every run."""
    return [tuple(tensor.shape) for tensor in tensors_in(item)]


def _as_tensor(item: Tensor | np.ndarray) -> Tensor | None:
    if isinstance(item, Tensor):
        return item
    try:
        with DisableTorchFunction():  # it is no call of the forward
            return torch.from_numpy(np.array(item))
    except TypeError:  # of texts or dates
        return None


def _copied(item: Any, known: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(item, known)
    except Exception:  # a generator, a lock, whatever the user's own copying raises
        kind = type(item)
        if kind in (list, tuple):
            return kind([_copied(part, known) for part in item])
        if kind is dict:
            return {key: _copied(part, known) for key, part in item.items()}
        return item
