"""Texts, and rows of tokens of different lengths, as the batches that a language model takes.

A tokenizer is any callable like those of transformers: it is asked for ``input_ids``, and for the numbers of
its special tokens if it has them. No such library is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ...errors import PlanError
from .configs import setting, vocabulary_of
from .making import Maker, arguments_of

LENGTH = 512  # tokens of a sequence, where the model takes as many
BATCH = 2048  # tokens of a batch
TOKENS = 65_536  # tokens of texts that are used at most: Wanda and FLAP calibrate with as many

Tokenizer = Callable[..., Any]
Row = Mapping[str, Any]

IGNORED = -100  # a label that no loss counts
# The masks that tell where a row is padded.
_MASKS = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}


def batches_of_texts(model: nn.Module, texts: Iterable[str], tokenizer: Tokenizer | None) -> list[Any]:
    """The first tokens of all texts, joined by the tokenizer's end token and cut into sequences of a length.

    That is `LENGTH`, or what tokenizer and config say that the model takes. Each sequence gets the special
    tokens that the tokenizer puts around a text. What is left over at the end is left out, unless it is all.
    """
    if not callable(tokenizer):
        given = "" if tokenizer is None else f", not {type(tokenizer).__name__}"
        raise PlanError(
            f"data= has texts: give tokenizer=, a callable such as a tokenizer of transformers{given}"
        )
    written = (text for text in texts if text.strip())
    first = next(written, None)
    if first is None:
        raise PlanError("the texts of data= have no tokens: they are empty")
    before, after = _around(tokenizer, first.strip()[:LENGTH])
    length = _longest(model, tokenizer)
    tokens = islice(_tokens(tokenizer, chain([first], written)), TOKENS)
    pieces = list(_cut(tokens, length - len(before) - len(after)))
    if not pieces:
        raise PlanError("the texts of data= have no tokens")
    return batches_of_rows(model, [row_of(model, piece, before, after) for piece in pieces], tokenizer)


def batches_of_tokens(model: nn.Module, tokens: Tensor) -> list[Any]:
    """The rows of an integer tensor of ``(n, length)``; one of ``(n,)`` is cut into rows like texts."""
    rows = tokens.tolist() if tokens.dim() == 2 else list(_cut(iter(tokens.tolist()), _longest(model)))
    if tokens.dim() > 2 or not rows:
        raise PlanError(
            f"data= is a tensor of tokens of shape {tuple(tokens.shape)}; it must be (n, length) or (n,)"
        )
    return batches_of_rows(model, [row_of(model, row) for row in rows])


def batches_of_rows(model: nn.Module, rows: Sequence[Row], tokenizer: Tokenizer | None = None) -> list[Any]:
    """Rows of tokens, in order, as batches of about `BATCH` tokens; shorter rows are padded on the right.

    Columns that the model does not take are left out, and empty rows; masks are made where rows are padded.
    """
    make, known = Maker.of(model), arguments_of(model)
    pad = getattr(tokenizer, "pad_token_id", None)
    pad = setting(getattr(model, "config", None), "pad_token_id", default=0) if pad is None else pad
    fills = {"input_ids": pad, "decoder_input_ids": pad, "labels": IGNORED}
    vocabulary = vocabulary_of(model)
    found = [_columns(row, number, known, vocabulary) for number, row in enumerate(rows)]
    kept = [row for row in found if all(column.numel() for column in row.values())]
    if not kept:
        raise PlanError("the rows of data= have no tokens: they are empty")
    size = max(1, BATCH // max(len(row["input_ids"]) for row in kept))
    made = []
    for start in range(0, len(kept), size):
        batch = _padded(kept[start : start + size], fills, known)
        batch = {name: value.to(make.device) for name, value in batch.items()}
        made.append(batch if "input_ids" in known else batch["input_ids"])
    return made


def row_of(model: nn.Module, tokens: list[int], before: Sequence[int] = (), after: Sequence[int] = ()) -> Row:
    """One sequence; of an encoder and a decoder the first reads half of it, and the other the rest."""
    if "decoder_input_ids" not in arguments_of(model):
        return {"input_ids": [*before, *tokens, *after]}
    half = (len(tokens) + 1) // 2
    return {"input_ids": [*before, *tokens[:half], *after], "labels": [*tokens[half:], *after]}


# Of texts


def _longest(model: nn.Module, tokenizer: Tokenizer | None = None) -> int:
    limits = (
        getattr(tokenizer, "model_max_length", None),
        setting(getattr(model, "config", None), "max_position_embeddings", "n_positions"),
    )
    return min([LENGTH, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])


def _tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[int]:
    """The tokens of all texts, each followed by the end token if there is one."""
    end = getattr(tokenizer, "eos_token_id", None)
    for text in texts:
        yield from _ids(tokenizer, text, add_special_tokens=False)
        yield from [end] if isinstance(end, int) else []


def _around(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    bare, whole = _ids(tokenizer, text, add_special_tokens=False), _ids(tokenizer, text)
    for start in range(len(whole) - len(bare) + 1) if bare else ():
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _ids(tokenizer: Tokenizer, text: str, **options: bool) -> list[int]:
    asked = {"verbose": False, **options}  # no warning that a text is long, as it is cut afterwards
    found = tokenizer(text, **{name: value for name, value in asked.items() if _takes(tokenizer, name)})
    found = found["input_ids"] if isinstance(found, Mapping) else found
    try:
        return [int(token) for token in torch.as_tensor(found, device="cpu").flatten().tolist()]
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(
            f"tokenizer= must give the tokens of a text, or a dict with input_ids, not {type(found).__name__}"
        ) from error


def _takes(tokenizer: Tokenizer, name: str) -> bool:
    try:
        parameters = inspect.signature(tokenizer).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters


def _cut(tokens: Iterator[int], length: int) -> Iterator[list[int]]:
    pieces = iter(lambda: list(islice(tokens, max(length, 1))), [])
    yield from islice(pieces, 1)
    yield from (piece for piece in pieces if len(piece) == length)


# Of rows


def unknown_token(columns: Mapping[str, Any], vocabulary: int | None) -> str:
    """What is said of the first of ``input_ids`` that a model does not know, if there is one.

    It is to be told before the model runs: on a GPU it would be the end of the process. With pictures there
    may be tokens of their own for these.
    """
    values = [one for name, one in columns.items() if name != "attention_mask" and isinstance(one, Tensor)]
    if vocabulary is None or any(one.is_floating_point() for one in values):
        return ""
    tokens = columns["input_ids"]
    unknown = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if not len(unknown):
        return ""
    return (
        f"has the token {int(unknown[0])}, and the model knows those from 0 to {vocabulary - 1}: use the "
        "tokenizer of this model"
    )


def _columns(row: Row, number: int, known: Mapping[str, Any], vocabulary: int | None) -> dict[str, Tensor]:
    """What the model takes of a row, as tensors."""
    names = [name for name in row if name == "input_ids" or (name in known and row[name] is not None)]
    try:
        found = {name: torch.as_tensor(row[name], device="cpu") for name in names}
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(f"row {number} of data= is not one of numbers: {error}") from error
    amiss = unknown_token(found, vocabulary)
    if amiss:
        raise PlanError(f"row {number} of data= {amiss}")
    return found


def _padded(
    rows: Sequence[dict[str, Tensor]], fills: Mapping[str, int], known: Mapping[str, Any]
) -> dict[str, Tensor]:
    """One batch of rows, each column as long as its longest."""
    batch: dict[str, Tensor] = {}
    for name in rows[0]:
        column = [row[name] for row in rows]
        if column[0].dim() == 0:
            batch[name] = torch.stack(column)
            continue
        batch[name] = pad_sequence(column, batch_first=True, padding_value=fills.get(name, 0))
        mask = _MASKS.get(name)
        if mask is None or mask in rows[0] or len({len(one) for one in column}) == 1:
            continue
        if mask not in known:
            raise PlanError(
                f"the rows of data= are of different lengths, and the model takes no {mask}: "
                "give rows of one length"
            )
        batch[mask] = pad_sequence([torch.ones_like(one) for one in column], batch_first=True)
    return batch
