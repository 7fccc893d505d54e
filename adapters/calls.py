"""Functions of prunus that a trace sees as one call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.overrides import handle_torch_function, has_torch_function


def one_call(function: Callable) -> Callable:
    """Let a mode see ``function`` as one call, with nothing inside, like a function of PyTorch."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(call, args, *args, **kwargs)
        return function(*args, **kwargs)

    return call
