"""How an error in a rule file is shown: the message, the place, a caret and one line of help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

from attrs import evolve

from ..errors import brief
from .ast import Span

_SHOWN = 120  # of a source line
_BEFORE = 40  # of a longer one, in front of what is meant
_COMPARED = 8000  # names that are looked through for one that is alike
_LONGEST = 100  # of the names that are compared: it takes the square of that


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
    if len(text) - start > _SHOWN:
        start = max(start, column - _BEFORE)
    end = start + _SHOWN
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
    return evolve(span, column=found.start() + 1, end_column=found.end() + 1) if found else span


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'groups'?``, or ``None`` if nothing known looks like ``name``.

    Only so many names are looked at, and none that is endless.
    """
    if len(name) > _LONGEST:
        return None
    candidates = sorted(other for other in islice(known, _COMPARED) if len(other) <= _LONGEST)
    close = difflib.get_close_matches(name, candidates, n=1)
    return f"did you mean '{close[0]}'?" if close else None
