"""Verifies a pruned model: it is run once more on the example inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ...adapters.contents import copied, outputs_in
from ...adapters.plan import Plan
from ...adapters.submodules import tensors_of
from ...adapters.trying import tried
from ...adapters.undisturbed import undisturbed
from ...errors import PrunusError, VerificationError, raise_foreign, raise_interrupt
from ..grouping import Groups
from ..tracing import Trace, calls_of, trace
from .witness import is_as_told

Shapes = tuple[tuple[int, ...], ...]


class DoesOtherwise(PrunusError):
    """The model does something else than the trace says of these sizes; `prune` looks closer then."""


def check_pruned(
    model: torch.nn.Module,
    graph: Groups,
    plan: Plan | None = None,
    retrace: Callable[..., Trace] | None = None,
) -> None:
    """Run the pruned model once; raise `VerificationError` if it fails or its output shapes differ.

    With `retrace` it is traced, and must do what the graph says of `plan`, else `DoesOtherwise` is raised.
    """
    shapes = None
    if plan and retrace:
        plain = not graph.trace.lowered  # else what runs is not what was traced
        second = traced_as_told(graph, plan, partial(retrace, plain=plain))
        shapes = second.output_shapes if plain else None
    try:
        shapes = shapes or output_shapes(model, graph.example_inputs)
    except Exception as error:
        raise_interrupt(error)
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


def output_shapes(model: torch.nn.Module, example_inputs: Any) -> Shapes:
    """The shapes of the output tensors, call by call; the model and the random states stay as they are."""
    if any(tensor.is_meta for tensor in tensors_of(model)):
        return trace(model, example_inputs, fake=True, training=False, filed=(), plain=True).output_shapes
    with undisturbed(model):
        calls = copied(calls_of(example_inputs), torch.clone)
        outputs = [tensor for args, kwargs in calls for tensor in outputs_in(model(*args, **kwargs))]
    return tuple(tuple(tensor.shape) for tensor in outputs)


def check_tried(graph: Groups, plan: Plan, retrace: Callable[..., Trace]) -> None:
    """Raise `DoesOtherwise` if the model, sliced for a while, would not do what the graph says of `plan`."""
    with tried(graph.model, plan):
        traced_as_told(graph, plan, retrace)


def traced_as_told(graph: Groups, plan: Plan, retrace: Callable[..., Trace]) -> Trace:
    """A trace at the sizes of `plan`; `DoesOtherwise` if it fails, or is not what the graph tells."""
    try:
        second = retracing(graph.trace, retrace)()
    except Exception as error:  # whatever it is
        raise_foreign(error)
        raise DoesOtherwise("with these sizes the forward fails") from error
    if not is_as_told(graph, plan, second):
        raise DoesOtherwise("with these sizes the forward takes another way")
    return second


def retracing(first: Trace, retrace: Callable[..., Trace]) -> Callable[..., Trace]:
    """What runs the model once more, knowing the first trace."""
    if not any(run.training and run.stop > run.start for run in first.runs):
        retrace = partial(retrace, training=False)  # in training it makes the same calls
    return partial(retrace, filed=first.filed)  # which needs no search for caches any more
