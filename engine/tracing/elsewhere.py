"""Notes where a forward hands work to other threads or processes, in which no call can be seen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...adapters.undo import undoing
from .values import Trace

# How Python's own library hands work over, by file and class; what nobody has imported hands over none.
_WAYS = (
    ("threading", "Thread", "start"),
    ("concurrent.futures.thread", "ThreadPoolExecutor", "submit"),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
    ("multiprocessing.pool", "Pool", "apply_async"),
    ("multiprocessing.pool", "Pool", "_map_async"),
)


Call = Callable[..., Any]


@contextmanager
def handing_over(watched: Callable[[Call], Call]) -> Iterator[None]:
    """While this lasts, each way to hand work over is what `watched` makes of it, on all threads."""
    with undoing() as undo:
        for file, name, method in _WAYS:
            owner = getattr(sys.modules.get(file), name, None)
            if owner is not None:
                own = vars(owner)[method]
                undo.add(setattr, owner, method, own)
                setattr(owner, method, watched(own))
        yield


def handed_notes(trace: Trace) -> list[str]:
    """For each line that hands work to other threads or processes what that means."""
    sources = dict.fromkeys(source for source, _ in trace.handed)
    return [
        f"{source} hands work to another thread or process: what is written into tensors there is not seen"
        for source in sources
    ]
