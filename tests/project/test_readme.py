"""The README and the tour show real output of commands that exist."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from prunus.cli import parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README": README, "tour": (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")}
blocks = runpy.run_path(str(ROOT / "docs" / "console.py"))["blocks"]
BLOCKS = {f"{page}-{block.name}": block for page, text in PAGES.items() for block in blocks(text)}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_readme_is_short():
    """Whoever opens it reads it."""
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES)
def test_every_marked_block_is_read(page):
    """A marker with a typing error would silently freeze its block."""
    text = PAGES[page]
    assert len(blocks(text)) == text.count("<!-- begin:") == text.count("<!-- end:") > 0


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_has_commands_and_their_output(block):
    """Every command parses, and something stands below."""
    assert block.commands
    assert block.output.strip()
    for command in block.commands:
        words = shlex.split(command)
        if words[0] == "prunus":
            words = words[: words.index("|")] if "|" in words else words
            parser().parse_args(words[1:])


def test_the_readme_shows_its_example_as_it_is():
    """The first lines of Python are those that run below them."""
    (code, *_) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert (ROOT / "examples" / "start.py").read_text(encoding="utf-8").endswith(code)


@pytest.mark.parametrize("page", PAGES)
def test_the_make_targets_exist(page):
    """``make NAME`` on the page is a rule of the Makefile."""
    named = set(re.findall(r"make ([a-z]+)\b", PAGES[page]))
    assert named <= TARGETS
    assert page != "README" or {"demo", "test"} <= named
