"""Weights that a module computes from other tensors before it runs: by parametrizations, or by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from attrs import frozen
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .submodules import each_module, registered
from .undisturbed import undisturbed


@frozen(eq=False)
class Computed:
    """One of them: the names of the tensors that it is computed from, and how."""

    originals: list[str]
    module: nn.Module
    value: Callable[[], Tensor]

    def now(self) -> Tensor:
        """Its value, computed anew; nothing is changed by that."""
        with undisturbed(self.module):
            return self.value().detach()


def computed(model: nn.Module, names: Iterable[str]) -> Iterator[Computed]:
    """The weights that are computed from any of the tensors of these names."""
    known = set(names)
    for path, module in each_module(model):
        prefix = f"{path}." if path else ""
        for weight, value in _of_module(module):
            # Names begin with the weight's: weight_g, parametrizations.weight.original0
            starts = f"{prefix}{weight}_", f"{prefix}parametrizations.{weight}.original"
            originals = [name for name in known if name.startswith(starts)]
            if originals:
                yield Computed(sorted(originals), module, value)


def _of_module(module: nn.Module) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The weights that one module computes, by name."""
    parametrizations: Any = registered(module, "_modules").get("parametrizations")
    if isinstance(parametrizations, nn.ModuleDict) and parametrize.is_parametrized(module):
        for name in parametrizations:
            yield name, partial(getattr, module, name)
    hooks: list[Any] = list(module._forward_pre_hooks.values())
    for hook in hooks:
        if callable(getattr(hook, "compute_weight", None)) and isinstance(getattr(hook, "name", None), str):
            yield hook.name, partial(_hooked, module, hook)


def _hooked(module: nn.Module, hook: Any) -> Tensor:
    """What a hook of torch.nn.utils puts onto its module."""
    hook(module, ())
    return getattr(module, hook.name)
