"""Ways in which an exception comes up: at a line, in an operator of torch, in the user's code, any time."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import prunus
from attrs import define, field
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = str(Path(prunus.__file__).parent) + "/"
ERRORS = (KeyboardInterrupt, MemoryError, RuntimeError)


@define
class Lines:
    """Counts the lines of prunus that are run, and raises before one of them, at one of the times."""

    line: tuple[CodeType, int] | None = None
    time: int = 0
    error: type[BaseException] = KeyboardInterrupt
    met: dict[tuple[CodeType, int], int] = field(factory=dict)
    raised: BaseException | None = None

    @classmethod
    def drawn(cls, counted: Lines, chance: Random) -> Lines:
        """At any line, the first time, the last, or another."""
        line, times = chance.choice(list(counted.met.items()))
        return cls(line, chance.choice([0, times - 1, chance.randrange(times)]), chance.choice(ERRORS))

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._trace_line if _is_ours(frame.f_code.co_filename) else None

    def _trace_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        line = frame.f_code, frame.f_lineno
        if event == "line" and self.line in (None, line):
            self.met[line] = self.met.get(line, 0) + 1
            if self.line is not None and self.met[line] == self.time + 1:
                sys.settrace(None)
                self.raised = self.error("injected")
                raise self.raised
        return self._trace_line

    def __str__(self) -> str:
        code, number = self.line or (None, 0)
        file = code.co_filename.removeprefix(ROOT) if code else ""
        return f"{self.error.__name__} at {file}:{number}, time {self.time}"


@cache
def _is_ours(file: str) -> bool:
    """Whether a file belongs to prunus, but for its tests."""
    return file.startswith(ROOT) and not file.startswith((ROOT + "tests", ROOT + ".venv"))


@define
class Counted:
    """Raises the n-th time that something happens."""

    time: int | None = None
    error: type[BaseException] = KeyboardInterrupt
    met: int = 0
    raised: BaseException | None = None

    @classmethod
    def drawn(cls, counted: Counted, chance: Random) -> Counted | None:
        """Any of the times, if there is one."""
        return cls(chance.randrange(counted.met), chance.choice(ERRORS)) if counted.met else None

    def happens(self) -> None:
        """It happens."""
        self.met += 1
        if self.time is not None and self.met == self.time + 1:
            self.raised = self.error("injected")
            raise self.raised

    def __str__(self) -> str:
        return f"{type(self).__name__}, {self.error.__name__}, time {self.time}"


@define
class Operators(Counted):
    """In an operator of torch, whoever calls it."""

    mode: Any = None

    def __enter__(self) -> None:
        self.mode = _Watching(self.happens)
        self.mode.__enter__()

    def __exit__(self, *_: Any) -> None:
        self.mode.__exit__(None, None, None)


class _Watching(TorchDispatchMode):
    def __init__(self, happens: Callable[[], None]):
        super().__init__()
        self.happens = happens

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.happens()
        return function(*args, **(kwargs or {}))


@define
class Leaving(Counted):
    """Where Python's own `contextlib` is about to leave a block, which it then does not."""

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code is _LEAVES:
            self.happens()


_LEAVES = contextlib._GeneratorContextManager.__exit__.__code__
_watched: list[UserCode] = []


@define
class UserCode(Counted):
    """In code of the user's: a forward, a hook, a loss, an iterator, a criterion, a curve."""

    def __enter__(self) -> None:
        _watched.append(self)

    def __exit__(self, *_: Any) -> None:
        _watched.remove(self)


def user_code() -> None:
    """Called by all code of the user's."""
    for one in _watched:
        one.happens()


@define
class Signal:
    """At any time, wherever Python is: what Ctrl-C does."""

    seconds: float = 0
    error: type[BaseException] = KeyboardInterrupt
    raised: BaseException | None = None

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._interrupt)
        if self.seconds:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, *_: Any) -> None:
        self.raised = KeyboardInterrupt("injected")
        raise self.raised

    def __str__(self) -> str:
        return f"a signal after {self.seconds:.4f} s"
