"""Regenerate what is generated in README.md and in docs/: output of commands, tables, listings.

Run it with the names of pages (``python docs/generate.py why language``), or without for all of them.
"""

from __future__ import annotations

import re
import sys

import accuracies
import reference
import verdicts
from console import ROOT, renewed

NAMES = ("big", "tour", "write_a_rule", "why", "limits")
PARTS = {"language": reference.PARTS, "verdicts": verdicts.PARTS, "accuracy": accuracies.PARTS}
PAGES = {
    "README": ROOT / "README.md",
    **{name: ROOT / "docs" / f"{name}.md" for name in (*NAMES, *PARTS)},
}


# Its commands need weights that are not installed for the others, and minutes: made anew when it is named.
ASKED_FOR = {"language_models": ROOT / "docs" / "language_models.md"}


def regenerated(name: str, text: str) -> str:
    """The page of that name, made anew from its `text`."""
    for part, content in PARTS.get(name, {}).items():
        text = fill(text, part, content())
    return renewed(text)


def fill(text: str, part: str, content: str) -> str:
    """The page with `content` between the marks ``<!-- begin: PART -->`` and ``<!-- end: PART -->``."""
    begin, end = f"<!-- begin: {part} -->\n", f"<!-- end: {part} -->"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return marked.sub(lambda _: f"{begin}{content}\n{end}", text)


def main(names: list[str]) -> None:
    for name in names or PAGES:
        path = {**PAGES, **ASKED_FOR}[name]
        path.write_text(regenerated(name, path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{path.relative_to(ROOT)} is up to date")


if __name__ == "__main__":
    main(sys.argv[1:])
