"""Puts back what was changed for a while, whatever happens: a step that fails, an interrupt at any line.

An interrupt comes up between any two lines, also between a change and the ``try`` that was to guard it, and
in the middle of a ``finally``. Hence three rules. What puts a change back is noted *before* the change. It
sets what was, so that it does no harm where nothing was changed, or when it is done twice. And one that fails
is tried once more, and stops no other.

An interrupt also comes up in Python's own ``contextlib``, which then never returns to the block that it was
to leave. `undone` lets go of that block, which leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from traceback import clear_frames, walk_tb
from typing import Any, TypeVar

T = TypeVar("T")


class Undo:
    """What puts everything back, the last change first."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], Any]] = []

    def add(self, step: Callable[..., Any], *args: Any) -> None:
        """Note what puts the next change back."""
        self._steps.append(partial(step, *args))

    def enter(self, context: Any) -> None:
        """Enter a context, which is left when everything is put back."""
        self._steps.append(partial(_leave, [context], context.__enter__()))

    def do(self, step: Any) -> None:
        """Carry out a step that can be taken back."""
        self.add(step.take_back)
        step.carry_out()

    def put_back(self) -> None:
        """Put everything back; what has been, is not put back again."""
        failures: list[BaseException] = []
        while self._steps:
            try_twice(self._steps[-1], failures)
            del self._steps[-1]
        raise_first(failures)


def _leave(contexts: list[Any], _: Any) -> None:
    """Leave a context, once: many cannot be left again."""
    if contexts:
        contexts.pop().__exit__(None, None, None)


@contextmanager
def undoing() -> Iterator[Undo]:
    """On leaving, what was noted is put back."""
    undo = Undo()
    try:
        try:
            yield undo
        finally:
            undo.put_back()
    finally:  # an interrupt may have struck in there
        undo.put_back()


def undone(action: Callable[[Undo], T]) -> T:
    """Do something; put back what it noted, and what a block was to that an interrupt has kept open."""
    undo = Undo()
    try:
        try:
            return _letting_go(partial(action, undo))
        finally:
            _letting_go(undo.put_back)
    finally:
        undo.put_back()


def _letting_go(action: Callable[[], T]) -> T:
    """Do something; clear the frames of an exception that keep a block alive which was not left."""
    try:
        return action()
    except BaseException as error:
        if any(frame.f_code is _LEAVES for frame, _ in walk_tb(error.__traceback__)):
            clear_frames(error.__traceback__)
        raise


_LEAVES = type(undoing()).__exit__.__code__


def try_each(action: Callable[[T], Any], items: Iterable[T], failures: list[BaseException]) -> None:
    """Do the same to all; one that fails is tried once more, and stops no other."""
    for item in items:
        try:
            action(item)
        except BaseException as failure:
            failures.append(failure)
            try_twice(partial(action, item), failures)


def try_twice(step: Callable[[], Any], failures: list[BaseException]) -> None:
    """Do a step, once more if it fails: an interrupt strikes once. Failures are added to the list."""
    for _ in range(2):
        try:
            step()
            return
        except BaseException as failure:
            failures.append(failure)


def raise_first(failures: list[BaseException]) -> None:
    """Raise the first failure, if there was one."""
    if failures:
        raise failures[0]
