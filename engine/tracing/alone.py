"""One call of prunus at a time in a process.

While a model is traced, tried or cut, more is changed than its own thread can see: random states, functions
that cache, dicts that files share, the model itself. Calls on other threads wait for one another; those
that run other models never do, and pass through whatever is put in a place for the while.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from ...adapters.modes import left_modes
from ...adapters.undo import Undo, undone
from .telling import telling

Given = ParamSpec("Given")
Result = TypeVar("Result")

_lock = RLock()  # which knows who has it


def alone(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """`function`, which waits until no other thread runs one that this was done to.

    It leaves the modes of torch that its caller is in.
    """

    function = telling(function)

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        def outside_modes(undo: Undo) -> Result:
            if not _is_alone():
                undo.add(_give_back)
                _lock.acquire()
            undo.enter(left_modes())
            return function(*args, **kwargs)

        return undone(outside_modes)

    return run


def _is_alone() -> bool:
    """Whether this thread runs such a call already."""
    return bool(_lock._is_owned())  # type: ignore[attr-defined]  # threading.Condition asks so, too


def _give_back() -> None:
    if _is_alone():
        _lock.release()


def inner(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """What `alone` was done to, for a caller that is alone already.

    Once this has returned, nothing is left to be given back in which an interrupt could come up.
    """
    return function.__wrapped__  # type: ignore[attr-defined]  # what `wraps` has set


def _renew() -> None:
    """A forked process has only the thread that forked it: nobody there would give the lock back."""
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew)
