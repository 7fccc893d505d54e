"""A model as a plan would make it, for a while: nothing is cut, and all is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from .modules import ChangedAttribute, Emptied
from .plan import Plan
from .tensors import Indices, Replaced, named_tensors, sliced
from .torch_caches import ForgottenValues
from .undo import undoing


@contextmanager
def tried(model: nn.Module, plan: Plan) -> Iterator[None]:
    """While this lasts, the tensors of `model` have the slots that `plan` keeps, and its attributes fit.

    Besides the model only the kept slots are in memory. Gradients are out of reach meanwhile.
    """
    tensors, indices = named_tensors(model), Indices()
    steps: list[Any] = [
        ChangedAttribute(model, name, value, plan.before.get(name)) for name, value in plan.attributes.items()
    ]
    steps += [Emptied(model, name) for name in plan.made]
    for name, axes in plan.sliced.items():
        kept = indices.of(axes, tensors[name].device)
        steps.append(Replaced(tensors[name], partial(sliced, axes=kept), lambda grad: None))
    steps.append(ForgottenValues())
    with torch.inference_mode(False), torch.no_grad(), undoing() as undo:
        for step in steps:
            undo.do(step)
        yield
