"""Knows which module runs, and sees as one call what cannot, or should not, be looked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .constants import is_constant
from .contents import tensors_in
from .recorder import Recorder, has_axes
from .values import Value


@contextmanager
def following(recorder: Recorder, paths: dict[int, str]) -> Iterator[None]:
    """While this lasts, `recorder` is told which module runs, by its path in `paths`, by id.

    Opaque modules and functions, compiled modules, and those in which a kernel runs that cannot be seen, are
    recorded as one call.
    """
    call_module, apply_function = torch.nn.Module.__call__, vars(torch.autograd.Function)["apply"]

    def __call__(module, /, *args, **kwargs):
        if not recorder.ledger.open:
            return call_module(module, *args, **kwargs)
        running, kind = recorder.running, type(module)
        running.append((paths.get(id(module), running[-1][0]), kind))
        try:
            if kind in recorder.opaque or _is_compiled(module):
                return _run_opaque(recorder, kind, call_module, module, args, kwargs)
            before = len(recorder.trace.calls), len(recorder.trace.untracked)
            result = call_module(module, *args, **kwargs)
            _note_unseen(recorder, module, args, kwargs, result, *before)
            return result
        except Exception as error:
            recorder.blame(error)
            raise
        finally:
            running.pop()

    def apply(function, /, *args, **kwargs):
        plain = apply_function.__get__(None, function)
        if function in recorder.opaque and recorder.ledger.open:
            return _run_opaque(recorder, function, lambda _, *a, **k: plain(*a, **k), None, args, kwargs)
        return plain(*args, **kwargs)

    setattr(torch.nn.Module, "__call__", __call__)  # noqa: B010
    setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010
    try:
        yield
    finally:
        setattr(torch.nn.Module, "__call__", call_module)  # noqa: B010
        setattr(torch.autograd.Function, "apply", apply_function)  # noqa: B010


def _run_opaque(recorder: Recorder, target: type, run, module, args, kwargs) -> Any:
    """Run a module or function without looking into it, and record it as one call."""
    recorder.ledger.open = False
    try:
        result = run(module, *args, **kwargs)
    finally:
        recorder.ledger.open = True
    own: dict[str, Value] = {}
    for names in (module.named_parameters, module.named_buffers) if module is not None else ():
        own.update({f"self.{name}": recorder.value_of(one) for name, one in names(remove_duplicate=False)})
    tensors = tuple(tensors_in(result))
    if tensors:
        recorder.record(target, args, kwargs, tensors, False, **own)
    return result


def _is_compiled(module: torch.nn.Module) -> bool:
    """Whether a module is compiled code with weights; the calls of one without can be seen well enough.

    A frozen one, which has no flag for training, keeps them in the code.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return False
    is_frozen = not module._c.hasattr("training")
    return is_frozen or bool([*module.parameters(), *module.buffers()])


def _note_unseen(recorder: Recorder, module, args, kwargs, result, calls: int, untracked: int) -> None:
    """Record a module as one call if tensors came up in it that no call made, and something of its own
    was used by none: then a kernel that cannot be seen has made the ones of the others."""
    trace = recorder.trace
    outputs = [result] if isinstance(result, torch.Tensor) else list(tensors_in(result))
    made = tuple(tensor for tensor in outputs if not recorder.is_known(tensor))
    new = trace.untracked[untracked:]
    # Where parameters are left, a constant may be what a kernel has written into.
    here = [value for running, value in recorder.constants if running is recorder.running[-1]]
    is_new = bool(made) or _is_new(recorder, module, new)
    if not is_new and not _is_new(recorder, module, here):
        return
    old = tuple(one for one in outputs if is_constant(one) and recorder.value_of(one).kind == "constant")
    inside = trace.calls[calls:]
    seen = {value for call in inside for value in call.values}
    seen.update(recorder.value_of(tensor) for tensor in outputs if recorder.is_known(tensor))
    left = [value for call in inside if seen.isdisjoint(call.results) for value in call.results]
    left = [value for value in left if value.dtype.is_floating_point and has_axes(value)]
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    used = {f"self.{name}": recorder.value_of(one) for name, one in parameters}
    given = [recorder.value_of(tensor) for tensor in tensors_in([args, kwargs])] if is_new else []
    if (left and is_new) or not seen.issuperset([*given, *used.values()]):
        used.update({f"self.[{value.index}]": value for value in left})
        recorder.record(type(module), args, kwargs, made + old, False, **used)


def _is_new(recorder: Recorder, module: torch.nn.Module, values: list[Value]) -> bool:
    """Whether any of these values has axes, and is not one that a module keeps from an earlier run."""
    values = [value for value in values if has_axes(value)]
    if not values:
        return False
    held = tensors_in([vars(one) for one in module.modules()])
    return not set(map(recorder.met, held)).issuperset(values)
