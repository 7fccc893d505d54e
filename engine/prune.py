"""The way through the house: trace, couple, choose, apply. Each step is one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from torch import nn

from ..adapters.apply import carry_out
from ..adapters.inputs import is_language_model
from ..adapters.optimizers import Optimizers
from ..adapters.plan import Plan, expect_plan
from ..adapters.wrappers import check_sliceable
from ..errors import PlanError, TraceError, VerificationError
from .analyze import Analysed, analysed, analyze
from .calibrating import batches, check_correction, first_sequence, inputs_of, prepared
from .choosing import Cost, Options, choose, cost_of
from .derive import witnessed, witnessed_at
from .finish import Finish
from .result import Result
from .scoring import Criterion, Loss, check_alike, default_criterion
from .tracing import alone
from .witnessing import DoesOtherwise


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
    criterion: str | Criterion | None = None,
    scope: str | None = None,
    ratios: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    kinds: Sequence[str] = (),
    prefer: str = "outer",
    round_to: int = 1,
    min_keep: float = 1,
    exact_only: bool = False,
    free_outputs: Sequence[int] = (),
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    tokenizer: Any = None,
    compensate: str | tuple[str, float] | None = None,
    sequential: bool | None = None,
    optimizer: Optimizers | None = None,
    dry_run: bool = False,
    verify: bool = True,
    strict: bool = False,
) -> Result:
    """Remove slots from every group of `model`, in place, and everything that depends on them.

    Parameters
    ----------
    model, rules, example_inputs, prefer, free_outputs, strict : as for `analyze`.
    ratio : fraction of the slots to remove, in [0, 1); 0.5 if no budget is given either.
    params, macs, latency : budgets, as the fraction of the model's parameters, multiply-accumulates or
        seconds to keep; ``latency=(0.5, seconds)`` where a function of yours says what a call takes, see
        `engine.choosing.latency`.
    scope : where the ratio holds: ``"local"`` in every group, ``"global"`` in one ranking of all slots,
        ``"isomorphic"`` among groups of the same structure; ``"uniform"`` as ``"local"``, and groups of
        one role and size, as those of repeated blocks, keep the same number of slots. Models with a
        transformers config are pruned uniformly, so that the config can say it, all others locally.
    ratios : other ratios by group name, kind or module pattern (``"layer1.*": 0.25``); the last wins.
    criterion : a name in `engine.scoring.criteria`, or a callable ``(group, tensors) -> scores``. For a
        language model with data that is ``"obs"`` if not given, or ``"wanda"`` without least squares; else
        ``"magnitude"``.
    data : batches of inputs for criteria that look at activations or gradients; or texts, rows of tokens or
        a tensor of them, see `engine.calibrating.prepare.prepared`. Batch sizes and lengths may differ; what
        an ``attention_mask`` calls padding counts nowhere, and ``labels`` are for gradients only. Without
        `loss` the first batch, or the first sequence of one of tokens, is what the model is traced with, if
        there are no `example_inputs`.
    loss : ``loss(model, batch) -> scalar`` for criteria that look at gradients. Without it a model that takes
        ``labels`` computes its own, see `engine.scoring.own_loss`.
    tokenizer : what makes tokens of texts, a callable such as a tokenizer of transformers.
    skip, only : group names, kinds or module patterns to leave out, or to prune alone.
    kinds : prune only groups of these kinds: as ``graph.groups`` names them (``"heads"``), or ``"stream"``
        (the residual stream, to which layers of several modules add), or ``"hidden"`` (neither that nor a
        part of a product, as heads are: the hidden units of MLPs). A language model's stream is left whole
        unless this or `only` names it (``only=["*"]`` names everything).
    round_to : kept slots are a multiple of this.
    min_keep : how many slots (from 1) or what fraction (below 1) of every group stays at least.
    exact_only : leave groups alone over which a statistic is taken.
    optimizer : its state (momentum, moments) is sliced along with the parameters; one, or several in a list.
        State of another form is dropped, which `Result.notes` tells.
    compensate : correct the weights that read what is dropped, so that their results change least on `data`:
        by ``"mean"`` or ``"lstsq"``, see `engine.calibrating.compensate`. How far least squares trust `data`
        is tried for each reader on a half that it is not fitted to, down to no correction at all, unless
        ``("lstsq", 0.1)`` gives the strength of the ridge. Where `loss` is given, too, a batch that is a pair
        is one of inputs and targets.
    sequential : correct by least squares block after block, each for what those before it hand on, so that
        errors do not add up, see `engine.calibrating.sequential`. If not given, where a language model has
        such blocks.
    dry_run : only plan; the model is not changed. Where torch.distributed has several ranks, what looks at
        data needs that: `apply` then carries the plan of one rank out on all, sent by `Plan.to_json`.
    verify : run the model at the sizes of the plan, which must not make it do anything else, and the pruned
        model once; the output shapes must be as before.

    Raises
    ------
    PrunusError
        Of the kind that errors.py describes; the model is left bit for bit as it was.

    Examples
    --------
    >>> import torch
    >>> from prunus import engine
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> print(engine.prune(model, example_inputs=torch.randn(2, 8), ratio=0.25))
    Sequential, traced with the example inputs given
      parameters  212 before, 160 after (24.5% removed)
      MACs        384 before, 288 after (25.0% removed)
      a plan for 1 groups: 3 axes of 3 tensors, 2 attributes
      group  kind  slots  kept  why
      0.out  out      16    12
      2.out  out       4     4  axis 1 of the model's output
    """
    check_sliceable(model)
    check_correction(compensate, sequential)
    corrects = compensate not in (None, "mean")
    criterion = criterion or default_criterion(model, data, corrects)
    if sequential is None and not (corrects and is_language_model(model)):
        sequential = False
    if not dry_run:
        check_alike(criterion, data, compensate, latency)
    options = Options(
        ratio,
        params=params,
        macs=macs,
        latency=latency,
        scope=scope,
        ratios=ratios,
        criterion=criterion,
        data=data,
        loss=loss,
        tokenizer=tokenizer,
        skip=skip,
        only=only,
        kinds=kinds,
        round_to=round_to,
        min_keep=min_keep,
        exact_only=exact_only,
    )
    if data is not None:
        # What a loss takes is in its own form, unless it is to be tokenised.
        is_own = loss is not None and tokenizer is None
        options = evolve(options, data=batches(data) if is_own else prepared(model, data, tokenizer))
    analysed_with = partial(
        analysed, model, rules=rules, prefer=prefer, fake=False, strict=strict, free_outputs=free_outputs
    )
    # What a loss is given may be in another form than what the model is given.
    if example_inputs is None and options.data is not None and loss is None:
        graph, described, retrace = _with_the_first(inputs_of(model, options.data)[0], analysed_with)
    else:
        graph, described, retrace = analysed_with(example_inputs)
    finish = Finish(options, described, compensate, sequential, optimizer, dry_run, verify, strict)
    # The sizes of the plan are those that matter. Only if the model does not do there what its trace says, or
    # a plan cannot be had, others have to tell whose fault that is.
    if verify and not strict:
        try:  # and no block that is left when the model is pruned: an interrupt there would lose the result
            return finish(graph, choose(graph, options), retrace)
        except (DoesOtherwise, PlanError, VerificationError):
            pass
    graph = witnessed(graph, retrace)
    choice = choose(graph, options)
    while verify and (known := witnessed_at(graph, choice.plan, retrace)) is not graph:
        graph, choice = known, choose(known, options)
    return finish(graph, choice)


def _with_the_first(batch: Any, analysed_with: Callable[[Any], Analysed]) -> Analysed:
    """What is analysed with the first batch of the data, or its first sequence, as the model runs often."""
    try:
        graph, _, retrace = analysed_with(first_sequence(batch))
    except TraceError as error:
        raise TraceError(
            f"{error}\nthe model was run on the first batch of data=, which has inputs alone, without "
            "labels; else give example_inputs="
        ) from error
    return graph, "the first batch of data=", retrace


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
