"""The generated parts of docs/language.md: from the grammar, the docstrings and the rule files themselves."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from prunus import rules
from prunus.engine.coupling.verbs import VERBS
from prunus.grammar import ast, parse
from prunus.grammar.words import FACTORS, MEANINGS
from prunus.rules import examples

SHIPPED = sorted(Path(rules.__file__).parent.glob("*.rules"))
LARK = Path(rules.__file__).parent.parent / "grammar" / "rules.lark"


def clauses() -> str:
    """Every clause: as its class in the syntax tree writes it, and what its keyword means."""
    rows = []
    for kind in get_args(ast.Clause):
        form, meaning, more = documented(kind)
        meaning = MEANINGS.get(kind.__name__.lower(), meaning)
        rows.append((form, f"{plain(meaning)}. {more}".strip()))
    return table(("clause", "means"), rows)


def documented(kind: type) -> tuple[str, str, str]:
    """The form, the meaning and further remarks in a docstring "``form``: meaning."."""
    first, _, more = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    form, _, meaning = first.partition(": ")
    return markdown(form), markdown(meaning), " ".join(markdown(more).split())


def verbs() -> str:
    """Every verb: what it stands for, the factors it gives to clauses, the shipped rules that use it."""
    users: dict[str, list[str]] = defaultdict(list)
    for rule in shipped_rules():
        if isinstance(rule.body, ast.Relation):
            users[rule.body.verb].append(rule.name)
    rows = []
    for name, verb in VERBS.items():
        summary = inspect.cleandoc(verb.__doc__ or "").partition("\n\n")[0]
        factors = FACTORS[name]
        given = "those of the equation" if factors is None else listed(factors)
        rows.append((f"`{name}`", plain(markdown(summary)), given, listed(users[name])))
    return table(("verb", "what it does", "its factors", "shipped rules"), rows)


def example_lines() -> str:
    """What an ``#: example`` line may say: the docstring of the module that reads them."""
    return markdown(inspect.cleandoc(examples.__doc__ or "").partition("\n\n")[2].replace("::\n", ":\n"))


def grammar() -> str:
    """The productions, with every literal in its place."""
    text = LARK.read_text(encoding="utf-8")
    literals = dict(re.findall(r'^(_?[A-Z]+): (".*")$', text, re.MULTILINE))
    patterns = re.findall(r"^(_?[A-Z]+): (/.*/)$", text, re.MULTILINE)
    productions = re.findall(r"^_?[a-z]+: .*$", text, re.MULTILINE)
    written = re.compile(r"\b_?[A-Z]+\b")
    lines = [written.sub(lambda found: literals.get(found[0], found[0]), one) for one in productions]
    return fenced("\n".join([*lines, *(f"{name}: {pattern}" for name, pattern in patterns)]))


def listings() -> str:
    """The shipped rules as they stand in their files, without the example calls."""
    return "\n\n".join(listing(path) for path in SHIPPED)


def listing(path: Path) -> str:
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#:")]
    return f"### {path.name}\n\n{fenced(chr(10).join(kept).strip())}"


def shipped_rules() -> Iterator[ast.Rule]:
    """Every rule that prunus ships, in order."""
    for path in SHIPPED:
        statements = parse(path.read_text(encoding="utf-8"), path.name).statements
        yield from (one for one in statements if isinstance(one, ast.Rule))


def markdown(text: str) -> str:
    """A docstring's text as Markdown."""
    return text.replace("``", "`")


def plain(sentence: str) -> str:
    return sentence.strip().rstrip(".")


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def fenced(text: str) -> str:
    return f"```\n{text}\n```"


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PARTS: dict[str, Callable[[], str]] = {
    "clauses": clauses,
    "verbs": verbs,
    "examples": example_lines,
    "grammar": grammar,
    "shipped": listings,
}
