"""The commands for people who write rules: ``prunus rules fmt``, ``check``, ``explain``, ``new``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .cli_check import add_check, add_explain, add_new
from .errors import PrunusError
from .files import expect_writable, write_text
from .grammar import format_rules

SHIPPED = Path(__file__).parent / "rules"


def add_commands(commands: Any) -> None:
    """Add ``prunus rules ...``; a command's function returns its exit status, or None for 0."""
    rules = commands.add_parser("rules", help="format, check and explain .rules files")
    subcommands = rules.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    add_check(subcommands)
    add_explain(subcommands)
    add_fmt(subcommands)
    add_new(subcommands)
    add_lsp(subcommands)


def add_fmt(subcommands: Any) -> None:
    fmt = subcommands.add_parser("fmt", help="bring .rules files into their canonical form")
    fmt.add_argument("files", nargs="*", metavar="FILE", help="- is standard input (default: shipped rules)")
    fmt.add_argument("--check", action="store_true", help="only name what would change, and exit 1")
    fmt.set_defaults(run=run_fmt)


def add_lsp(subcommands: Any) -> None:
    lsp = subcommands.add_parser("lsp", help="the language server that editors start; see editor/README.md")
    lsp.set_defaults(run=run_lsp)


def run_lsp(options: argparse.Namespace) -> None:
    try:
        from .editor.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise PrunusError("the language server needs pygls\nhelp: pip install 'prunus[editor]'") from error
    serve()


def run_fmt(options: argparse.Namespace) -> int:
    """Rewrite each file that is not in its canonical form; nothing is touched if one is not possible."""
    names = options.files or [str(path) for path in shipped_files()]
    texts = {name: read(name) for name in names}
    formatted = {name: format_rules(text, name) for name, text in texts.items()}
    changed = [name for name in formatted if formatted[name] != texts[name]]
    if options.check:
        print("".join(f"{name}\n" for name in changed), end="")
        return int(bool(changed))
    if "-" in formatted:
        print(formatted.pop("-"), end="")
    changed = [name for name in changed if name in formatted]
    for name in changed:
        expect_writable(name)
    for name in changed:
        write_text(name, formatted[name])
    return 0


def shipped_files() -> list[Path]:
    return sorted(SHIPPED.glob("*.rules"))


def read(name: str) -> str:
    """The text of a file, or of standard input for ``-``, with the line ends that it has."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PrunusError(f"cannot read {name}: {reason}") from error
