"""Which line ends end a statement. The text keeps its length, so positions stay true."""

from __future__ import annotations

import re
from bisect import bisect_right

from attrs import field, frozen

from .ast import Span

# After one of these, or before one, a line end inside a rule is a mere blank.
_OPEN_END = ("->", "[", "(", ",", ":", "=", "+", ";", "*", ".")
_OPEN_START = ("->", "<->", "]", ")", ",", "+", ";", "=", "?")

_STRING_OR_COMMENT = re.compile(r'"[^"\n]*"|#.*')
_STRING = re.compile(r'"[^"\n]*"')


def settle(text: str) -> str:
    """Blank out comments, and replace each line end that continues a rule by ``;`` or a blank.

    An unindented line begins a statement; an indented one continues the rule above it.
    """
    pieces: list[str] = []
    above, depth = "", 0
    for line in text.split("\n"):
        code = _STRING_OR_COMMENT.sub(_blank_comment, line)
        stripped = code.strip()
        if not stripped:
            pieces.append(" " + code)
            continue
        gap = _line_end(above, code, depth)
        depth = max(0, _depth(stripped) + (0 if gap == "\n" else depth))
        pieces.append(gap + code)
        above = stripped
    return "".join(pieces)[1:]


def _blank_comment(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else " " * len(found[0])


def _line_end(above: str, code: str, depth: int) -> str:
    """What the line end before ``code`` means, after the last line of code ``above``."""
    if not above:
        return " "
    if not code[0].isspace():
        return "\n"
    joined = depth > 0 or above.endswith(_OPEN_END) or code.lstrip().startswith(_OPEN_START)
    return " " if joined else ";"


def _depth(code: str) -> int:
    """How many brackets a line leaves open."""
    bare = _STRING.sub("", code)
    return sum(bare.count(c) for c in "[(") - sum(bare.count(c) for c in "])")


@frozen
class Source:
    """A rule text: turns offsets into spans, and finds the comments above a line."""

    file: str
    text: str
    lines: list[str] = field(init=False)
    starts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        lines = self.text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        object.__setattr__(self, "lines", [line.rstrip("\r") for line in lines])
        object.__setattr__(self, "starts", starts[:-1])

    def span(self, start: int, end: int) -> Span:
        """The span of ``text[start:end]``, cut at the end of its first line."""
        index = bisect_right(self.starts, start) - 1
        line = self.lines[index]
        column = min(start - self.starts[index], len(line))
        end_column = min(end - self.starts[index], len(line.rstrip()))
        return Span(self.file, index + 1, column + 1, max(end_column, column + 1) + 1, line)

    def last_code(self, before: int | None = None) -> int:
        """The offset just after the last code before ``before`` (default: the end of the text)."""
        return len(_STRING_OR_COMMENT.sub(_blank_comment, self.text)[:before].rstrip())

    def comments_above(self, line: int) -> list[str]:
        """The comment lines directly above a line (counted from 1), in order, hashes kept."""
        found = []
        for text in reversed(self.lines[: line - 1]):
            if not text.lstrip().startswith("#"):
                break
            found.append(text.strip())
        return found[::-1]
