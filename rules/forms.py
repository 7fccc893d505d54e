"""The forms in which a callable may be called: names and kinds of its arguments, and where they come from.

Python functions say their names themselves. C functions do not; the ATen schemas of the same name do,
with every overload, and are what torch generates its own argument parsers from. (The lambdas of
``torch.overrides.get_testing_overrides()`` come last: for some thirty functions they leave out, rename
or reorder arguments, ``topk``, ``embedding`` and ``instance_norm`` among them.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from attrs import field, frozen

from ..torch_private import OpOverload, OpOverloadPacket, TensorBase

# Spellings whose own tables say nothing, or call the same argument something else than their twins do.
# A star gathers what is given one by one: x.view(2, 3).
_CORRECTIONS = {
    torch.Tensor.__getitem__: "input index",
    torch.Tensor.__setitem__: "input index value",
    torch.Tensor.copy_: "input src non_blocking",
    torch.split: "input split_size dim",
    torch.Tensor.split: "input split_size dim",
    torch.einsum: "equation *operands",
    torch.Tensor.sum_to_size: "input *size",
    torch.Tensor.new_tensor: "input data dtype device requires_grad",
    torch.tensor: "data dtype device requires_grad",
    torch.as_tensor: "data dtype device",
    torch.swapaxes: "input dim0 dim1",
    torch.Tensor.swapaxes: "input dim0 dim1",
}

# ATen name -> {argument in the schema: argument as it is written in Python or in the docs}.
_RENAMED = {
    "view": {"size": "shape"},
    "tensor_split": dict.fromkeys(
        ("sections", "indices", "tensor_indices_or_sections"), "indices_or_sections"
    ),
    "hsplit": dict.fromkeys(("sections", "indices"), "indices_or_sections"),
    "vsplit": dict.fromkeys(("sections", "indices"), "indices_or_sections"),
    "dsplit": dict.fromkeys(("sections", "indices"), "indices_or_sections"),
    "dot": {"tensor": "other"},
    "embedding": {"indices": "input"},
    "embedding_bag": {"indices": "input"},
    **{
        f"linalg_{name}": {"A": "input"}
        for name in ("det", "slogdet", "inv", "inv_ex", "solve", "svd", "svdvals", "qr")
    },
}

_OPERATORS = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "r", "i")
    for name in (
        *("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul"),
        *("and", "or", "xor", "lshift", "rshift", "eq", "ne", "lt", "le", "gt", "ge"),
    )
)

_KINDS: dict[str, Any] = {"tensor": torch.Tensor, "dtype": torch.dtype, "flag": bool, "list": (list, tuple)}


@frozen
class Form:
    """One way to call: positional names, what kind of value each takes, and whether the last gathers."""

    names: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    gathers: bool = False

    def takes(self, types: tuple[type, ...], keywords: tuple[str, ...]) -> bool:
        """Whether arguments of these types can be meant for this form."""
        if len(types) > len(self.names) and not self.gathers:
            return False
        if any(name in keywords for name in self.names[: len(types)]):
            return False
        return all(_is_kind(cls, kind) for cls, kind in zip(types, self.kinds, strict=False))


@frozen
class Arguments:
    """All forms of one callable, shortest first; names given by keyword only; old names of renamed ones."""

    forms: tuple[Form, ...]
    keywords: tuple[str, ...] = ()
    renamed: dict[str, str] = field(factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that any form has, once, in order."""
        positional = (name for form in reversed(self.forms) for name in form.names)
        return tuple(dict.fromkeys([*positional, *self.keywords]))


@functools.cache
def arguments_of(target: Callable[..., Any]) -> Arguments | None:
    """Everything known about the arguments of ``target``, from the first source that knows."""
    if target in _CORRECTIONS:
        return _from_text(_CORRECTIONS[target])
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        return _from_operator(target)
    if inspect.isclass(target) or inspect.isfunction(target) or inspect.ismethod(target):
        known = _from_python(target)
        if known is not None:
            return known
    return _from_torch(target)


def _is_kind(cls: type, kind: str) -> bool:
    """Whether a value of that type can be an argument of that kind; only what tells overloads apart."""
    if cls is type(None) or not kind:
        return True
    if kind in _KINDS:
        return issubclass(cls, _KINDS[kind])
    return not issubclass(cls, (torch.Tensor, torch.dtype, bool))


def _from_text(text: str) -> Arguments:
    names = tuple(text.replace("*", "").split())
    return Arguments((Form(names, gathers="*" in text),))


def _from_python(target: Callable[..., Any]) -> Arguments | None:
    """Read ``def``: of ``forward`` for modules and autograd functions, without ``self`` or ``ctx``."""
    function: Any = target
    skip = 0
    if inspect.isclass(target) and issubclass(target, (torch.nn.Module, torch.autograd.Function)):
        function = getattr(target, "forward", None)  # of a scripted module there is none
        # Since torch 2.0 a Function may keep ctx in ``setup_context`` and leave it out of ``forward``.
        separate = issubclass(target, torch.autograd.Function) and (
            target.setup_context is not torch.autograd.Function.setup_context
        )
        skip = 0 if separate else 1
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return None
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    gathered = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    if gathered and not names and any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None  # a wrapper that passes everything on
    if _is_method(target) and names:
        names[0] = "input"
    keywords = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return Arguments((Form((*names, *gathered), gathers=bool(gathered)),), keywords)


def _from_torch(target: Callable[..., Any]) -> Arguments | None:
    """C functions, Tensor methods and properties, and Python wrappers of those."""
    name = getattr(target, "__name__", "")
    if name in ("__get__", "__set__", "__delete__"):
        return Arguments((Form(("input", "value")[: 2 if name == "__set__" else 1]),))
    if not is_torch(target):
        return None
    if name.startswith("__") and name.strip("_") in _OPERATORS:
        return Arguments((Form(("input", "other")),))
    if inspect.isfunction(target):  # max_pool2d takes return_indices, which ATen does not know
        known = _from_overrides(target)
        if known is not None:
            return known
    packet = None if name.startswith("__") else getattr(torch.ops.aten, name, None)
    known = _from_schemas(schemas_of(packet), name, _is_method(target)) if packet is not None else None
    return known or _from_overrides(target)


def operator_schemas(operator: Any) -> list[Any]:
    """All overloads of an ATen packet, the first one of any other."""
    if isinstance(operator, OpOverload):
        return [operator._schema]
    if operator._qualified_op_name.startswith("aten::"):
        return list(schemas_of(operator))
    return [getattr(operator, operator.overloads()[0])._schema]


def _from_operator(operator: Any) -> Arguments:
    """An operator of ``torch.ops``: its schema; a packet's first overload unless the packet is ATen's."""
    schemas = operator_schemas(operator)
    known = _from_schemas(schemas, schemas[0].name.split("::")[-1], method=False) if schemas else None
    return known or Arguments((Form(()),))


def _from_overrides(target: Callable[..., Any]) -> Arguments | None:
    """The names in torch's own table of overridable functions."""
    function = torch.overrides.get_testing_overrides().get(target)
    if function is None:
        return None
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names += [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    gathers = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if _is_method(target) and names:
        names[0] = "input"
    keywords = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return Arguments((Form(tuple(names), gathers=gathers),), keywords)


def schemas_of(packet: Any) -> Iterator[Any]:
    """The overloads a Python call can mean: no ``out=`` variants, named axes or TorchScript scalars."""
    for name in packet.overloads():
        schema = getattr(packet, name)._schema
        arguments = schema.arguments
        if any(part in name for part in ("imname", "names", "prim_")) or any(a.is_out for a in arguments):
            continue
        if arguments and arguments[0].name in ("a", "t"):
            continue
        if any(a.name == "self" and str(a.type) != "Tensor" for a in arguments):
            continue
        yield schema


def _from_schemas(schemas: Iterable[Any], name: str, method: bool) -> Arguments | None:
    """Merge the overloads of one operation: forms that begin another one add nothing."""
    forms: dict[tuple[str, ...], Form] = {}
    keywords: dict[str, None] = {}
    renamed = {"self": "input", **_RENAMED.get(name.rstrip("_"), {})}
    for schema in schemas:
        pairs = [(renamed.get(a.name, a.name), _kind(a)) for a in schema.arguments if not a.kwarg_only]
        keywords.update({a.name: None for a in schema.arguments if a.kwarg_only})
        if method:
            if "input" not in [argument for argument, _ in pairs]:
                continue
            pairs.sort(key=lambda pair: pair[0] != "input")
        form = Form(tuple(n for n, _ in pairs), tuple(k for _, k in pairs), _is_gathering(pairs))
        known = forms.get(form.names)
        forms[form.names] = form if known is None else _widened(known, form)
    longest = [
        form
        for form in forms.values()
        if not any(len(o) > len(form.names) and o[: len(form.names)] == form.names for o in forms)
    ]
    if not longest:
        return None
    forms_by_length = sorted(longest, key=lambda form: len(form.names))
    return Arguments(tuple(forms_by_length), tuple(keywords), renamed)


def _widened(one: Form, other: Form) -> Form:
    """The form of two overloads whose names agree: a kind on which they differ is anything."""
    kinds = tuple(a if a == b else "" for a, b in zip(one.kinds, other.kinds, strict=True))
    return Form(one.names, kinds, one.gathers and other.gathers)


def _is_gathering(pairs: list[tuple[str, str]]) -> bool:
    """Torch lets sizes be given one by one where they are the only argument beside the tensor."""
    sizes = [pair for pair in pairs if pair[0] != "input"]
    return len(sizes) == 1 and sizes[0][1] == "sizes" and pairs[-1] == sizes[0]


def _kind(argument: Any) -> str:
    """What tells this argument from another overload's: see ``_is_kind``."""
    if argument.name == "dtype":
        return "dtype"
    kind = str(argument.type)
    if "List[" in kind:
        return "list" if "Tensor" in kind else "sizes"
    if "Tensor" in kind:
        return "tensor"
    return "flag" if "bool" in kind else "plain"


def _is_method(target: Callable[..., Any]) -> bool:
    """Whether this is a method of ``torch.Tensor``."""
    if getattr(target, "__objclass__", None) is TensorBase:
        return True
    owner, _, _ = getattr(target, "__qualname__", "").rpartition(".")
    return owner in ("Tensor", "TensorBase") and getattr(target, "__module__", "") in ("torch._tensor", None)


def is_torch(target: Callable[..., Any]) -> bool:
    """Whether torch itself owns this callable: ``operator.add`` has a familiar name too."""
    owner = getattr(target, "__objclass__", None)
    module = str(getattr(target, "__module__", None) or getattr(owner, "__module__", ""))
    return module == "torch" or module.startswith("torch.")
