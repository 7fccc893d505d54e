"""Keeps Python's garbage collector from walking through a graph while it is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from .undo import undoing


@contextmanager
def paused() -> Iterator[None]:
    """Within, nothing is collected: what is built stays, and looking through it again and again takes long.

    The collector is the process's own. It goes on whatever happens, if it was on; where it was off, by the
    user or by another thread that is in here, this does nothing.
    """
    if not gc.isenabled():
        yield
        return
    with undoing() as undo:
        undo.add(gc.enable)
        gc.disable()
        yield
