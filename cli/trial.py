"""What a model makes of data that it was not calibrated with: its loss, before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen

from ..adapters.undisturbed import undisturbed
from ..engine.calibrating import prepared
from ..engine.scoring import own_loss
from ..errors import PlanError


@frozen
class Trial:
    """The mean loss of a model on data that were held out, before and after."""

    texts: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"held out {self.texts} of the texts: loss {self.before:.3f} before, {self.after:.3f} after "
            f"(perplexity {math.exp(self.before):.2f} and {math.exp(self.after):.2f})"
        )


def loss_on(model: torch.nn.Module, data: Sequence[Any], tokenizer: Any) -> float | None:
    """The mean of the loss that a model computes of texts by itself; none if it has none."""
    loss = own_loss(model, tokenizer)
    if loss is None or not data or not isinstance(data[0], str):
        return None
    total, count = 0.0, 0
    try:
        with undisturbed(model), torch.no_grad():
            for batch in prepared(model, data, tokenizer):
                tokens = batch["input_ids"].numel()
                total, count = total + float(loss(model, batch)) * tokens, count + tokens
    except PlanError:  # it is no model that tells tokens
        return None
    return total / count
