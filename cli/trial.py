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
    """Why nothing is held out, and no loss is measured."""

    why: str

    def __str__(self) -> str:
        return f"the loss before and after is not measured: {self.why}"


def no_trial(model: torch.nn.Module, data: Sequence[Any], tokenizer: Any) -> NoTrial | None:
    """Why the loss of a model on a part of these data is not to be had, if it is not."""
    loss = own_loss(model, tokenizer)
    if not isinstance(data[0], str):
        return NoTrial("pictures and tensors come without labels")
    if len(data) < 2:
        return NoTrial("of a single text no part is held out")
    if loss is None:
        return NoTrial("the model computes no loss, as its forward takes no labels")
    try:
        loss_on(model, data[:1], tokenizer)
    except PlanError as error:  # it is no model that tells tokens
        return NoTrial(str(error))
    return None


def loss_on(model: torch.nn.Module, texts: Sequence[str], tokenizer: Any) -> float:
    """The mean of the loss that a model computes of texts by itself."""
    loss = own_loss(model, tokenizer)
    assert loss is not None
    total, count = 0.0, 0
    with undisturbed(model), torch.no_grad():
        for batch in prepared(model, texts, tokenizer):
            tokens = batch["input_ids"].numel()
            total, count = total + float(loss(model, batch)) * tokens, count + tokens
    return total / count
