"""Where the time of `engine.prune` goes: the functions of each stage are timed from outside."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

# For each stage functions, by the module that calls them. A trace inside of another stage belongs to that.
STAGES = {
    "trace": ("engine.analyze.trace",),
    "couple, solve": (
        "engine.grouping.deriving.couple",
        "engine.grouping.deriving.follow_siblings",
        "engine.grouping.deriving.solve",
    ),
    "groups": ("engine.derive.DependencyGraph",),
    "witness": ("engine.derive.findings", "engine.derive.findings_at", "engine.derive.untrusted"),
    "choose": ("engine.finish.choose",),
    "slice": ("engine.finish.carry_out",),
    "verify": ("engine.finish.check_pruned",),
}

Clock = Callable[[], float]


@contextmanager
def timed(clock: Clock) -> Iterator[dict[str, float]]:
    """While this lasts, the seconds that are spent in each stage, without what is another one's."""
    spent = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as stack:
        running: list[str] = []
        for stage, functions in STAGES.items():
            for name in functions:
                module, _, attribute = name.rpartition(".")
                owner = importlib.import_module(f"prunus.{module}")
                function = _timed(getattr(owner, attribute), stage, running, spent, clock)
                stack.enter_context(patch.object(owner, attribute, function))
        yield spent


def _timed(
    function: Callable, stage: str, running: list[str], spent: dict[str, float], clock: Clock
) -> Callable:
    """The function with its time added to the stage, and taken from the one in which it was called."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if stage == "trace" and running:
            return function(*args, **kwargs)
        running.append(stage)
        start = clock()
        try:
            return function(*args, **kwargs)
        finally:
            seconds = clock() - start
            spent[running.pop()] += seconds
            if running:
                spent[running[-1]] -= seconds

    return run
