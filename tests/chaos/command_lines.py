"""Command lines that nobody should type: never a traceback, and a status that says how it ended."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

from prunus.cli import main
from residual_net import SOURCE

from .tally import Tally

_LONGEST = 6000  # characters on standard error
_STATUSES = (0, 1, 2, 130)

_MODULE = (
    SOURCE
    + """
def exits(): sys.exit(1)
def fails(): raise ValueError("no\\x1b[31m\\nwords " * 2000)
def stops(): raise KeyboardInterrupt
def nothing(): pass
"""
)
_RULES = "use default\nmine = torch.relu6\nmine: in <-> out\n"
_MODELS = [
    *["chaos_nets:Net"] * 12,
    *("chaos_nets:exits", "chaos_nets:fails", "chaos_nets:stops", "chaos_nets:nothing", "chaos_nets:Nett"),
    *(
        "chaos_nets",
        "chaos_nets:",
        ":Net",
        "::",
        "",
        "-",
        "--",
        "chaos nets:Net",
        "chaos_nets.Net:Net",
        "sys:exit",
    ),
    *(
        "timm:",
        "timm:resnet",
        "torchvision:x" * 500,
        "os:getcwd",
        "chaos_nets:Net.forward",
        "\udc80:Net",
        "a\0b:c",
    ),
]
_SHAPES = [
    *["1x3x8x8"] * 12,
    *(
        "",
        "x",
        "1x3x8",
        "ints:1x3x8x8",
        "0x3x8x8",
        "-1x3",
        "1e12",
        "9" * 30,
        "1000000x1000000",
        "1x" * 500 + "1",
    ),
    *("nan", "1x3x8x8x", "ints:", "floats:1", "1x3x8x\u0668"),
]
_RULE_FILES = ["default", "good.rules", "bad.rules", "absent.rules", ".", "/dev/zero", "", "a\0b", "r" * 5000]
_NAMES = [
    "stem",
    "conv",
    "head.weight[1]",
    "stem.weight[9]",
    "conv.bias[",
    "",
    "*",
    "no.such",
    "x" * 5000,
    "\udc80",
]
_NUMBERS = [
    "0.5",
    "0",
    "1",
    "-1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e-300",
    "1e400",
    "9" * 5000,
    "half",
    "",
    "0x1",
]
_CALLS = [
    "torch.relu(randn(2, 3))",
    "torch.relu",
    "torch.relu(",
    "exit()",
    "",
    "randn(2)[0]",
    "no.such(1)",
    "(" * 500,
]
_OPTIONS = {
    "--ratio": _NUMBERS,
    "--params": _NUMBERS,
    "--macs": _NUMBERS,
    "--scope": ["local", "global", "isomorphic", "galactic", ""],
    "--criterion": ["magnitude", "l1", "random", "taylor", "beauty", ""],
    "--skip": ["stem", "out", "nothing", ""],
    "--only": ["stem", "out", "nothing", ""],
    "--prefer": ["outer", "inner", "middle"],
    "--round-to": ["1", "4", "0", "-8", "1000000", "9" * 400, "two"],
    "--min-keep": _NUMBERS,
    "--plan": ["plan.json", "absent/plan.json", ".", "", "/dev/full", "a\0b", "n" * 5000],
}
_FLAGS = [
    "--dry-run",
    "--json",
    "--force",
    "--help",
    "--version",
    "--",
    "-x",
    "--no-such",
    "--json=1",
    "--rat",
    "@f",
]


def run(seed: int, count: int) -> list[Tally]:
    """One tally for all: each try is one command line in this process, in a folder of its own."""
    random = Random(seed)
    tally = Tally("command lines")
    for _ in range(count):
        words = _words(random)
        with _folder():
            fault = _fault(words)
        tally.count(None if fault is None else f"{fault}: {[ascii(word)[:80] for word in words]}")
    return [tally]


@contextmanager
def _folder() -> Iterator[None]:
    """A folder with a module and rule files, the current one; what the process had is given back."""
    here, path, modules = os.getcwd(), list(sys.path), set(sys.modules)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("chaos_nets.py").write_text(_MODULE)
        Path("good.rules").write_text(_RULES)
        Path("bad.rules").write_text("mine: x[\x1b" + "(" * 5000)
        try:
            yield
        finally:
            os.chdir(here)
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                if name == "chaos_nets":
                    del sys.modules[name]


def _fault(words: list[str]) -> str | None:
    """What is wrong with how a command line ends, if anything is."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b"a:roll"))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main(words)
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        sys.stdin = before
    said = err.getvalue()
    if status not in _STATUSES:
        return f"status {status}"
    if "Traceback" in said or len(said) > _LONGEST or "\x1b" in said:
        return f"{len(said)} characters on standard error: {said[:200]!r}"
    if status == 2 and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
        return f"no error, or several: {said[-300:]!r}"
    if "PRUNUS_TRACEBACK" in said:  # an error that nobody foresaw
        return said[:400]
    if status in (0, 2) and "--json" in words and words[0] in ("prune", "groups", "why"):
        return _json_fault(out.getvalue(), words)
    return None


def _json_fault(out: str, words: list[str]) -> str | None:
    if any(word in ("--help", "-h", "--version") for word in words) and not out.startswith("{"):
        return None
    try:
        json.loads(out)
    except ValueError as error:
        return f"no JSON ({error}): {out[:200]!r}"
    return None


# --- command lines -----------------------------------------------------------------------------------------


def _words(random: Random) -> list[str]:
    pick = random.choice
    kind = random.random()
    if kind < 0.75:
        words = [pick(("prune", "prune", "groups", "why", "report")), pick(_MODELS)]
        words += [pick(_NAMES)] * (words[0] == "why")
        words += [word for _ in range(pick((1, 1, 1, 0, 2))) for word in ("--input", pick(_SHAPES))]
        for option in random.sample(list(_OPTIONS), pick((0, 0, 1, 1, 2))) if words[0] == "prune" else ():
            words += pick(([option, pick(_OPTIONS[option])], [f"{option}={pick(_OPTIONS[option])}"]))
        words += ["--rules", pick(_RULE_FILES)] * (random.random() < 0.2)
    elif kind < 0.95:
        words = ["rules", *pick(_rules_commands(random))]
    else:
        words = [
            pick(("", "prun", "PRUNE", "--help", "--version", "-h", "rules", "\udc80", "x" * 5000, "--json"))
        ]
    words += [pick(_FLAGS)] * (random.random() < 0.3)
    if random.random() < 0.15 and len(words) > 1:
        random.shuffle(words)
    return words


def _rules_commands(random: Random) -> list[list[str]]:
    """No ``lsp``, which waits for an editor; each with a file, as without it is about the shipped ones."""
    file, name = random.choice(_RULE_FILES[1:]), random.choice(_NAMES)
    return [
        ["fmt", file],
        ["fmt", "-"],
        ["fmt", "--check", file, "good.rules"],
        ["check", file],
        ["check", "good.rules", "--rule", name],
        ["check", "good.rules", "--import", name],
        ["explain", random.choice(("relu", "softmax", "torch.roll", name)), "--rules", file],
        ["new", random.choice(_CALLS)],
    ]
