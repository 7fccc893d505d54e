"""How much a rule text may hold, so that the rules of others take neither long nor much memory.

What is written by hand stays far below. The limits are told in docs/language.md.
"""

from __future__ import annotations

import re

from ..errors import RuleSyntaxError
from . import ast
from .lines import RuleText

SIZE = 2 * 2**20  # bytes of a file, characters of a text
LINE = 10_000  # characters
DEPTH = 20  # brackets in brackets
DIGITS = 18  # of a whole number, so that it fits into 64 bits
POWER = 100  # the largest power of a size
OPERANDS = 64  # operands and results of a signature
AXES = 256  # of all of them together, with the parts that they are made of

# Characters that no editor shows, or that change the order in which it shows others: a text has to be what it
# looks like. Tabs, line ends and form feeds are blanks.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BRACKET = re.compile(r'"[^"\n]*"|[][()]')


def check_size(text: str, file: str) -> None:
    """Raise `RuleSyntaxError` for a text that is too long."""
    if len(text) > SIZE:
        first = ast.Span(file, 1, 1, 2, text[:LINE].partition("\n")[0])
        raise RuleSyntaxError(f"a rule text has at most {SIZE:,} characters", first, "make it several files")


def check_lines(source: RuleText) -> None:
    """Raise `RuleSyntaxError` for a line that is too long, and for characters that nobody sees."""
    for line, start in zip(source.lines, source.starts):
        if len(line) > LINE:
            span = source.span(start + LINE, start + LINE + 1)
            raise RuleSyntaxError(f"a line has at most {LINE:,} characters", span, "break it behind a comma")
    hidden = _HIDDEN.search(source.text)
    if hidden:
        code = f"U+{ord(hidden[0]):04X}"
        span = source.span(hidden.start(), hidden.end())
        raise RuleSyntaxError(f"the character {code} cannot be seen", span, "remove it")


def check_depth(source: RuleText, settled: str, start: int) -> None:
    """Raise `RuleSyntaxError` where brackets of a statement, settled and from ``start`` on, are too deep."""
    depth = 0
    for found in _BRACKET.finditer(settled):
        depth += (found[0] in "[(") - (found[0] in "])")
        if depth > DEPTH:
            span = source.span(start + found.start(), start + found.end())
            raise RuleSyntaxError(f"more than {DEPTH} brackets in brackets", span, "close some of them")


def whole_number(text: str, span: ast.Span) -> int:
    """The number that these digits are."""
    if len(text.lstrip("-")) > DIGITS:
        raise RuleSyntaxError(f"a number has at most {DIGITS} digits", span)
    return int(text)


def power(text: str, span: ast.Span) -> float:
    """The power that is written so."""
    number = float(text)
    if not abs(number) <= POWER:
        raise RuleSyntaxError(f"a power is between -{POWER} and {POWER}", span)
    return number


def check_signature(signature: ast.Signature) -> None:
    """Raise `RuleSyntaxError` for more operands or axes than any operation has."""
    operands = signature.inputs + signature.outputs
    if len(operands) > OPERANDS:
        text = f"a signature has at most {OPERANDS} operands and results"
        raise RuleSyntaxError(text, operands[OPERANDS].span)
    axes = 0
    for one in operands:
        axes += sum(map(_parts, one.dims))
        if axes > AXES:
            raise RuleSyntaxError(f"a signature has at most {AXES} axes, with their parts", one.span)


def _parts(dim: ast.Dim) -> int:
    """How many parts an axis is made of, itself included."""
    return 1 + sum(map(_parts, getattr(dim, "parts", ())))
