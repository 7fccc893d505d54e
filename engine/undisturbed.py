"""What a forward pass of the trace must not disturb: the model, modes, random numbers, caches."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .modes import modes_of
from .snapshot import Snapshot, restored
from .stage import modules_of
from .uncached import uncached


@contextmanager
def undisturbed(
    model: torch.nn.Module, changing: Iterable[torch.Tensor] = (), recorded: bool = False
) -> Iterator[Snapshot]:
    """Run in eval mode and in `modes_of` the model, then put back modes, random states and all that it holds.

    The tensors `changing` keep what is written into them. Where all is `recorded`, a mode of functions sees
    what the model calls anyway. Gives what `model` holds before.
    """
    with ExitStack() as stack:
        stack.enter_context(modes_of(model))
        before = stack.enter_context(restored(model, changing))
        stack.enter_context(_evaluating(model))
        stack.enter_context(_random_states_kept())
        if (
            not recorded
        ):  # of every call, and of each look at a tensor, one mode more takes as long as another
            stack.enter_context(_NoFastPaths())
        stack.enter_context(uncached(model))
        stack.enter_context(_no_compiled_code())
        yield before


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Clear the training flags themselves: `eval` and `train` may be overridden to do more than that."""
    # A frozen part of compiled code has no such flag.
    flags = [(module, module.training) for _, module in modules_of(model) if hasattr(module, "training")]
    try:
        for module, training in flags:
            if training:  # assigning to a module is slow
                module.training = False
        yield
    finally:
        for module, training in flags:
            if module.training is not training:
                module.training = training


@contextmanager
def _random_states_kept() -> Iterator[None]:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class _NoFastPaths(TorchFunctionMode):
    """Attention modules have a fused path in eval mode, which would be one call without structure.

    They do not take it where a mode sees what they call, which is so on this thread alone.
    """

    def __torch_function__(self, target: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return target(*args, **(kwargs or {}))


@contextmanager
def _no_compiled_code() -> Iterator[None]:
    """Compiled code shows no calls; where the compiler is not even loaded there is none.

    The compiler of old versions can only be kept off on all threads.
    """
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    if compiler is None:
        yield
        return
    on_this_thread = getattr(compiler, "_use_eager_on_nested_compile", None)
    with on_this_thread() if on_this_thread else torch.compiler.set_stance("force_eager"):
        yield
