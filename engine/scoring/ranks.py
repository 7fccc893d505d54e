"""Several ranks that prune one model: each must come to the same, and those that look at data would not."""

from __future__ import annotations

from typing import Any

import torch

from ...adapters.outdated import is_distributed
from ...errors import PlanError
from .criteria import READING, Criterion, criterion_of

_ONE_PLAN = (
    "carry out the plan of one on every rank: plans = [engine.prune(..., dry_run=True).plan.to_json()], "
    "torch.distributed.broadcast_object_list(plans), engine.apply(model, engine.Plan.from_json(plans[0]))"
)
_ONE_FILE = (
    "prune in a process of its own and load what it has saved: result.save(path), "
    "then engine.load(path, model) on every rank"
)


def count_ranks() -> int:
    """How many processes torch.distributed has joined to one: 1 where it is not in use."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def check_alike(criterion: str | Criterion, data: Any, compensate: Any, latency: Any) -> None:
    """Raise `PlanError` if there are several ranks, and these options let each come to something else.

    The data are other ones on each, and so are times that are measured. What weights alone decide is the
    same, as long as they are: magnitudes, and "random", which has a seed of its own.
    """
    if count_ranks() == 1:
        return
    if compensate is not None:
        _refuse(f"compensate={compensate!r} reads data", "correct the weights differently", _ONE_FILE)
    if criterion_of(criterion) in READING:
        _refuse(f"criterion={criterion!r} reads data or gradients", "choose other slots", _ONE_PLAN)
    if data is not None:
        _refuse("data= is given", "choose other slots", _ONE_PLAN)
    if latency is not None and not (isinstance(latency, tuple) and callable(latency[-1])):
        _refuse("latency= measures times", "choose other numbers of slots", _ONE_PLAN)


def check_statistics_alike() -> None:
    """Raise `PlanError` if there are several ranks, which would estimate other statistics each."""
    if count_ranks() > 1:
        _refuse(
            "recalibrate reads data",
            "have other statistics",
            "recalibrate in a process of its own, and load its state_dict on every rank",
        )


def _refuse(what: str, otherwise: str, do: str) -> None:
    raise PlanError(
        f"{what}, and there are {count_ranks()} ranks with data of their own: each would {otherwise}\n{do}"
    )
