"""Which comment lines belong to a rule."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from . import ast
from .lines import RuleText

_EXAMPLE = "#: example"


def commented(statements: Sequence[ast.Statement], source: RuleText) -> tuple[ast.Statement, ...]:
    """The statements, each rule with the comment and the examples that stand above it."""
    before = [None, *statements]
    return tuple(
        _with_comment(one, above, source) if isinstance(one, ast.Rule) else one
        for one, above in zip(statements, before, strict=False)
    )


def _with_comment(rule: ast.Rule, before: ast.Statement | None, source: RuleText) -> ast.Rule:
    """A rule with the comment lines above it, or above its targets if these come directly before."""
    lines = _above(rule, source)
    if not lines and isinstance(before, ast.Targets) and before.rule == rule.name:
        line_before = source.line_of(source.last_code(source.offset(rule.span)) - 1)
        if rule.span.line - line_before <= 1:
            lines = _above(before, source)
    examples = [line[len(_EXAMPLE) :].strip() for line in lines if line.startswith(_EXAMPLE)]
    comment = [line.lstrip("#").strip() for line in lines if not line.startswith("#:")]
    return evolve(rule, comment="\n".join(comment), examples=tuple(examples))


def _above(statement: ast.Rule | ast.Targets, source: RuleText) -> list[str]:
    """The comment lines directly above a statement, if it is the first one on its line."""
    is_first = source.is_first(source.offset(statement.span))
    return source.comments_above(statement.span.line) if is_first else []
