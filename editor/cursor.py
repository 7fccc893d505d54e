"""What stands at a place of a rule text that is being written, and perhaps cannot be parsed yet."""

from __future__ import annotations

import re

from attrs import frozen

from ..grammar.limits import LINE, SIZE
from ..grammar.lines import settle

_HEAD = re.compile(r"\s*(?:module\s+(?P<module>[\w.]+)\s*:|(?P<rule>\w+)\s*:|(?P<targets>\w+)\s*=)", re.ASCII)
_WORD = re.compile(r"\*?[A-Za-z_][\w.]*")
_OPERAND = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*?)(?:\.\.\.)?\[")
_STRING = re.compile(r'"[^"\n]*"?')


@frozen
class Cursor:
    """The statement around a place, and what of it is written up to there.

    ``kind`` is "rule", "targets" or "module", None between statements, "comment" in a comment. ``name`` is
    the rule's, or the target of a module rule; ``before`` the clause (or list, or body) up to the place, and
    ``is_first`` tells whether it directly follows the head. ``whole`` is all of the statement.
    """

    kind: str | None
    name: str = ""
    before: str = ""
    is_first: bool = False
    whole: str = ""

    @property
    def in_brackets(self) -> bool:
        """Whether the place is between ``[`` and ``]`` of a signature."""
        return self.before.count("[") > self.before.count("]")

    def factors(self) -> list[str]:
        """The factors that the statement's signature has so far, stars marked."""
        inside = re.findall(r"\[([^\]]*)\]?", _STRING.sub("", self.whole))
        found = dict.fromkeys(name for dims in inside for name in _WORD.findall(dims))
        return [name for name in found if name != "_"]

    def operands(self) -> list[str]:
        """The operands that the statement's signature has so far."""
        return list(dict.fromkeys(_OPERAND.findall(self.whole)))


def cursor(text: str, line: int, column: int) -> Cursor:
    """Look at the place before which ``column`` characters of line ``line`` stand; both count from 0."""
    lines = lines_of(text)
    if line >= len(lines) or not lines[line][:column]:
        return Cursor(None)
    first, end = _extent(lines, line)
    upto = settle("\n".join([*lines[first:line], f"{lines[line][:column]}_"]))
    if not upto.endswith("_"):
        return Cursor("comment")
    segments = upto[:-1].split(";")  # the "_" made the last line one that has code
    heads = [_HEAD.match(segment) for segment in segments]
    head = next((found for found in reversed(heads) if found), None)
    if head is None or head.lastgroup is None:
        return Cursor(None, before=segments[-1])
    before = segments[-1][heads[-1].end() :] if heads[-1] else segments[-1]
    whole = settle("\n".join(lines[first:end]))
    return Cursor(head.lastgroup, head[head.lastgroup], before, heads[-1] is not None, whole)


def lines_of(text: str) -> list[str]:
    """The lines of a text; none of one that is longer than rules may be, or has such a line."""
    if len(text) > SIZE:
        return []
    lines = text.replace("\r", "").split("\n")
    return lines if max(map(len, lines)) <= LINE else []


def word_at(text: str, line: int, column: int) -> tuple[str, int, int] | None:
    """The name at a place, a star before it included, and where it begins and ends on its line."""
    for found in _WORD.finditer("".join(lines_of(text)[line : line + 1])):
        if found.start() <= column <= found.end():
            return found[0], found.start(), found.end()
    return None


def _extent(lines: list[str], line: int) -> tuple[int, int]:
    """The lines of the statement that line ``line`` belongs to, the end exclusive."""
    first = line
    while first > 0 and not _begins(lines[first]):
        first -= 1
    end = line + 1
    while end < len(lines) and not _begins(lines[end]):
        end += 1
    return first, end


def _begins(line: str) -> bool:
    """Whether a statement begins with this line."""
    return bool(line) and not line[0].isspace() and line[0] != "#"
