"""Carries out a plan: all of it, verified, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import PrunusError, VerificationError
from .collector import paused
from .modules import ChangedAttribute, Emptied
from .optimizers import Optimizers, sliced_optimizers
from .outdated import Outdated
from .plan import Plan
from .scales import check_scales, scaled
from .tensors import Indices, Replaced, SlicedTensor, check_fits, named_tensors
from .torch_caches import ForgottenShapes, ForgottenValues
from .undo import Undo

T = TypeVar("T")


# What a caller's inference mode made of the parameters could never be trained again. These are decorators, as
# nothing may be left to do once all is carried out: not even to leave a block.
@torch.inference_mode(False)
@torch.no_grad()
def carry_out(
    model: nn.Module,
    plan: Plan,
    *,
    optimizer: Optimizers | None = None,
    corrections: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    check: Callable[[], None] | None = None,
    then: Callable[[list[str]], Any] = list,
) -> Any:
    """Slice the tensors of `model` and set its attributes.

    `corrections` change tensors by name before they are sliced. In the end `check` looks at the model, and
    `then` is called with what is to be noticed (optimizer state that could not be sliced) and gives the
    result. On any failure, also of these two, everything is put back, and a `PrunusError` is raised.
    """
    tensors = named_tensors(model)
    check_fits(tensors, plan.sliced, plan.shapes)
    check_scales(tensors, plan.scales, plan.tensors)
    steps: list[Any] = [
        ChangedAttribute(model, name, value, plan.before.get(name)) for name, value in plan.attributes.items()
    ]
    corrections = corrections or {}
    steps += [Replaced(tensors[name], correct, lambda grad: grad) for name, correct in corrections.items()]
    indices = Indices()
    slices = {tensors[name]: indices.of(kept, tensors[name].device) for name, kept in plan.sliced.items()}
    states = [] if optimizer is None else sliced_optimizers(optimizer, slices, tensors.values())
    steps += [*states, *(SlicedTensor(tensor, axes) for tensor, axes in slices.items())]
    steps += [Emptied(model, name) for name in plan.made]
    steps += [scaled(tensors[name], axes) for name, axes in plan.scales.items()]
    shapes = ForgottenShapes(slices.keys())
    steps += [ForgottenValues(), Outdated(slices.keys(), shapes)]
    notes = [note for state in states for note in state.notes]

    def checked() -> Any:
        if check is not None:
            check()
        return then(notes)

    return all_or_nothing(steps, checked, shapes)


def all_or_nothing(steps: Sequence[Any], then: Callable[[], T], last: Any) -> T:
    """Carry out `steps`, call `then` for the result, and carry out the `last` step.

    On any failure, what was done is taken back.
    """
    undo = Undo()
    try:
        with paused():  # a full pass over all that the process has takes as long as the slicing itself
            for step in steps:
                undo.do(step)
        result = then()
        undo.do(last)
        return result
    except BaseException as error:
        undo.put_back()
        if isinstance(error, PrunusError) or not isinstance(error, Exception):
            raise
        raise VerificationError(f"the plan cannot be carried out; the model is as it was: {error}") from error
