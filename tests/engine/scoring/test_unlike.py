"""A language model is told of data that it does not know; of what it expects nothing is said."""

import pytest
import torch
from prunus import engine
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TOLD = "unlike what the model expects"


@pytest.fixture(scope="module")
def counting():
    """A model that has learned to count by ones, from anywhere, and round from 31 to 0."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=32))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        tokens = counted(16)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def counted(rows):
    return (torch.randint(0, 32, (rows, 1)) + torch.arange(24)) % 32


def notes(model, data, **options):
    result = engine.prune(model, ratio=0.1, data=data, kinds=["hidden"], dry_run=True, **options)
    return [note for note in result.notes if TOLD in note]


def test_of_what_it_knows_nothing_is_said(counting):
    """Text as in training; also padded, where padding is what it has never seen."""
    assert notes(counting, counted(8)) == []
    padded = torch.cat([counted(8), torch.full((8, 40), 7)], 1)
    mask = torch.cat([torch.ones(8, 24), torch.zeros(8, 40)], 1).long()
    assert notes(counting, [{"input_ids": padded, "attention_mask": mask}]) == []


@pytest.mark.parametrize("criterion", ["wanda", "obs"])
def test_of_other_data_a_note_tells(counting, criterion):
    """Counted backwards: the loss there, and what it would be by the model's own predictions."""
    (note,) = notes(counting, counted(8).flip(1), criterion=criterion)
    with torch.no_grad():
        tokens = counted(64).flip(1)
        loss = float(counting(input_ids=tokens, labels=tokens).loss)
    told = float(note.split("its loss there is ")[1].split()[0])
    assert abs(told - loss) < 0.1 * loss


def test_a_model_that_looks_at_both_sides_is_not_asked():
    """What it tells of a token that it sees is no loss."""
    model = BertForMaskedLM(BertConfig(**SIZES, vocab_size=50)).eval()
    assert notes(model, torch.randint(5, 50, (4, 16)), criterion="wanda") == []


def test_a_model_that_takes_more_is_not_asked():
    """Only that it loses slots counts: it does as before."""

    class Two(LlamaForCausalLM):
        def forward(self, input_ids, shift):
            return super().forward(input_ids=input_ids + shift, use_cache=False).logits

    model = Two(LlamaConfig(**SIZES, vocab_size=50)).eval()
    batch = {"input_ids": torch.randint(5, 40, (4, 16)), "shift": torch.tensor(1)}
    assert notes(model, [batch], criterion="wanda") == []
