"""Calibration data of a language model: texts, rows and tensors of tokens."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from prunus import engine
from prunus.engine.calibrating import prepared
from prunus.errors import PlanError, TraceError
from tiny_language import CLS, END, PAD, WORDS, bert, llama, padded, t5, text_of, tokenizer, tokens
from torch import nn


def plan(model, data, **options):
    return engine.prune(model, criterion="wanda", data=data, dry_run=True, **options).plan


def test_texts_are_cut_into_sequences_with_an_end_token_between():
    """A document may go on in the next sequence; what is left over at the end is left out."""
    first, second = tokens(20), tokens(18, seed=1)
    (batch,) = prepared(llama(), [text_of(first), "  ", text_of(second)], tokenizer(eos_token="<end>"))
    stream = torch.cat([first, torch.tensor([END]), second, torch.tensor([END])])
    assert torch.equal(batch["input_ids"], stream[:32].view(2, 16)) and batch.keys() == {"input_ids"}


def test_few_tokens_are_one_short_sequence():
    (batch,) = prepared(llama(), text_of(tokens(5)), tokenizer())
    assert torch.equal(batch["input_ids"], tokens(1, 5))


def test_each_sequence_is_in_the_special_tokens_of_a_text():
    (batch,) = prepared(bert(), [text_of(tokens(40))], tokenizer("<cls> $A <end>", cls_token="<cls>"))
    assert batch["input_ids"].shape == (2, 16)
    assert batch["input_ids"][:, 0].tolist() == [CLS] * 2 and batch["input_ids"][:, -1].tolist() == [END] * 2
    assert torch.equal(batch["input_ids"][:, 1:-1].flatten(), tokens(40)[:28])


def test_any_callable_is_a_tokenizer():
    numbers = {word: number for number, word in enumerate(WORDS)}
    (batch,) = prepared(llama(), [text_of(tokens(9))], lambda text: [numbers[word] for word in text.split()])
    assert torch.equal(batch["input_ids"], tokens(1, 9))


@pytest.mark.parametrize("model", [llama, bert, t5])
def test_texts_are_their_tokens(model):
    """The plan is the same for texts, a generator, dicts with a text, and the tensor of their tokens."""
    ids, reader = tokens(6, 16), tokenizer()
    if model is t5:
        reader.model_max_length = 16
    texts = [text_of(row) for row in ids]
    wanted = plan(model(), ids)
    assert any(len(kept) < 48 for kept in wanted.groups.values())
    rows = [{"text": text, "id": 3} for text in texts]
    by_two = [texts[start : start + 2] for start in range(0, len(texts), 2)]
    for data in (texts, (text for text in texts), rows, " ".join(texts), by_two):
        assert plan(model(), data, tokenizer=reader) == wanted
    assert plan(model(), list(ids)) == wanted
    if model is not t5:
        assert plan(model(), [ids]) == wanted
        assert plan(model(), [{"input_ids": row.tolist(), "title": "none"} for row in ids]) == wanted


def test_an_encoder_reads_one_half_and_its_decoder_the_other():
    ids = tokens(2, 9)
    (batch,) = prepared(t5(), ids)
    assert torch.equal(batch["input_ids"], ids[:, :5]) and torch.equal(batch["labels"], ids[:, 5:])


def test_many_tokens_are_several_batches():
    found = prepared(llama(), tokens(300, 16))
    assert [len(batch["input_ids"]) for batch in found] == [128, 128, 44]
    stream = tokens(16 * 300 + 3)
    found = prepared(llama(), stream)
    assert torch.equal(torch.cat([batch["input_ids"] for batch in found]).flatten(), stream[:-3])


def test_rows_are_padded_together():
    rows = [tokens(7), tokens(4, seed=1)]
    given = [{"input_ids": row.tolist(), "labels": row.tolist(), "text": "none"} for row in rows]
    (batch,) = prepared(llama(), given, tokenizer(pad_token="<pad>"))
    wanted = padded(*rows)
    assert torch.equal(batch["input_ids"], wanted["input_ids"])
    assert torch.equal(batch["attention_mask"], wanted["attention_mask"])
    assert batch["labels"][1].tolist() == [*rows[1].tolist(), *[-100] * 3]
    again = prepared(llama(), [batch], tokenizer())
    assert again[0] is batch


class Positional(nn.Module):
    """Takes tokens under another name, and no mask."""

    def __init__(self):
        super().__init__()
        self.embed, self.up, self.head = nn.Embedding(40, 8), nn.Linear(8, 16), nn.Linear(16, 40)

    def forward(self, idx):
        return self.head(self.up(self.embed(idx)).relu())


def test_a_model_with_other_names_is_given_the_tokens_alone():
    texts = [text_of(tokens(700))]
    (batch,) = prepared(Positional(), texts, tokenizer())
    assert torch.equal(batch, tokens(1, 700)[:, :512])
    assert len(plan(Positional(), texts, tokenizer=tokenizer()).groups["up.out"]) == 8


@pytest.mark.parametrize(
    ("model", "data", "reader", "message"),
    [
        (llama, ["w1 w2"], None, "give tokenizer="),
        (llama, ["w1 w2"], "gpt2", "not str"),
        (llama, ["w1 w2"], lambda text: [text], "must give the tokens of a text"),
        (llama, ["", "  "], tokenizer(), "no tokens"),
        (llama, "", tokenizer(eos_token="<end>"), "no tokens"),
        (llama, [{"input_ids": []}], None, "rows of data= have no tokens"),
        (llama, tokens(2, 0), None, "rows of data= have no tokens"),
        (t5, ["w1"], tokenizer(), "rows of data= have no tokens"),
        (partial(llama, vocab_size=20), ["w1 w30"], tokenizer(), "token 35, .* from 0 to 19: use the token"),
        (llama, torch.cat([tokens(1, 4), -tokens(1, 4)]), None, "row 1 of data= has the token -"),
        (llama, ["w1 w2", 3], tokenizer(), "number 1 is a int"),
        (llama, [{"input_ids": [5, 6]}, {"text": "w1"}], None, "number 1 is a dict"),
        (llama, [{"input_ids": [5, 6], "labels": "none"}], None, "row 0 of data= is not one of numbers"),
        (llama, tokens(2, 3, 4), None, r"must be \(n, length\)"),
        (llama, torch.randn(2, 3), None, "list of batches"),
        (Positional, [{"input_ids": [5, 6]}, {"input_ids": [5]}], None, "give rows of one length"),
        (llama, [], None, "no batch"),
    ],
)
def test_unusable_data_is_one_clear_error(model, data, reader, message):
    one = model()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    with pytest.raises(PlanError, match=message):
        engine.prune(one, criterion="wanda", data=data, tokenizer=reader)
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())


def test_a_path_is_no_model():
    with pytest.raises(TraceError, match=r"a model is a torch\.nn\.Module, and this is a str"):
        engine.prune("smollm2", params=0.8, data=["w1 w2"], tokenizer=tokenizer())


def test_empty_rows_are_left_out():
    rows = [{"input_ids": []}, {"input_ids": [5, 6, 7]}, {"input_ids": []}]
    (batch,) = prepared(llama(), rows)
    assert batch.keys() == {"input_ids"} and batch["input_ids"].tolist() == [[5, 6, 7]]


def test_a_row_with_pictures_may_have_tokens_of_its_own():
    class Seeing(Positional):
        def get_input_embeddings(self):
            return self.embed

        def forward(self, input_ids, pixel_values):
            return super().forward(input_ids)

    (batch,) = prepared(Seeing(), [{"input_ids": [5, -1], "pixel_values": [0.5, 1.0]}])
    assert batch["input_ids"].tolist() == [[5, -1]]


def test_a_schedule_takes_texts():
    model = llama()
    texts = (text_of(row) for row in tokens(4, 16))
    options = {"criterion": "wanda", "data": texts, "tokenizer": tokenizer(), "only": ["*"]}
    schedule = engine.Schedule(model, ratio=0.5, steps=2, every=1, **options)
    assert schedule.step() is not None and schedule.step() is not None
    assert model.model.layers[0].mlp.up_proj.weight.shape == (24, 16)


def test_what_a_loss_takes_is_in_its_own_form():
    """Rows are not touched where a loss is given, but texts are made tokens where there is a tokenizer."""
    seen = []

    def loss(model, batch):
        seen.append(batch)
        return model(input_ids=torch.tensor(batch["input_ids"])[None]).logits.square().mean()

    engine.prune(llama(), criterion="taylor", data=[{"input_ids": [5, 6, 7]}], loss=loss)
    assert seen == [{"input_ids": [5, 6, 7]}]
    engine.prune(
        llama(),
        criterion="taylor",
        data=["w1 w2 w3"],
        tokenizer=tokenizer(),
        loss=lambda model, batch: model(**batch, labels=batch["input_ids"]).loss,
    )


def test_pad_comes_from_the_config_without_a_tokenizer():
    model = llama()
    model.config.pad_token_id = 2
    (batch,) = prepared(model, [tokens(3), tokens(2)])
    assert batch["input_ids"][1, 2] == 2 != PAD


WHOLE = torch.randint(3, 20, (4, 6))
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 6, [1] * 2 + [0] * 4])


@pytest.mark.parametrize(
    "batch, told",
    [
        ({"input_ids": WHOLE + 10**6}, "use the tokenizer of this model"),
        ({"input_ids": WHOLE - 10}, "use the tokenizer of this model"),
        ({"input_ids": WHOLE.short()}, "whole numbers"),
        ({"input_ids": WHOLE.float()}, "whole numbers"),
        ({"input_ids": WHOLE, "attention_mask": MASK[:, :3]}, "attention_mask of"),
        ({"input_ids": WHOLE, "attention_mask": MASK[:1]}, "attention_mask of"),
        ({"input_ids": WHOLE, "attention_mask": MASK * 0}, "every token padding"),
    ],
)
def test_batches_that_are_no_tokens_of_the_model_are_one_clear_error(batch, told):
    """In the second batch, too; the model is as it was."""
    model = llama()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=f"batch 1 of data= .*{told}"):
        engine.prune(model, params=0.8, data=[{"input_ids": WHOLE}, batch], criterion="wanda")
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_mask_of_zeros_and_ones_is_one_in_any_dtype():
    """Transformers takes it so."""
    plans = [
        engine.prune(
            llama(),
            params=0.8,
            criterion="wanda",
            data=[{"input_ids": WHOLE, "attention_mask": MASK.to(dtype)}],
        ).plan
        for dtype in (torch.long, torch.bool, torch.float32)
    ]
    assert plans[0] == plans[1] == plans[2]
    whole = engine.prune(llama(), params=0.8, criterion="wanda", data=[{"input_ids": WHOLE}]).plan
    assert whole != plans[0]


def test_rows_may_be_lists_and_arrays():
    """As a tensor of the same tokens."""
    given = [WHOLE, WHOLE.tolist(), list(WHOLE.numpy())]
    plans = [engine.prune(llama(), params=0.8, criterion="wanda", data=data).plan for data in given]
    assert plans[0] == plans[1] == plans[2]
