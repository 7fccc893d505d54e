"""Functions that cache what they return run as if they had never been called, while a model is traced.

They would answer with tensors, or with traced sizes, of an earlier run.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import torch

from .undo import undoing

_CACHED = type(functools.lru_cache(lambda: None))
_FUNCTIONS = frozenset({_CACHED, FunctionType})
_OTHERS = frozenset({"torch", "numpy", "prunus", "builtins", *sys.stdlib_module_names}) - {"__main__"}
_DEPTH = 2  # wrappers around wrappers
Cell = tuple[Callable[[Any], None], Any]  # how to put something there, and what is there


@contextmanager
def uncached(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Put the plain functions in the places of cached ones: in the files of the modules' packages and of
    einops, in their classes, and on the modules themselves.

    Files and classes are there for all threads: what is put into them is cached on every other one.
    """
    with undoing() as undo:
        undo.add(setattr, _here, "is_tracing", getattr(_here, "is_tracing", False))
        _here.is_tracing = True
        for owner in _owners(modules):
            stand_in = _plain if isinstance(owner, torch.nn.Module) else _by_thread
            for put, found in list(_places(owner)):
                undo.add(put, found)
                put(_like(found, stand_in(_function_of(found))))
        yield


_here = threading.local()


def _plain(cached: Any) -> Callable[..., Any]:
    return cached.__wrapped__


def _by_thread(cached: Any) -> Callable[..., Any]:
    """One that is the plain function where a model is traced, and the cached one on all other threads.

    It is of the same class, and wraps the same function: compiled code looks through it.
    """
    plain = _plain(cached)

    def run(*args: Any, **kwargs: Any) -> Any:
        return (plain if getattr(_here, "is_tracing", False) else cached)(*args, **kwargs)

    stand_in = functools.update_wrapper(functools.lru_cache(maxsize=0)(run), cached)
    vars(stand_in).update(__wrapped__=plain, cache_info=cached.cache_info, cache_clear=cached.cache_clear)
    return stand_in


def _owners(modules: Sequence[torch.nn.Module]) -> list[Any]:
    kinds = dict.fromkeys(base for kind in dict.fromkeys(map(type, modules)) for base in kind.__mro__)
    kinds = {kind: None for kind in kinds if _package(kind.__module__) not in _OTHERS}
    packages = {"einops", *(_package(kind.__module__) for kind in kinds)}
    named = [file for name, file in list(sys.modules.items()) if name.partition(".")[0] in packages]
    files = [file for file in named if isinstance(file, ModuleType)]
    with_functions = [one for one in modules if not _FUNCTIONS.isdisjoint(map(type, vars(one).values()))]
    return [*files, *kinds, *with_functions]


def _package(name: str) -> str:
    return name.partition(".")[0]


def _places(owner: Any) -> Iterator[Cell]:
    """Where a file, a class or an object has cached functions: under a name, or behind a wrapper's."""
    for name, found in list(vars(owner).items()):
        if not _may_be_cached(type(found)):  # type: ignore[arg-type]  # a class is hashable
            continue
        function = _function_of(found)
        if type(function) is _CACHED:
            yield partial(_put, owner, name), found
        elif type(function) is FunctionType and function.__closure__:
            for cell in _cells_of(function, _DEPTH):
                yield partial(setattr, cell, "cell_contents"), cell.cell_contents


@functools.lru_cache(maxsize=4096)
def _may_be_cached(kind: type) -> bool:
    """Whether an object of this class may be a cached function, or have one behind it."""
    return issubclass(kind, (_CACHED, FunctionType, property, staticmethod, classmethod))


def _function_of(found: Any) -> Any:
    """The function in a static method, a class method or a property, or what else a name stands for."""
    if isinstance(found, property):
        return found.fget
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def _cells_of(function: FunctionType, depth: int) -> Iterator[Any]:
    """The variables that a wrapper has captured and that are cached functions; a wrapper may have its own."""
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
        if type(held) is _CACHED:
            yield cell
        elif depth and type(held) is FunctionType:
            yield from _cells_of(held, depth - 1)


def _like(found: Any, function: Callable[..., Any]) -> Any:
    """A function in the form in which another was found: as a property, a static or a class method."""
    if isinstance(found, property):
        return property(function, found.fset, found.fdel)
    return type(found)(function) if isinstance(found, (staticmethod, classmethod)) else function


def _put(owner: Any, name: str, found: Any) -> None:
    """Give a file, class or object that attribute, whatever it makes of being given one."""
    if isinstance(owner, type):
        type.__setattr__(owner, name, found)
    else:
        vars(owner)[name] = found
