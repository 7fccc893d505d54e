"""The modes of torch that a caller is in: prunus computes as if there were none, the model runs in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import TraceError
from ..torch_private import (
    EnableTorchFunction,
    FakeTensorMode,
    dispatch_modes,
    drop_dispatch_mode,
    drop_function_mode,
    function_modes,
    innermost_transform,
    is_compiled_around,
    is_torch_function_off,
)
from .undo import Undo, undoing

_DEVICES = ("cpu", "cuda", "mps", "xpu")  # that autocast may be on for
_caller = threading.local()  # ``autocast``: what enters that of the caller again, while it is left


@contextmanager
def left_modes() -> Iterator[None]:
    """Leave what would change the numbers of prunus itself; afterwards all is as it was.

    These are autocast, inference mode and what hides torch's functions from modes. Raises `TraceError` where
    nothing can be left: in compiled code, in a transform of ``torch.func``, among fake tensors.
    """
    if getattr(_caller, "autocast", None) is not None:
        yield
        return
    _check_outside()
    with undoing() as undo:
        keep_modes(undo)
        undo.add(setattr, _caller, "autocast", None)
        _caller.autocast = [
            partial(torch.autocast, device, torch.get_autocast_dtype(device))
            for device in _DEVICES
            if torch.is_autocast_enabled(device)
        ]
        undo.enter(without_autocast())
        if torch.is_inference_mode_enabled():
            undo.enter(torch.inference_mode(False))
            undo.enter(torch.no_grad())  # which was so in inference mode
        if is_torch_function_off():
            undo.enter(EnableTorchFunction())
        yield


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the dtypes that numbers have."""
    with undoing() as undo:
        for autocast in getattr(_caller, "autocast", None) or ():
            undo.enter(torch.autocast(autocast.args[0], enabled=False))
        yield


@contextmanager
def modes_of(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Run the model of these tensors in the autocast of the caller, without gradients; in inference mode if
    it was made there: else they could not be written.
    """
    made_there = any(tensor.is_inference() for tensor in tensors)
    with undoing() as undo:
        for autocast in getattr(_caller, "autocast", None) or ():
            undo.enter(autocast())
        undo.enter(torch.inference_mode(made_there))
        undo.enter(torch.no_grad())
        yield


def without_gradients(action: Callable[[], Any]) -> None:
    """Do something without gradients; afterwards they are as now, even if an interrupt strikes in torch."""
    enabled = torch.is_grad_enabled()
    try:
        with torch.no_grad():
            action()
    finally:
        torch.set_grad_enabled(enabled)


def keep_modes(undo: Undo) -> None:
    """Let `undo` leave the modes that an interrupt keeps from being left, and switch gradients as now."""
    undo.add(torch.set_grad_enabled, torch.is_grad_enabled())
    undo.add(_lead_back, function_modes, drop_function_mode, function_modes())
    undo.add(_lead_back, dispatch_modes, drop_dispatch_mode, dispatch_modes())


def _lead_back(stack: Callable[[], list[Any]], drop: Callable[[], Any], before: list[Any]) -> None:
    """Leave the modes that have not been left; enter those again that torch has lost on its own way."""
    while len(stack()) > len(before):
        mode = stack()[-1]
        try:
            mode.__exit__(None, None, None)
        except IndexError:  # an interrupt has let it be left by half
            if stack()[-1:] == [mode]:
                drop()
    for mode in before[len(stack()) :]:
        mode.__enter__()


def told_modes() -> str:
    """What a forward runs in that may be why it fails, as a line of a message; empty if there is nothing."""
    given = [autocast.args for autocast in getattr(_caller, "autocast", None) or ()]
    modes = [f"autocast of {device} to {dtype}" for device, dtype in given]
    if torch.get_default_dtype() != torch.float32:
        modes.append(f"the default dtype {torch.get_default_dtype()}")
    if torch.get_default_device().type != "cpu":
        modes.append(f"the default device {torch.get_default_device()}")
    return f"\nit runs in the modes of the caller: {', '.join(modes)}" if modes else ""


def _check_outside() -> None:
    inside = ""
    if torch.compiler.is_compiling() or is_compiled_around():
        inside = "code that torch.compile compiles"
    elif torch.jit.is_tracing():
        inside = "torch.jit.trace"
    elif innermost_transform() is not None:
        inside = "a transform of torch.func, such as vmap or grad"
    elif any(isinstance(mode, FakeTensorMode) for mode in dispatch_modes()):
        inside = "a FakeTensorMode; `analyze(..., fake=True)` makes its own"
    if inside:
        raise TraceError(f"this was called inside of {inside}\ncall it outside, on the model itself")
