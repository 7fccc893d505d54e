"""What a forward pass of the trace must not disturb: the model, modes, random numbers, caches."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ..torch_private import compiler
from .modes import keep_modes, modes_of
from .snapshot import Snapshot
from .submodules import each_module, set_training
from .uncached import uncached
from .undo import Undo, undoing
from .writes import Writes


@contextmanager
def undisturbed(
    model: torch.nn.Module, changing: Iterable[torch.Tensor] = (), recorded: bool = False
) -> Iterator[Snapshot]:
    """Run in eval mode and in `modes_of` the model, then put back modes, random states and all that it holds.

    The tensors `changing` keep what is written into them. Where all is `recorded`, a mode of functions sees
    what the model calls anyway. Gives what `model` holds before.
    """
    with undoing() as undo:
        before = Snapshot({id(one): one for one in changing})
        before.note(model)
        undo.add(before.put_back)
        undo.enter(modes_of(before.tensors))
        modules = [module for _, module in each_module(model)]
        _evaluate(modules, undo)
        _keep_random_states(undo)
        undo.enter(uncached(modules))
        undo.enter(_no_compiled_code())
        keep_modes(undo)
        Writes(before.save).__enter__()  # and these two modes are left by what `keep_modes` has noted
        if (
            not recorded
        ):  # of every call, and of each look at a tensor, one mode more takes as long as another
            _NoFastPaths().__enter__()
        yield before


def _evaluate(modules: Iterable[torch.nn.Module], undo: Undo) -> None:
    """Clear the training flags themselves: `eval` and `train` may be overridden to do more than that."""
    # A frozen part of compiled code has no such flag.
    flags = [(module, module.training) for module in modules if hasattr(module, "training")]
    undo.add(_set_flags, flags)
    _set_flags([(module, False) for module, _ in flags])


def _set_flags(flags: Iterable[tuple[torch.nn.Module, bool]]) -> None:
    for module, training in flags:
        if module.training is not training:  # assigning to a module is slow
            set_training(module, training)


def _keep_random_states(undo: Undo) -> None:
    undo.add(random.setstate, random.getstate())
    undo.add(np.random.set_state, np.random.get_state())
    undo.add(torch.set_rng_state, torch.get_rng_state())
    for device in range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ():
        undo.add(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)


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
    loaded = compiler()
    if loaded is None:
        yield
        return
    on_this_thread = getattr(loaded, "_use_eager_on_nested_compile", None)
    with undoing() as undo:
        if on_this_thread:
            undo.enter(on_this_thread())
        else:
            undo.add(loaded._set_stance, loaded._stance)
            torch.compiler.set_stance("force_eager")
        yield
