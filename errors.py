"""Every error that prunus raises on purpose, and how a text from elsewhere looks in a message.

A failed call leaves the model as it was.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NoReturn

_LONGEST_NAME = 200  # characters of a name in a message
_SHOWN_OF_LINE = 120  # of a source line
_BEFORE = 40  # of a longer one, in front of what is meant
_COMPARED = 8000  # names that are looked through for one that is alike
_LONGEST_COMPARED = 100  # characters of the names that are compared: it takes the square of that


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


@dataclass(frozen=True, slots=True)  # no attrs: `import prunus` waits for no library
class Span:
    """A stretch of one line of a rule file; line and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_column: int
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def report(message: str, span: Span | None = None, help: str | None = None, severity: str = "error") -> str:
    """Format an error or warning as every message from a rule file looks.

    Examples
    --------
    >>> span = Span("my.rules", 3, 8, 12, "  hold outt")
    >>> print(report("'outt' is not a factor", span, "did you mean 'out'?"))
    error: 'outt' is not a factor
      my.rules:3:8
        hold outt
             ^^^^
    help: did you mean 'out'?
    """
    lines = [f"{severity}: {brief(message)}", *(_place(span) if span else ())]
    return "\n".join([*lines, f"help: {brief(help)}"] if help else lines)


def _place(span: Span) -> list[str]:
    """Where it is: file, line and column, the source line, and a caret under each character meant.

    Of a long line a stretch is shown.
    """
    text = span.text.rstrip()
    column = min(span.column - 1, len(text))
    start = len(text) - len(text.lstrip())
    if len(text) - start > _SHOWN_OF_LINE:
        start = max(start, column - _BEFORE)
    end = start + _SHOWN_OF_LINE
    dots = ["... " if text[:start].strip() else "", " ..." if len(text) > end else ""]
    before = len(dots[0]) + max(0, column - start)
    width = max(1, min(span.end_column - 1, end) - column)
    return [
        f"  {brief(span.file)}:{span.line}:{span.column}",
        f"    {dots[0]}{brief(text[start:end])}{dots[1]}",
        " " * (4 + before) + "^" * width,
    ]


def narrow(span: Span, name: str) -> Span:
    """The first place inside ``span`` where ``name`` stands as a word; ``span`` itself if nowhere."""
    edge = r"(?<![\w.*])" if not name.startswith("*") else ""
    found = re.compile(rf"{edge}{re.escape(name)}(?!\w)").search(
        span.text, span.column - 1, span.end_column - 1
    )
    return replace(span, column=found.start() + 1, end_column=found.end() + 1) if found else span


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'groups'?``, or ``None`` if nothing known looks like ``name``.

    Only so many names are looked at, and none that is endless.
    """
    if len(name) > _LONGEST_COMPARED:
        return None
    candidates = sorted(other for other in islice(known, _COMPARED) if len(other) <= _LONGEST_COMPARED)
    close = difflib.get_close_matches(name, candidates, n=1)
    return f"did you mean '{close[0]}'?" if close else None


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


def raise_foreign(error: BaseException) -> None:
    """Raise what tells nothing of a model: an error for lack of memory, an interrupt that was the cause."""
    raise_interrupt(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            raise error
        cause = cause.__cause__ or cause.__context__


def raise_interrupt(error: BaseException | None) -> None:
    """Raise the interrupt in whose wake an error came up, if there was one: torch may have lost a mode."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            raise error
        error = error.__cause__ or error.__context__
