"""The modules of a model, read where torch keeps them: what would list them may have been overridden."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, filterfalse
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TraceError

_MOST_NAMES = 300_000  # of modules; the largest mixtures of experts have a third of that
MODULE_STATE = frozenset(vars(nn.Module()))  # what every module has: parameters, hooks, flags


def registered(module: nn.Module, kind: str) -> Mapping[str, Any]:
    """Its ``_parameters``, ``_buffers`` or ``_modules``; a module that is not made yet has none."""
    if isinstance(module, torch.jit.ScriptModule):
        return dict(getattr(module, kind).items())
    return vars(module).get(kind) or {}


def modules_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The model and all below it with their paths, one that has several names once for each.

    A module that leads back to one around it ends there: it has names without end. Raises `TraceError` if
    modules lead to one another in so many ways that their names cannot be listed.
    """
    found: list[tuple[str, nn.Module]] = []
    ahead: list[tuple[str, nn.Module, frozenset[int]]] = [("", model, frozenset())]
    while ahead:
        path, module, around = ahead.pop()
        found.append((path, module))
        if len(found) > _MOST_NAMES:
            raise TraceError(
                f"the modules of this model lead to one another in more than {_MOST_NAMES:,} ways\n"
                "register each in one place, and keep other references to it in a list or a tuple"
            )
        if children := registered(module, "_modules"):
            around |= {id(module)}
            ahead += [
                (f"{path}.{name}" if path else name, child, around)
                for name, child in reversed(list(children.items()))
                if child is not None and id(child) not in around
            ]
    return found


def each_module(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The model and all below it, each once, with its first path."""
    found = {id(module): (path, module) for path, module in reversed(modules_of(model))}
    return list(found.values())[::-1]


def set_training(module: nn.Module, training: bool) -> None:
    """Tell a module alone whether it trains, whatever its class makes of being given attributes."""
    if "training" in vars(module):
        vars(module)["training"] = training
    else:
        module.training = training


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path; raises `AttributeError` if there is none."""
    module = find_module(model, path)
    if module is None:
        raise AttributeError(f"there is no module {path}")
    return module


def find_module(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, if there is one; nothing of the user's is run to find it."""
    found: nn.Module | None = model
    for name in path.split(".") if path else ():
        found = None if found is None else registered(found, "_modules").get(name)
    return found


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by their first names, each once."""
    return _distinct(model, "_parameters")


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """The buffers by their first names, each once."""
    return _distinct(model, "_buffers")


def _distinct(model: nn.Module, kind: str) -> dict[str, Any]:
    found: dict[int, tuple[str, Any]] = {}
    for path, module in each_module(model):
        for name, tensor in registered(module, kind).items():
            if tensor is not None:
                found.setdefault(id(tensor), (f"{path}.{name}" if path else name, tensor))
    return dict(found.values())


def tensors_of(model: nn.Module) -> list[Tensor]:
    """All parameters and buffers, each once."""
    return list(chain(parameters_of(model).values(), buffers_of(model).values()))


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds beside parameters, buffers, modules and what else every module has."""
    # Nothing hinders a namespace from having other keys than texts: no code could name them.
    names = vars(module)
    return {
        name: names[name] for name in list(filterfalse(MODULE_STATE.__contains__, names)) if type(name) is str
    }
