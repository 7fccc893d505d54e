"""Small language models of transformers, and tokenizers of a few words."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

SPECIAL = {"pad_token": "<pad>", "eos_token": "<end>", "mask_token": "<mask>", "cls_token": "<cls>"}
WORDS = [*SPECIAL.values(), "<unk>", *(f"w{number}" for number in range(35))]
PAD, END, MASK, CLS = range(4)
FIRST = WORDS.index("w0")
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}


def llama(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, "num_key_value_heads": 2, **settings})).eval()


def bert() -> nn.Module:
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(**SMALL)).eval()


def t5() -> nn.Module:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(WORDS),
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=PAD,
            pad_token_id=PAD,
        )
    ).eval()


def tokenizer(around: str = "$A", **special: str) -> Any:
    """One of transformers: each word is a token; `around` is the template of a text."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    numbers = [(word, number) for number, word in enumerate(WORDS[:4])]
    made.post_processor = processors.TemplateProcessing(single=around, special_tokens=numbers)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **special)


def text_of(tokens: Tensor) -> str:
    """The text whose tokens these are."""
    return " ".join(WORDS[token] for token in tokens.flatten().tolist())


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Random tokens, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST, len(WORDS), shape, generator=generator)


def padded(*rows: Tensor, left: bool = False) -> dict[str, Tensor]:
    """Rows of different lengths as one batch, with its mask."""
    length = max(map(len, rows))
    ids, mask = torch.full((len(rows), length), PAD), torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        where = slice(length - len(row), None) if left else slice(len(row))
        ids[number, where], mask[number, where] = row, 1
    return {"input_ids": ids, "attention_mask": mask}
