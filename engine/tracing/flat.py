"""A web of objects as a table: so it is pickled and copied, however deep one object is inside of another.

Pickle follows references by recursion, and a graph leads from its last value through every call to its first.
Here each object is a row that names others by their numbers. What is not of the engine is a leaf, which
pickle and `copy` take as ever: the model, tensors, rules. A torch function without a name for pickle goes by
ours, and what no other process can have, such as a lambda, is `Gone`.
"""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any

import torch
from attrs import define, frozen

from ...errors import PrunusError
from ...rules.targets import MissingTarget, resolve
from .size_int import SizeInt
from .values import dotted_name

Row = tuple[str, Any, tuple[int, ...]]  # what it is, what else there is to know, and its parts

_WEBS = ("prunus.engine", "networkx")  # the packages of which objects have rows
_MUTABLE: dict[str, Callable[[], Any]] = {"list": list, "dict": dict, "ordered": OrderedDict, "set": set}
_METHODS = (MethodType, BuiltinMethodType, MethodWrapperType)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
_LIVING = (torch.nn.Module, torch.Tensor)


class Flattening:
    """For classes whose objects are in the middle of a web: pickles and copies them with all of it.

    A class of the engine says by ``LEFT_BEHIND`` what takes the place of what only its own process needs.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _restored, (flattened(self),)


@define(eq=False)
class Flat:
    """The rows, each after its parts where that can be, and the leaves."""

    rows: list[Row]
    leaves: list[Any]

    def __reduce__(self) -> Any:
        return Flat, (self.rows, list(map(_for_pickle, self.leaves)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Flat:
        # Functions and rules are nobody's own; models and tensors are, and what may have some inside.
        return Flat(self.rows, [_copy_of(one, memo) for one in self.leaves])


def flattened(root: Any) -> Flat:
    """The table of `root`, which is its last row."""
    flat = Flat([], [])
    numbers: dict[int, int] = {}
    alive: list[Any] = []  # what is made on the way, so that an id stays its own
    todo: list[tuple[Any, tuple[str, Any, list[Any]] | None]] = [(root, None)]
    opened: set[int] = set()
    while todo:
        item, known = todo.pop()
        if known is None and id(item) not in opened:
            opened.add(id(item))
            known = _taken_apart(item, flat.leaves)
            alive += [item, *known[2]]
            todo.append((item, known))
            todo += [(part, None) for part in reversed(known[2])]
        elif known is not None:
            numbers[id(item)] = len(flat.rows)
            flat.rows.append((known[0], known[1], tuple(map(id, known[2]))))
    flat.rows = [(kind, more, tuple(numbers[key] for key in parts)) for kind, more, parts in flat.rows]
    return flat


def _restored(flat: Flat) -> Any:
    """What `flattened` was given, made anew."""
    made: list[Any] = [_shell(kind, more) for kind, more, _ in flat.rows]
    whole = [False] * len(made)
    open_rows = []
    for number, (kind, more, parts) in enumerate(flat.rows):
        whole[number] = all(whole[part] for part in parts)
        if made[number] is _NOTHING:
            made[number] = _built(kind, more, [made[part] for part in parts], flat.leaves)
        elif whole[number]:
            _fill(made[number], kind, more, [made[part] for part in parts])
        else:
            open_rows.append(number)
    # Objects before containers: what a set or dict looks up may be told by what is in an object.
    for number in sorted(open_rows, key=lambda number: _ORDER.index(flat.rows[number][0])):
        kind, more, parts = flat.rows[number]
        _fill(made[number], kind, more, [made[part] for part in parts])
    return made[-1]


_NOTHING = object()
_ORDER = ("object", "container", "list", "deque", "defaultdict", "dict", "ordered", "set")


def _taken_apart(item: Any, leaves: list[Any]) -> tuple[str, Any, list[Any]]:
    """What kind of row an object is, what else there is to know of it, and its parts."""
    kind = type(item)
    if kind in (list, tuple, set, frozenset):
        return kind.__name__, None, list(item)
    if kind in (dict, OrderedDict):
        return "dict" if kind is dict else "ordered", None, [part for pair in item.items() for part in pair]
    if kind is defaultdict:
        return "defaultdict", item.default_factory, [part for pair in item.items() for part in pair]
    if kind is deque:
        return "deque", item.maxlen, list(item)
    if kind is slice:
        return "slice", None, [item.start, item.stop, item.step]
    if kind in _METHODS and _is_of_web(type(item.__self__)):
        return "method", item.__name__, [item.__self__]
    if kind is partial:
        return "partial", None, [item.func, item.args, item.keywords]
    if isinstance(item, SizeInt):
        return "object", (kind, int(item), ("expr", "ledger")), [item.expr, item.ledger]
    if _is_of_web(kind) and not isinstance(item, type):
        return _object(item)
    leaves.append(item)
    return "leaf", len(leaves) - 1, []


def _is_of_web(kind: type) -> bool:
    return kind.__module__.startswith(_WEBS)


def _object(item: Any) -> tuple[str, Any, list[Any]]:
    if isinstance(item, tuple):
        return "named", type(item), list(item)
    names = dict(_state(item))
    entries: list[Any] = []
    if isinstance(item, dict):
        entries = [part for pair in dict.items(item) for part in pair]
    elif isinstance(item, (list, set)):
        entries = list(item)
    row = "object" if not entries else "container"
    return row, (type(item), None, tuple(names)), [*names.values(), *entries]


def _state(item: Any) -> Iterator[tuple[str, Any]]:
    """What is in slots and in the namespace of an object; a foreign one makes its caches again."""
    kind = type(item)
    left = getattr(kind, "LEFT_BEHIND", {})
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(item, name):
                yield name, left[name]() if name in left else getattr(item, name)
    foreign = not kind.__module__.startswith(_WEBS[0])
    for name, value in getattr(item, "__dict__", {}).items():
        if not (foreign and isinstance(getattr(kind, name, None), cached_property)):
            yield name, left[name]() if name in left else value


def _shell(kind: str, more: Any) -> Any:
    """An empty one of what can be filled later."""
    if kind in ("object", "container"):
        cls, number, _ = more
        return cls.__new__(cls) if number is None else int.__new__(cls, number)
    if kind == "defaultdict":
        return defaultdict(more)
    if kind == "deque":
        return deque(maxlen=more)
    return _MUTABLE[kind]() if kind in _MUTABLE else _NOTHING


def _fill(made: Any, kind: str, more: Any, parts: list[Any]) -> None:
    if kind in ("object", "container"):
        for name, part in zip(more[2], parts):
            object.__setattr__(made, name, part)
        parts = parts[len(more[2]) :]
    if isinstance(made, (list, deque)):
        made.extend(parts)
    elif isinstance(made, set):
        made.update(parts)
    elif isinstance(made, dict):
        made.update(zip(parts[::2], parts[1::2]))


def _built(kind: str, more: Any, parts: list[Any], leaves: list[Any]) -> Any:
    """One of what is never changed."""
    if kind == "leaf":
        found = leaves[more]
        return found.target if isinstance(found, _Named) else found
    if kind == "named":
        return tuple.__new__(more, parts)
    if kind == "method":
        return getattr(parts[0], more)
    if kind == "partial":
        return partial(parts[0], *parts[1], **parts[2])
    if kind == "slice":
        return slice(*parts)
    return tuple(parts) if kind == "tuple" else frozenset(parts)


# --- leaves ------------------------------------------------------------------------------------------------


@frozen
class Gone:
    """Stands for what was not taken along to another process or copy."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise PrunusError(f"{self.name} was not pickled: analyse the model again")


@frozen
class _Named:
    """A callable that pickle has no name for, by the one that rules would have for it."""

    name: str

    @property
    def target(self) -> Any:
        try:
            return resolve(self.name)
        except MissingTarget:
            return Gone(self.name)


def _copy_of(item: Any, memo: dict[int, Any]) -> Any:
    if _is_shared(item) or (callable(item) and not isinstance(item, _LIVING)):
        return item
    return copy.deepcopy(item, memo)


def _for_pickle(item: Any) -> Any:
    if type(item) in _PLAIN or isinstance(item, _LIVING) or _is_shared(item):
        return item
    try:
        pickle.dumps(item)
        return item
    except Exception:  # whatever an object of the user's says to that
        return _by_name(item) if callable(item) else Gone(type(item).__name__)


def _by_name(item: Any) -> Any:
    name = dotted_name(item)
    try:
        return _Named(name) if resolve(name) == item else Gone(name)
    except MissingTarget:
        return Gone(name)


def _is_shared(item: Any) -> bool:
    """Whether all copies may have it: it is text and numbers alone."""
    return type(item) in _PLAIN or type(item).__module__.startswith(("prunus.grammar", "prunus.rules"))
