"""Which line ends end a statement. The text keeps its length, so positions stay true."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

from attrs import field, frozen

from ..errors import Span

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
class RuleText:
    """A rule text: turns offsets into spans and back, and finds comments.

    ``code`` is the text with its comments blanked out, ``comments`` are where each begins and its text
    with the hashes. Lines are counted from 1.
    """

    file: str
    text: str
    code: str = field(init=False)
    lines: list[str] = field(init=False)
    starts: list[int] = field(init=False)
    comments: list[tuple[int, str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        lines = self.text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        object.__setattr__(self, "code", _STRING_OR_COMMENT.sub(_blank_comment, self.text))
        found = [(one.start(), one[0].rstrip()) for one in _STRING_OR_COMMENT.finditer(self.text)]
        object.__setattr__(self, "comments", [(start, text) for start, text in found if text.startswith("#")])
        object.__setattr__(self, "lines", [line.rstrip("\r") for line in lines])
        object.__setattr__(self, "starts", starts[:-1])

    def span(self, start: int, end: int) -> Span:
        """The span of ``text[start:end]``, cut at the end of its first line."""
        index = self.line_of(start) - 1
        line = self.lines[index]
        column = min(start - self.starts[index], len(line))
        end_column = min(end - self.starts[index], len(line.rstrip()))
        return Span(self.file, index + 1, column + 1, max(end_column, column + 1) + 1, line)

    def last_code(self, before: int | None = None) -> int:
        """The offset just after the last code before ``before`` (default: the end of the text)."""
        end = len(self.code) if before is None else before
        while end > 0 and self.code[end - 1].isspace():
            end -= 1
        return end

    def line_of(self, offset: int) -> int:
        return bisect_right(self.starts, offset)

    def offset(self, span: Span) -> int:
        """Where a span of this text begins."""
        return self.starts[span.line - 1] + span.column - 1

    def is_first(self, offset: int) -> bool:
        """Whether nothing but blanks stands before this place on its line."""
        return not self.text[self.starts[self.line_of(offset) - 1] : offset].strip()

    def end_of(self, line: int) -> int:
        """The offset just after a line."""
        return self.starts[line] if line < len(self.starts) else len(self.text)

    def comments_between(self, start: int, stop: int) -> list[tuple[int, str]]:
        """The comments that begin between two offsets."""
        first = bisect_left(self.comments, (start, ""))
        return self.comments[first : bisect_left(self.comments, (stop, ""))]

    def comments_above(self, line: int) -> list[str]:
        """The comment lines directly above a line, in order, hashes kept."""
        first = line - 1
        while first > 0 and self.lines[first - 1].lstrip().startswith("#"):
            first -= 1
        return [text.strip() for text in self.lines[first : line - 1]]
