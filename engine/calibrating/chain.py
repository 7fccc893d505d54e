"""Modules that hand one tensor on, each to the next: the blocks of a network, found where it runs.

What a chain is made of, it tells itself: the very tensor that one module returns first is the first that the
next one is given. A module whose own parts are a chain, from its input to its output, is taken apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import torch
from attrs import Factory, define
from torch import Tensor, nn

from ...adapters.contents import copied, tensors_in
from ...adapters.submodules import each_module, module_at
from ...adapters.undisturbed import undisturbed
from ...adapters.undo import Undo, undoing
from ..tracing import version

# Positional and keyword arguments of a module's call.
Given = tuple[tuple[Any, ...], dict[str, Any]]

# A tensor, and how often it was written to: what was written to since is another one.
Stood = tuple[int, int | None]


@define(eq=False)
class _Run:
    """A module's call: the first tensor that it is given, the others, the first that it returns."""

    path: str
    first: Stood | None
    others: set[int]
    last: Stood | None = None
    inside: list[_Run] = Factory(list)


Chain = list[_Run]


def chains_of(model: nn.Module, run: Callable[[], Any]) -> list[list[str]]:
    """The chains of two modules and more, in the order in which they run, as paths.

    `run` calls the model, once. What is called several times is in no chain.
    """
    root = _Run("", None, set())
    opened, alive, seen = [root], [], Counter[str]()

    def before(path: str, args: Any, kwargs: Any) -> None:
        tensors = list(tensors_in((args, kwargs)))
        alive.extend(tensors)  # so that none takes the place of another
        opened.append(_Run(path, _stood(tensors[:1]), set(map(id, tensors[1:]))))
        seen[path] += 1

    def after(_: nn.Module, __: Any, result: Any) -> None:
        done, tensors = opened.pop(), list(tensors_in(result))
        alive.extend(tensors)
        done.last = _stood(tensors[:1])
        opened[-1].inside.append(done)

    with undisturbed(model), torch.no_grad(), undoing() as undo:
        for path, module in each_module(model):
            _hook(undo, module, before, path)
            undo.add(module.register_forward_hook(after).remove)
        run()
    return [[one.path for one in chain] for chain in _chains(root.inside, seen)]


def _stood(tensors: Sequence[Tensor]) -> Stood | None:
    return (id(tensors[0]), version(tensors[0])) if tensors else None


def _chains(runs: Iterable[_Run], seen: Mapping[str, int]) -> list[Chain]:
    """The chains among these calls, or inside of them where those are longer."""
    found = []
    for linked in _linked(runs):
        parts = [part for one in linked for part in _parts(one)]
        for once, group in groupby(parts, lambda one: seen[one.path] == 1):
            chain = list(group)
            inside = [inner for one in chain for inner in _chains(one.inside, seen)]
            if not once or len(chain) < 2 or any(len(inner) > len(chain) for inner in inside):
                found += inside
            else:
                found.append(chain)
    return found


def _linked(runs: Iterable[_Run]) -> list[Chain]:
    """Each call after the one whose result it is given, if it is given nothing else that the chain makes."""
    found: list[Chain] = []
    for run in runs:
        for chain in found:
            follows = run.first is not None and chain[-1].last == run.first
            if follows and _made(chain).isdisjoint(run.others):
                chain.append(run)
                break
        else:
            found.append([run])
    return found


def _made(chain: Chain) -> set[int]:
    """The tensors that the modules of a chain are given first, and return."""
    return {one[0] for part in chain for one in (part.first, part.last) if one is not None}


def _parts(run: _Run) -> Chain:
    """What a call is made of, if that is one chain from its input to its output; else itself."""
    for chain in _linked(run.inside):
        if run.last is not None and chain[0].first == run.first and chain[-1].last == run.last:
            return [part for one in chain for part in _parts(one)]
    return [run]


class _Stopped(Exception):
    """The model has come as far as was wanted."""


def given_to(model: nn.Module, paths: Sequence[str], run: Callable[[], Any]) -> tuple[Tensor, list[Given]]:
    """The tensor that a chain starts with, and what its modules are given, `STATE` in the place of theirs.

    They are fewer if the run does not come to all of them.
    """
    start: list[Tensor] = []
    found: list[Given] = []

    def before(path: str, args: Any, kwargs: Any) -> None:
        first = first_tensor((args, kwargs))
        if not found and first is not None:
            start.append(first)
        found.append(copied((args, kwargs), lambda one: STATE if one is first else one))
        if path == paths[-1]:
            raise _Stopped

    with undisturbed(model), torch.no_grad(), undoing() as undo:
        for path in paths:
            _hook(undo, module_at(model, path), before, path)
        with suppress(_Stopped):
            run()
    return start[0] if start else STATE, found


# Stands for the tensor that a chain hands on.
STATE = torch.empty(0)


def with_state(given: Given, state: Tensor) -> Given:
    """What a module is given, with the tensor that is handed on to it."""
    return copied(given, lambda one: state if one is STATE else one)


def run_plain(model: nn.Module, path: str, given: Given) -> Tensor:
    """What the module at a path hands on."""
    module = module_at(model, path)
    with undisturbed(module), torch.no_grad():
        found = first_tensor(module(*given[0], **given[1]))
    assert found is not None
    return found


def first_tensor(item: Any) -> Tensor | None:
    """The first of the tensors in a structure."""
    return next(iter(tensors_in(item)), None)


def _hook(undo: Undo, module: nn.Module, before: Callable[[str, Any, Any], None], path: str) -> None:
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: before(path, args, kwargs), with_kwargs=True
    )
    undo.add(handle.remove)
