"""The canonical form of a rule file: the same statements and comments, laid out in one way."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain

from . import ast
from .lines import RuleText
from .parser import parse
from .write import COLUMN, Piece, groups, head

WIDTH = 120


def format_rules(text: str, file: str = "<rules>") -> str:
    """Write a rule file in its canonical form; its tree and all comments stay as they are.

    A rule stands on one line if it fits, else its clauses stand on indented lines of their own. What
    `validate` finds fault with is formatted all the same.

    Raises
    ------
    RuleSyntaxError
        The text cannot be parsed.

    Examples
    --------
    >>> print(format_rules("a=torch.relu ;a :in<->out\\n  zero in # ..."), end="")
    a         = torch.relu
    a:          in <-> out;  zero in  # ...
    """
    statements = parse(text, file, fail=None).statements
    source = RuleText(file, text)
    starts = [source.offset(statement.span) for statement in statements]
    lines: list[str] = []
    done = 0
    for statement, start, stop in zip(statements, starts, [*starts[1:], len(text)]):
        last = source.line_of(source.last_code(stop) - 1)
        lines += (line.strip() for line in source.lines[done : source.line_of(start) - 1])
        lines += _with_comments(statement, source, start, stop, last)
        done = last
    lines += (line.strip() for line in source.lines[done:])
    return "".join(f"{line}\n" for line in _without_spare_blanks(lines))


def format_statement(statement: ast.Statement) -> str:
    """One statement in its canonical form, without comments."""
    return "\n".join(_laid_out(head(statement), groups(statement)))


def _without_spare_blanks(lines: Iterable[str]) -> Iterator[str]:
    """Blank lines one at a time, and none at both ends."""
    above: str | None = None
    for line in lines:
        if line and above == "":
            yield ""
        if line:
            yield line
        above = line or (above and "")


def _with_comments(statement: ast.Statement, source: RuleText, start: int, stop: int, last: int) -> list[str]:
    """The lines of a statement that begins at ``start``, the next one at ``stop``, its last line is ``last``.

    A comment on a line of its own stays above the piece that follows it, any other one behind its piece.
    """
    first, others = head(statement), groups(statement)
    pieces = [first, *chain.from_iterable(others)]
    places = [source.offset(piece.span) for piece in pieces]
    for offset, comment in source.comments_between(start, min(stop, source.end_of(last))):
        before = bisect_left(places, offset)
        if source.is_first(offset) and before < len(pieces):
            pieces[before].above.append(comment)
        else:
            pieces[before - 1].behind.append(comment)
    return _laid_out(first, others)


def _laid_out(first: Piece, others: list[list[Piece]]) -> list[str]:
    """One line if there is room and no comment on the way, else each group on lines of its own."""
    *inner, end = [first, *chain.from_iterable(others)]
    texts = [" ".join(piece.text for piece in group) for group in others]
    line = " ".join([first.text, ";  ".join(texts)]).rstrip()
    if len(line) <= WIDTH and not end.above and not any(piece.above or piece.behind for piece in inner):
        return [_commented(line, end)]
    return list(_broken(first, others))


def _broken(first: Piece, others: list[list[Piece]]) -> Iterator[str]:
    """The head with the first group, filling lines; each other group from a line of its own on."""
    line = first.text
    if first.behind:
        yield _commented(line, first)
        line = ""
    for number, group in enumerate(others):
        fits = len(first.text) + sum(len(piece.text) + 1 for piece in group) <= WIDTH
        for place, piece in enumerate(group):
            margin = " " * (COLUMN if number == 0 or place == 0 else COLUMN + 4)
            begins = (number > 0 and place == 0) or (not fits and piece.text.startswith("->"))
            if line and (begins or piece.above or len(line) + 1 + len(piece.text) > WIDTH):
                yield line.rstrip()
                line = ""
            yield from (margin + comment for comment in piece.above)
            line = f"{line} {piece.text}" if line else margin + piece.text
            if piece.behind:
                yield _commented(line, piece)
                line = ""
    if line:
        yield line


def _commented(line: str, piece: Piece) -> str:
    """A line with the comments behind its last piece."""
    return "  ".join([line.rstrip(), *piece.behind])
