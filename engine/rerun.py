"""Runs a model once more on the example inputs: what verification looks at."""

from __future__ import annotations

from typing import Any

import torch

from .contents import copied, outputs_in
from .forwards import calls_of
from .undisturbed import undisturbed


def output_shapes(model: torch.nn.Module, example_inputs: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of the output tensors, call by call; the model and the random states stay as they are."""
    with undisturbed(model):
        calls = copied(calls_of(example_inputs), torch.clone)
        outputs = [tensor for args, kwargs in calls for tensor in outputs_in(model(*args, **kwargs))]
    return tuple(tuple(tensor.shape) for tensor in outputs)
