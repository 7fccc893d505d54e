"""Functions that cache what they return run as if they had never been called, while a model is traced.

They would answer with tensors, or with traced sizes, of an earlier run.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CACHED = type(functools.lru_cache(lambda: None))
_OTHERS = frozenset({"torch", "numpy", "prunus", "builtins", *sys.stdlib_module_names}) - {"__main__"}


@contextmanager
def uncached(model: torch.nn.Module) -> Iterator[None]:
    """Put the plain functions in the places of cached ones: in the files of the model's packages and of
    einops, in its modules' classes, and on its modules themselves."""
    places = [(owner, name, found) for owner in _owners(model) for name, found in _cached_in(owner)]
    for owner, name, found in places:
        _put(owner, name, _plain(found))
    try:
        yield
    finally:
        for owner, name, found in places:
            _put(owner, name, found)


def _owners(model: torch.nn.Module) -> list[Any]:
    modules = list(model.modules())
    kinds = dict.fromkeys(base for module in modules for base in type(module).__mro__)
    kinds = {kind: None for kind in kinds if _package(kind.__module__) not in _OTHERS}
    packages = {"einops", *(_package(kind.__module__) for kind in kinds)}
    files = [file for name, file in list(sys.modules.items()) if file and _package(name) in packages]
    return [*files, *kinds, *modules]


def _package(name: str) -> str:
    return name.partition(".")[0]


def _cached_in(owner: Any) -> list[tuple[str, Any]]:
    """The cached functions that a file, a class or an object names; static and class methods as they are."""
    return [
        (name, found)
        for name, found in list(vars(owner).items())
        if type(found) is _CACHED
        or (isinstance(found, (staticmethod, classmethod)) and type(found.__func__) is _CACHED)
    ]


def _plain(found: Any) -> Any:
    if isinstance(found, (staticmethod, classmethod)):
        cached: Any = found.__func__
        return type(found)(cached.__wrapped__)
    return found.__wrapped__


def _put(owner: Any, name: str, found: Any) -> None:
    if isinstance(owner, torch.nn.Module):
        vars(owner)[name] = found
    else:
        setattr(owner, name, found)
