"""The way through the house: trace, couple, choose, apply. Each step is one call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from torch import nn

from ..adapters.apply import carry_out
from ..adapters.inputs import is_language_model
from ..adapters.optimizers import Optimizers
from ..adapters.plan import Plan, expect_plan
from ..adapters.wrappers import check_sliceable
from .analyze import analysed, analysed_on, analyze
from .calibrating import Measured, check_correction, prepared_for
from .choosing import Cost, Options, cost_of
from .finish import Finish, finished
from .result import Result
from .scoring import Criterion, Loss, check_alike, default_criterion
from .tracing import alone


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
    data: Iterable[Any] | Measured | None = None,
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
        a tensor of them, see `engine.calibrating.prepare.prepared`; or what `measure` made of either. Batch
        sizes and lengths may differ; what an ``attention_mask`` calls padding counts nowhere, and ``labels``
        are for gradients only. Without `loss` the first batch, or the first sequence of one of tokens, is
        what the model is traced with, if there are no `example_inputs`.
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
        options = evolve(options, data=prepared_for(model, data, loss, tokenizer))
    analysed_with = partial(
        analysed, model, rules=rules, prefer=prefer, fake=False, strict=strict, free_outputs=free_outputs
    )
    graph, described, retrace = analysed_on(model, options.data, loss, example_inputs, analysed_with)
    finish = Finish(options, described, compensate, sequential, optimizer, dry_run, verify, strict)
    return finished(finish, graph, retrace)


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
