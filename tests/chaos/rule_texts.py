"""Rule texts that a hand or a mutation has spoilt: read, laid out, loaded, linted and shown in an editor.

Each is understood, or refused with one short `RuleSyntaxError` or `RuleError`, within bounded time.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import prunus
from prunus.editor.complete import complete
from prunus.editor.hover import definition, hover
from prunus.errors import RuleError, RuleFileError, RuleSyntaxError
from prunus.grammar import format_rules, parse
from prunus.grammar.limits import SIZE
from prunus.grammar.words import CLAUSES, VERBS
from prunus.rules import load
from prunus.rules.lint import lint

from .tally import Tally

_SECONDS = 10.0  # of processor time, for a text of a few lines
_LONGEST = 2000  # characters of a message

_TOKEN = re.compile(r'#[^\n]*|"[^"\n]*"|[A-Za-z_]\w*|\d+|->|<->|\.\.\.|\*\*|\s+|.', re.DOTALL)
_FOLDER = Path(prunus.__file__).parent
_FILES = [*sorted((_FOLDER / "rules").glob("*.rules")), *sorted((_FOLDER / "examples").rglob("*.rules"))]
_STATEMENTS = [
    statement
    for file in _FILES
    for statement in re.split(r"\n(?=[A-Za-z])", file.read_text(encoding="utf-8"))
    if "torch." in statement or "=" not in statement.partition(":")[0]  # nothing else is imported
]

_WORDS = [
    *CLAUSES,
    *sorted(VERBS),
    "module",
    "use",
    "by",
    "next",
    "in",
    "out",
    "of",
    "unless",
    "default",
    "self",
]
_MARKS = [
    "[",
    "]",
    "(",
    ")",
    "->",
    "<->",
    "...",
    "**",
    "*",
    "+",
    ",",
    ";",
    ":",
    "=",
    "?",
    "_",
    ".",
    "-",
    '"',
    "#",
]
_ODD = [
    *(
        "\r",
        "\r\n",
        "\n",
        "\n\n",
        "\n  ",
        "\t",
        "\f",
        "\v",
        "\0",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\xa0",
        "\ufeff",
    ),
    *("\u2028", "\u202e", "\u200b", "\u0430", "\uff41", "\u0660", "\xb2", "e\u0301", "\U0001d11e", "\ud800"),
    *("\\", "$", "@", "%", "{}", "'", "`", "//", "\u2192"),
]
_NUMBERS = ["0", "-1", "00", "1", "9" * 18, "9" * 19, "9" * 5000, "1.5", "1e5", "1e999", "-0.5", "0x1", "1_0"]
_USES = ['use "."', "use ..", 'use ""', 'use "/dev/zero"', 'use "~"', f'use "{"a" * 3000}"', 'use "a\\b"']


def run(seed: int, count: int) -> list[Tally]:
    """One tally for each thing that is done with a text."""
    random = Random(seed)
    tallies = {name: Tally(f"rule texts: {name}") for name in ("parse", "format", "load", "lint", "editor")}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            text = _text(random)
            for name, what in _tries(text, Path(folder) / f"{number}.rules", random).items():
                fault = _fault(what)
                tallies[name].count(None if fault is None else f"{fault}, of {_shown(text)}")
    return list(tallies.values())


def _tries(text: str, path: Path, random: Random) -> dict[str, Callable[[], object]]:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    places = [_place(text, random) for _ in range(3)]
    return {
        "parse": partial(parse, text, str(path)),
        "format": partial(_format, text),
        "load": partial(load, path),
        "lint": partial(lint, path),
        "editor": partial(_edit, text, path, places),
    }


def _fault(what: Callable[[], object]) -> str | None:
    """What is wrong with a try, if anything is."""
    start = process_time()
    try:
        what()
    except RuleFileError as error:
        if type(error) not in (RuleSyntaxError, RuleError):
            return f"a bare {type(error).__name__}"
        if len(str(error)) > _LONGEST:
            return f"a message of {len(str(error))} characters"
        if type(error) is RuleSyntaxError and error.span is None:
            return "a syntax error without a place"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = process_time() - start
    return f"{seconds:.0f} seconds" if seconds > _SECONDS else None


def _format(text: str) -> None:
    """The layout is its own layout, and has the same statements."""
    formatted = format_rules(text)
    assert format_rules(formatted) == formatted, "another layout the second time"
    assert _statements(formatted) == _statements(text), "other statements"
    for comment in re.findall(r"<\d+>", text):
        assert comment in formatted, f"the comment {comment} is gone"


def _statements(text: str) -> Any:
    return parse(text, fail=None).statements


def _edit(text: str, path: Path, places: list[tuple[int, int]]) -> None:
    """What an editor asks, anywhere in the text or beyond it; the lints of the text as it is there."""
    for place in places:
        complete(text, *place)
        hover(text, path, *place)
        definition(text, path, *place)
    for finding in lint(path, text):
        assert len(str(finding)) <= _LONGEST, f"a finding of {len(str(finding))} characters"


def _place(text: str, random: Random) -> tuple[int, int]:
    lines = text.split("\n")
    line = random.randrange(len(lines) + 1)
    return line, random.randrange(len(lines[line]) + 2) if line < len(lines) else 0


def _shown(text: str) -> str:
    return ascii(text) if len(text) < 400 else f"{text[:400]!a}... ({len(text)} characters)"


# --- texts -------------------------------------------------------------------------------------------------


def _text(random: Random) -> str:
    """A few shipped statements with a few mutations."""
    start = random.randrange(len(_STATEMENTS))
    text = "\n".join(_STATEMENTS[start : start + random.randint(1, 4)]) + "\n"
    tokens = _TOKEN.findall(text)
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        random.choices(_MUTATIONS, _WEIGHTS)[0](tokens, random)
    return "".join(tokens)[: 4 * SIZE]


def _at(tokens: list[str], random: Random) -> int:
    return random.randrange(len(tokens)) if tokens else 0


def _delete(tokens: list[str], random: Random) -> None:
    at = _at(tokens, random)
    del tokens[at : at + random.choice((1, 1, 2, 9))]


def _double(tokens: list[str], random: Random) -> None:
    at = _at(tokens, random)
    tokens[at:at] = tokens[at : at + random.choice((1, 2, 7, 30))]


def _swap(tokens: list[str], random: Random) -> None:
    if tokens:
        one, other = _at(tokens, random), _at(tokens, random)
        tokens[one], tokens[other] = tokens[other], tokens[one]


def _insert(tokens: list[str], random: Random) -> None:
    pool = random.choice((_WORDS, _MARKS, _MARKS, _ODD, _NUMBERS))
    tokens.insert(_at(tokens, random), random.choice(pool))


def _pad(tokens: list[str], random: Random) -> None:
    """Blanks around a token: nothing may change but the layout."""
    at = _at(tokens, random)
    tokens[at:at] = [random.choice((" ", "  ", "\t", "\n    ", f"  # <{random.randrange(1000)}>\n    "))]


def _nest(tokens: list[str], random: Random) -> None:
    at = _at(tokens, random)
    depth = random.choice((1, 2, 15, 25, 600, 3000))
    inside = tokens[at] if tokens else "c"
    tokens[at : at + 1] = ["(2 " * depth + inside + ")" * (depth if random.random() < 0.7 else depth - 1)]


def _repeat(tokens: list[str], random: Random) -> None:
    """One token very often, side by side or as a list."""
    if tokens:
        at = _at(tokens, random)
        glue = random.choice(("", " ", ", ", ".", ",\n    ", "\n", " + ", ";"))
        tokens[at] = glue.join([tokens[at]] * random.choice((10, 100, 1000, 3000)))


def _lengthen(tokens: list[str], random: Random) -> None:
    at = _at(tokens, random)
    tokens[at:at] = [random.choice('a9( #"\n;\r\u0430') * random.choice((300, 9000, 200_000))]


def _use(tokens: list[str], random: Random) -> None:
    tokens[:0] = [random.choice(_USES), random.choice(("\n", "; "))]


def _cut(tokens: list[str], random: Random) -> None:
    del tokens[_at(tokens, random) :]


def _other_line_ends(tokens: list[str], random: Random) -> None:
    end = random.choice(("\r\n", "\r", "\n\n"))
    tokens[:] = [token.replace("\n", end) for token in tokens]


_MUTATIONS = (_delete, _double, _swap, _insert, _pad, _nest, _repeat, _lengthen, _use, _cut, _other_line_ends)
_WEIGHTS = (8, 6, 8, 12, 8, 2, 2, 0.7, 1, 1, 1)
