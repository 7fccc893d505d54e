"""Puts back what was changed for a while, whatever happens: a step that fails, an interrupt at any line.

An interrupt comes up between any two lines, also between a change and the ``try`` that was to guard it, and
in the middle of a ``finally``. Hence three rules. What puts a change back is noted *before* the change. It
sets what was, so that it does no harm where nothing was changed, or when it is done twice. And one that fails
is tried once more, and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
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
    """On leaving, what was noted is put back.

    If an interrupt keeps the caller from leaving, this is done when Python drops the context: at once.
    """
    undo = Undo()
    try:
        try:
            yield undo
        finally:
            undo.put_back()
    finally:  # an interrupt may have struck in there
        undo.put_back()


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
