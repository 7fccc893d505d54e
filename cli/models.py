"""The commands that look at a model: ``prune``, ``cost``, ``groups``, ``why``, ``report``, and ``demo``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from .. import engine, report
from ..adapters.folder import is_ours
from ..errors import PrunusError, shown
from ..files import expect_folder, expect_writable, write_text
from . import demo
from .as_json import groups_data, prune_data
from .data import held_out, read_data
from .inputs import example_inputs, load_model
from .modules import import_installed, of_the_user
from .output import answer, working
from .parser import CHOICE
from .stream import expect_streamable, prune_streamed
from .tables import print_groups
from .trial import NoTrial, Trial, loss_on

T = TypeVar("T")


def run_prune(options: argparse.Namespace) -> None:
    if options.plan is not None:
        expect_place(options.plan, engine.Plan.is_json, options.force)
    if options.output is not None:
        expect_output(options)
    expect_streamable(options)
    result, trial = (prune_streamed(options), None) if options.stream else prune_and_try(options)
    if options.stream or options.output is None:
        saved = result.folder
    else:
        saved = work("saving", lambda: result.save(options.output))
    if options.json:
        answer(work("writing", lambda: prune_data(result, trial, saved)))
    else:
        print(work("writing", lambda: str(result)))
        if trial is not None:
            print(trial)
        if options.output is not None:
            print(f"wrote {options.output}{'' if saved is None else f', {saved}'}")
    if options.plan is not None:
        write_text(options.plan, result.plan.to_json())


def run_cost(options: argparse.Namespace) -> None:
    inputs, model = example_inputs(options.input), model_of(options)
    print(work("counting", lambda: engine.cost(model, inputs, rules=rules(options))))


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
    result = prune(options, model_of(options), dry_run=True)
    inputs = None if options.input else result.inputs
    page = work("drawing", lambda: report.page(result.graph, result.plan, title=options.model, inputs=inputs))
    write_text(options.output, page)
    print(f"wrote {options.output}")


def run_demo(options: argparse.Namespace) -> None:
    demo.run()


def analyze(options: argparse.Namespace) -> engine.DependencyGraph:
    inputs, model = example_inputs(options.input), model_of(options)
    return work("analyzing", lambda: engine.analyze(model, inputs, rules=rules(options)))


def prune_and_try(options: argparse.Namespace) -> tuple[engine.Result, Trial | NoTrial | None]:
    """The result, and what it costs on texts that were held out, or why that is not known, if there are data.

    A plan that is not carried out costs nothing.
    """
    model = model_of(options)
    if options.data is None:
        return prune(options, model, options.dry_run, **_correction(options)), None
    data = read_data(options.data, folder_of(options.model))
    tokenizer = tokenizer_of(options.model) if isinstance(data[0], str) else None
    calibrating, others = held_out(data)
    before = work("measuring", lambda: loss_on(model, others, tokenizer))
    if isinstance(before, NoTrial):
        calibrating = data
    given = {"data": calibrating, "tokenizer": tokenizer}
    result = prune(options, model, options.dry_run, **given, **_correction(options))
    if options.dry_run:
        return result, None
    if isinstance(before, NoTrial):
        return result, before
    after = work("measuring", lambda: loss_on(model, others, tokenizer))
    trial = after if isinstance(after, NoTrial) else Trial(len(others), before, after)
    return result, trial


def _correction(options: argparse.Namespace) -> dict[str, Any]:
    return {"compensate": options.compensate, "sequential": options.sequential}


def prune(options: argparse.Namespace, model: nn.Module, dry_run: bool, **given: Any) -> engine.Result:
    inputs = example_inputs(options.input)
    chosen = {name: getattr(options, name) for name in CHOICE}
    return work(
        "pruning",
        lambda: engine.prune(
            model, rules(options), example_inputs=inputs, dry_run=dry_run, **chosen, **given
        ),
    )


def model_of(options: argparse.Namespace) -> nn.Module:
    """The model that is asked for, of the type and on the device that are."""
    model = load_model(options.model, options.weights)
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    return work("moving the model", lambda: model.to(device=options.device, dtype=dtype))


def folder_of(model: str) -> str | None:
    """The folder of ``hf:FOLDER``."""
    return model.removeprefix("hf:") if model.startswith("hf:") else None


def tokenizer_of(model: str) -> Any:
    """The tokenizer that comes with ``hf:FOLDER``."""
    folder = folder_of(model)
    if folder is None:
        raise PrunusError(
            "texts need the tokenizer of a model hf:FOLDER; --data has tensors for other models"
        )
    transformers = import_installed("transformers")
    try:
        return work("loading the tokenizer", lambda: transformers.AutoTokenizer.from_pretrained(folder))
    except PrunusError as error:
        what = f"texts need a tokenizer, save it there by save_pretrained({folder!r})"
        raise PrunusError(f"{error}\n{what}") from error


def work(what: str, function: Callable[[], T]) -> T:
    """What a function returns that may take long and runs the user's model."""
    with of_the_user(what), working(f"{what} ..."):
        return function()


def rules(options: argparse.Namespace) -> list[str]:
    return options.rules or ["default"]


def expect_output(options: argparse.Namespace) -> None:
    """Before the work: what is to be kept is kept, and nothing of somebody else's is replaced."""
    if options.dry_run:
        raise PrunusError(
            "--dry-run slices nothing, so there is nothing to keep with --output; leave one out"
        )
    if folder_of(options.model) is not None and not options.output.endswith(".safetensors"):
        expect_folder(options.output, is_ours)
    else:
        expect_place(options.output, lambda start: '"format":"prunus"' in start, options.force)


def expect_place(path: str, is_ours: Callable[[str], bool], force: bool) -> None:
    """Before the work: a file can be written there, and what it would replace is one of the same kind."""
    expect_writable(path)
    if force or not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        start = file.read(4096)
    if start and not is_ours(start):
        raise PrunusError(f"{shown(path)} is there, and is none of prunus: choose another name, or --force")
