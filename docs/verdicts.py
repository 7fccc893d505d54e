"""The generated parts of docs/verdicts.md: what ``prunus rules check`` finds of the shipped rules."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from prunus.engine.proving.verdict import EXACT, HELD, MIXES, SUMS
from reference import listed, table

KINDS = (EXACT, SUMS, MIXES, HELD)


@functools.cache
def tried() -> dict[str, Any]:
    """The result of a check of all shipped rules, which takes half a minute."""
    program = Path(sys.executable).with_name("prunus")
    done = subprocess.run([program, "rules", "check", "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("the shipped rules do not pass 'prunus rules check'")
    return json.loads(done.stdout)


def summary() -> str:
    return f"**{tried()['summary']}**"


def verdicts() -> str:
    """One table for each rule file, one row for each rule."""
    titles = ("rule", "operations", "calls tried", *KINDS)
    by_file = groupby(tried()["rules"], key=file_of)
    return "\n\n".join(f"### {file}\n\n{table(titles, map(row, rules))}" for file, rules in by_file)


def file_of(rule: dict[str, Any]) -> str:
    return rule["at"].rpartition(":")[0]


def row(rule: dict[str, Any]) -> list[str]:
    factors = (listed(name for name, kind in rule["verdicts"].items() if kind == one) for one in KINDS)
    return [f"`{rule['rule']}`", str(len(rule["targets"])), str(rule["calls"]), *factors]


def notes() -> str:
    return "\n".join(f"- `{rule['rule']}`: {note}" for rule in tried()["rules"] for note in rule["notes"])


PARTS: dict[str, Callable[[], str]] = {"summary": summary, "verdicts": verdicts, "notes": notes}
