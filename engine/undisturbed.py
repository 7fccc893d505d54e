"""What a forward pass of the trace must not disturb: the model, modes, random numbers, caches."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from .snapshot import Snapshot, restored
from .stage import modules_of
from .uncached import uncached


@contextmanager
def undisturbed(model: torch.nn.Module, changing: Iterable[torch.Tensor] = ()) -> Iterator[Snapshot]:
    """Run in eval mode without gradients, then put back modes, random states and all that `model` holds.

    The tensors `changing` keep what is written into them. Gives what `model` holds before.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        before = stack.enter_context(restored(model, changing))
        stack.enter_context(_evaluating(model))
        stack.enter_context(_random_states_kept())
        stack.enter_context(_no_fast_paths())
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


@contextmanager
def _no_fast_paths() -> Iterator[None]:
    """Attention modules have a fused path in eval mode, which would be one call without structure."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _no_compiled_code() -> Iterator[None]:
    """Compiled code shows no calls; where the compiler is not even loaded there is none."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
