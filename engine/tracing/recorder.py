"""Sees every torch call of a forward pass and writes it down."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ...adapters.contents import tensors_in
from ...adapters.modes import without_autocast
from ...adapters.strides import axes_inside
from ...rules.arguments import bind, changed_arguments
from ...torch_private import TensorBase
from .arguments import mapped
from .constants import content_of, is_constant, version
from .expressions import Const, Dim, Op
from .reads import reads_data
from .size_int import Ledger, SizeInt, expr_of
from .source import locate
from .values import Call, Read, Trace, Value, has_axes

Tensor = torch.Tensor
Target = Callable[..., Any]
Args = tuple[Any, ...]
Named = dict[str, Any]
Observe = Callable[[Call, dict[Value, Tensor], tuple[Tensor, ...]], None]
# Each access of these makes a new object, but all are equal and hash alike.
_SHAPE = vars(TensorBase)["shape"].__get__
_LITERALS = frozenset({int, float, bool, str, type(None), SizeInt, torch.dtype, torch.device})


class Recorder(TorchFunctionMode):
    """Records calls into a `Trace`, and answers questions about shapes with traced integers.

    `state` gives kind and name of the model's own tensors, by id. Nothing here keeps an activation alive:
    the table from tensors to values holds weak references. `observe` is shown every call, before it has
    results, with the tensors that it was given and returned. Where all is `plain`, torch answers.
    """

    def __init__(
        self,
        trace: Trace,
        ledger: Ledger,
        state: dict[int, tuple[Tensor, str, str]],
        opaque: frozenset[type],
        lower: dict[Target, Target],
        observe: Observe | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.trace = trace
        self.ledger = ledger
        self.state = state
        self.opaque = opaque
        self.lower = lower
        self.observe = observe
        self.running: list[tuple[str, type]] = []  # path and class of the modules around the current call
        self.failure: tuple[BaseException, str, Target | None] | None = None
        self._table: dict[int, tuple[weakref.ref[Tensor], Value, list[torch.Size]]] = {}
        self._count = 0
        self._seed = torch.initial_seed()
        self.untracked: list[weakref.ref[Tensor]] = []  # with axes, constant ones, too
        self.constants: list[tuple[tuple[str, type], Value]] = []  # and the entry of `running` then
        self._lowering: set[Target] = set()
        self._plain = plain

    # Calls

    def __torch_function__(
        self, target: Target, types: Any, args: Args = (), kwargs: Named | None = None
    ) -> Any:
        kwargs = kwargs or {}
        ledger = self.ledger
        if not ledger.open:
            return target(*args, **kwargs)
        answer = _ANSWERS.get(target)
        if answer is not None:
            return target(*args, **kwargs) if self._plain else answer(self, *args, **kwargs)
        if target in self.lower and target not in self._lowering:
            return self._run_lowered(target, args, kwargs)
        first = args[0] if args else None
        before = version(first)
        ledger.open = False  # what torch computes inside is not the user's: no sizes, no comparisons
        try:
            result = target(*args, **kwargs)
        except Exception as error:
            self.blame(error, target)
            raise
        finally:
            ledger.open = True
        if isinstance(result, Tensor):
            # Of inference tensors nobody knows if they were changed.
            changed = before is None or before != version(first)
            inplace = (result is first and changed) or kwargs.get("out") is result
            self.record(target, args, kwargs, (result,), inplace)
        elif isinstance(result, (tuple, list, dict)):
            tensors = tuple(tensors_in(result))
            if tensors:
                self.record(target, args, kwargs, tensors, kwargs.get("out") is not None)
            else:
                self._note_read(target, args, kwargs)
        elif result is None and (names := changed_arguments(target)):
            given = bind(target, args, kwargs)
            written = tuple(tensors_in([given.get(name) for name in names]))
            self.record(target, args, kwargs, written, True)
        elif result is not None:
            self._note_read(target, args, kwargs)
        return result

    def record(
        self,
        target: Target,
        args: Args,
        kwargs: Named,
        tensors: tuple[Tensor, ...],
        inplace: bool,
        **own: Value,
    ) -> None:
        """Write down one call of `target` that returned, or changed, `tensors`; a module reads `own` too."""
        given = bind(target, args, kwargs)
        arguments = {name: self.describe(item) for name, item in given.items()}
        arguments.update(own)
        calls = self.trace.calls
        path, kind = self.running[-1]
        call = Call(len(calls), target, arguments, path, kind, locate(self.ledger.root), inplace)
        if self.observe is not None:
            self._show(self.observe, call, given, tensors)
        if (seed := torch.initial_seed()) != self._seed:
            self._seed = seed
            self.trace.seeds.append((call, seed))
        call.results = tuple([self.new_value(tensor, "call", None, call) for tensor in tensors])
        calls.append(call)

    def _note_read(self, target: Target, args: Args, kwargs: Named) -> None:
        """Remember the tensors that a call was given which returned none, if it looked at their data."""
        self.ledger.open = False
        try:
            is_read = reads_data(target, args, kwargs)
        finally:
            self.ledger.open = True
        if is_read:
            source = locate(self.ledger.root)
            read = (self.value_of(tensor) for tensor in tensors_in([args, kwargs]))
            self.trace.reads += [Read(value, source) for value in read]

    def _show(self, observe: Observe, call: Call, given: Named, results: Args) -> None:
        self.ledger.open = False
        try:
            with without_autocast():
                observe(call, {self.value_of(tensor): tensor for tensor in tensors_in(given)}, results)
        finally:
            self.ledger.open = True

    def _run_lowered(self, target: Target, args: Args, kwargs: Named) -> Any:
        self.trace.lowered = True
        self._lowering.add(target)
        try:
            with self:
                return self.lower[target](*args, **kwargs)
        finally:
            self._lowering.discard(target)

    def blame(self, error: BaseException, target: Target | None = None) -> None:
        """Remember where an error came up first, while it passes outwards."""
        if self.failure is None or self.failure[0] is not error:
            self.failure = (error, self.running[-1][0], target)

    # Values

    def new_value(self, tensor: Tensor, kind: str, name: str | None, call: Call | None = None) -> Value:
        """A new value, which `tensor` stands for from now on."""
        value = Value(self._count, tuple(tensor.shape), tensor.dtype, kind, name, call)
        self._count += 1
        self._table[id(tensor)] = (weakref.ref(tensor), value, [])
        return value

    def value_of(self, tensor: Tensor) -> Value:
        """The value that a tensor stands for; one of the model's own is given its value on first use."""
        return self._entry(tensor)[1]

    def known_values(self, items: Any) -> list[Value]:
        """The values of the tensors among `items` that calls have made."""
        values = [self.met(one) for one in tensors_in(items) if id(one) not in self.state]
        return [value for value in values if value is not None and value.kind == "call"]

    def values_left(self) -> dict[str, Value]:
        """The parameters and buffers with axes that no call has used, by name."""
        return {
            name: self.new_value(tensor, kind, name)
            for tensor, kind, name in self.state.values()
            if kind != "attribute" and name not in self.trace.tensors and tensor.dim()
        }

    def first_values(self) -> dict[Value, Value]:
        """The values that the model's own tensors had at first, by those that they have now."""
        own = ((id(tensor), name) for tensor, _, name in self.state.values() if name in self.trace.tensors)
        return {self._table[key][1]: self.trace.tensors[name] for key, name in own}

    def _entry(self, tensor: Tensor) -> tuple[weakref.ref[Tensor], Value, list[torch.Size]]:
        entry = self._table.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry
        known, kind, name = self.state.get(id(tensor), (None, "", ""))
        if known is tensor:
            self.trace.tensors[name] = self.new_value(tensor, kind, name)
        elif is_constant(tensor):
            value = self.new_value(tensor, "constant", None)
            self.constants.append((self.running[-1], value))
            self._note_untracked(value, tensor)
        else:
            value = self.new_value(tensor, "untracked", None)
            self.trace.untracked.append(value)
            self._note_untracked(value, tensor)
        return self._table[id(tensor)]

    def _note_untracked(self, value: Value, tensor: Tensor) -> None:
        self.trace.contents[value] = content_of(tensor)
        if has_axes(value):
            self.untracked.append(weakref.ref(tensor))

    def describe(self, item: Any) -> Any:
        """An argument as the trace keeps it: tensors as values, containers rebuilt around them."""
        kind = type(item)
        if kind in _LITERALS or (kind is tuple and _LITERALS.issuperset(map(type, item))):
            return item
        return self._entry(item)[1] if isinstance(item, Tensor) else mapped(item, self._described)

    def _described(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return self._entry(item)[1]
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, torch.Generator):
            return item.clone_state()  # it may be given another seed later
        return item

    def is_known(self, tensor: Tensor) -> bool:
        """Whether it is the model's own, or was given or made before."""
        return self.met(tensor) is not None or id(tensor) in self.state or is_constant(tensor)

    def met(self, tensor: Tensor) -> Value | None:
        """The value that a tensor stands for, if it has one by now."""
        entry = self._table.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    # Answers

    def shape(self, tensor: Tensor) -> torch.Size:
        """``tensor.shape``, each size knowing which axis it is."""
        _, value, known = self._entry(tensor)
        if not known:
            sizes = [SizeInt(size, Dim(value, axis), self.ledger) for axis, size in enumerate(tensor.shape)]
            known.append(torch.Size(sizes))
        return known[0]

    def size(self, tensor: Tensor, dim: int | None = None) -> Any:
        """``tensor.size()`` and ``tensor.size(dim)``."""
        if dim is None:
            return self.shape(tensor)
        if isinstance(dim, int):
            return self.shape(tensor)[dim]
        return tensor.size(dim)  # a named dimension

    def stride(self, tensor: Tensor, dim: int | None = None) -> Any:
        """``tensor.stride()``: of dense memory the products of the sizes of what lies inside."""
        steps: list[int] = list(tensor.stride())
        sizes, source = self.shape(tensor), locate(self.ledger.root, 2)
        for axis, inside in (axes_inside(tuple(map(int, sizes)), tuple(steps)) or {}).items():
            expr: Any = Const(1)
            for other in inside:
                expr = Op("*", expr, expr_of(sizes[other]), source)
            steps[axis] = SizeInt(steps[axis], expr, self.ledger)
        return tuple(steps) if dim is None else steps[dim]

    def numel(self, tensor: Tensor) -> int:
        """``tensor.numel()`` as the product of the sizes."""
        sizes = self.shape(tensor)
        if not sizes:
            return 1
        product, expr = int(sizes[0]), expr_of(sizes[0])
        source = locate(self.ledger.root, 2)
        for size in sizes[1:]:
            product, expr = product * int(size), Op("*", expr, expr_of(size), source)
        return SizeInt(product, expr, self.ledger)


# Outside of the recorder, which would hold itself, and all that it is shown, until the collector comes.
_ANSWERS: dict[Target, Callable[..., Any]] = {
    _SHAPE: Recorder.shape,
    Tensor.size: Recorder.size,
    Tensor.__len__: lambda _, tensor: len(tensor),  # a plain number, whatever it is given
    Tensor.stride: Recorder.stride,
    Tensor.numel: Recorder.numel,
    Tensor.nelement: Recorder.numel,
    torch.numel: Recorder.numel,
}
