"""Runs a model once more on the example inputs: what verification looks at."""

from __future__ import annotations

from typing import Any

import torch

from .contents import copied, outputs_in
from .trace import call_arguments
from .undisturbed import undisturbed


def output_shapes(model: torch.nn.Module, example_inputs: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of the output tensors, in order; modes, random states and buffers are left as they were."""
    args, kwargs = call_arguments(example_inputs)
    with undisturbed(model, model.buffers()):
        args, kwargs = copied((args, kwargs), torch.clone)
        return tuple(tuple(tensor.shape) for tensor in outputs_in(model(*args, **kwargs)))
