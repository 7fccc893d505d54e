"""Tokens that a model could not take, and masks that are not of them, are told before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.inputs import vocabulary_of
from ...adapters.inputs.tokens import unknown_token
from ...errors import PlanError
from .inputs import named_inputs

_KINDS = (torch.int32, torch.int64)  # that an embedding takes


def check_tokens(model: nn.Module, batches: Iterable[Any]) -> None:
    """Raise `PlanError` for tokens that a language model does not know, and masks that are not of them."""
    vocabulary = vocabulary_of(model)
    if vocabulary is None:
        return
    for number, batch in enumerate(batches):
        named = named_inputs(model, batch)
        tokens = named.get("input_ids")
        if not isinstance(tokens, Tensor) or tokens.dim() != 2:
            continue
        amiss = _amiss(named, tokens, vocabulary)
        if amiss:
            raise PlanError(f"batch {number} of data= {amiss}")


def _amiss(named: Mapping[str, Any], tokens: Tensor, vocabulary: int) -> str:
    """What is wrong with a batch, if anything."""
    if tokens.dtype not in _KINDS:
        return f"has input_ids in {tokens.dtype}: give them as whole numbers, by .long()"
    mask = named.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and named.get("past_key_values") is None:
        if mask.shape != tokens.shape:
            return f"has an attention_mask of {tuple(mask.shape)} for input_ids of {tuple(tokens.shape)}"
        if not mask.is_floating_point() and not mask.any():
            return "has an attention_mask that calls every token padding"
    return unknown_token(named, vocabulary)
