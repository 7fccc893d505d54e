"""The command line: ``prunus prune``, ``groups``, ``why``, ``report`` and ``demo``.

Whatever the user got wrong ends as one line ``error: ...`` on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

import torch

from . import cli_rules, engine
from .display import print_groups
from .errors import PrunusError
from .files import expect_writable, shown, write_text

MODEL_HELP = "package.module:factory, timm:NAME or torchvision:NAME"
INPUT_HELP = "shape of an example input, 1x3x224x224, or ints:2x16 for tokens; once for each argument"
BUDGETS = {"params": "the parameters", "macs": "the multiply-accumulates", "latency": "the measured time"}
RULES_HELP = "a rule set's name or a .rules file; may be repeated, later ones win (default: default)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints look like every other error of the program."""

    def error(self, message: str) -> NoReturn:
        raise PrunusError(f"{message}\nhelp: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, 2 after an error that the user can mend."""
    try:
        options = parser().parse_args(arguments)
        status: int | None = options.run(options)
        sys.stdout.flush()
        return status or 0
    except PrunusError as error:
        message = str(error)
        print(message if message.startswith("error:") else f"error: {message}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Every command and option, each command bound to the function that runs it."""
    top = Parser(prog="prunus", description="Structural pruning of PyTorch models, exact and explained.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    prune = commands.add_parser("prune", help="prune a model and report what changed; --plan keeps the plan")
    add_model(prune)
    add_choice(prune)
    prune.add_argument(
        "--plan",
        metavar="FILE",
        help="write the plan as JSON, for engine.apply(model, engine.Plan.from_json(text))",
    )
    add_force(prune)
    prune.add_argument("--dry-run", action="store_true", help="plan and report, but slice nothing")
    prune.set_defaults(run=run_prune)

    groups = commands.add_parser("groups", help="show what shrinks together")
    add_model(groups)
    groups.set_defaults(run=run_groups)

    why = commands.add_parser("why", help="explain why two layers shrink together, or what holds one back")
    add_model(why)
    why.add_argument(
        "a", metavar="A", help="a layer, a parameter or an axis: conv1, conv1.weight, conv1.weight[0]"
    )
    why.add_argument("b", metavar="B", nargs="?", help="another one")
    why.set_defaults(run=run_why)

    page = commands.add_parser("report", help="write a page to look at: groups, graph, reasons, and a plan")
    add_model(page)
    add_choice(page)
    page.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    add_force(page)
    page.set_defaults(run=run_report)

    demo = commands.add_parser(
        "demo", help="train, prune and fine-tune a small network on handwritten digits"
    )
    demo.set_defaults(run=run_demo)
    cli_rules.add_commands(commands)
    return top


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


def prune(options: argparse.Namespace, dry_run: bool) -> engine.Result:
    inputs = example_inputs(options.input)
    return engine.prune(
        load_model(options.model),
        rules(options),
        example_inputs=inputs,
        ratio=options.ratio,
        **{budget: getattr(options, budget) for budget in BUDGETS},
        scope=options.scope,
        criterion=options.criterion,
        skip=tuple(options.skip),
        only=tuple(options.only),
        prefer=options.prefer,
        round_to=options.round_to,
        min_keep=options.min_keep,
        dry_run=dry_run,
    )


def run_prune(options: argparse.Namespace) -> None:
    if options.plan is not None:
        expect_place(options.plan, engine.Plan.is_json, options.force)
    result = prune(options, options.dry_run)
    print(result)
    if options.plan is not None:
        write_text(options.plan, result.plan.to_json())


def run_groups(options: argparse.Namespace) -> None:
    print_groups(analyze(options))


def run_why(options: argparse.Namespace) -> None:
    print(analyze(options).why(options.a, options.b))


def run_report(options: argparse.Namespace) -> None:
    from . import report

    expect_place(options.output, report.is_page, options.force)
    result = prune(options, dry_run=True)
    inputs = None if options.input else result.inputs
    write_text(options.output, report.page(result.graph, result.plan, title=options.model, inputs=inputs))
    print(f"wrote {options.output}")


def run_demo(options: argparse.Namespace) -> None:
    from .demo import run

    run()


def analyze(options: argparse.Namespace) -> engine.DependencyGraph:
    inputs = example_inputs(options.input)
    return engine.analyze(load_model(options.model), inputs, rules=rules(options))


def rules(options: argparse.Namespace) -> list[str]:
    return options.rules or ["default"]


def expect_place(path: str, is_ours: Callable[[str], bool], force: bool) -> None:
    """Before the work: a file can be written there, and what it would replace is one of the same kind."""
    expect_writable(path)
    if force or not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        start = file.read(4096)
    if start and not is_ours(start):
        raise PrunusError(f"{shown(path)} is there, and is none of prunus: choose another name, or --force")


def example_inputs(shapes: list[str]) -> tuple[torch.Tensor, ...] | None:
    """One random tensor for each shape given; None lets the engine guess."""
    return tuple(map(example_input, shapes)) or None


def example_input(text: str) -> torch.Tensor:
    """A tensor from ``1x3x224x224`` (floats) or ``ints:2x16`` (token numbers, which any vocabulary has)."""
    kind, _, sizes = text.rpartition(":")
    parts = sizes.split("x")
    if kind not in ("", "ints") or not all(
        part.isascii() and part.isdigit() and int(part) > 0 for part in parts
    ):
        raise PrunusError(f"--input {text!r} is not a shape; write 1x3x224x224, or ints:2x16 for tokens")
    shape = [int(part) for part in parts]
    return torch.randint(0, 2, shape) if kind else torch.randn(shape)


def load_model(name: str) -> torch.nn.Module:
    """The model that MODEL names, with the same random weights every time.

    The current directory is importable, so a model of one's own needs no installation.
    """
    source, colon, wanted = name.partition(":")
    if not (source and colon and wanted):
        raise PrunusError(f"{name!r} does not name a model; write {MODEL_HELP}")
    torch.manual_seed(0)
    if source in LIBRARIES:
        return LIBRARIES[source](wanted)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return own_model(source, wanted)


def torchvision_model(name: str) -> torch.nn.Module:
    models = import_named("torchvision.models")
    expect_known(name, models.list_models(), "torchvision")
    return build(f"torchvision:{name}", lambda: models.get_model(name, weights=None))


def timm_model(name: str) -> torch.nn.Module:
    timm = import_named("timm")
    expect_known(name.partition(".")[0], timm.list_models(), "timm")
    return build(f"timm:{name}", lambda: timm.create_model(name, pretrained=False))


LIBRARIES = {"timm": timm_model, "torchvision": torchvision_model}


def own_model(module_name: str, wanted: str) -> torch.nn.Module:
    """A module instance, or what a callable that returns one builds."""
    found: Any = import_named(module_name)
    for part in wanted.split("."):
        if not hasattr(found, part):
            raise PrunusError(f"{module_name} has no {wanted!r}{did_you_mean(part, dir(found))}")
        found = getattr(found, part)
    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        raise PrunusError(f"{module_name}:{wanted} is neither a module nor a callable that returns one")
    return build(f"{module_name}:{wanted}", found)


def build(name: str, factory: Any) -> torch.nn.Module:
    try:
        model = factory()
    except Exception as error:  # the user's own code: whatever it raises is to be reported, not ours to know
        raise PrunusError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, torch.nn.Module):
        raise PrunusError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def import_named(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise PrunusError(
            f"no module named {missing!r}; is it installed, or in the current directory?"
        ) from error
    except Exception as error:  # the user's own module: see `build`
        raise PrunusError(f"importing {name} failed: {type(error).__name__}: {error}") from error


def expect_known(name: str, known: Sequence[str], library: str) -> None:
    if name not in known:
        raise PrunusError(f"{library} has no model {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
