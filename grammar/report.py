"""How an error in a rule file is shown: the message, the place, a caret and one line of help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from attrs import evolve

from .ast import Span


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
    lines = [f"{severity}: {message}", *(_place(span) if span else ())]
    return "\n".join([*lines, f"help: {help}"] if help else lines)


def _place(span: Span) -> list[str]:
    """Where it is: file, line and column, the source line, and a caret under each character meant."""
    indent = len(span.text) - len(span.text.lstrip())
    width = max(1, span.end_column - span.column)
    return [
        f"  {span.file}:{span.line}:{span.column}",
        f"    {span.text.expandtabs(1).strip()}",
        " " * (4 + max(0, span.column - 1 - indent)) + "^" * width,
    ]


def narrow(span: Span, name: str) -> Span:
    """The first place inside ``span`` where ``name`` stands as a word; ``span`` itself if nowhere."""
    edge = r"(?<![\w.*])" if not name.startswith("*") else ""
    found = re.compile(rf"{edge}{re.escape(name)}(?!\w)").search(
        span.text, span.column - 1, span.end_column - 1
    )
    return evolve(span, column=found.start() + 1, end_column=found.end() + 1) if found else span


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'groups'?``, or ``None`` if nothing known looks like ``name``."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean '{close[0]}'?" if close else None
