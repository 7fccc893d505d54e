"""Prunes a checkpoint on disk that need not fit in memory: the model is traced without its values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from ..adapters.folder import is_ours
from ..adapters.folder.folder import check_options
from ..adapters.plan import Plan, expect_plan
from ..adapters.streaming import Progress, Values, model_of, save_streamed, stored_at
from ..errors import CheckpointError, PlanError, shown
from ..files import PathLike, expect_folder, expect_regular
from .analyze import analysed
from .choosing import Choice, Options
from .finish import Finish, finished
from .result import Result, facts_of, read_by
from .scoring import Criterion, check_needs_no_data
from .tracing import alone
from .witnessing import output_shapes

_OPTIONS = frozenset(
    {
        *("ratio", "params", "macs", "scope", "ratios", "skip", "only", "kinds"),
        *("round_to", "min_keep", "exact_only"),
    }
)
_NEED_MEMORY = {"data", "loss", "tokenizer", "compensate", "sequential", "optimizer", "latency"}


@alone
def prune_checkpoint(
    source: PathLike,
    target: PathLike,
    rules: Any = "default",
    *,
    plan: Plan | PathLike | None = None,
    example_inputs: Any = None,
    criterion: str | Criterion = "magnitude",
    prefer: str = "outer",
    verify: bool = True,
    strict: bool = False,
    shard_size: int | str = "5GB",
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Prune a checkpoint of transformers tensor by tensor; the model is never in memory as a whole.

    What is written is what `prune` and `Result.save` make of the loaded model, bit for bit. It appears whole
    or not at all; after a kill, started again, this goes on with what was written before.

    Parameters
    ----------
    source : a folder with ``config.json`` and the weights in safetensors, one file, or several and an index;
        or what `torch.distributed.checkpoint` wrote of the model's ``state_dict()``.
    target : the folder to write; an empty one, or one that prunus wrote, is replaced.
    plan : what to remove, a `Plan` or the path of its JSON, instead of a choice made here.
    criterion : as for `prune`, one that looks at nothing but weights: ``"magnitude"``, ``"l1"``,
        ``"bn_scale"``, ``"lamp"``, ``"fpgm"``, ``"random"``, or a callable of your own.
    rules, example_inputs, prefer, verify, strict : as for `prune`.
    shard_size : the largest file of weights, in bytes or as ``"200MB"``.
    progress : called as ``progress(what, done, count)``, where ``what`` is ``"reading"`` or ``"writing"``,
        with the number of tensors that are done, and of all.
    options : ``ratio``, ``params``, ``macs``, ``scope``, ``ratios``, ``skip``, ``only``, ``kinds``,
        ``round_to``, ``min_keep``, ``exact_only``, as for `prune`; what needs data or a model that runs is
        not among them.

    Returns
    -------
    The result, with the pruned model on the meta device: sizes without values.

    Raises
    ------
    CheckpointError
        The source is not whole or neither of these, or the target cannot be written.
    PrunusError
        Otherwise as `prune` does. There is no target then.
    """
    _check_needs(criterion, options)
    check_options(None, shard_size)
    given = _plan(plan, options)
    asked = Options(criterion=criterion, **options)
    expect_folder(target, is_ours, CheckpointError)
    stored = stored_at(source)
    _check_apart(stored.place, Path(target))
    model = model_of(stored)
    told = progress or _silent
    values = Values(model, stored)
    values.watch = _reading(told, len(stored.tensors))
    graph, described, retrace = analysed(model, example_inputs, rules, prefer, True, strict, ())
    finish = Finish(evolve(asked, values=values), described, None, False, None, False, verify, strict)
    result = finished(finish, graph, retrace) if given is None else finish(graph, Choice(given, (), {}))
    values.watch = lambda name: None
    result.folder = save_streamed(
        target,
        model,
        result.plan,
        values,
        stored,
        shapes_of=lambda one: output_shapes(one, result.graph.example_inputs),
        read=read_by(result.graph),
        shard_size=shard_size,
        facts=facts_of(result),
        progress=told,
    )
    return result


def _check_needs(criterion: str | Criterion, options: Mapping[str, Any]) -> None:
    """Raise `PlanError` for what cannot be had without the model in memory, and for what there is not."""
    for name in options.keys() - _OPTIONS:
        if name in _NEED_MEMORY:
            raise PlanError(
                f"{name}= needs a model that runs, and a checkpoint is pruned without one: load it, and use "
                "engine.prune"
            )
        raise PlanError(f"there is no option {name}=; known are {', '.join(sorted(_OPTIONS))}")
    check_needs_no_data(criterion)


def _plan(given: Any, options: Mapping[str, Any]) -> Plan | None:
    """The plan that is given, if one is; raises `PlanError` if it is none, or not alone."""
    if given is None:
        return None
    if options:
        raise PlanError(f"plan= tells what goes: leave {', '.join(options)} out, or the plan")
    if isinstance(given, (str, os.PathLike)):
        try:
            given = Plan.from_json(expect_regular(given, PlanError).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"cannot read the plan in {shown(given)}: {error}") from error
    expect_plan(given)
    return given


def _check_apart(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        raise CheckpointError("the checkpoint would be replaced by its own pruned one: give another target")


def _reading(progress: Progress, count: int) -> Callable[[str], None]:
    read: set[str] = set()

    def told(name: str) -> None:
        read.add(name)
        progress("reading", len(read), count)

    return told


def _silent(what: str, done: int, count: int) -> None:
    pass
