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


@frozen
class NoTrial:
    """Why no loss is measured; and so nothing is held out."""

    why: str

    def __str__(self) -> str:
        return f"the loss before and after is not measured: {self.why}"


def loss_on(model: torch.nn.Module, held_out: Sequence[Any], tokenizer: Any) -> float | NoTrial:
    """The mean of the loss that a model computes of texts by itself, or why there is none.

    Data that need no `tokenizer` are no texts.
    """
    loss = own_loss(model, tokenizer)
    if tokenizer is None:
        return NoTrial("pictures and tensors come without labels")
    if not held_out:
        return NoTrial("of a single text no part is held out")
    if loss is None:
        return NoTrial("the model computes no loss, as its forward takes no labels")
    total, count = 0.0, 0
    try:
        with undisturbed(model), torch.no_grad():
            for batch in prepared(model, held_out, tokenizer):
                tokens = batch["input_ids"].numel()
                total, count = total + float(loss(model, batch)) * tokens, count + tokens
    except PlanError as error:  # it is no model that tells tokens
        return NoTrial(str(error))
    return total / count
