"""Sees every torch call of a forward pass and writes it down."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ..adapters.strides import axes_inside
from ..rules.signatures import bind, changed_arguments
from .constants import is_constant
from .contents import tensors_in
from .reads import reads_data
from .sizes import Const, Dim, Ledger, Op, SizeInt, expr_of
from .values import Call, Read, Trace, Value, locate

Tensor = torch.Tensor
Observe = Callable[[Call, dict[Value, Tensor]], None]
# Each access of these makes a new object, but all are equal and hash alike.
_SHAPE = vars(torch._C.TensorBase)["shape"].__get__
_SMALL = 2**16  # as many numbers of a tensor from elsewhere are looked at
_LITERALS = frozenset({int, float, bool, str, type(None), SizeInt, torch.dtype, torch.device})


class Recorder(TorchFunctionMode):
    """Records calls into a `Trace`, and answers questions about shapes with traced integers.

    `state` gives kind and name of the model's own tensors, by id. Nothing here keeps an activation alive:
    the table from tensors to values holds weak references. `observe` is shown every call, before it has
    results, with the tensors that it was given.
    """

    def __init__(
        self,
        trace: Trace,
        ledger: Ledger,
        state: dict[int, tuple[Tensor, str, str]],
        opaque: frozenset[type],
        lower: dict[Callable[..., Any], Callable[..., Any]],
        observe: Observe | None = None,
    ) -> None:
        super().__init__()
        self.trace = trace
        self.ledger = ledger
        self.state = state
        self.opaque = opaque
        self.lower = lower
        self.observe = observe
        self.running: list[tuple[str, type]] = []  # path and class of the modules around the current call
        self.failure: tuple[BaseException, str, Callable[..., Any] | None] | None = None
        self._table: dict[int, tuple[weakref.ref[Tensor], Value, list[torch.Size]]] = {}
        self._count = 0
        self._seed = torch.initial_seed()
        self.untracked: list[weakref.ref[Tensor]] = []  # with axes, constant ones, too
        self._constants: list[tuple[tuple[str, type], Value]] = []  # and the entry of `running` then
        self._lowering: set[Callable[..., Any]] = set()
        self._answers = {
            _SHAPE: self.shape,
            Tensor.size: self.size,
            Tensor.__len__: len,  # a plain number, whatever it is given
            Tensor.stride: self.stride,
            Tensor.numel: self.numel,
            Tensor.nelement: self.numel,
            torch.numel: self.numel,
        }

    # Calls

    def __torch_function__(self, target, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        ledger = self.ledger
        if not ledger.open:
            return target(*args, **kwargs)
        answer = self._answers.get(target)
        if answer is not None:
            return answer(*args, **kwargs)
        if target in self.lower and target not in self._lowering:
            return self._run_lowered(target, args, kwargs)
        first = args[0] if args else None
        version = _version(first)
        ledger.open = False  # what torch computes inside is not the user's: no sizes, no comparisons
        try:
            result = target(*args, **kwargs)
        except Exception as error:
            self.blame(error, target)
            raise
        finally:
            ledger.open = True
        if isinstance(result, Tensor):
            inplace = (result is first and version != _version(first)) or kwargs.get("out") is result
            self.record(target, args, kwargs, (result,), inplace)
        elif isinstance(result, (tuple, list, dict)):
            tensors = tuple(tensors_in(result))
            if tensors:
                self.record(target, args, kwargs, tensors, kwargs.get("out") is not None)
            else:
                self._note_read(target, args, kwargs)
        elif result is None and (names := changed_arguments(target)):
            given = bind(target, args, kwargs)
            changed = tuple(tensors_in([given.get(name) for name in names]))
            self.record(target, args, kwargs, changed, True)
        elif result is not None:
            self._note_read(target, args, kwargs)
        return result

    def record(self, target, args, kwargs, tensors: tuple[Tensor, ...], inplace: bool, **own: Value) -> None:
        """Write down one call of `target` that returned, or changed, `tensors`; a module reads `own` too."""
        given = bind(target, args, kwargs)
        arguments = {name: self.describe(item) for name, item in given.items()}
        arguments.update(own)
        calls = self.trace.calls
        path, kind = self.running[-1]
        call = Call(len(calls), target, arguments, path, kind, locate(self.ledger.root), inplace)
        if self.observe is not None:
            self._show(call, given)
        if (seed := torch.initial_seed()) != self._seed:
            self._seed = seed
            self.trace.seeds.append((call, seed))
        call.results = tuple([self.new_value(tensor, "call", None, call) for tensor in tensors])
        calls.append(call)

    def _note_read(self, target, args, kwargs) -> None:
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

    def _show(self, call: Call, given: dict[str, Any]) -> None:
        self.ledger.open = False
        try:
            self.observe(call, {self.value_of(tensor): tensor for tensor in tensors_in(given)})  # type: ignore[misc]
        finally:
            self.ledger.open = True

    def _run_lowered(self, target, args, kwargs):
        self._lowering.add(target)
        try:
            with self:
                return self.lower[target](*args, **kwargs)
        finally:
            self._lowering.discard(target)

    def blame(self, error: BaseException, target: Callable[..., Any] | None = None) -> None:
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
        tensors = [one for one in tensors_in(items) if self._is_known(one) and id(one) not in self.state]
        return [value for value in map(self.value_of, tensors) if value.kind == "call"]

    def values_left(self) -> dict[str, Value]:
        """The parameters and buffers that no call has used, by name."""
        return {
            name: self.new_value(tensor, kind, name)
            for tensor, kind, name in self.state.values()
            if kind != "attribute" and name not in self.trace.tensors
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
            self._constants.append((self.running[-1], value))
            self._note_untracked(value, tensor)
        else:
            value = self.new_value(tensor, "untracked", None)
            self.trace.untracked.append(value)
            self._note_untracked(value, tensor)
        return self._table[id(tensor)]

    def _note_untracked(self, value: Value, tensor: Tensor) -> None:
        self.trace.contents[value] = _content(tensor)
        if _has_axes(value):
            self.untracked.append(weakref.ref(tensor))

    def describe(self, item: Any) -> Any:
        """An argument as the trace keeps it: tensors as values, containers rebuilt around them."""
        kind = type(item)
        if kind in _LITERALS:
            return item
        if isinstance(item, Tensor):
            return self._entry(item)[1]
        if kind is list:
            return list(map(self.describe, item))
        if isinstance(item, tuple):
            return tuple(item if _LITERALS.issuperset(map(type, item)) else map(self.describe, item))
        if isinstance(item, dict):
            return {key: self.describe(part) for key, part in item.items()}
        if kind is slice:
            return slice(*[self.describe(part) for part in (item.start, item.stop, item.step)])
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, torch.Generator):
            return item.clone_state()  # it may be given another seed later
        return item

    # Answers

    def shape(self, tensor: Tensor) -> torch.Size:
        """``tensor.shape``, each size knowing which axis it is."""
        _, value, known = self._entry(tensor)
        if not known:
            sizes = [SizeInt(size, Dim(value, axis), self.ledger) for axis, size in enumerate(tensor.shape)]
            known.append(torch.Size(sizes))
        return known[0]

    def size(self, tensor: Tensor, dim: int | None = None):
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

    # Modules

    @contextmanager
    def following(self, paths: dict[int, str]) -> Iterator[None]:
        """While this lasts, know which module runs, and see opaque modules and functions as one call."""
        call_module, apply_function = torch.nn.Module.__call__, vars(torch.autograd.Function)["apply"]
        recorder = self

        def __call__(module, /, *args, **kwargs):
            if not recorder.ledger.open:
                return call_module(module, *args, **kwargs)
            running, kind = recorder.running, type(module)
            running.append((paths.get(id(module), running[-1][0]), kind))
            try:
                if kind in recorder.opaque or _is_compiled(module):
                    return recorder._run_opaque(kind, call_module, module, args, kwargs)
                before = len(recorder.trace.calls), len(recorder.trace.untracked)
                result = call_module(module, *args, **kwargs)
                recorder._note_unseen(module, args, kwargs, result, *before)
                return result
            except Exception as error:
                recorder.blame(error)
                raise
            finally:
                running.pop()

        def apply(function, /, *args, **kwargs):
            plain = apply_function.__get__(None, function)
            if function in recorder.opaque and recorder.ledger.open:
                return recorder._run_opaque(function, lambda _, *a, **k: plain(*a, **k), None, args, kwargs)
            return plain(*args, **kwargs)

        setattr(torch.nn.Module, "__call__", __call__)  # noqa: B010
        setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010
        try:
            yield
        finally:
            setattr(torch.nn.Module, "__call__", call_module)  # noqa: B010
            setattr(torch.autograd.Function, "apply", apply_function)  # noqa: B010

    def _note_unseen(self, module, args, kwargs, result, calls: int, untracked: int) -> None:
        """Record a module as one call if tensors came up in it that no call made, and something of its own
        was used by none: then a kernel that cannot be seen has made the ones of the others."""
        outputs = list(tensors_in(result))
        made = tuple(tensor for tensor in outputs if not self._is_known(tensor))
        is_new = bool(made) or self._is_new(module, self.trace.untracked[untracked:])
        old = tuple(one for one in outputs if is_constant(one) and self.value_of(one).kind == "constant")
        # Where parameters are left, a constant may be what a kernel has written into.
        here = [value for running, value in self._constants if running is self.running[-1]]
        if not is_new and not self._is_new(module, here):
            return
        inside = self.trace.calls[calls:]
        seen = {value for call in inside for value in call.values}
        seen.update(self.value_of(tensor) for tensor in outputs if self._is_known(tensor))
        left = [value for call in inside if seen.isdisjoint(call.results) for value in call.results]
        left = [value for value in left if value.dtype.is_floating_point and _has_axes(value)]
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        used = {f"self.{name}": self.value_of(one) for name, one in parameters}
        given = [self.value_of(tensor) for tensor in tensors_in([args, kwargs])] if is_new else []
        if (left and is_new) or not seen.issuperset([*given, *used.values()]):
            used.update({f"self.[{value.index}]": value for value in left})
            self.record(type(module), args, kwargs, made + old, False, **used)

    def _is_new(self, module: torch.nn.Module, values: list[Value]) -> bool:
        """Whether any of these values has axes, and is not one that a module keeps from an earlier run."""
        values = [value for value in values if _has_axes(value)]
        holders = [vars(one) for one in module.modules()] if values else []
        known = {self._table[id(one)][1] for one in tensors_in(holders) if id(one) in self._table}
        return not known.issuperset(values)

    def _is_known(self, tensor: Tensor) -> bool:
        """Whether it is the model's own, or was given or made before."""
        entry = self._table.get(id(tensor))
        is_met = entry is not None and entry[0]() is tensor
        return is_met or id(tensor) in self.state or is_constant(tensor)

    def _run_opaque(self, target: type, run, module, args, kwargs):
        """Run a module or function without looking into it, and record it as one call."""
        self.ledger.open = False
        try:
            result = run(module, *args, **kwargs)
        finally:
            self.ledger.open = True
        own: dict[str, Value] = {}
        for names in (module.named_parameters, module.named_buffers) if module is not None else ():
            own.update({f"self.{name}": self.value_of(one) for name, one in names(remove_duplicate=False)})
        tensors = tuple(tensors_in(result))
        if tensors:
            self.record(target, args, kwargs, tensors, False, **own)
        return result


def _content(tensor: Tensor) -> int:
    """A hash of what a small tensor holds, if it can be read: a fake tensor holds nothing."""
    try:
        return hash(tensor.detach().cpu().numpy().tobytes()) if tensor.numel() <= _SMALL else 0
    except (RuntimeError, TypeError):
        return 0


def _is_compiled(module: torch.nn.Module) -> bool:
    """Whether a module is compiled code with weights; the calls of one without can be seen well enough.

    A frozen one, which has no flag for training, keeps them in the code.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return False
    is_frozen = not module._c.hasattr("training")
    return is_frozen or bool([*module.parameters(), *module.buffers()])


def _has_axes(value: Value) -> bool:
    return any(size > 1 for size in value.shape)


def _version(item: Any) -> int | None:
    """How often a tensor was changed in place, which is unknown for inference tensors."""
    return item._version if isinstance(item, Tensor) and not item.is_inference() else None
