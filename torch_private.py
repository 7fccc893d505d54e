"""The names of torch that it does not promise to keep: whatever prunus uses of them, it has from here.

A new torch may have moved one. ``tests/project/test_torch_private.py`` tells which are missing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import _foreach_addcmul_ as add_products
from torch._C import DisableTorchFunction, TensorBase
from torch._C import _EnableTorchFunction as EnableTorchFunction
from torch._C import _is_torch_function_all_disabled as is_torch_function_off
from torch._C import _storage_Use_Count as count_uses
from torch._C import _VariableFunctions as VariableFunctions
from torch._C._functorch import peek_interpreter_stack as innermost_transform
from torch._library.custom_ops import OPDEFS, CustomOpDef
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.nn._reduction import legacy_get_string as reduction_of_old
from torch.overrides import _get_current_function_mode_stack as function_modes
from torch.overrides import _pop_mode as drop_function_mode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack as dispatch_modes
from torch.utils._python_dispatch import _pop_mode as drop_dispatch_mode

__all__ = [
    "OPDEFS",
    "CustomOpDef",
    "DataDependentOutputException",
    "DisableTorchFunction",
    "DynamicOutputShapeException",
    "EnableTorchFunction",
    "FakeTensor",
    "FakeTensorMode",
    "OpOverload",
    "OpOverloadPacket",
    "TensorBase",
    "TorchDispatchMode",
    "VariableFunctions",
    "add_products",
    "compiler",
    "dispatch_modes",
    "drop_dispatch_mode",
    "drop_function_mode",
    "function_modes",
    "innermost_transform",
    "is_compiled_around",
    "is_torch_function_off",
    "is_traceable_wrapper_subclass",
    "reduction_of_old",
    "users_of",
]


def users_of(storage: torch.UntypedStorage) -> int:
    """How many tensors, and names in Python, refer to a storage."""
    return count_uses(storage._cdata)


def compiler() -> Any:
    """What runs compiled code, or `None` as long as it is not loaded, which would take seconds."""
    return sys.modules.get("torch._dynamo.eval_frame")


def is_compiled_around() -> bool:
    """Whether torch would compile what this thread runs now."""
    if "torch._dynamo" not in sys.modules:
        return False
    return torch._C._dynamo.eval_frame.get_eval_frame_callback() not in (None, False)
