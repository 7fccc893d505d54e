"""From the dotted names of a rule file to callables, and from one callable to all its spellings."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from ..grammar import did_you_mean
from ..torch_private import OPDEFS, CustomOpDef, OpOverload, OpOverloadPacket, VariableFunctions

# One name, two operations: sliding windows of one axis, and im2col.
_HOMONYMS = frozenset(("unfold",))

_OPERATORS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "truediv div",
    "floor_divide": "floordiv",
    "remainder": "mod",
    "pow": "pow",
    "matmul": "matmul",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
    "bitwise_left_shift": "lshift",
    "bitwise_right_shift": "rshift",
    "bitwise_not": "invert",
    **{name: name for name in ("neg", "abs", "eq", "ne", "lt", "le", "gt", "ge")},
}


class MissingTarget(LookupError):
    """A dotted name that leads nowhere; ``help`` says what might be meant."""

    def __init__(self, help: str | None) -> None:
        super().__init__(help)
        self.help = help


class NotImported(MissingTarget):
    """A dotted name of a module that nobody has imported, where nothing is to be imported."""


_imports: ContextVar[bool] = ContextVar("imports", default=True)


@contextmanager
def importing(allowed: bool) -> Iterator[None]:
    """Whether dotted names are followed into modules that are not imported yet, as importing one runs it.

    A rule is looked at in many ways that all end here, so this is no argument of each of them.
    """
    token = _imports.set(allowed)
    try:
        yield
    finally:
        _imports.reset(token)


def resolve(name: str) -> Callable[..., Any]:
    """The callable of a dotted name, as a ``TorchFunctionMode`` sees it.

    Raises
    ------
    MissingTarget
        A package that is not installed, or an attribute that does not exist. `NotImported` where only an
        import could tell.
    """
    found = locate(name)
    if not callable(found) and not hasattr(found, "__get__"):
        raise MissingTarget("a target is a function, a method, an operator or a class")
    return canonical(found)


def locate(name: str) -> Any:
    """Whatever a dotted name leads to; raises `MissingTarget` as `resolve` does."""
    parts = name.split(".")
    found, used = _import(parts)
    for part in parts[used:]:
        try:
            found = getattr(found, part)
        except Exception:  # what a user's module has may raise anything when it is asked
            help = did_you_mean(part, _names_of(found))
            if name.startswith("torch.ops."):
                # An operator is only there once its module is imported, which this name does not do.
                help = help or "name it as the Python module that defines it does: 'mypkg.ops.gate'"
            raise MissingTarget(help) from None
    return _built_in(name, found)


def _has(module: Any, name: str) -> bool:
    try:
        return hasattr(module, name)
    except Exception:
        return False


def _is_module(name: str) -> bool:
    """Whether there is such a module, of a package that is imported; it is not run."""
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # not a package, or one that looks for its modules in a way of its own
        return False


def _names_of(found: Any) -> list[str]:
    try:
        return dir(found)
    except Exception:
        return []


def _import(parts: list[str]) -> tuple[Any, int]:
    """The innermost module that the name begins with, and how many parts it takes."""
    module = None
    for used in range(1, len(parts) + 1):
        name = ".".join(parts[:used])
        if module is not None and _has(module, parts[used - 1]) and name not in sys.modules:
            return module, used - 1
        if not _imports.get() and name not in sys.modules:
            if module is None or _is_module(name):
                raise NotImported(f"{name} is not imported")
            return module, used - 1
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a user's own module may raise anything
            if getattr(error, "name", None) != name:
                raise MissingTarget(f"importing {name} fails: {type(error).__name__}: {error}") from None
            if module is None:
                raise MissingTarget(f"no package '{name}' is installed") from None
            return module, used - 1
    return module, len(parts)


def _built_in(name: str, found: Any) -> Any:
    """Torch's own function where another package has put its own in its place, which calls torch's."""
    owner, _, stem = name.rpartition(".")
    package = str(getattr(found, "__module__", None)).partition(".")[0]
    if owner != "torch" or package in ("torch", "None"):
        return found
    return getattr(VariableFunctions, stem, found)


def canonical(target: Any) -> Callable[..., Any]:
    """The object that stands for a target: the getter of a property, the class of an ``apply``."""
    owner = getattr(target, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return owner
    if isinstance(target, CustomOpDef):
        return target._opoverload.overloadpacket
    if not callable(target) and hasattr(target, "__get__"):
        return target.__get__
    return target


def written_name(target: Any, name: str) -> str:
    """How a rule file best names a target: a custom operator by the function that defines it.

    ``torch.ops.mine.gate`` is only there once somebody has imported its module, ``mine.ops.gate`` imports it.
    """
    packet = target.overloadpacket if isinstance(target, OpOverload) else target
    definition = OPDEFS.get(getattr(packet, "_qualified_op_name", ""))
    function = getattr(definition, "_init_fn", None)
    if function is None or function.__module__ == "__main__":
        return name
    written = f"{function.__module__}.{function.__qualname__}"
    try:
        return written if resolve(written) is packet else name
    except MissingTarget:
        return name


def spellings(name: str) -> Iterator[Callable[..., Any]]:
    """The other callables that do what the one of this dotted name does.

    ``torch.add`` also stands for ``torch.Tensor.add``, ``add_``, ``__add__``, ``__radd__`` and
    ``__iadd__``. Dunder and in-place names, and names outside of torch, stand for themselves only.
    """
    owner, _, stem = name.rpartition(".")
    if owner not in ("torch", "torch.Tensor", "torch.nn.functional") or stem.endswith("_"):
        return
    homes: tuple[Any, ...] = (torch, VariableFunctions, torch.Tensor, torch.nn.functional)
    if stem in _HOMONYMS:
        homes = (torch.nn.functional,) if owner == "torch.nn.functional" else homes[:3]
    for home in homes:
        for spelled in (stem, f"{stem}_"):
            found = getattr(home, spelled, None)
            if found is not None and not isinstance(found, type(sys)):
                yield canonical(found)
    for operator in _OPERATORS.get(stem, "").split():
        for spelled in (f"__{operator}__", f"__r{operator}__", f"__i{operator}__"):
            found = getattr(torch.Tensor, spelled, None)
            if found is not None:
                yield found


def fallbacks(target: Any) -> Iterator[Callable[..., Any]]:
    """Where else to look for the rule of an operator: its packet, then the torch function of that name."""
    if isinstance(target, OpOverload):
        target = target.overloadpacket
        yield target
    if isinstance(target, OpOverloadPacket):
        if target._qualified_op_name.startswith("aten::"):
            for home in (torch, torch.nn.functional, torch.Tensor):
                found = getattr(home, target.__name__, None)
                if found is not None:
                    yield canonical(found)
        else:
            yield from (getattr(target, overload) for overload in target.overloads())
