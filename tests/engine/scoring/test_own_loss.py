"""The loss that a model computes from labels, where a criterion needs gradients and no loss is given."""

from __future__ import annotations

import pytest
import torch
from prunus import engine
from prunus.engine.scoring.own_loss import own_loss
from prunus.errors import PlanError
from tiny_language import CLS, END, MASK, PAD, bert, llama, padded, t5, text_of, tokenizer, tokens
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

ROWS = [tokens(9), tokens(6, seed=1)]


class Seen(nn.Module):
    """Keeps what a model is given."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.given = model, model.config, []

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        self.given.append((input_ids, labels))
        return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


def plan(model, criterion, data, **options):
    return engine.prune(model, criterion=criterion, data=data, dry_run=True, **options).plan


def next_tokens(model, batch):
    """The cross entropy of each token after those before it, written out."""
    tokens, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=tokens, attention_mask=mask).logits
    counts = mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][counts], tokens[:, 1:][counts])


def test_that_of_a_causal_model_is_of_the_next_tokens():
    """Those that are padding do not count; the batch says nothing of labels."""
    model, batch = llama(), padded(*ROWS)
    torch.testing.assert_close(own_loss(model)(model, batch), next_tokens(model, batch))


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_it_is_used_without_a_loss(criterion):
    """Texts, batches and batches with labels give the same plan as a loss that is given by hand."""
    data = [padded(*ROWS), padded(*tokens(3, 7, seed=2))]
    wanted = plan(llama(), criterion, data, loss=next_tokens, example_inputs={**data[0], "use_cache": False})
    assert wanted.groups != plan(llama(), "magnitude", data).groups
    assert plan(llama(), criterion, data) == wanted
    labelled = [
        {**one, "labels": torch.where(one["attention_mask"] == 1, one["input_ids"], -100)} for one in data
    ]
    assert plan(llama(), criterion, labelled) == wanted
    texts = [text_of(row) for row in tokens(4, 16)]
    assert plan(llama(), criterion, texts, tokenizer=tokenizer()) == plan(llama(), criterion, tokens(4, 16))


def test_that_of_a_masked_model_is_of_hidden_tokens():
    """15 % of them, none of padding or special; the same in each loss that is made, others in each batch."""
    seen, reader = (
        Seen(bert()),
        tokenizer(mask_token="<mask>", pad_token="<pad>", cls_token="<cls>", eos_token="<end>"),
    )
    rows = [
        torch.tensor([CLS, *tokens(12).tolist(), END]),
        torch.tensor([CLS, *tokens(8, seed=1).tolist(), END]),
    ]
    batch = padded(*rows)
    for loss in (own_loss(seen, reader), own_loss(seen, reader)):
        for _ in range(2):
            assert loss(seen, batch).isfinite()
    first, second, again, _ = [pair for pair in seen.given if pair[1] is not None]
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], second[0])
    for hidden, labels in (first, second):
        told = labels != -100
        assert told.sum() == 3 and torch.equal(labels[told], batch["input_ids"][told])
        assert set(hidden[told].tolist()) == {MASK} and torch.equal(hidden[~told], batch["input_ids"][~told])
        assert not set(labels[told].tolist()) & {PAD, CLS, END}
    assert plan(bert(), "taylor", [batch], tokenizer=reader) == plan(
        bert(), "taylor", [batch], tokenizer=reader
    )


def test_that_of_a_decoder_is_of_its_next_inputs():
    model, rows = t5(), padded(*ROWS)
    decoded = {f"decoder_{name}": value for name, value in rows.items()}
    ids = decoded["decoder_input_ids"]
    counts = rows["attention_mask"][:, 1:].bool()
    wanted = F.cross_entropy(model(**rows, **decoded).logits[:, :-1][counts], ids[:, 1:][counts])
    torch.testing.assert_close(own_loss(model)(model, {**rows, **decoded}), wanted)
    ids = tokens(4, 12)
    halves = {"input_ids": ids[:, :6], "labels": ids[:, 6:].contiguous()}
    assert plan(t5(), "taylor", ids) == plan(t5(), "taylor", [halves])


def test_labels_of_a_batch_are_taken_for_what_they_are():
    """A classifier cannot be asked for tokens."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=39, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    model, batch = BertForSequenceClassification(config).eval(), {"input_ids": tokens(3, 6) - 1}
    labels = torch.tensor([0, 1, 1])
    wanted = F.cross_entropy(model(**batch).logits, labels)
    torch.testing.assert_close(own_loss(model)(model, {**batch, "labels": labels}), wanted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for one in (model, BertForTokenClassification(config).eval()):
        with pytest.raises(PlanError, match="put labels into the batches of data=, or give loss="):
            engine.prune(one, criterion="taylor", data=[batch], tokenizer=tokenizer(mask_token="<mask>"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    engine.prune(model, criterion="taylor", data=[{**batch, "labels": labels}])
    assert len(model.bert.encoder.layer[0].intermediate.dense.weight) == 12


def test_a_masked_model_needs_to_know_what_hides():
    with pytest.raises(PlanError, match="give tokenizer= with a mask_token_id"):
        engine.prune(bert(), criterion="taylor", data=[{"input_ids": tokens(2, 6)}])


def test_a_model_without_labels_has_none():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert own_loss(model) is None
    with pytest.raises(PlanError, match="give data= and loss="):
        engine.prune(model, criterion="taylor", data=[torch.randn(2, 3)])


@pytest.mark.parametrize("label, told", [(-100, "is nan on batch 0"), (10**6, "failed on batch 0")])
def test_labels_without_a_loss_name_the_model_s_own(label, told):
    """As no loss= was given."""
    ids = tokens(2, 8)
    data = [{"input_ids": ids, "labels": torch.full_like(ids, label)}]
    with pytest.raises(PlanError, match=f"the loss that the model computes of labels {told}"):
        engine.prune(llama(), params=0.8, data=data, criterion="taylor")
