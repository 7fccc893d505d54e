"""The README shows real output of commands that exist."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from prunus.cli import parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = runpy.run_path(str(ROOT / "docs" / "console.py"))["blocks"](README)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_marked_block_is_read():
    """A marker with a typing error would silently freeze its block."""
    assert len(BLOCKS) == README.count("<!-- begin:") == README.count("<!-- end:") > 0


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_has_commands_and_their_output(block):
    """Every command parses, and something stands below."""
    assert block.commands
    assert block.output.strip()
    for command in block.commands:
        words = shlex.split(command)
        if words[0] == "prunus":
            words = words[: words.index("|")] if "|" in words else words
            parser().parse_args(words[1:])


def test_the_make_targets_of_the_readme_exist():
    """``make NAME`` in the README is a rule of the Makefile."""
    named = set(re.findall(r"make ([a-z]+)\b", README))
    assert {"demo", "test"} <= named <= TARGETS


def test_the_folders_of_the_layout_exist():
    """The layout table names real files and folders."""
    named = re.findall(r"^\| `([\w./]+)` \|", README, re.MULTILINE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
