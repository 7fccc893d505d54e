"""Keeps the attributes of modules true: sizes that the forward reads, and those that only repeat a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import PlanError, shown
from ..rules import RuleSet
from .settings import setting_of
from .submodules import MODULE_STATE, each_module, find_module, module_at

# Where a weight is kept that is computed from others (torch.nn.utils.parametrize, and weight_norm and
# spectral_norm before it).
_STANDS_FOR = ("{}", "parametrizations.{}.original", "parametrizations.{}.original1", "{}_v", "{}_orig")


def bookkeeping(
    model: nn.Module,
    rules: RuleSet,
    kept: Mapping[str, Mapping[int, Sequence[int]]],
    changed: Mapping[str, int],
) -> dict[str, int]:
    """New values of the attributes that module rules call a size of a parameter, by dotted name.

    `kept` gives the kept indices of the sliced tensors, `changed` the attributes that are set anyway. An
    attribute that did not repeat the size before is left alone.
    """
    found: dict[str, int] = {}
    for path, module in each_module(model):
        rule = rules.bookkeeping(type(module))
        for entry in rule.attributes if rule else ():
            tensor, axes = _parameter(module, path, entry.parameter, kept)
            before = getattr(module, entry.attribute, None)
            factor = 1 if entry.times is None else getattr(module, entry.times, None)
            if tensor is None or type(before) is not int or type(factor) is not int:
                continue
            if not -tensor.dim() <= entry.axis < tensor.dim():
                continue
            axis = entry.axis % tensor.dim()
            size = tensor.shape[axis]
            new = len(axes[axis]) if axis in axes else size
            if entry.times is not None:
                size, new = size * factor, new * changed.get(_join(path, entry.times), factor)
            if before == size and new != size:
                found[_join(path, entry.attribute)] = new
    return found


def _parameter(
    module: nn.Module, path: str, name: str, kept: Mapping[str, Mapping[int, Sequence[int]]]
) -> tuple[Tensor | None, Mapping[int, Sequence[int]]]:
    """A parameter of a module, or the one that it is computed from, with its kept indices."""
    for form in _STANDS_FOR:
        inside, _, last = form.format(name).rpartition(".")
        try:
            owner = module_at(module, inside)
        except AttributeError:
            continue
        tensor: Tensor | None = {**owner._buffers, **owner._parameters}.get(last)
        if tensor is not None:
            return tensor, kept.get(_join(path, form.format(name)), {})
    return None, {}


class Emptied:
    """An attribute, or an entry of a dict, in which a forward has left tensors, as it was before."""

    def __init__(self, model: nn.Module, name: str):
        attribute, self._bracket, key = name.partition("[")
        path, _, self._name = attribute.rpartition(".")
        module = find_module(model, path)
        if module is None or self._name in MODULE_STATE:
            raise PlanError(f"the plan empties {shown(name)}, which this model does not have")
        self._module = module
        self._key = key.removesuffix("]")
        self._before = {name: one for name, one in vars(self._module).items() if name == self._name}

    def carry_out(self) -> None:
        """Take the tensors out, if there are any."""
        names = vars(self._module)
        held = names.get(self._name)
        if self._bracket:
            if isinstance(held, dict):
                names[self._name] = emptied = copy(held)  # of the same kind, which may make what is missing
                for key in [key for key, one in held.items() if self._is_meant(key, one)]:
                    del emptied[key]
        elif _has_tensors(held):
            if isinstance(getattr(type(self._module), self._name, None), cached_property):
                names.pop(self._name)
            else:
                names[self._name] = None

    def _is_meant(self, key: Any, item: Any) -> bool:
        return repr(key) == self._key and _has_tensors(item)

    def take_back(self) -> None:
        """Put the tensors back, or take out what was made meanwhile."""
        vars(self._module).update(self._before)
        if not self._before:
            vars(self._module).pop(self._name, None)


def _has_tensors(item: Any) -> bool:
    """Whether it is what a forward leaves: a tensor, or some in a tuple or a list."""
    return any(isinstance(one, Tensor) for one in (item if isinstance(item, (tuple, list)) else [item]))


class ChangedAttribute:
    """One integer of a module, or of a container or config object that a module holds, by dotted name."""

    def __init__(self, model: nn.Module, name: str, value: int, before: int | None):
        self._setting = setting_of(model, name)
        found = self._setting.value
        if before is not None and found != before:
            raise PlanError(f"the plan is for a model with {name} = {before}, here it is {found!r}")
        if not _can_be(type(found), value):
            raise PlanError(f"the plan sets {name} to {shown(value)}, which is no size")
        self._value, self._model = value, model
        self._before: Any = self._setting.namespace[self._setting.name]
        self._places: list[tuple[dict[str, Any], str]] = []

    def carry_out(self) -> None:
        """Set the new value, for all modules that share a list or dict: theirs is another one from now on."""
        namespace, name = self._setting.namespace, self._setting.name
        self._before = namespace[name]
        self._places = [(namespace, name)]
        if isinstance(self._before, (list, dict)):
            holders = [vars(module) for _, module in each_module(self._model)]
            self._places += [(one, key) for one in holders for key in one if one[key] is self._before]
        new = _replaced(self._before, self._setting.keys, self._value)
        for holder, key in self._places:
            holder[key] = new

    def take_back(self) -> None:
        """Put the old object back."""
        for holder, key in self._places:
            holder[key] = self._before


def _can_be(kind: type, value: Any) -> bool:
    """Whether there is such a number of this kind, and it is a size."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value <= 0:
        return False
    return not issubclass(kind, np.integer) or int(value) <= np.iinfo(kind).max


def _replaced(container: Any, keys: tuple, value: int) -> Any:
    """`container` with the item at `keys` replaced; a new object, and a new number, of the same kind."""
    if not keys:
        return type(container)(value)
    first, *rest = keys
    if isinstance(container, dict):
        return type(container)({**container, first: _replaced(container[first], tuple(rest), value)})
    items = list(container)
    items[first] = _replaced(items[first], tuple(rest), value)
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return type(container)(*items)
    return type(container)(items)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
