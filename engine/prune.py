"""The way through the house: trace, couple, choose, apply. Each step is one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from torch import nn

from ..adapters.apply import carry_out
from ..adapters.inputs import guess_inputs
from ..adapters.lower import LOWERINGS
from ..adapters.optimizers import Optimizers
from ..adapters.plan import Plan, expect_plan
from ..adapters.submodules import parameters_of
from ..adapters.wrappers import check_sliceable
from ..errors import PlanError, RuleError, VerificationError
from ..rules import load
from .calibrating import batches, corrections, inputs_of
from .choosing import (
    Cost,
    check_reached,
    choose,
    cost_of,
    kept_slots,
    parameters,
    repeated_notes,
    units_of,
    unreached_notes,
)
from .derive import derive, witnessed, witnessed_at
from .graph import DependencyGraph
from .result import Result
from .scoring import Criterion, Loss, check_alike
from .tracing import Trace, alone, handed_notes, trace
from .witnessing import DoesOtherwise, check_pruned, check_tried


@alone
def analyze(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    rules: Any = "default",
    prefer: str = "outer",
    fake: bool = False,
    strict: bool = False,
    free_outputs: Sequence[int] = (),
) -> DependencyGraph:
    """Derive which slots of `model` must go together, without changing it.

    Parameters
    ----------
    model : any module that runs eagerly.
    example_inputs : a tensor, a tuple of positional arguments, a dict of keyword arguments, or the pair
        ``(args, kwargs)``; or a list of several calls, each in one of these forms, which are traced and
        coupled together, where one alone does not reach all of the model. Guessed if not given.
    rules : ``"default"``, paths of ``.rules`` files, or a list of these; later ones win. The modules that a
        file names as targets are imported, and so run: give only files that you trust.
    prefer : ``"outer"`` prunes whole heads and groups, ``"inner"`` the slots inside them.
    fake : run on fake tensors: no memory and no arithmetic, for models larger than the machine.
    strict : an operation without a rule is a `RuleError` instead of being held, and a tensor that was not
        reached and is as wide as what `prune` removes slots of (here: as what it may choose) a `PlanError`.
    free_outputs : positions of output tensors, of every call, whose shape may change (backbones).

    Raises
    ------
    RuleSyntaxError, RuleError, TraceError, PlanError
        The model is left as it was.
    """
    graph, _, retrace = _analyze(model, example_inputs, rules, prefer, fake, strict, free_outputs)
    graph = witnessed(graph, retrace)
    if strict:
        groups = (group.name for unit in units_of(graph) for group in unit.groups)
        check_reached(graph.unreached, set(groups))
    return graph


@alone
def prune(
    model: nn.Module,
    rules: Any = "default",
    *,
    example_inputs: Any = None,
    ratio: float | None = None,
    params: float | None = None,
    macs: float | None = None,
    latency: Any = None,
    criterion: str | Criterion = "magnitude",
    scope: str = "local",
    ratios: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    prefer: str = "outer",
    round_to: int = 1,
    min_keep: float = 1,
    exact_only: bool = False,
    free_outputs: Sequence[int] = (),
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    compensate: str | None = None,
    optimizer: Optimizers | None = None,
    dry_run: bool = False,
    verify: bool = True,
    strict: bool = False,
) -> Result:
    """Remove slots from every group of `model`, in place, and everything that depends on them.

    Parameters are those of `analyze` and of `choose`; besides

    optimizer : its state (momentum, moments) is sliced along with the parameters; one, or several in a list.
        State of another form is dropped, which `Result.notes` tells.
    compensate : correct the weights that read what is dropped, so that their results change least on `data`:
        by ``"mean"`` or ``"lstsq"``, see `engine.compensate`. Where `loss` is given, too, a batch that is a
        pair is one of inputs and targets.
    dry_run : only plan; the model is not changed. Where torch.distributed has several ranks, what looks at
        data needs that: `apply` then carries the plan of one rank out on all, sent by `Plan.to_json`.
    verify : run the model at the sizes of the plan, which must not make it do anything else, and the pruned
        model once; the output shapes must be as before.

    Raises
    ------
    PrunusError
        Of the kind that errors.py describes; the model is left bit for bit as it was.
    """
    if not dry_run:
        check_alike(criterion, data, compensate, latency)
    graph, described, retrace = _analyze(model, example_inputs, rules, prefer, False, strict, free_outputs)
    notes: list[str] = []
    left_alone: dict[str, str] = {}
    data = None if data is None else batches(data)
    choose_for = partial(
        choose,
        ratio=ratio,
        params=params,
        macs=macs,
        latency=latency,
        scope=scope,
        ratios=ratios,
        criterion=criterion,
        data=data,
        loss=loss,
        skip=skip,
        only=only,
        round_to=round_to,
        min_keep=min_keep,
        exact_only=exact_only,
        notes=notes,
        left_alone=left_alone,
    )

    def finish(graph: DependencyGraph, plan: Plan, retrace: Callable[..., Trace] | None = None) -> Result:
        if strict:
            check_reached(graph.unreached, plan.groups.keys())
        noted = [*notes, *unreached_notes(graph, graph.unreached, plan), *repeated_notes(graph, plan)]
        noted += handed_notes(graph.trace)
        before = count_parameters(model)
        corrected = None
        if compensate is not None:
            corrected = corrections(graph, plan, data if loss is None else inputs_of(data), compensate)
            noted += corrected.notes
        if dry_run:
            if retrace is not None:
                check_tried(graph, plan, retrace)
            after = parameters(graph, kept_slots(graph, plan))
            return Result(model, plan, graph, before, after, noted, described, left_alone)
        return carry_out(
            model,
            plan,
            optimizer=optimizer,
            corrections=corrected.tensors if corrected else None,
            check=partial(check_pruned, model, graph, plan, retrace) if verify else None,
            then=lambda dropped: Result(
                model, plan, graph, before, count_parameters(model), noted + dropped, described, left_alone
            ),
        )

    # The sizes of the plan are those that matter. Only if the model does not do there what its trace says, or
    # a plan cannot be had, others have to tell whose fault that is.
    if verify and not strict:
        with suppress(DoesOtherwise, PlanError, VerificationError):
            return finish(graph, choose_for(graph), retrace)
        notes.clear()
        left_alone.clear()
    graph = witnessed(graph, retrace)
    plan = choose_for(graph)
    while verify and (known := witnessed_at(graph, plan, retrace)) is not graph:
        notes.clear()
        left_alone.clear()
        graph, plan = known, choose_for(known)
    return finish(graph, plan)


@alone
def apply(model: nn.Module, plan: Plan, *, optimizer: Optimizers | None = None) -> nn.Module:
    """Carry out `plan` on `model`, in place; raises `PlanError` if it was made for another model.

    The state of `optimizer`, one or several in a list, goes along; a warning tells what had to be dropped.
    """
    expect_plan(plan)
    check_sliceable(model)
    for note in carry_out(model, plan, optimizer=optimizer):
        warnings.warn(note, stacklevel=3)
    return model


@alone
def cost(model: nn.Module, example_inputs: Any = None, *, rules: Any = "default") -> Cost:
    """What `model` costs on its example inputs: parameters and multiply-accumulates, in all and by call.

    Both are priced by the rules; an operation without ``macs`` in its rule, or without a rule, has none.
    """
    return cost_of(analyze(model, example_inputs, rules=rules))


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in parameters_of(model).values())


def _analyze(
    model: nn.Module,
    example_inputs: Any,
    rules: Any,
    prefer: str,
    fake: bool,
    strict: bool,
    free_outputs: Sequence[int],
) -> tuple[DependencyGraph, str, Callable[..., Trace]]:
    if prefer not in ("outer", "inner"):
        raise PlanError(
            f"prefer is 'outer' (whole heads and groups) or 'inner' (inside them), not {prefer!r}"
        )
    check_sliceable(model)
    described = "the example inputs given"
    if example_inputs is None:
        args, kwargs, described = guess_inputs(model)
        example_inputs = (args, kwargs)
    ruleset = load(rules)
    retrace = partial(trace, model, example_inputs, fake=fake, opaque=ruleset.opaque, lower=LOWERINGS)
    graph = derive(model, retrace, ruleset, prefer, free_outputs)
    graph.example_inputs, graph.free_outputs = example_inputs, tuple(free_outputs)
    if strict and any(call.costs for call in graph.unknown):
        raise RuleError("\n".join(str(call) for call in graph.unknown if call.costs))
    return graph, described, retrace
