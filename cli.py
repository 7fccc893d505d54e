# PYTHON_ARGCOMPLETE_OK: shells that complete for every program look for this.
"""The command line: ``prunus prune``, ``groups``, ``why``, ``report``, ``demo`` and ``rules``.

Whatever the user got wrong, or the user's code raises, ends as one line ``error: ...`` on standard error and
exit status 2; an interrupt as one line and status 130. Torch is imported by the commands that need it, which
takes seconds: help, completion and an interrupt do not wait for it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from . import __version__, cli_output
from .errors import PrunusError

MODEL_HELP = "package.module:factory, timm:NAME or torchvision:NAME"
INPUT_HELP = "shape of an example input, 1x3x224x224, or ints:2x16 for tokens; once for each argument"
BUDGETS = {"params": "the parameters", "macs": "the multiply-accumulates", "latency": "the measured time"}
RULES_HELP = (
    "a rule set's name or a .rules file; may be repeated, later ones win (default: default). "
    "The modules that a file names as targets are imported: use only files that you trust"
)
JSON_HELP = "print one JSON object instead, see below"
GROUPS_JSON = """\
With --json: {"model", "groups", "unknown"}. A group is {"name", "kind", "slots", "layers", "axes", "exact",
"tie", "blocked"}: "tie" is the same number in groups that shrink by the same proportion, or null; "blocked"
is what holds the group back, or null. An unknown operation is {"operation", "reason", "source", "holds",
"rule"}. After an error: {"error": "..."}."""
WHY_JSON = """\
With --json: {"kind", "headline", "start", "end", "path", "relation", "cuts", "also", "held", "axes",
"meeting", "remarks"}; "kind" is coupled, tied, apart or unknown of two, and free, follows or held of one.
After an error: {"error": "..."}."""
PRUNE_JSON = """\
With --json: {"model", "inputs", "parameters", "macs", "groups", "notes", "unknown", "plan"}. Costs are
{"before", "after"}; a group is {"name", "kind", "slots", "kept", "exact", "why"}; an unknown operation as
in 'prunus groups --help'; "plan" is what --plan writes. After an error: {"error": "..."}."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints look like every other error of the program."""

    def error(self, message: str) -> NoReturn:
        raise PrunusError(f"{message}\nhelp: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 is success, 1 that ``rules check`` or ``fmt --check`` found something, 2 an error that the user can
    mend, 130 an interrupt. With ``arguments`` this is a function like others; without, standard output is
    taken over for the rest of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments is None:
            cli_output.take_over()
        return _run(words)
    except KeyboardInterrupt:
        return cli_output.end("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return cli_output.let_go(0)
    except PrunusError as error:
        return cli_output.fail(str(error), as_json="--json" in words)
    except OSError as error:  # most likely of standard output: the disk is full
        return cli_output.let_go(cli_output.fail(f"{type(error).__name__}: {error}", as_json=False))
    except BaseException as error:  # of code that rules have run, perhaps: sys.exit() is no success then
        text = f"{type(error).__name__}: {error}\nhelp: PRUNUS_TRACEBACK=1 shows where it comes from"
        return cli_output.fail(text, as_json="--json" in words)


def _run(words: list[str]) -> int:
    top = parser()
    if os.environ.get("_ARGCOMPLETE"):
        _complete(top)
    try:
        options = top.parse_args(words)
    except SystemExit:  # --help and --version
        options = argparse.Namespace(run=lambda _: 0)
    status: int | None = options.run(options)
    sys.stdout.flush()
    return status or 0


def _complete(top: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what could be typed next, and exit."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    argcomplete.autocomplete(top)


def later(function: str) -> Callable[[argparse.Namespace], Any]:
    """A function of a module of this package, which is imported when it is called: ``cli_models.run_why``."""
    module, _, name = function.partition(".")

    def run(options: argparse.Namespace) -> Any:
        try:
            with cli_output.ended_by_interrupts():
                found = getattr(import_module(f".{module}", __package__), name)
        except ImportError as error:
            raise PrunusError(f"prunus cannot start: {type(error).__name__}: {error}") from error
        return found(options)

    return run


def parser() -> argparse.ArgumentParser:
    """Every command and option, each command bound to the function that runs it."""
    from .cli_rules import add_commands

    top = Parser(prog="prunus", description="Structural pruning of PyTorch models, exact and explained.")
    top.add_argument("--version", action="version", version=f"prunus {__version__}", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    prune = add(commands, "prune", "prune a model and report what changed; --plan keeps the plan", PRUNE_JSON)
    add_model(prune)
    add_choice(prune)
    prune.add_argument(
        "--plan",
        metavar="FILE",
        help="write the plan as JSON, for engine.apply(model, engine.Plan.from_json(text))",
    )
    add_force(prune)
    prune.add_argument("--dry-run", action="store_true", help="plan and report, but slice nothing")

    groups = add(commands, "groups", "show what shrinks together", GROUPS_JSON)
    add_model(groups)

    why = add(commands, "why", "explain why two layers shrink together, or what holds one back", WHY_JSON)
    add_model(why)
    why.add_argument(
        "a", metavar="A", help="a layer, a parameter or an axis: conv1, conv1.weight, conv1.weight[0]"
    )
    why.add_argument("b", metavar="B", nargs="?", help="another one")

    page = add(commands, "report", "write a page to look at: groups, graph, reasons, and a plan")
    add_model(page)
    add_choice(page)
    page.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    add_force(page)

    add(commands, "demo", "train, prune and fine-tune a small network on handwritten digits")
    add_commands(commands)
    return top


def add(commands: Any, name: str, help: str, json: str | None = None) -> argparse.ArgumentParser:
    """A command, which ``cli_models`` runs; with ``json`` it has the option, and that text describes it."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help, epilog=json, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if json:
        command.add_argument("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=later(f"cli_models.run_{name}"))
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """The arguments of every command that looks at a model."""
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--rules", action="append", metavar="RULES", help=RULES_HELP)
    command.add_argument("--input", action="append", default=[], metavar="SHAPE", help=INPUT_HELP)


def add_choice(command: argparse.ArgumentParser) -> None:
    """The arguments of every command that chooses what to remove."""
    command.add_argument("--ratio", type=float, help="fraction of slots to remove (default: 0.5)")
    for budget, what in BUDGETS.items():
        command.add_argument(f"--{budget}", type=float, metavar="KEEP", help=f"fraction of {what} to keep")
    command.add_argument("--scope", default="local", help="where the ratio holds: local, global, isomorphic")
    command.add_argument(
        "--criterion", default="magnitude", help="what says which slots matter (default: magnitude)"
    )
    command.add_argument(
        "--skip", action="append", default=[], help="leave out groups of this name, kind or module"
    )
    command.add_argument(
        "--only", action="append", default=[], help="prune only groups of this name, kind or module"
    )
    command.add_argument(
        "--prefer", choices=("outer", "inner"), default="outer", help="whole heads, or inside of them"
    )
    command.add_argument("--round-to", type=int, default=1, metavar="N", help="keep multiples of N slots")
    command.add_argument(
        "--min-keep", type=float, default=1, metavar="N", help="slots, or fraction, to keep of every group"
    )


def add_force(command: argparse.ArgumentParser) -> None:
    """The option of every command that writes a file."""
    command.add_argument("--force", action="store_true", help="replace a file that prunus did not write")
