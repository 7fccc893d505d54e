"""The commands for people who write rules: ``prunus rules fmt``, ``check``, ``explain``, ``new``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import PrunusError
from ..files import expect_writable, write_text
from ..grammar import format_rules
from ..grammar.limits import SIZE
from ..grammar.reading import decoded, read_exactly
from .later import later

SHIPPED = Path(__file__).parent.parent / "rules"


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
    add_import(lsp)
    lsp.set_defaults(run=run_lsp)


def add_check(subcommands: Any) -> None:
    command = subcommands.add_parser(
        "check", help="lint rules, then try each on the operations it speaks for: it runs what the rules name"
    )
    command.add_argument("files", nargs="*", metavar="FILE", help="default: the shipped rules")
    command.add_argument("--rule", action="append", metavar="NAME", help="only this one; may be repeated")
    command.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    add_import(command)
    command.set_defaults(run=later("check.run_check"))


def add_explain(subcommands: Any) -> None:
    command = subcommands.add_parser("explain", help="print a rule, where it is from, and its verdicts")
    command.add_argument("name", metavar="NAME", help="a rule's name, or a target: conv, torch.conv2d")
    command.add_argument(
        "--rules", action="append", metavar="FILE", help="rules to look in (default: default)"
    )
    add_import(command)
    command.set_defaults(run=later("check.run_explain"))


def add_new(subcommands: Any) -> None:
    command = subcommands.add_parser("new", help="write a rule to start from, for an operation or a module")
    command.add_argument(
        "call", metavar="CALL", help="a call to try, 'my.ops.gate(randn(3, 8), randn(4))', or just a name"
    )
    add_import(command)
    command.set_defaults(run=later("check.run_new"))


def add_import(command: Any) -> None:
    """Operators written in C++ have no Python name: only their package makes ``torch.ops.NAME`` known."""
    help = "a package to import first, for the operators that it registers; may be repeated"
    command.add_argument(
        "--import", action="append", default=[], dest="packages", metavar="PACKAGE", help=help
    )


def run_lsp(options: argparse.Namespace) -> None:
    """Serve an editor, which may know of the targets in no other modules than those asked for and torch."""
    try:
        from ..editor.server import serve  # needs an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise PrunusError("the language server needs pygls\nhelp: pip install 'prunus[editor]'") from error
    from .modules import import_all  # needs torch, which takes seconds

    import_all(options.packages)
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
    if name == "-":
        return decoded(sys.stdin.buffer.read(SIZE + 1), "standard input")
    return read_exactly(Path(name), name)
