"""What a user gives as ``data=`` becomes batches: texts and rows of tokens are tokenised, padded and cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...adapters.inputs.tokens import (
    Tokenizer,
    batches_of_rows,
    batches_of_texts,
    batches_of_tokens,
    row_of,
)
from ...errors import PlanError
from .batches import batches
from .inputs import takes
from .measured import Measured
from .tokens import check_tokens


def prepared(model: nn.Module, data: Any, tokenizer: Tokenizer | None = None) -> list[Any]:
    """The batches of `data` that `model` takes; what these are already stays as it is.

    Parameters
    ----------
    data : batches in the forms that `analyze` takes, with ``labels`` or without, from a list, a generator or
        a `DataLoader`. Or else one of

        - texts, dicts with a ``text``, as a `datasets` object yields them, or batches of either; needs
          `tokenizer`. One text is a text. See `batches_of_texts` for how they are cut: the first 65,536
          tokens count.
        - rows of tokens: dicts whose ``input_ids`` are a list, integer tensors ``(length,)``, or lists. They
          are padded together, which an ``attention_mask`` tells.
        - an integer tensor of tokens, ``(n, length)`` or ``(n,)``, for a model that takes ``input_ids``.

    Raises
    ------
    PlanError
        There is nothing, or it is none of these, there are texts and no tokenizer, or tokens that the model
        does not know.
    """
    found = batches(one_by_one(model, data, tokenizer))
    check_tokens(model, found)
    return found


def prepared_for(
    model: nn.Module, data: Any, loss: object | None, tokenizer: Tokenizer | None
) -> list[Any] | Measured:
    """The batches of `data`, which are in a form of their own for a `loss`, unless they are to be tokenised.

    What was measured stays as it is.
    """
    if isinstance(data, Measured):
        return data
    return batches(data) if loss is not None and tokenizer is None else prepared(model, data, tokenizer)


def one_by_one(model: nn.Module, data: Any, tokenizer: Tokenizer | None = None) -> Iterable[Any]:
    """The same, but batches that are some already are handed on as they come, which may be more than fit."""
    if isinstance(data, str):
        return batches_of_texts(model, [data], tokenizer)
    if _are_tokens(model, data):
        return batches_of_tokens(model, data)
    if isinstance(data, (Tensor, Mapping)) or not isinstance(data, Iterable):
        return batches(data)  # which says what is wrong
    items = iter(data)
    first = next(items, None)
    items = chain([] if first is None else [first], items)
    if _texts_of(first) is not None:
        return batches_of_texts(model, _texts(items), tokenizer)
    if _row_of(model, first) is not None:
        return batches_of_rows(model, list(_rows(model, items)), tokenizer)
    return items


def _are_tokens(model: nn.Module, item: Any) -> bool:
    is_whole = isinstance(item, Tensor) and not item.is_floating_point() and not item.is_complex()
    return is_whole and "input_ids" in takes(model)


def _texts_of(item: Any) -> list[str] | None:
    """The text of an item, or those of a batch of them, as a `DataLoader` of texts makes."""
    if isinstance(item, Mapping) and "input_ids" not in item:
        item = item.get("text")
    if isinstance(item, (list, tuple)) and item and all(isinstance(text, str) for text in item):
        return list(item)
    return [item] if isinstance(item, str) else None


def _row_of(model: nn.Module, item: Any) -> Mapping[str, Any] | None:
    """The columns of a row: what one has of tokens has no batch axis."""
    if isinstance(item, Mapping):
        return item if _is_flat(item.get("input_ids")) else None
    if isinstance(item, np.ndarray) and item.dtype.kind in "iu":
        item = torch.from_numpy(item.astype(np.int64))
    if isinstance(item, list) and item and all(type(token) is int for token in item):
        item = torch.tensor(item)
    return row_of(model, item.tolist()) if _are_tokens(model, item) and item.dim() == 1 else None


def _is_flat(tokens: Any) -> bool:
    if isinstance(tokens, (Tensor, np.ndarray)):
        return tokens.ndim == 1
    return isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)


def _texts(items: Iterable[Any]) -> Iterator[str]:
    for number, item in enumerate(items):
        texts = _texts_of(item)
        if texts is None:
            raise PlanError(f"data= has texts, but number {number} is a {type(item).__name__} without one")
        yield from texts


def _rows(model: nn.Module, items: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for number, item in enumerate(items):
        row = _row_of(model, item)
        if row is None:
            raise PlanError(f"data= has rows of tokens, but number {number} is a {type(item).__name__}")
        yield row
