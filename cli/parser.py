"""Every command and option of the command line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .. import __version__
from ..errors import PrunusError
from .later import later
from .rules import add_commands

MODEL_HELP = "package.module:factory, timm:NAME, torchvision:NAME, or hf:FOLDER of transformers"
INPUT_HELP = "shape of an example input, 1x3x224x224, or ints:2x16 for tokens; once for each argument"
DTYPES = ("float32", "bfloat16", "float16", "float64")
DATA_HELP = (
    "calibration data: texts (a line or paragraph each, or .jsonl), a folder of pictures for hf:, or "
    "a tensor in .npy or .safetensors"
)
BUDGETS = {"params": "the parameters", "macs": "the multiply-accumulates", "latency": "the measured time"}
# The options of `engine.prune` that `add_choice` asks for.
CHOICE = ("ratio", *BUDGETS, "scope", "criterion", "skip", "only", "kinds", "prefer", "round_to", "min_keep")
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
in 'prunus groups --help'; "plan" is what --plan writes. Where they are known there are "loss", {"before",
"after"} on what is held out of --data, and "folder", plain or shaped. After an error: {"error": "..."}."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints look like every other error of the program."""

    def error(self, message: str) -> NoReturn:
        raise PrunusError(f"{message}\nhelp: {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Every command and option, each command bound to the function that runs it."""
    top = Parser(prog="prunus", description="Structural pruning of PyTorch models, exact and explained.")
    top.add_argument("--version", action="version", version=f"prunus {__version__}", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    prune = add(commands, "prune", "prune a model and report what changed; --plan keeps the plan", PRUNE_JSON)
    add_model(prune)
    add_choice(prune)
    prune.add_argument("--data", metavar="FILE", help=DATA_HELP)
    prune.add_argument(
        "--compensate", choices=("mean", "lstsq"), help="correct by the data the weights that read what goes"
    )
    prune.add_argument(
        "--sequential",
        action=argparse.BooleanOptionalAction,
        help="correct block after block, so that errors do not add up (default: for language models)",
    )
    prune.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="keep the pruned model: a folder for hf:, else a .safetensors file for engine.load(file, model)",
    )
    prune.add_argument(
        "--plan",
        metavar="FILE",
        help="write the plan as JSON, for engine.apply(model, engine.Plan.from_json(text))",
    )
    add_force(prune)
    prune.add_argument(
        "--stream",
        action="store_true",
        help="read, slice and write one tensor of hf:FOLDER at a time: for models larger than memory",
    )
    prune.add_argument(
        "--shard-size",
        metavar="SIZE",
        help="with --stream, the largest file of weights, as 200MB (default: 5GB)",
    )
    prune.add_argument("--dry-run", action="store_true", help="plan and report, but slice nothing")

    cost = add(commands, "cost", "show what a model costs, in all and call by call")
    add_model(cost)

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
    """A command, which ``models`` runs; with ``json`` it has the option, and that text describes it."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help, epilog=json, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if json:
        command.add_argument("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=later(f"models.run_{name}"))
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """The arguments of every command that looks at a model."""
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--rules", action="append", metavar="RULES", help=RULES_HELP)
    command.add_argument("--weights", metavar="FILE", help="load safetensors or a state dict into the model")
    command.add_argument("--dtype", choices=DTYPES, help="convert the model to this type")
    command.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    command.add_argument("--input", action="append", default=[], metavar="SHAPE", help=INPUT_HELP)


def add_choice(command: argparse.ArgumentParser) -> None:
    """The arguments of every command that chooses what to remove."""
    command.add_argument("--ratio", type=float, help="fraction of slots to remove (default: 0.5)")
    for budget, what in BUDGETS.items():
        command.add_argument(f"--{budget}", type=float, metavar="KEEP", help=f"fraction of {what} to keep")
    command.add_argument("--scope", help="where the ratio holds: local, global, isomorphic, uniform")
    command.add_argument(
        "--criterion", help="what says which slots matter (default: magnitude; with texts as --data obs)"
    )
    command.add_argument(
        "--skip", action="append", default=[], help="leave out groups of this name, kind or module"
    )
    command.add_argument(
        "--only", action="append", default=[], help="prune only groups of this name, kind or module"
    )
    command.add_argument(
        "--kinds", action="append", default=[], help="prune only stream, hidden, heads, or another kind"
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
