"""What the process has that prunus changes for a while, or may leave behind."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

_alone: Any = import_module("prunus.engine.tracing.alone")  # whose room hands on the function of that name


def process_state() -> dict[str, Any]:
    """Flags, modes, patches, random states, threads and open files, as what `Photograph` compares."""
    facts = {
        "Module.__call__": torch.nn.Module.__call__,
        "Function.apply": vars(torch.autograd.Function)["apply"],
        "attention's fast path": torch.backends.mha.get_fastpath_enabled(),
        "stance": _stance(),
        "random": repr(hash(random.getstate())),
        "numpy": repr(np.random.get_state()[1].tobytes()) + repr(np.random.get_state()[2:]),
        "torch": torch.get_rng_state().clone().numpy().tobytes(),
        "collector": gc.isenabled(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": [type(one).__name__ for one in _get_current_function_mode_stack()],
        "dispatch modes": [type(one).__name__ for one in _get_current_dispatch_mode_stack()],
        "function modes disabled": torch._C._is_torch_function_enabled(),
        "warnings": repr(warnings.filters),
        # Those in which transformers reads files end when its frames, which an error keeps, are gone.
        "threads": sorted(one.name for one in threading.enumerate() if not one.name.startswith("ThreadPool")),
        "cudnn": torch.backends.cudnn.enabled,
        "files": len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0,
        "recursion": sys.getrecursionlimit(),
        "lock": "count=0" in repr(_alone._lock),
        "autocast": torch.is_autocast_enabled("cpu"),
    }
    return {f"process {name}": fact for name, fact in facts.items()}


def _stance() -> str:
    if "torch._dynamo" not in sys.modules:
        return "default"
    return sys.modules["torch._dynamo.eval_frame"]._stance.stance


def files_in(folder: Path | None) -> dict[str, Any]:
    """Every file and folder below a folder with its bytes, sorted: safetensors has keys in any order."""
    inside = [] if folder is None else sorted(folder.rglob("*"))
    return {f"file {one.name}": sorted(one.read_bytes()) if one.is_file() else None for one in inside}


_CALL, _APPLY = torch.nn.Module.__call__, vars(torch.autograd.Function)["apply"]


def repair() -> None:
    """Put back what an operation that broke has left in the process, for those that come after it."""
    torch.nn.Module.__call__ = _CALL
    torch.autograd.Function.apply = _APPLY
    torch.backends.mha.set_fastpath_enabled(True)
    torch.set_grad_enabled(True)
    gc.enable()
    for stack in (_get_current_function_mode_stack, _get_current_dispatch_mode_stack):
        while stack():
            stack()[-1].__exit__(None, None, None)
