"""What may be written at a place of a rule text."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterable
from types import ModuleType

from ..grammar.lines import settle
from ..grammar.words import CLAUSES, VERBS
from ..rules import load
from ..rules.arguments import argument_names
from ..rules.targets import MissingTarget, importing, locate, resolve
from .cursor import Cursor, cursor, lines_of

# What is completed, in the words of the language server protocol.
TARGET, MODULE, ARGUMENT, FACTOR = "Function", "Module", "Field", "Variable"
VERB, KEYWORD, RULE = "Operator", "Keyword", "Class"


def complete(text: str, line: int, column: int) -> list[tuple[str, str]]:
    """Names that may stand at this place, each with its kind; lines and columns count from 0.

    Nothing is imported: what is not has no names that are known.
    """
    with importing(False):
        return _complete(cursor(text, line, column), text)


def _complete(place: Cursor, text: str) -> list[tuple[str, str]]:
    dotted = re.search(r"(?<![\w.])[\w.]*$", place.before)
    if place.kind == "targets" or re.match(r"\s*module\s+[\w.]*$", place.before):
        return _targets(dotted[0] if dotted else "")
    if place.kind is None:
        return [*_as(KEYWORD, ("module", "use")), *_as(RULE, _awaited("\n".join(lines_of(text))))]
    return _in_rule(place, text) if place.kind == "rule" else []


def _in_rule(place: Cursor, text: str) -> list[tuple[str, str]]:
    factors = _as(FACTOR, place.factors())
    clause = re.match(r"\s*(\w+)\s", place.before)
    keyword = clause[1] if clause and clause[1] in CLAUSES else None
    if place.in_brackets:
        return factors
    if keyword in ("where", "at"):
        is_argument = "=" in place.before.rpartition(",")[2]
        return _as(ARGUMENT, _arguments(place.name, text)) if is_argument else factors
    if keyword == "scales" and " unless " in place.before:
        return _as(ARGUMENT, _arguments(place.name, text))
    if keyword:
        of_operands = keyword in ("zero", "multilinear", "scales") and " by " not in place.before
        return _as(ARGUMENT, place.operands()) if of_operands else factors
    if re.search(r"->\s*[\w.]*$", place.before):
        return [("next.in", KEYWORD)]
    if not place.is_first:
        return [*_as(KEYWORD, CLAUSES), *factors]
    arguments = _as(ARGUMENT, _arguments(place.name, text))
    if re.search(r"[^\s\w]", place.before):
        return arguments
    return [*arguments, *_as(VERB, sorted(VERBS)), *_as(KEYWORD, ("in <-> out", *CLAUSES))]


def _as(kind: str, names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, kind) for name in names]


def _targets(prefix: str) -> list[tuple[str, str]]:
    """What the dotted name before the last dot has; packages if there is no dot yet."""
    owner, dot, _ = prefix.rpartition(".")
    if not dot:
        return _as(MODULE, sorted(module.name for module in pkgutil.iter_modules() if module.name[0] != "_"))
    try:
        found = locate(owner)
    except MissingTarget:
        return []
    paths = getattr(found, "__path__", ()) if isinstance(found, ModuleType) else ()
    modules = {module.name for module in pkgutil.iter_modules(list(paths))}
    names = [name for name in sorted({*dir(found), *modules}) if not name.startswith("__")]
    kinds = [(name, _kind(found, name, modules)) for name in names]
    return [(name, kind) for name, kind in kinds if kind]


def _kind(owner: object, name: str, modules: set[str]) -> str | None:
    """A target, a module or, for what can be neither, None; nothing is imported or computed to tell."""
    found = inspect.getattr_static(owner, name, None)
    if name in modules or inspect.ismodule(found):
        return MODULE
    return TARGET if callable(found) or hasattr(found, "__get__") else None


def _awaited(text: str) -> list[str]:
    """The names of rules that have targets and are not written yet."""
    statements = [statement for line in settle(text).split("\n") for statement in line.split(";")]
    named = [found[1] for found in map(re.compile(r"\s*(\w+)\s*=").match, statements) if found]
    written = {found[1] for found in map(re.compile(r"\s*(\w+)\s*:").match, statements) if found}
    return [name for name in dict.fromkeys(named) if name not in written]


def _arguments(rule: str, text: str) -> list[str]:
    """The arguments that every known target of a rule has, else those of any."""
    known = [names for target in targets_of(rule, text) if (names := argument_names(target)) is not None]
    common = [name for name in known[0] if all(name in names for names in known)] if known else []
    return common or list(dict.fromkeys(name for names in known for name in names))


def targets_of(rule: str, text: str) -> list:
    """The callables for which the text says that a rule speaks, else those of the shipped rule."""
    listed = re.findall(rf"(?:^|[;\n])\s*{re.escape(rule)}\s*=([^;\n]*)", settle(text))
    found = []
    for name in (name.strip() for names in listed for name in names.split(",")):
        try:
            found.append(resolve(name))
        except (MissingTarget, ValueError):
            continue
    shipped = load()
    return found or ([*shipped.targets_of(shipped.rules[rule]).values()] if rule in shipped.rules else [])
