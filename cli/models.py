"""The commands that look at a model: ``prune``, ``groups``, ``why``, ``report``, and ``demo``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TypeVar

from .. import engine, report
from ..errors import PrunusError, shown
from ..files import expect_writable, write_text
from . import demo
from .as_json import groups_data, prune_data
from .inputs import example_inputs, load_model
from .modules import of_the_user
from .output import answer, working
from .parser import CHOICE
from .tables import print_groups

T = TypeVar("T")


def run_prune(options: argparse.Namespace) -> None:
    if options.plan is not None:
        expect_place(options.plan, engine.Plan.is_json, options.force)
    result = prune(options, options.dry_run)
    if options.json:
        answer(work("writing", lambda: prune_data(result)))
    else:
        print(work("writing", lambda: str(result)))
    if options.plan is not None:
        write_text(options.plan, result.plan.to_json())


def run_groups(options: argparse.Namespace) -> None:
    graph = analyze(options)
    if options.json:
        answer(work("writing", lambda: groups_data(graph)))
    else:
        print_groups(graph)


def run_why(options: argparse.Namespace) -> None:
    graph = analyze(options)
    found = work("explaining", lambda: graph.why(options.a, options.b))
    if options.json:
        answer(found.to_dict())
    else:
        print(found)


def run_report(options: argparse.Namespace) -> None:
    expect_place(options.output, report.is_page, options.force)
    result = prune(options, dry_run=True)
    inputs = None if options.input else result.inputs
    page = work("drawing", lambda: report.page(result.graph, result.plan, title=options.model, inputs=inputs))
    write_text(options.output, page)
    print(f"wrote {options.output}")


def run_demo(options: argparse.Namespace) -> None:
    demo.run()


def analyze(options: argparse.Namespace) -> engine.DependencyGraph:
    inputs = example_inputs(options.input)
    model = load_model(options.model)
    return work("analyzing", lambda: engine.analyze(model, inputs, rules=rules(options)))


def prune(options: argparse.Namespace, dry_run: bool) -> engine.Result:
    inputs = example_inputs(options.input)
    model = load_model(options.model)
    return work(
        "pruning",
        lambda: engine.prune(
            model,
            rules(options),
            example_inputs=inputs,
            dry_run=dry_run,
            **{name: getattr(options, name) for name in CHOICE},
        ),
    )


def work(what: str, function: Callable[[], T]) -> T:
    """What a function returns that may take long and runs the user's model."""
    with of_the_user(what), working(f"{what} ..."):
        return function()


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
