"""Runs a pruned model once more on the example inputs: what verification looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..adapters.contents import copied, outputs_in
from ..adapters.undisturbed import undisturbed
from ..errors import PrunusError, lacks_memory
from .forwards import calls_of
from .witness import is_as_told

if TYPE_CHECKING:
    from .groups import Groups
    from .plan import Plan
    from .values import Trace

Shapes = tuple[tuple[int, ...], ...]


class DoesOtherwise(PrunusError):
    """The pruned model does something else than the trace says of these sizes; `prune` looks closer then."""


def output_shapes(model: torch.nn.Module, example_inputs: Any) -> Shapes:
    """The shapes of the output tensors, call by call; the model and the random states stay as they are."""
    with undisturbed(model):
        calls = copied(calls_of(example_inputs), torch.clone)
        outputs = [tensor for args, kwargs in calls for tensor in outputs_in(model(*args, **kwargs))]
    return tuple(tuple(tensor.shape) for tensor in outputs)


def shapes_as_told(graph: Groups, plan: Plan, retrace: Callable[[], Trace]) -> Shapes | None:
    """The same, from a plain trace of the pruned model; `DoesOtherwise` if it is not what the graph tells.

    ``None`` if the model cannot be traced so, of which it may tell more by itself.
    """
    try:
        second = retrace()
    except Exception as error:  # whatever it is
        if lacks_memory(error):
            raise
        return None
    if not is_as_told(graph, plan, second):
        raise DoesOtherwise("with these sizes the forward takes another way")
    return second.output_shapes
