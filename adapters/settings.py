"""Where a plan's integers are: in a module, or in a container or config object of one, by dotted name.

A plan may come from anywhere, so a name leads to nothing else: no hook, no tensor, no other object's inside.
"""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn

from ..errors import PlanError, shown
from .contents import MISSING, names_of, text_of
from .submodules import MODULE_STATE

_DEEPEST = 16  # as deep as containers of sizes are looked into, which may be inside of themselves
_NOT_CONFIGS = frozenset({"torch", "numpy", "builtins", *sys.stdlib_module_names})


@frozen(eq=False)
class Setting:
    """One positive integer: in a namespace under a name, and there, if it is in a container, by keys."""

    namespace: dict[str, Any]
    name: str
    keys: tuple[Any, ...]

    @property
    def value(self) -> Any:
        """The integer as it is now."""
        found = self.namespace[self.name]
        for key in self.keys:
            found = found[key]
        return found


def setting_of(model: nn.Module, name: str) -> Setting:
    """The integer of that name, ``blocks.0.attn.num_heads`` or ``norm.normalized_shape[0]``.

    Raises `PlanError` if the model has none there.
    """
    dotted, bracket, rest = name.partition("[")
    path, _, last = dotted.rpartition(".")
    owner = _owner(model, path)
    held = MISSING if owner is None else _own(owner, last)
    keys = None if held is MISSING else _keys(held, bracket + rest)
    if keys is None:
        raise PlanError(
            f"the plan sets {shown(name)}, which this model does not have; was it made for another?"
        )
    found = Setting(vars(owner), last, keys)
    if not _is_size(found.value):
        raise PlanError(f"the plan sets {shown(name)}, which is no size here; was it made for another model?")
    return found


def attribute_of(model: nn.Module, name: str) -> int:
    """The integer of that name; raises as `setting_of`."""
    return setting_of(model, name).value


def is_config(value: Any) -> bool:
    """Whether an object is a plain bag of settings: a transformers config, a dataclass, a namespace."""
    if isinstance(value, (SimpleNamespace, Namespace)):
        return True
    if (
        isinstance(value, (type, Enum, nn.Module, torch.Tensor))
        or type(value).__module__.split(".")[0] in _NOT_CONFIGS
    ):
        return False
    return names_of(value) is not None


def _owner(model: nn.Module, path: str) -> Any:
    """The module, or the config object of a module, at a path; ``None`` if there is none."""
    owner: Any = model
    for part in path.split(".") if path else ():
        inside = owner._modules if isinstance(owner, nn.Module) else {}
        owner = inside.get(part) if part in inside else _own(owner, part)
        if not (isinstance(owner, nn.Module) if part in inside else is_config(owner)):
            return None
    return owner


def _own(owner: Any, name: str) -> Any:
    """What a module or a config object has under a name, or `MISSING`; nothing that every module has."""
    is_hidden = isinstance(owner, nn.Module) and name in MODULE_STATE
    return MISSING if is_hidden else vars(owner).get(name, MISSING)


def _is_size(value: Any) -> bool:
    return (type(value) is int or isinstance(value, np.integer)) and int(value) > 0


def _keys(held: Any, text: str) -> tuple[Any, ...] | None:
    """The keys that are written ``[0]['width']``, as the containers have them; ``None`` if they have not."""
    keys: list[Any] = []
    while text:
        fitting = [key for key in _keys_like(held, text) if text.startswith(f"[{text_of(key)}]")]
        if not fitting or len(keys) == _DEEPEST:
            return None
        keys.append(fitting[0])
        held, text = held[fitting[0]], text[len(f"[{text_of(fitting[0])}]") :]
    return tuple(keys)


def _keys_like(held: Any, text: str) -> Iterable[Any]:
    """The keys of a container of sizes with one of which the text may start."""
    kind = type(held)
    if kind in (dict, OrderedDict):
        return held
    if kind in (list, tuple, torch.Size) or (isinstance(held, tuple) and hasattr(kind, "_make")):
        number = re.match(r"\[(\d{1,9})\]", text)
        return [int(number[1])] if number and int(number[1]) < len(held) else []
    return []
