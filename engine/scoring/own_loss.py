"""The loss that a model computes by itself from ``labels``, and the labels, where a batch has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.inputs import setting
from ...adapters.inputs.tokens import IGNORED
from ...errors import PlanError
from ..calibrating import named_inputs, takes
from .slot_tensors import Loss

MASKED = 0.15  # of the tokens, as BERT is trained
TRIAL = 8  # tokens that a model is tried on

_OTHERWISE = "put labels into the batches of data=, or give loss="


def own_loss(model: nn.Module, tokenizer: Any = None) -> Loss | None:
    """The loss that `model` computes from ``labels``; `None` if its forward takes none.

    Where a batch has none they are made of its tokens, but for padding. A decoder's are its next inputs. Of a
    model whose results do not depend on later tokens they are the tokens themselves, as it is known to shift
    them. Any other is to tell 15 % of its tokens, which the tokenizer's mask token hides: the same ones in
    each loss that this function gives.
    """
    return _OwnLoss(tokenizer) if "labels" in takes(model) else None


class _OwnLoss:
    """Its random numbers begin anew with each object."""

    named = "the loss that the model computes of labels"

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._generator = torch.Generator("cpu").manual_seed(0)
        self._looks_back: bool | None = None

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        inputs = named_inputs(model, batch)
        if "labels" not in inputs:
            inputs = self._with_labels(model, inputs)
        found = model(**inputs)
        return found[0] if isinstance(found, tuple) else named_result(found, "loss")

    def _with_labels(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        if "decoder_input_ids" in inputs:
            return {**inputs, "labels": _next_tokens(inputs)}
        tokens = inputs.get("input_ids")
        if not isinstance(tokens, Tensor) or tokens.dim() != 2:
            raise PlanError(f"the model's own loss needs labels, and there are no input_ids: {_OTHERWISE}")
        if self._looks_back is None:
            self._looks_back = looks_back(model, tokens[:1])
        if self._looks_back:
            return {**inputs, "labels": tokens.masked_fill(~read_tokens(inputs, tokens), IGNORED)}
        return {**inputs, **self._hidden(inputs, tokens)}

    def _hidden(self, inputs: Mapping[str, Any], tokens: Tensor) -> dict[str, Tensor]:
        """Some of the tokens behind the mask token, and these as labels."""
        mask = getattr(self._tokenizer, "mask_token_id", None)
        if mask is None:
            raise PlanError(
                "the model's own loss needs labels, and what hides a token is not known: "
                f"give tokenizer= with a mask_token_id, {_OTHERWISE}"
            )
        special = torch.tensor(
            getattr(self._tokenizer, "all_special_ids", []), dtype=tokens.dtype, device=tokens.device
        )
        where = (read_tokens(inputs, tokens) & ~torch.isin(tokens, special)).nonzero().cpu()
        order = torch.randperm(len(where), generator=self._generator, device="cpu")
        rows, columns = where[order[: max(1, round(MASKED * len(where)))]].unbind(1)
        labels, hidden = torch.full_like(tokens, IGNORED), tokens.clone()
        labels[rows, columns] = tokens[rows, columns]
        hidden[rows, columns] = mask
        return {"input_ids": hidden, "labels": labels}


def _next_tokens(inputs: Mapping[str, Any]) -> Tensor:
    """What a decoder is given next at each position."""
    tokens = inputs["decoder_input_ids"]
    labels = tokens.masked_fill(~read_tokens(inputs, tokens, "decoder_attention_mask"), IGNORED)
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], 1)


def read_tokens(inputs: Mapping[str, Any], tokens: Tensor, mask: str = "attention_mask") -> Tensor:
    """Where a token is, ``(batch, length)``; nowhere else is padding."""
    given = inputs.get(mask)
    if isinstance(given, Tensor) and given.shape == tokens.shape:
        return given.bool()
    return torch.ones_like(tokens, dtype=torch.bool)


def looks_back(model: nn.Module, tokens: Tensor) -> bool:
    """Whether what the model tells of each token does not depend on later ones.

    It is tried with another last token. `PlanError` where it does not tell tokens at all.
    """
    known = setting(getattr(model, "config", None), "vocab_size")
    tokens = tokens[:, :TRIAL]
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % (known or 1)
    with torch.no_grad():
        results = [named_result(model(input_ids=ids), "logits") for ids in (tokens, other)]
    if not all(isinstance(one, Tensor) and one.shape == (*tokens.shape, known) for one in results):
        raise PlanError(
            f"the model's own loss needs labels, and its results are not one for each token: {_OTHERWISE}"
        )
    change = (results[0] - results[1]).abs().amax((0, 2)).float()
    return bool((change[:-1] <= 1e-4 * change[-1]).all())


def named_result(found: Any, name: str) -> Any:
    """A result by its name, from a mapping or an object."""
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
