"""Puts back what a forward writes: attributes, what containers hold, and the contents of tensors.

Nothing is copied up front but lists of references. A tensor's contents are copied when an operation is about
to write into them, whichever tensor it writes through: a view, an alias or ``.data``, they share the memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache, partial
from itertools import compress
from operator import is_, is_not
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .contents import MISSING, attribute_or_missing, names_of
from .states import captured, classes_of, data_of, undo_of, undo_of_cell, undo_of_class
from .undo import raise_first, try_each
from .writes import Contents, memory_of

_PLAIN = frozenset({int, bool, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
_BUILT_IN = frozenset({dict, list, set, OrderedDict})  # they have nothing but their items
_CLOSED = (type, ModuleType, BuiltinFunctionType, MethodType, np.generic)


class Snapshot:
    """All that can be reached from a model, as it is now."""

    def __init__(self, changing: dict[int, Tensor]):
        self._changing = changing
        self._holders: list[tuple[Any, Any]] = []  # a dict, list, deque, set or array, and what it held
        self._empty: list[Any] = []  # most holders are: every module has a dozen dicts for hooks
        self._slots: list[tuple[Any, str, Any]] = []
        self._tensors: list[Contents] = []
        self._in_memory: dict[int, list[Contents]] = {}
        self._classes: list[tuple[nn.Module, type]] = []
        self._undo: list[Callable[[], Any]] = []
        self._shared: list[tuple[Any, Any]] = []  # holders, too, but what is new in them is not the model's
        self._seen: dict[int, Any] = {}

    def note(self, root: Any) -> None:
        """Remember everything that `root` leads to."""
        todo = [root]
        while todo:
            item = todo.pop()
            if id(item) not in self._seen:
                self._seen[id(item)] = item  # which keeps it alive, so that the number stays its own
                todo += self._inside(self._note_one(item))

    def _inside(self, parts: Iterable[Any]) -> Iterator[Any]:
        """Those of the parts that are to be noted, too; the empty ones are already then."""
        for part in parts:
            kind: Any = type(part)
            if kind in _BUILT_IN and not part:
                self._empty.append(part)
            elif not (_is_plain(kind) or (kind is tuple and _PLAIN.issuperset(map(type, part)))):
                yield part

    def _note_one(self, item: Any) -> Iterable[Any]:
        """Remember one object; what is inside of it."""
        kind: Any = type(item)
        if kind is dict:
            self._holders.append((item, item.copy()))
            return item.values()
        if kind is tuple:
            return item
        if _is_module(kind):
            return self._note_module(item)
        if isinstance(item, Tensor):
            return self._note_tensor(item)
        if isinstance(item, FunctionType):
            return self._note_closure(item)
        undo = undo_of(item)
        if undo is not None:
            self._undo.append(undo)
            return ()
        if isinstance(item, (dict, list, deque, set)) and not item:
            self._empty.append(item)
            return self._note_attributes(item)
        if isinstance(item, np.ndarray):
            if item.flags.writeable and not isinstance(item, np.memmap):
                self._holders.append((item, item.copy()))
            return _items(item)
        inside: list[Any] = []
        if isinstance(item, nn.Module):  # which is a container as well
            inside += self._note_classes(item)
        if isinstance(item, dict):
            self._holders.append((item, _held(item)))
            inside += dict.values(item)
        elif isinstance(item, (list, deque, set)):
            self._holders.append((item, _held(item)))
            inside += item
        elif isinstance(item, (tuple, frozenset)):
            inside += item
        elif isinstance(item, partial):
            inside += [item.func, item.args, item.keywords]
        return [*inside, *self._note_attributes(item)]

    def _note_module(self, module: nn.Module) -> Iterable[Any]:
        """Remember a module, but for a lazy one: its first run makes another of it, for good."""
        if any(nn.parameter.is_lazy(one) for one in module._parameters.values() if one is not None):
            return ()
        return [*self._note_classes(module), *self._note_attributes(module)]

    def _note_attributes(self, item: Any) -> list[Any]:
        """Remember what an object has in slots; that, and what it has elsewhere."""
        inside = []
        for name in _slots_of(type(item)):  # type: ignore[arg-type]  # a class is hashable
            value = attribute_or_missing(item, name)
            if value is not MISSING:
                self._slots.append((item, name, value))
                inside.append(value)
        own = names_of(item)
        return inside if own is None else [*inside, own]

    def _note_closure(self, function: FunctionType) -> Iterable[Any]:
        """Remember what a function has in its variables: a hook collects into a list of somebody else's."""
        self._undo += map(undo_of_cell, function.__closure__ or ())
        return self._note_shared(captured(function))

    def _note_classes(self, module: nn.Module) -> Iterable[Any]:
        """Remember of which class a module is, and what its classes hold."""
        kind: Any = type(module)
        self._classes.append((module, kind))
        found = [base for base in classes_of(kind) if id(base) not in self._seen]
        self._seen.update((id(base), base) for base in found)
        self._undo += map(undo_of_class, found)
        return self._note_shared([value for base in found for value in data_of(base).values()])

    def _note_shared(self, items: list[Any]) -> Iterable[Any]:
        """Remember what is not the model's alone: no dicts, which are caches, and nothing deeper inside."""
        for one in items:
            if isinstance(one, (list, deque, set)):
                self._shared.append((one, _held(one)))
        return [one for one in items if isinstance(one, Tensor)]

    def _note_tensor(self, tensor: Tensor) -> Iterable[Any]:
        if id(tensor) in self._changing:
            return ()
        one = Contents(tensor)
        self._tensors.append(one)
        self._in_memory.setdefault(memory_of(tensor), []).append(one)
        if tensor.layout is not torch.strided:
            one.save()  # its memory is that of tensors of which nobody knows
        return () if one.grad is None else (one.grad,)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors that can be reached."""
        return [*(one.tensor for one in self._tensors), *self._changing.values()]

    @property
    def modules(self) -> list[nn.Module]:
        """All modules that can be reached, also those that are in no other as a submodule."""
        return [item for item in self._seen.values() if isinstance(item, nn.Module)]

    def save(self, tensor: Tensor) -> None:
        """Copy what `tensor` shares its memory with: it is about to be written."""
        for one in self._in_memory.get(memory_of(tensor), ()):
            one.save()
        self._in_memory.pop(memory_of(tensor), None)

    def written(self) -> list[Any]:
        """What is where other things, or nothing, were before."""
        found = [item for holder in self._empty if holder for item in _items(holder)]
        for holder, before in self._holders:
            found += _new_in(holder, before)
        now = ((attribute_or_missing(item, name), value) for item, name, value in self._slots)
        return [*found, *(item for item, value in now if item is not value)]

    def put_back(self) -> None:
        """Undo what was written: all that can be, whatever of it cannot. Raises the first failure."""
        failures: list[BaseException] = []
        try_each(_call, self._undo, failures)
        try_each(self._refill, self._shared, failures)
        try_each(_put_class, [one for one in self._classes if type(one[0]) is not one[1]], failures)
        try_each(Contents.put_back, self._tensors, failures)
        try_each(_put_into_slot, self._slots, failures)
        try_each(_clear, [one for one in self._empty if one], failures)
        try_each(self._refill, self._holders, failures)
        raise_first(failures)

    def _refill(self, held: tuple[Any, Any]) -> None:
        holder, before = held
        if isinstance(holder, np.ndarray):
            holder[...] = before
        elif isinstance(holder, dict):
            if self._changing:
                changing = [name for name, one in before.items() if id(one) in self._changing]
                before.update({name: holder[name] for name in changing if name in holder})
            if type(holder) is dict and _is_same(holder, before):
                holder.update(before)
            elif not (_is_same(holder, before) and _is_same(dict.values(holder), before.values())):
                _fill(holder, before)
        elif not _is_same(holder, before):
            holder.clear()
            holder.update(before) if isinstance(holder, set) else holder.extend(before)


def _call(undo: Callable[[], Any]) -> None:
    undo()


def _put_into_slot(slot: tuple[Any, str, Any]) -> None:
    item, name, value = slot
    if attribute_or_missing(item, name) is not value:
        object.__setattr__(item, name, value)


def _put_class(module: tuple[nn.Module, type]) -> None:
    object.__setattr__(module[0], "__class__", module[1])


def _clear(holder: Any) -> None:
    holder.clear()


def _held(holder: Any) -> Any:
    return dict(dict.items(holder)) if isinstance(holder, dict) else list(holder)


def _items(holder: Any) -> Iterable[Any]:
    if isinstance(holder, np.ndarray):
        return holder.flat if holder.dtype == object else ()
    return dict.values(holder) if isinstance(holder, dict) else holder


def _new_in(holder: Any, before: Any) -> list[Any]:
    """What a holder has that it had not before, but for numbers, also several in a tuple, and words."""
    now, old = list(_items(holder)), list(_items(before))
    differing = compress(now, map(is_not, now, old)) if len(now) == len(old) else now
    new = [item for item in differing if not (_is_plain(type(item)) or _is_number(item))]  # type: ignore[arg-type]  # a class is hashable
    known = set(map(id, old if new else ()))
    return [item for item in new if id(item) not in known]


def _is_same(now: Collection[Any], before: Collection[Any]) -> bool:
    """Whether these are the same objects in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def _fill(holder: dict[Any, Any], items: dict[Any, Any]) -> None:
    """Give a dict these items, whatever its class makes of being written."""
    kind: Any = OrderedDict if isinstance(holder, OrderedDict) else dict
    kind.clear(holder)
    for key, item in items.items():
        kind.__setitem__(holder, key, item)


def _is_number(item: Any) -> bool:
    """Whether it is an integer of whatever class, as a trace puts them everywhere, or some in a tuple."""
    return isinstance(item, int) or (type(item) is tuple and all(isinstance(one, int) for one in item))


@lru_cache(maxsize=4096)
def _is_plain(kind: type) -> bool:
    """Whether what is of this class holds nothing that a forward writes."""
    return kind in _PLAIN or issubclass(kind, _CLOSED)


@lru_cache(maxsize=4096)
def _is_module(kind: type) -> bool:
    """Whether what is of this class is a module, and no container besides."""
    return issubclass(kind, nn.Module) and not issubclass(kind, (dict, list, tuple, set, frozenset, deque))


@lru_cache(maxsize=4096)
def _slots_of(kind: type) -> tuple[str, ...]:
    """The names of the slots of a class, as they are looked up from outside of it."""
    found = []
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            hidden = name.startswith("__") and not name.endswith("__")
            found.append(f"_{base.__name__.lstrip('_')}{name}" if hidden else name)
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))
