"""Knows which module runs, and sees as one call what cannot, or should not, be looked into."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from attrs import define, field
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...adapters.contents import tensors_in
from ...adapters.submodules import each_module, modules_of, registered, tensors_of
from ...adapters.undo import undoing
from ...errors import TraceError
from .constants import is_constant
from .elsewhere import handing_over
from .recorder import Recorder
from .source import locate
from .values import Value, has_axes


@contextmanager
def following(recorder: Recorder, modules: Iterable[nn.Module], paths: dict[int, str]) -> Iterator[None]:
    """While this lasts, `recorder` is told which of `modules` runs, by its path in `paths`, by id.

    Opaque modules and functions, compiled modules, and those in which a kernel runs that cannot be seen, are
    recorded as one call. Only these modules and functions are touched, and on other threads they do what they
    always do; but if the forward uses what they have computed, that is a `TraceError` in the end.
    """
    follower = _Follower(recorder, paths)
    before, after = nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook
    handles: list[RemovableHandle] = []
    with undoing() as undo:
        undo.add(_remove, handles)
        for module in modules:
            handles.append(before(module, follower.enter, prepend=True, with_kwargs=True))
            handles.append(after(module, follower.leave, with_kwargs=True, always_call=True))
        for function in recorder.opaque:
            if issubclass(function, torch.autograd.Function):
                undo.enter(_applied_as_one(function, follower))
        undo.enter(handing_over(follower.watched))
        yield
    follower.check()


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


@define(eq=False)  # not frozen, because that takes three times as long
class _Entered:
    """A module that runs: what it was given, and what was known then."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_opaque: bool
    calls: int
    untracked: int
    handled: BaseException | None = field(factory=lambda: sys.exc_info()[1])


class _Follower:
    """What is called when a module starts and when it ends."""

    def __init__(self, recorder: Recorder, paths: dict[int, str]) -> None:
        self.recorder = recorder
        self.elsewhere: nn.Module | None = None  # a module that another thread has run
        self._paths = paths
        self._thread = get_ident()
        self._entered: list[_Entered | None] = []

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the trace."""
        return get_ident() == self._thread

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """The module is about to run."""
        recorder = self.recorder
        if not self.is_here:
            self.elsewhere = module
            return
        if not recorder.ledger.open:
            self._entered.append(None)
            return
        running, kind = recorder.running, type(module)
        running.append((self._paths.get(id(module), running[-1][0]), kind))
        is_opaque = kind in recorder.opaque or _is_compiled(module)
        trace = recorder.trace
        self._entered.append(_Entered(args, kwargs, is_opaque, len(trace.calls), len(trace.untracked)))
        if is_opaque:
            recorder.ledger.open = False

    def leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """The module has run, or has failed."""
        entered = self._entered.pop() if self.is_here and self._entered else None
        if entered is None:
            return
        recorder, error = self.recorder, sys.exc_info()[1]
        try:
            if entered.is_opaque:
                recorder.ledger.open = True
            if result is None and error is not None and error is not entered.handled:
                recorder.blame(error)
            elif entered.is_opaque:
                _record_as_one(recorder, type(module), module, entered.args, entered.kwargs, result)
            else:
                _note_unseen(recorder, module, entered, result)
        finally:
            recorder.running.pop()

    def watched(self, hand_over: Callable[..., Any]) -> Callable[..., Any]:
        """A way to hand work to another thread or process, and a note if the forward takes it."""
        recorder, ledger = self.recorder, self.recorder.ledger

        def run(*args: Any, **kwargs: Any) -> Any:
            if not (self.is_here and ledger.open):
                return hand_over(*args, **kwargs)
            recorder.trace.handed.append((locate(ledger.root), len(recorder.trace.untracked)))
            ledger.open = False  # a pool starts threads
            try:
                return hand_over(*args, **kwargs)
            finally:
                ledger.open = True

        return run

    def check(self) -> None:
        """Raise `TraceError` if modules or tensors come from another thread or process."""
        trace, where = self.recorder.trace, ""
        if self.elsewhere is not None:
            path = self._paths.get(id(self.elsewhere), "") or type(self.elsewhere).__name__
            where = f"{path} ran on another thread while the model was traced"
        for source, untracked in trace.handed:
            if any(map(has_axes, trace.untracked[untracked:])):
                where = f"the forward hands work to another thread or process\n  {source}: {source.text}"
        if where:
            raise TraceError(
                f"{where}\nnobody can see what is computed there: let the forward do all its work on one "
                "thread, and let no other thread use the model meanwhile"
            )


@contextmanager
def _applied_as_one(function: type, follower: _Follower) -> Iterator[None]:
    """While this lasts, an autograd function is recorded as one call; elsewhere it is what it was."""
    recorder, own = follower.recorder, vars(function).get("apply")

    def apply(kind: type[Any], /, *args: Any, **kwargs: Any) -> Any:
        plain = super(function, kind).apply if own is None else own.__get__(None, kind)  # type: ignore[arg-type]  # it is a class
        is_seen = not torch.compiler.is_compiling() and follower.is_here and recorder.ledger.open
        if not is_seen or kind not in recorder.opaque:
            return plain(*args, **kwargs)
        recorder.ledger.open = False
        try:
            result = plain(*args, **kwargs)
        finally:
            recorder.ledger.open = True
        _record_as_one(recorder, kind, None, args, kwargs, result)
        return result

    with undoing() as undo:
        undo.add(*(delattr, function, "apply") if own is None else (setattr, function, "apply", own))
        setattr(function, "apply", classmethod(apply))  # noqa: B010
        yield


def _record_as_one(
    recorder: Recorder, target: type, module: nn.Module | None, args: Any, kwargs: Any, result: Any
) -> None:
    """Record a module or function that nobody has looked into as one call."""
    own: dict[str, Value] = {}
    inside = [] if module is None else modules_of(module)
    for kind in ("_parameters", "_buffers"):
        for path, part in inside:
            for name, tensor in registered(part, kind).items():
                if tensor is not None:
                    own[f"self.{path}.{name}" if path else f"self.{name}"] = recorder.value_of(tensor)
    tensors = tuple(tensors_in(result))
    if tensors:
        recorder.record(target, args, kwargs, tensors, False, **own)


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled code with weights; the calls of one without can be seen well enough.

    A frozen one, which has no flag for training, keeps them in the code.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return False
    is_frozen = not module._c.hasattr("training")
    return is_frozen or bool(tensors_of(module))


def _note_unseen(recorder: Recorder, module: nn.Module, entered: _Entered, result: Any) -> None:
    """Record a module as one call if tensors came up in it that no call made, and something of its own
    was used by none: then a kernel that cannot be seen has made the ones of the others."""
    trace, args, kwargs = recorder.trace, entered.args, entered.kwargs
    outputs = [result] if isinstance(result, torch.Tensor) else list(tensors_in(result))
    made = tuple(tensor for tensor in outputs if not recorder.is_known(tensor))
    new = trace.untracked[entered.untracked :]
    # To ask for its value notes a constant, which is then one of those that came up here.
    old = tuple(one for one in outputs if is_constant(one) and recorder.value_of(one).kind == "constant")
    if not (made or new or recorder.constants):
        return  # as in nearly all modules
    # Where parameters are left, a constant may be what a kernel has written into.
    here = [value for running, value in recorder.constants if running is recorder.running[-1]]
    is_new = bool(made) or _is_new(recorder, module, new)
    if not is_new and not _is_new(recorder, module, here):
        return
    inside = trace.calls[entered.calls :]
    seen = {value for call in inside for value in call.values}
    seen.update(recorder.value_of(tensor) for tensor in outputs if recorder.is_known(tensor))
    left = [value for call in inside if seen.isdisjoint(call.results) for value in call.results]
    left = [value for value in left if value.dtype.is_floating_point and has_axes(value)]
    parameters = registered(module, "_parameters").items()
    used = {f"self.{name}": recorder.value_of(one) for name, one in parameters if one is not None}
    given = [recorder.value_of(tensor) for tensor in tensors_in([args, kwargs])] if is_new else []
    if (left and is_new) or not seen.issuperset([*given, *used.values()]):
        used.update({f"self.[{value.index}]": value for value in left})
        recorder.record(type(module), args, kwargs, made + old, False, **used)


def _is_new(recorder: Recorder, module: nn.Module, values: list[Value]) -> bool:
    """Whether any of these values has axes, and is not one that a module keeps from an earlier run."""
    values = [value for value in values if has_axes(value)]
    if not values:
        return False
    held = tensors_in([vars(one) for _, one in each_module(module)])
    return not set(map(recorder.met, held)).issuperset(values)
