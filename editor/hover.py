"""What stands at a place of a rule text, explained; and where it is written."""

from __future__ import annotations

import inspect
from pathlib import Path

from ..engine.coupling.verbs import VERBS
from ..errors import PrunusError
from ..grammar import format_statement, write
from ..grammar.ast import ModuleRule, Rule, RuleFile, Signature
from ..grammar.validate import mentioned, names_in
from ..grammar.words import MEANINGS
from ..rules import RuleSet, draft, load
from ..rules.describe import describe, find_rule
from ..rules.targets import MissingTarget, importing, resolve
from .complete import targets_of
from .cursor import Cursor, cursor, lines_of, word_at


def hover(text: str, path: str | Path, line: int, column: int) -> tuple[str, int, int] | None:
    """What is known of the word at a place, and from which to which column it stands; all count from 0.

    A rule or target gives its rule as `describe` does, a verb its documentation, a clause its meaning, a
    factor or operand where the rule has it. Nothing is imported.
    """
    found = word_at(text, line, column)
    if found is None:
        return None
    word, start, end = found
    place = cursor(text, line, end)
    with importing(False):
        told = None if place.kind == "comment" else _told(word, text, path, line, end, place)
    return (told, start, end) if told else None


def definition(text: str, path: str | Path, line: int, column: int) -> tuple[Path, int] | None:
    """The file and the line, from 0, of the rule whose name or target stands at a place."""
    found = word_at(text, line, column)
    if found is None:
        return None
    with importing(False):
        _, rules = understood(text, path)
        try:
            span = find_rule(rules, found[0]).span
        except PrunusError:
            return None
    file = Path(span.file)  # the shipped ones go by their names
    return (file if file.is_absolute() else Path(__file__).parent.parent / "rules" / file), span.line - 1


def understood(text: str, path: str | Path) -> tuple[RuleFile | None, RuleSet]:
    """The text as a file, and the rules with it; without it where it cannot be parsed."""
    try:
        return draft(text, path, lambda _: None)
    except PrunusError:
        return None, load()


def _told(word: str, text: str, path: str | Path, line: int, end: int, place: Cursor) -> str | None:
    file, rules = understood(text, path)
    before = place.before[: len(place.before) - len(word)].strip()
    after = lines_of(text)[line][end:].lstrip()
    if place.kind in ("targets", "module", None) or (not before and after[:1] in (":", "=")):
        return None if before == "use" or word in ("module", "use") else _described(rules, word)
    if not before and word in MEANINGS:
        return f"`{word}`: {MEANINGS[word]}"
    if not before and place.is_first and word in VERBS:
        return inspect.getdoc(VERBS[word])
    if _is_argument(before, after, place):
        targets = ", ".join(getattr(one, "__name__", str(one)) for one in targets_of(place.name, text))
        return f"`{word}`: an argument of {targets}" if targets else None
    return _factor(word, _rule_at(file, place.name, line))


def _described(rules: RuleSet, name: str) -> str | None:
    try:
        told = describe(rules, name)
    except PrunusError as error:
        module = _module_rule(rules, name)
        if module is None:
            return str(error)
        told = f"{format_statement(module)}\n{module.span}"
    return f"```prunus-rules\n{told}\n```"


def _module_rule(rules: RuleSet, name: str) -> ModuleRule | None:
    """The ``module`` rule of a class that has no rule of another kind."""
    try:
        found = resolve(name)
    except MissingTarget:
        return None
    return rules.bookkeeping(found) if isinstance(found, type) else None


def _is_argument(before: str, after: str, place: Cursor) -> bool:
    """Whether a word names an operand, or an argument: behind ``where g =``, or in ``zero``."""
    keyword = before.split(" ", 1)[0]
    if keyword in ("where", "at"):
        return "=" in before.rpartition(",")[2]
    return keyword == "zero" or (not place.in_brackets and after.startswith(("[", "...")))


def _rule_at(file: RuleFile | None, name: str, line: int) -> Rule | None:
    """The last rule of that name that begins at or above a line."""
    rules = [one for one in file.statements if isinstance(one, Rule) and one.name == name] if file else []
    return next((rule for rule in reversed(rules) if rule.span.line - 1 <= line), None)


def _factor(name: str, rule: Rule | None) -> str | None:
    """Where a rule has a factor."""
    if rule is None:
        return None
    body = rule.body
    operands = body.inputs + body.outputs if isinstance(body, Signature) else ()
    held_by = [one for one in operands if any(name in names_in(dim) for dim in one.dims)]
    places = [write.operand(one) if one.name else f"the result {write.operand(one)}" for one in held_by]
    clauses = [write.clause(one) for one in rule.clauses if name in mentioned(one)]
    listed = "\n".join(f"- `{place}`" for place in [*places, *clauses])
    return f"`{name}`: one layout, the same wherever it stands in {rule.name}\n{listed}" if listed else None
