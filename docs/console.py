"""Console blocks of a page: the commands that it shows, with what they print below them.

Between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->`` stands one console block. Its lines that start
with ``$ `` are commands; all of them run in one shell, in the repository's root, with the programs of this
Python's environment first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"<!-- begin: (?P<name>[\w-]+) -->\n```console\n(?P<body>.*?)```\n<!-- end: (?P=name) -->", re.DOTALL
)
MARK = "---- next command ----"


@frozen
class Block:
    """One console block: its name, its commands, and the output that stands below them now."""

    name: str
    commands: tuple[str, ...]
    output: str


def blocks(text: str) -> list[Block]:
    """The console blocks of a page, in order."""
    return [read(match) for match in BLOCK.finditer(text)]


def read(match: re.Match[str]) -> Block:
    lines = match["body"].splitlines()
    commands = tuple(line[2:] for line in lines if line.startswith("$ "))
    return Block(match["name"], commands, "\n".join(line for line in lines if not line.startswith("$ ")))


def renewed(text: str) -> str:
    """The page with fresh output below each of its commands."""
    return BLOCK.sub(rewrite, text)


def rewrite(match: re.Match[str]) -> str:
    """The same block with fresh output below each of its commands."""
    block = read(match)
    outputs = run(block.commands)
    shown = "".join(f"$ {command}\n{output}" for command, output in zip(block.commands, outputs, strict=True))
    return f"<!-- begin: {block.name} -->\n```console\n{shown}```\n<!-- end: {block.name} -->"


def run(commands: tuple[str, ...]) -> list[str]:
    """What each command prints; the first that fails ends the whole, and the page stays as it was."""
    script = "set -eo pipefail\n" + f"\necho '{MARK}'\n".join(commands)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"{'; '.join(commands)}\nended with status {done.returncode}:\n{done.stdout}")
    return [tidy(output) for output in done.stdout.split(f"{MARK}\n")]


def tidy(output: str) -> str:
    """The text without blank lines around it, trailing blanks, and the place where the checkout lies."""
    for place in (str(ROOT), "/".join(ROOT.parts[-2:])):
        output = output.replace(f"{place}/", "")
    text = "\n".join(line.rstrip() for line in output.splitlines()).strip("\n")
    return f"{text}\n" if text else ""
