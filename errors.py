"""Every error that prunus raises on purpose, and how a text from elsewhere looks in a message.

A failed call leaves the model as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .grammar.ast import Span

_LONGEST_NAME = 200  # characters of a name in a message


def brief(text: str, most: int = 600) -> str:
    """A text to be shown: of bounded length, the middle left out, and without what would move a terminal.

    Examples
    --------
    >>> brief("a" * 1000 + "b", most=20)
    'aaaaaaaa ... aaaaaab'
    """
    if len(text) > most:
        kept = most - len(" ... ")
        text = f"{text[: kept - kept // 2]} ... {text[len(text) - kept // 2 :]}"
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text.expandtabs(1))


def shown(name: Any) -> str:
    """A name from elsewhere for a message: on one line, not endless, and with nothing that does not print.

    Examples
    --------
    >>> print(shown("a\\nb"), shown(""), shown("conv.weight"))
    'a\\nb' '' conv.weight
    """
    text = name
    with suppress(TypeError):  # of no path, or of a __fspath__ that gives something else
        text = os.fspath(name)
    text = text if isinstance(text, str) and text.isprintable() and text else repr(text)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


class PrunusError(Exception):
    """Base of all errors of prunus: one message that says what is wrong and what to do."""


class RuleFileError(PrunusError):
    """Something is wrong in a ``.rules`` text, at ``span`` (None: no place of it); ``help`` says what to do.

    It prints with file, line, source line and caret; without place and help it is the bare message.
    """

    def __init__(self, message: str, span: Span | None = None, help: str | None = None) -> None:
        super().__init__(message, span, help)
        self.message = brief(message)
        self.span = span
        self.help = brief(help) if help else help

    def __str__(self) -> str:
        from .grammar.report import report

        return report(self.message, self.span, self.help) if self.span or self.help else self.message


class RuleSyntaxError(RuleFileError):
    """A ``.rules`` text cannot be parsed."""


class RuleError(RuleFileError):
    """A rule parses but cannot be meant: unknown target, argument, factor or verb."""


def throw(error: RuleFileError) -> NoReturn:
    """What is done with an error of a rule file unless the caller collects them instead."""
    raise error


def at_most(count: int, fail: Callable[[RuleError], object]) -> Callable[[RuleError], None]:
    """``fail`` for the first ``count`` errors; the next one is raised."""
    told = 0

    def told_or_thrown(error: RuleError) -> None:
        nonlocal told
        told += 1
        if told > count:
            raise error
        fail(error)

    return told_or_thrown


class TraceError(PrunusError):
    """The model could not be run on the example inputs, or no example inputs were found."""


class PlanError(PrunusError):
    """A plan, budget or selection that cannot be carried out on this model."""


class VerificationError(PrunusError):
    """The pruned model did not run or changed its output shapes; it has been restored."""


class CheckpointError(PrunusError):
    """A file that cannot be written or read, is damaged, or is of another model; the model is as it was."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error came up because there was no memory left, which tells nothing of the model."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        error = error.__cause__ or error.__context__
    return False


def raise_interrupt(error: BaseException | None) -> None:
    """Raise the interrupt in whose wake an error came up, if there was one: torch may have lost a mode."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            raise error
        error = error.__cause__ or error.__context__
