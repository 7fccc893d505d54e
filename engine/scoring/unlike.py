"""Whether data are what a language model expects: what is chosen by others holds for those alone.

A model that was trained on such text is as sure as it is right: its loss is the entropy of what it predicts,
up to chance. Of text that it does not know it is surer than it is right. Measured on SmolLM2-135M, nats a
token: manuals .2, source code .0, hexadecimal numbers .2, manuals in capitals .1; words in random order 1.0,
random letters 1.3, random tokens 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.inputs import is_language_model
from ...adapters.undisturbed import undisturbed
from ...errors import raise_foreign
from ..calibrating import named_inputs
from .own_loss import looks_back, named_result, read_tokens

# So many tokens are looked at, and so many positions at a time, as each has a number for every word.
TOKENS, POSITIONS = 1024, 128

# Nats a token that the loss is above what the model expects of itself.
TOLERATED = 0.5


def unlike_notes(model: nn.Module, inputs: Iterable[Any]) -> list[str]:
    """A note if `inputs` are tokens that a language model, which tells each by those before it, finds odd."""
    try:
        losses = _losses(model, inputs) if is_language_model(model) else None
    except Exception as error:  # of a model that takes more, or gives other results: it is not asked
        raise_foreign(error)
        return []
    if losses is None or not losses[0] - losses[1] > TOLERATED:
        return []
    return [
        f"data= is unlike what the model expects: its loss there is {losses[0]:.1f} nats a token, by its own "
        f"predictions it would be {losses[1]:.1f}; what is kept is what such data need, which may be little "
        "of what the model is for"
    ]


def _losses(model: nn.Module, inputs: Iterable[Any]) -> tuple[float, float] | None:
    """The loss on the first tokens, and what it would be if they came as the model predicts, per token."""
    total, count = torch.zeros(2, dtype=torch.float64), 0
    with undisturbed(model), torch.no_grad():
        for batch in inputs:
            named = named_inputs(model, batch)
            tokens = named.get("input_ids")
            if not isinstance(tokens, Tensor) or tokens.dim() != 2 or "decoder_input_ids" in named:
                return None
            if not count and not looks_back(model, tokens[:1]):
                return None
            logits = named_result(model(**named), "logits")
            told = read_tokens(named, tokens)
            where = told[:, 1:] & told[:, :-1]
            rows, wanted = logits[:, :-1][where], tokens[:, 1:][where]
            for some, those in zip(rows.split(POSITIONS), wanted.split(POSITIONS)):
                total += _of(some.float().log_softmax(-1), those)
            count += len(wanted)
            if count >= TOKENS:
                break
    found = (total / count).tolist() if count else [0.0, 0.0]
    return found[0], found[1]


def _of(predicted: Tensor, tokens: Tensor) -> Tensor:
    """The sums of the loss and of the entropy, ``(2,)``."""
    loss = -predicted.gather(-1, tokens[:, None]).sum()
    entropy = -(predicted.exp() * predicted).nan_to_num().sum()
    return torch.stack([loss, entropy]).double().cpu()
