"""Argument names of any callable, and how the arguments of a call are matched to them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import torch

from ..torch_private import OpOverload, OpOverloadPacket
from .forms import Arguments, Form, arguments_of, is_torch, operator_schemas, schemas_of

# Keywords that stand for another one: those torch takes for NumPy's sake, and corrected ones.
_ALIASES = {
    "axis": "dim",
    "keepdims": "keepdim",
    "self": "input",
    "x": "input",
    "a": "input",
    "x1": "input",
    "x2": "other",
    "tensor": "input",
    "split_size_or_sections": "split_size",
    "axis0": "dim0",
    "axis1": "dim1",
}


def argument_names(target: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of the arguments of ``target``, or ``None`` if nobody knows them.

    The first argument of a ``torch.Tensor`` method is always called ``input``.
    """
    arguments = arguments_of(target)
    return None if arguments is None else arguments.names


def tensor_arguments(target: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments of ``target`` that are tensors, as far as its schema or its annotations tell."""
    arguments = arguments_of(target) or Arguments(())
    known = {
        name for form in arguments.forms for name, kind in zip(form.names, form.kinds) if kind == "tensor"
    }
    with suppress(TypeError, ValueError):
        parameters = inspect.signature(target).parameters.values()
        known.update(one.name for one in parameters if "Tensor" in str(one.annotation))
    return tuple(name for name in arguments.names if name in known and name != "out")


@functools.cache
def changed_arguments(target: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that ``target`` writes into and does not return, as far as torch tells."""
    if target in (torch.Tensor.__setitem__, torch.Tensor.data.__set__):  # type: ignore[attr-defined]  # the descriptor's own
        return ("input",)
    if not isinstance(target, (OpOverload, OpOverloadPacket)):
        return ()
    arguments = (one for schema in operator_schemas(target)[:1] for one in schema.arguments)
    return tuple(one.name for one in arguments if one.alias_info is not None and one.alias_info.is_write)


def bind(target: Callable[..., Any], args: tuple, kwargs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Match the arguments of a call to their names; no defaults are filled in.

    Sizes given one by one are gathered, and one alone becomes a tuple too: ``x.view(2, 3)`` gives
    ``shape=(2, 3)`` and ``x.view(-1)`` gives ``shape=(-1,)``. Without known names, arguments are called
    ``arg0, arg1, ...``.
    """
    arguments = arguments_of(target)
    if arguments is None:
        return {**{f"arg{i}": value for i, value in enumerate(args)}, **(kwargs or {})}
    form = arguments.forms[0]
    if len(arguments.forms) > 1:
        form = _choose(target, tuple(map(type, args)), tuple(kwargs or ()))
    bound = dict(zip(form.names, args, strict=False))
    if len(args) >= len(form.names) and (form.gathers or len(args) > len(form.names)):
        _gather(bound, form, args)
    if kwargs:
        for name, value in kwargs.items():
            bound[_keyword(name, arguments, form)] = value
    return bound


@functools.cache
def argument_defaults(target: Callable[..., Any]) -> Mapping[str, Any]:
    """What arguments are that a call leaves out, as far as Python or the schemas of operators tell."""
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        return _schema_defaults(operator_schemas(target))
    try:
        parameters = inspect.signature(target).parameters
        return {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    except (TypeError, ValueError):
        name = getattr(target, "__name__", "")
    packet = getattr(torch.ops.aten, name, None) if is_torch(target) and not name.startswith("__") else None
    return _schema_defaults(schemas_of(packet) if packet is not None else ())


def _schema_defaults(schemas: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for schema in schemas:
        for argument in schema.arguments:
            if argument.has_default_value():
                found.setdefault(argument.name, argument.default_value)
    return found


def _keyword(name: str, arguments: Arguments, form: Form) -> str:
    """The name of a keyword argument, NumPy's spellings and old names replaced."""
    if name in form.names or name in arguments.keywords:
        return name
    alias = arguments.renamed.get(name) or _ALIASES.get(name)
    return alias if alias in form.names else name


@functools.lru_cache(maxsize=4096)
def _choose(target: Callable[..., Any], types: tuple[type, ...], keywords: tuple[str, ...]) -> Form:
    """The first form that takes arguments of these types; the longest if none does."""
    arguments = arguments_of(target)
    assert arguments is not None
    forms = arguments.forms
    return next((form for form in forms if form.takes(types, keywords)), forms[-1])


def _gather(bound: dict[str, Any], form: Form, args: tuple) -> None:
    """Put what is left of the positional arguments into the last one, as a tuple."""
    if not form.names:
        return
    rest = args[len(form.names) - 1 :]
    alone = len(rest) == 1 and not isinstance(rest[0], (int, torch.Tensor))
    bound[form.names[-1]] = rest[0] if alone else tuple(rest)
