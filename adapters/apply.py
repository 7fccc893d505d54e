"""Carries out a plan: all of it, verified, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from ..errors import PrunusError, VerificationError
from .memories import ForgottenShapes, ForgottenValues
from .modules import ChangedAttribute, Emptied
from .optimizers import Optimizers, sliced_optimizers
from .outdated import Outdated
from .scales import check_scales, scaled
from .tensors import Indices, Replaced, SlicedTensor, check_fits, named_tensors
from .undo import Undo

if TYPE_CHECKING:
    from ..engine.groups import Groups
    from ..engine.plan import Plan
    from ..engine.values import Trace

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
    graph: Groups | None = None,
    retrace: Callable[[], Trace] | None = None,
    corrections: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    then: Callable[[list[str]], Any] = list,
) -> Any:
    """Slice the tensors of `model`, set its attributes, and run it once if `graph` has example inputs.

    With `retrace`, which traces it, it must do what the trace of `graph` says, or `DoesOtherwise` is raised.
    `corrections` change tensors by name before they are sliced (`engine.compensate`). In the end `then` is
    called with what is to be noticed (optimizer state that could not be sliced), and gives the result.
    On any failure, also of `then`, everything is put back, and a `PrunusError` is raised.
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

    def verified() -> Any:
        if graph is not None:
            verify(model, graph, plan, retrace)
        return then(notes)

    return all_or_nothing(steps, verified, shapes)


def all_or_nothing(steps: Sequence[Any], then: Callable[[], T], last: Any) -> T:
    """Carry out `steps`, call `then` for the result, and carry out the `last` step.

    On any failure, what was done is taken back.
    """
    undo = Undo()
    try:
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


def verify(
    model: nn.Module, graph: Groups, plan: Plan | None = None, retrace: Callable[[], Trace] | None = None
) -> None:
    """Run the pruned model once; raise `VerificationError` if it fails or its output shapes differ.

    With `retrace` it is traced, and must do what the graph says of `plan`, else `DoesOtherwise` is raised.
    """
    from ..engine.rerun import output_shapes, shapes_as_told

    shapes = shapes_as_told(graph, plan, retrace) if plan and retrace else None
    try:
        shapes = shapes or output_shapes(model, graph.example_inputs)
    except Exception as error:
        raise VerificationError(
            f"the pruned model does not run ({type(error).__name__}: {error}); the model is as it was. "
            "Skip the groups involved, or report the model"
        ) from error
    expected = graph.trace.output_shapes
    if not graph.free_outputs and not _as_expected(shapes, expected, graph):
        raise VerificationError(
            f"the pruned model gives outputs of {list(shapes)}, not {list(expected)}; the model is as it was"
        )


def _as_expected(
    shapes: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]], graph: Groups
) -> bool:
    """Whether the outputs are of the shapes that they had, but for what the data tell (how many boxes)."""
    if list(map(len, shapes)) != list(map(len, expected)):
        return False
    axes = [
        ((wanted, size), graph.told_by_data((value, axis)))
        for value, shape, before in zip(graph.trace.outputs, shapes, expected)
        for axis, (size, wanted) in enumerate(zip(shape, before))
    ]
    # ``len(boxes)`` is a plain number: what was as many before and is as many now is one for each of them.
    found = {sizes for sizes, by_data in axes if by_data}
    return all(sizes in found or sizes[0] == sizes[1] for sizes, _ in axes)
