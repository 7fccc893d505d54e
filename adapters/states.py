"""What a forward may change that no attribute or item shows: random numbers, bytes, closures and classes."""

from __future__ import annotations

import array
import random
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from io import BytesIO, StringIO
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch

_Undo = Callable[[], Any]


def undo_of(item: Any) -> _Undo | None:
    """What puts the state of `item` back to what it is now, if it has one of these kinds."""
    take = _taker(type(item))  # type: ignore[arg-type]  # a class is hashable
    return None if take is None else take(item)


@lru_cache(maxsize=4096)
def _taker(kind: type) -> Callable[[Any], _Undo] | None:
    return next((take for known, take in _TAKERS.items() if issubclass(kind, known)), None)


def _of_bytes(item: Any) -> _Undo:
    return partial(item.__setitem__, slice(None), item[:])


def _of_stream(item: Any) -> _Undo:
    if item.closed:
        return lambda: None
    text, position = item.getvalue(), item.tell()

    def rewrite() -> None:
        item.seek(0)
        item.truncate()
        item.write(text)
        item.seek(position)

    return rewrite


def _of_numpy(item: Any) -> _Undo:
    return partial(setattr, item.bit_generator, "state", item.bit_generator.state)


_TAKERS: dict[type, Callable[[Any], _Undo]] = {
    torch.Generator: lambda item: partial(item.set_state, item.get_state()),
    random.Random: lambda item: partial(item.setstate, item.getstate()),
    np.random.RandomState: lambda item: partial(item.set_state, item.get_state()),
    np.random.Generator: _of_numpy,
    bytearray: _of_bytes,
    array.array: _of_bytes,
    BytesIO: _of_stream,
    StringIO: _of_stream,
}


def captured(function: FunctionType) -> list[Any]:
    """What is in the variables of a closure."""
    found = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it has no value yet
            found.append(cell.cell_contents)
    return found


def undo_of_cell(cell: CellType) -> _Undo:
    """What puts back the variable of a closure."""
    try:
        return partial(setattr, cell, "cell_contents", cell.cell_contents)
    except ValueError:  # it has no value yet
        return lambda: None


@lru_cache(maxsize=4096)
def classes_of(kind: type) -> tuple[type, ...]:
    """The user's own classes among the bases of a module's class, and that itself."""
    return tuple(base for base in kind.__mro__ if base.__module__.split(".")[0] not in ("torch", "builtins"))


def data_of(kind: type) -> dict[str, Any]:
    """The attributes of a class that are data."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not (name.startswith("__") or callable(value) or hasattr(type(value), "__get__"))
    }


def undo_of_class(kind: type) -> _Undo:
    """What puts back the data of a class, which all its instances share."""
    before = data_of(kind)

    def put_back() -> None:
        now = data_of(kind)
        for name in now.keys() - before.keys():
            delattr(kind, name)
        for name, value in before.items():
            if now.get(name) is not value:
                setattr(kind, name, value)

    return put_back
