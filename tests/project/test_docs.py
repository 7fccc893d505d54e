"""The pages in docs/: links lead somewhere, and what is generated is what would be generated now."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import prunus
import pytest
from prunus import engine
from prunus.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "write_a_rule.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "editor" / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

sys.path.append(str(DOCS))  # its scripts import each other by their bare names
import console  # noqa: E402
import generate  # noqa: E402
import reference  # noqa: E402


@pytest.fixture
def at_root(monkeypatch):
    """The repository's root is the current directory, and what the test makes importable goes again."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return monkeypatch


def anchors(page):
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every link to a file of the repository names one that exists, and a heading that it has."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for place, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        target = page.parent / place if place else page
        if "://" not in place and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(f"{place}#{anchor}")
    assert broken == []


def test_every_page_can_be_regenerated():
    """Each page with marks is one that the script knows, and every mark of it has its end."""
    known = {*generate.PAGES.values(), *generate.ASKED_FOR.values()}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        begun, ended = (re.findall(rf"<!-- {mark}: ([\w-]+) -->", text) for mark in ("begin", "end"))
        assert begun == ended
        assert not begun or page in known


@pytest.mark.parametrize("part", reference.PARTS)
def test_the_language_reference_is_up_to_date(part):
    """What is made of the grammar, the docstrings and the rule files stands on the page."""
    text = (DOCS / "language.md").read_text(encoding="utf-8")
    assert f"<!-- begin: {part} -->" in text
    assert generate.fill(text, part, reference.PARTS[part]()) == text, "run 'make docs'"


def test_the_verdicts_are_of_the_shipped_rules():
    """Every shipped rule is in the table of its file, and no other; the summary counts them."""
    text = (DOCS / "verdicts.md").read_text(encoding="utf-8")
    shown = set()
    for file, body in re.findall(r"^### (\S+)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        shown |= {(name, file) for name in re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)}
    shipped = {(rule.name, rule.span.file) for rule in reference.shipped_rules()}
    assert shown == shipped, "run 'make docs'"
    counts = re.search(r"\*\*(\d+) rules for .* (\d+) wrong; (\d+) rules failed\*\*", text)
    assert counts is not None
    assert [int(count) for count in counts.groups()] == [len(shipped), 0, 0]


@pytest.mark.parametrize("block", console.blocks(GUIDE), ids=lambda block: block.name)
def test_the_commands_of_the_guide_print_what_it_shows(block, at_root):
    """Each command, run in this process, prints what stands below it."""
    printed = [console.tidy(run(command, at_root)) for command in block.commands]
    assert "".join(printed).rstrip("\n") == block.output, "run 'make docs'"


def run(command, patch):
    """What a command prints; a shell of its own runs those that are not prunus."""
    if command.startswith("cd "):
        patch.chdir(command[3:])
        return ""
    if command.startswith("export PYTHONPATH="):
        patch.syspath_prepend(Path(command.partition("=")[2]).resolve())
        return ""
    if not command.startswith("prunus "):
        words = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
        return subprocess.run(["bash", "-c", words], stdout=subprocess.PIPE, text=True, check=True).stdout
    words, _, otherwise = command.partition(" || ")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main(shlex.split(words)[1:])
    assert (status != 0) == bool(otherwise)
    return printed.getvalue() + (f"exit status {status}\n" if otherwise else "")


def test_the_python_of_the_guide_runs(at_root):
    """The lines for Python prune the guide's first model."""
    at_root.chdir(ROOT / "examples" / "guide")
    at_root.syspath_prepend(".")
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    found = {}
    exec(code, found)
    assert len(found["result"].plan.groups["gated.h"]) == 24


def test_every_public_name_is_on_the_page_of_the_api():
    """And has a docstring to stand there."""
    listed = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {f"prunus.{name}" for name in prunus.__all__ if name not in ("engine", "__version__")}
    names |= {f"prunus.engine.{name}" for name in engine.__all__}
    assert len(listed) == len(set(listed)) and set(listed) == names
    objects = [getattr(engine if ".engine." in name else prunus, name.rpartition(".")[2]) for name in listed]
    assert all(one.__doc__ for one in objects)
