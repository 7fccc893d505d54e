"""Keeps the attributes of modules true: sizes that the forward reads, and those that only repeat a shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import PlanError

if TYPE_CHECKING:
    from ..rules import RuleSet

# Where a weight is kept that is computed from others (torch.nn.utils.parametrize, and weight_norm and
# spectral_norm before it).
_STANDS_FOR = ("{}", "parametrizations.{}.original", "parametrizations.{}.original1", "{}_v", "{}_orig")


def bookkeeping(model: nn.Module, rules: RuleSet, slices: Mapping[str, Mapping[int, Sequence[int]]]) -> dict[str, int]:
    """New values of the attributes that module rules call a size of a sliced parameter, by dotted name."""
    changed: dict[str, int] = {}
    for path, module in model.named_modules():
        rule = rules.bookkeeping(type(module))
        for entry in rule.attributes if rule else ():
            axes = _slices_of(path, entry.parameter, slices)
            if axes and entry.axis in axes and isinstance(getattr(module, entry.attribute, None), int):
                value = len(axes[entry.axis])
                changed[_join(path, entry.attribute)] = value
    return changed


def _slices_of(path: str, parameter: str, slices: Mapping[str, Mapping[int, Sequence[int]]]) -> Mapping | None:
    names = (_join(path, form.format(parameter)) for form in _STANDS_FOR)
    return next((slices[name] for name in names if name in slices), None)


class ChangedAttribute:
    """One integer of a module, or of a container or config object that a module holds, by dotted name."""

    def __init__(self, model: nn.Module, name: str, value: int):
        self._owner, self._key = _resolve(model, name)
        self._value = value
        self._before = _read(self._owner, self._key)

    def carry_out(self) -> None:
        """Set the new value."""
        _write(self._owner, self._key, _replaced(self._before, self._inside(), self._value))

    def take_back(self) -> None:
        """Put the old object back."""
        _write(self._owner, self._key, self._before)

    def _inside(self) -> tuple:
        return self._key[1]


_NAME = re.compile(r"^(?P<dotted>[^\[]+)(?P<keys>(\[[^\]]*\])*)$")


def _resolve(model: nn.Module, name: str) -> tuple[Any, tuple[str, tuple]]:
    found = _NAME.match(name)
    if not found:
        raise PlanError(f"the plan sets {name!r}, which is no attribute name")
    keys = tuple(_literal(key) for key in re.findall(r"\[([^\]]*)\]", found["keys"]))
    owner: Any = model
    *path, last = found["dotted"].split(".")
    for part in path:
        owner = owner._modules[part] if isinstance(owner, nn.Module) and part in owner._modules else vars(owner).get(part)
        if owner is None:
            raise PlanError(f"the plan sets {name}, which this model does not have; was it made for another?")
    if last not in vars(owner):
        raise PlanError(f"the plan sets {name}, which this model does not have; was it made for another?")
    return owner, (last, keys)


def _literal(key: str) -> Any:
    return int(key) if re.fullmatch(r"-?\d+", key) else key.strip("'\"")


def _read(owner: Any, key: tuple[str, tuple]) -> Any:
    return vars(owner)[key[0]]


def _write(owner: Any, key: tuple[str, tuple], value: Any) -> None:
    vars(owner)[key[0]] = value


def _replaced(container: Any, keys: tuple, value: int) -> Any:
    """`container` with the item at `keys` replaced; a new object, of the same kind."""
    if not keys:
        return value
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
