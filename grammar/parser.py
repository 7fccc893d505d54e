"""``parse``: the text of a ``.rules`` file to a ``RuleFile``. The only place that meets Lark's errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RuleError, RuleSyntaxError, did_you_mean, throw
from . import ast
from .comments import commented
from .limits import check_depth, check_lines, check_size
from .lines import RuleText, settle
from .validate import validate
from .words import CLAUSES

if TYPE_CHECKING:
    from lark import Lark, UnexpectedInput

# What the parser accepts or meets, in the words of the language.
_WORDS = {
    "NAME": "a name",
    "INT": "a number",
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "$END": "end of line",
    "MODULE": "'module'",
    "USE": "'use'",
    "BY": "'by'",
    "NEXT": "'next'",
    "ARROW": "'->'",
    "BOTHWAYS": "'<->'",
    "ELLIPSIS": "'...'",
    "DOT": "'.'",
    "COMMA": "','",
    "COLON": "':'",
    "SEMICOLON": "';'",
    "EQUALS": "'='",
    "PLUS": "'+'",
    "STAR": "'*'",
    "POWER": "'**'",
    "UNLESS": "'unless'",
    "OF": "'of'",
    "BYTES": "'bytes'",
    "QUESTION": "'?'",
    "UNDERSCORE": "'_'",
    "LSQUARE": "'['",
    "RSQUARE": "']'",
    "LPAREN": "'('",
    "RPAREN": "')'",
    **{clause.upper(): f"'{clause}'" for clause in CLAUSES},
}

_STATEMENT_HELP = "a statement is 'name: ...', 'name = target, ...', 'module T: ...' or 'use default'"


def parse(
    text: str, file: str = "<rules>", fail: Callable[[RuleError], object] | None = throw
) -> ast.RuleFile:
    """Parse the text of a rule file.

    Parameters
    ----------
    text : the rules.
    file : what errors and spans call the text.
    fail : what is done with each ``RuleError``; to collect them, give ``errors.append``. With ``None`` the
        rules are not validated.

    Raises
    ------
    RuleSyntaxError
        The text is not in the language, or beyond its limits (``limits.py``); the message shows the place
        and what would be right.
    RuleError
        A rule that `validate` finds fault with.

    Examples
    --------
    >>> [rule.name for rule in parse("conv: out -> next.in; concat: split(out) by input sizes").statements]
    ['conv', 'concat']
    """
    check_size(text, file)
    source = RuleText(file, text)
    check_lines(source)
    found: list[ast.Statement] = []
    start = 0
    for settled in settle(text).split("\n"):
        found += _statements(settled, start, source)
        start += len(settled) + 1
    statements = commented(found, source)
    if fail is not None:
        for statement in statements:
            if isinstance(statement, ast.Rule):
                validate(statement, fail)
    return ast.RuleFile(file, statements)


def _statements(settled: str, start: int, source: RuleText) -> list[ast.Statement]:
    """The statements of one settled line, which begins at ``start``.

    A line at a time, the trees of Lark stay small: of a whole file, they would keep the garbage collector
    busy longer than the parser.
    """
    # Lark is loaded at the first text, not with the package.
    from lark import UnexpectedInput
    from lark.exceptions import VisitError

    from .build import Builder

    check_depth(source, settled, start)
    try:
        return Builder(source, start).transform(_lark().parse(settled))
    except UnexpectedInput as error:
        raise _explain(error, source, start, start + len(settled)) from None
    except VisitError as error:
        raise error.orig_exc from None


@functools.cache
def _lark() -> Lark:
    """The parser, built at first use."""
    from lark import Lark  # at first use, as above

    grammar = Path(__file__).with_name("rules.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True)


def _explain(error: UnexpectedInput, source: RuleText, first: int, last: int) -> RuleSyntaxError:
    """One error for whatever Lark has raised about the settled line from ``first`` to ``last``."""
    from lark import UnexpectedToken  # which is loaded by now

    if isinstance(error, UnexpectedToken):
        token = error.token
        accepts = set(error.accepts or error.expected)
        at_end = token.type == "$END"
        start = source.last_code(last) if at_end else first + (token.start_pos or 0)
        met = _WORDS[token.type] if at_end or token.type == "STRING" else f"'{token}'"
        span = source.span(start, start if at_end else start + len(token))
        return RuleSyntaxError(f"unexpected {met}", span, _help(accepts, token.type, span))
    start = first + (error.pos_in_stream or 0)
    span = source.span(start, start + 1)
    met = source.text[start : start + 1]
    if met == '"':
        return RuleSyntaxError("a text is not closed", span, "put a '\"' at its end, on the same line")
    accepts = set(getattr(error, "allowed", None) or ())
    if not met.isascii():
        help = "names are made of the letters A to Z, digits and '_'"
        return RuleSyntaxError(f"unexpected character '{met}', U+{ord(met):04X}", span, help)
    return RuleSyntaxError(f"unexpected character '{met}'", span, _help(accepts, met, span))


def _help(accepts: set[str], met: str, span: ast.Span) -> str:
    """The one line that says what would be right, from what is accepted and what was met."""
    before = span.text[: span.column - 1].split()
    first = (span.text.split() or [""])[0]
    ends = met in ("$END", "SEMICOLON", "ARROW")
    if "COLON" in accepts and first in CLAUSES and before == [first]:
        return "a clause continues the rule above it: indent this line"
    if "COLON" in accepts and len(before) > 1 and did_you_mean(before[-1], CLAUSES):
        return did_you_mean(before[-1], CLAUSES) or ""
    if {"COLON", "EQUALS"} <= accepts or "USE" in accepts:
        return _STATEMENT_HELP
    if "UNDERSCORE" in accepts and met == "COMMA":
        return "axes are separated by blanks: [n c h w]"
    if "RSQUARE" in accepts and ends:
        return "close the bracket with ']'"
    if "RPAREN" in accepts and (ends or met == "RSQUARE"):
        return "close the bracket with ')'"
    if first == "module":
        return "write 'module T: attribute = parameter[axis]'"
    if "NEXT" in accepts:
        return "write 'factor -> next.in' for a flow, or 'operand[n in] -> [n out]' for a signature"
    if accepts == {"LSQUARE"}:
        return "results are written in brackets: -> [n out]"
    if accepts == {"EQUALS"}:
        return "write 'factor = argument'"
    if "STRING" in accepts and "COMMA" in accepts:
        return 'give the reason in quotes: block factor "why"'
    if "ARROW" in accepts and "COMMA" in accepts:
        return "a signature is 'operand[axes], ... -> [axes]'"
    wanted = sorted({_WORDS[name] for name in accepts - {"_NEWLINE"}})
    return (
        f"expected {', '.join(wanted[:-1])} or {wanted[-1]}" if len(wanted) > 1 else f"expected {wanted[0]}"
    )
