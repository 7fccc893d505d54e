"""Example calls: the Python expressions in the ``#: example`` lines of a rule.

An example is one call of a target, as a user would write it::

    #: example torch.permute(randn(2, 3, 4), (2, 0, 1))
    #: example randn(2, 3, 4)[:, 1]
    #: example mypkg.layers.Gate(4, 6)(randn(2, 4))
    #: example _(randn(2, 3, 8), 2)

Torch's factories are known by their bare names, everything else by its full one. ``_`` stands for each
target of the rule that no other of its examples calls. Examples are evaluated, so check rule files as you
would run programs: only those you trust.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn

from ..errors import RuleError
from ..grammar.ast import Rule
from .arguments import argument_defaults, argument_names
from .targets import MissingTarget, canonical, locate

_FACTORIES = ("arange", "eye", "full", "ones", "rand", "randint", "randn", "randperm", "tensor", "zeros")
_BUILTINS = ("slice", "dict", "list", "tuple", "range", "float", "int", "bool")
_NAMES = {name: getattr(torch, name) for name in _FACTORIES} | {name: eval(name) for name in _BUILTINS}

_IMPORT = {"__import__": __import__}  # torch's own code imports modules on demand, in whatever scope it runs


@frozen(eq=False)
class Example:
    """One call: a callable (or a module instance) with arguments.

    ``name`` is the dotted name by which a rule speaks of it, ``text`` the expression that makes the call.
    With ``first`` only the first of its results is looked at.
    """

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(factory=dict)
    name: str = ""
    text: str = ""
    first: bool = False

    @property
    def rule_target(self) -> Callable[..., Any]:
        """What a rule names to speak of this call: for a module its class."""
        return type(self.target) if isinstance(self.target, nn.Module) else self.target


def examples_of(rule: Rule, targets: Mapping[str, Callable[..., Any]]) -> list[Example]:
    """The example calls of a rule for `targets`, by name; tensors are drawn anew, from torch's generator.

    Raises `RuleError` for a line that is not a call, or that fails.
    """
    own = [_evaluated(rule, text) for text in rule.examples if not text.startswith("_(")]
    named = [example.rule_target for example in own]
    others = [name for name, target in targets.items() if target not in named]
    shared = [text.removeprefix("_") for text in rule.examples if text.startswith("_(")]
    return own + [_evaluated(rule, name + text) for text in shared for name in others]


def _evaluated(rule: Rule, text: str) -> Example:
    try:
        return evaluate(text)
    except ValueError as error:
        help = "write one call of a target, with all names in full: mypkg.Gate(4)(randn(2, 4))"
        raise RuleError(f"an example of rule {rule.name} fails: {error}", rule.span, help) from error


def evaluate(text: str) -> Example:
    """The call that an expression stands for: everything in it is computed but the outermost call itself.

    Raises `ValueError` with what is wrong with the expression.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return _Evaluation(dict(_NAMES)).call(tree, text)
    except Exception as error:  # a user's own code may raise anything
        raise ValueError(f"'{text}': {type(error).__name__}: {error}") from error


class _Evaluation:
    """Evaluates the parts of a call."""

    def __init__(self, scope: dict[str, Any]):
        self.scope = scope

    def call(self, tree: ast.expr, text: str) -> Example:
        """The outermost call: of a function, a module, a method of a tensor, an index or a property."""
        if isinstance(tree, ast.Subscript):
            args = self.value(tree.value), self.value(tree.slice)
            return Example(Tensor.__getitem__, args, name="torch.Tensor.__getitem__", text=text)
        is_name = any(_parts(tree))
        if (
            isinstance(tree, ast.Attribute)
            and not is_name
            and isinstance(of := self.value(tree.value), Tensor)
        ):
            target = canonical(getattr(Tensor, tree.attr))
            return Example(target, (of,), name=f"torch.Tensor.{tree.attr}", text=text)
        if not isinstance(tree, ast.Call):
            raise TypeError("this is not a call")
        args = tuple(map(self.value, tree.args))
        kwargs = {str(node.arg): self.value(node.value) for node in tree.keywords}
        target = self.value(tree.func)
        owner = getattr(target, "__self__", None)
        if isinstance(owner, Tensor):
            method = target.__name__
            return Example(getattr(Tensor, method), (owner, *args), kwargs, f"torch.Tensor.{method}", text)
        name = ast.unparse(tree.func).removesuffix(".apply")
        if isinstance(target, nn.Module):
            name = self._class_name(type(target), tree.func)
        return Example(canonical(target), args, kwargs, name, text)

    def _class_name(self, cls: type, tree: ast.expr) -> str:
        """The name of a module's class as the example has it, unless something else has made the module."""
        if isinstance(tree, ast.Call) and self.value(tree.func) is cls:
            return ast.unparse(tree.func)
        return f"{cls.__module__}.{cls.__qualname__}"

    def value(self, node: ast.expr) -> Any:
        """What an expression is, with dotted names as rules resolve them."""
        resolved = _Resolved(self.scope).visit(copy.deepcopy(node))
        expression = ast.fix_missing_locations(ast.Expression(resolved))
        return eval(compile(expression, "<example>", "eval"), {"__builtins__": _IMPORT, **self.scope})


class _Resolved(ast.NodeTransformer):
    """Puts what a dotted name stands for in its place."""

    def __init__(self, scope: dict[str, Any]):
        self.scope = scope

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        dotted = ".".join(_parts(node))
        if not dotted:
            return self.generic_visit(node)
        try:
            found = locate(dotted)
        except MissingTarget as missing:
            raise NameError(f"no '{dotted}'" + (f": {missing.help}" if missing.help else "")) from None
        self.scope[f"<{dotted}>"] = found
        return ast.Name(f"<{dotted}>", ast.Load())


def _parts(node: ast.expr) -> Iterator[str]:
    """The parts of a dotted name; nothing for any other expression, or one that begins with a known name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id not in _NAMES:
        yield from [node.id, *reversed(parts)]


def called(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> Example:
    """The call with these arguments: by position as far as there is no gap, as some take nothing else."""
    args = []
    rest = dict(arguments)
    for argument in argument_names(target) or ():
        if argument not in rest:
            break
        args.append(rest.pop(argument))
    written = [*map(_written, args), *(f"{key}={_written(item)}" for key, item in rest.items())]
    return Example(target, tuple(args), rest, name, f"{name}({', '.join(written)})")


def variations(example: Example) -> Iterator[Example]:
    """The call with one option other than its default: a flag turned round, a whole number more or less."""
    is_module = isinstance(example.target, nn.Module)
    defaults = argument_defaults(example.target.forward if is_module else example.target)
    names = argument_names(example.rule_target) or ()
    given = {*names[: len(example.args)], *example.kwargs}
    for name in [name for name in defaults if name in names and name not in given]:
        for other in _others(defaults[name]):
            written = f"{example.text.rstrip().removesuffix(')')}, {name}={other})"
            yield evolve(example, kwargs={**example.kwargs, name: other}, text=written)


def _others(default: object) -> tuple[object, ...]:
    if type(default) is bool:
        return (not default,)
    return (default + 1, default - 1) if type(default) is int else ()


def _written(item: Any) -> str:
    """An argument as an example has it: a tensor by a factory that makes one of its shape and kind."""
    if isinstance(item, Tensor):
        shape = ", ".join(map(str, item.shape)) or "()"
        if item.is_floating_point() or item.is_complex():
            kind = "" if item.dtype in (torch.float32, torch.float64) else f", dtype={item.dtype}"
            return f"randn({shape}{kind})"
        if item.dtype is torch.bool:
            return f"rand({shape}) > 0.5"
        kind = "" if item.dtype is torch.int64 else f", dtype={item.dtype}"
        return f"randint(2, {tuple(item.shape)}{kind})"
    if isinstance(item, list):
        return f"[{', '.join(map(_written, item))}]"
    if isinstance(item, tuple):
        return f"({', '.join(map(_written, item))}{',' if len(item) == 1 else ''})"
    if isinstance(item, torch.device):
        return repr(str(item))
    if isinstance(item, float) and not isfinite(item):
        return f"float('{item}')"
    return "..." if item is ... else repr(item)
