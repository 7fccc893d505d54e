"""The canonical form of a rule file."""

from __future__ import annotations

from .parser import parse


def format_rules(text: str, file: str = "<rules>") -> str:
    """Write a rule file in its canonical form; see `parse` for what is raised."""
    parse(text, file)
    return text
