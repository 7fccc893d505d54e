"""A padded token counts nowhere, and batches may prepare masks and caches in another way than the example."""

from __future__ import annotations

import pytest
import torch
from prunus import engine
from prunus.engine.calibrating import calibrate
from prunus.engine.calibrating.readers import readers
from tiny_language import bert, llama, padded, t5, tokens
from torch import nn

ROWS = [tokens(9), tokens(5, seed=1), tokens(1, seed=2)]


def statistics(graph, data):
    """What each weight reads, by its name."""
    found = readers(graph)
    known = calibrate(graph, data, [one.data for one in found], products=True)
    return {str(one.weight): known[one.data] for one in found}


def assert_same(one, other):
    assert one.keys() == other.keys() and len(one) > 2
    for name, known in one.items():
        assert known.count == other[name].count, name
        torch.testing.assert_close(known.mean, other[name].mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(known.scatter, other[name].scatter, rtol=1e-4, atol=1e-4)


class Flat(nn.Module):
    """Works on all tokens of a batch as one axis, and pools them in the end."""

    def __init__(self):
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(40, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids).flatten(0, 1)
        x = self.down(self.up(x).relu()).unflatten(0, input_ids.shape)
        if attention_mask is None:
            return self.head(x.mean(1))
        weights = attention_mask[:, :, None].to(x.dtype)
        return self.head((x * weights).sum(1) / weights.sum(1))


@pytest.mark.parametrize(
    ("model", "left"),
    [(llama, False), (llama, True), (bert, False), (Flat, False)],
    ids=["llama", "llama, from the left", "bert", "flat"],
)
def test_a_padded_batch_has_the_statistics_of_its_rows(model, left):
    """Also with an example that has no mask, and of a model that makes one axis of batch and length."""
    one, batch = model(), padded(*ROWS, left=left)
    graph = engine.analyze(one, {"input_ids": tokens(2, 6)})
    apart = [{"input_ids": row[None]} for row in ROWS]
    assert_same(statistics(graph, [batch]), statistics(graph, apart))
    without = statistics(graph, [{**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}])
    assert {known.count for known in without.values()} >= {3 * 9}


def test_a_mask_is_read_by_position():
    model, batch = llama(), padded(*ROWS)
    graph = engine.analyze(model, {"input_ids": tokens(2, 6)})
    assert_same(statistics(graph, [tuple(batch.values())]), statistics(graph, [batch]))


def test_an_encoders_mask_is_not_its_decoders():
    """Though the decoder reads as many tokens: it has a mask of its own, or no padding."""
    rows = [row for row in ROWS if len(row) > 1]
    graph = engine.analyze(t5(), {"input_ids": tokens(1, 6), "decoder_input_ids": tokens(1, 3)})
    batch, decoded = padded(*rows), tokens(2, 9, seed=5)
    apart = [{"input_ids": row[None], "decoder_input_ids": one[None]} for row, one in zip(rows, decoded)]
    found = statistics(graph, [{**batch, "decoder_input_ids": decoded}])
    assert_same(found, statistics(graph, apart))
    counts = {name.split(".")[0]: known.count for name, known in found.items() if "DenseReluDense.wi" in name}
    assert counts == {"encoder": 9 + 5, "decoder": 18}
    both = {**batch, **{f"decoder_{name}": value for name, value in batch.items()}}
    apart = [{"input_ids": row[None], "decoder_input_ids": row[None]} for row in rows]
    assert_same(statistics(graph, [both]), statistics(graph, apart))


def test_a_mask_of_something_else_masks_nothing():
    """Numbers that are added, and masks of other sizes, are none of tokens."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.up, self.down = nn.Embedding(40, 8), nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x, attention_mask):
            return self.down(self.up(self.embed(x)).relu())

    x = tokens(2, 4)
    graph = engine.analyze(Plain(), (x, torch.zeros(2, 4)))
    for mask in (
        torch.tensor([[0.0, -1e9, 0, 0]] * 2),
        torch.zeros(2, 4),
        torch.zeros(2, 5),
        torch.zeros(2, 1, 4),
    ):
        assert {known.count for known in statistics(graph, [(x, mask)]).values()} == {8}


BATCHES = {
    "other sizes, one alone": [{"input_ids": tokens(*size)} for size in ((3, 12), (2, 7), (1, 5))],
    "a mask of ones": [{"input_ids": tokens(3, 6), "attention_mask": torch.ones(3, 6, dtype=torch.long)}],
    "a mask of padding": [padded(*ROWS), {"input_ids": tokens(2, 6)}],
    "labels": [{"input_ids": tokens(2, 6), "labels": tokens(2, 6)}],
    "a cache": [
        {"input_ids": tokens(2, 6), "use_cache": True},
        {"input_ids": tokens(1, 9), "use_cache": False},
    ],
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("inputs", [None, {"input_ids": tokens(1, 16)}], ids=["the first", "given"])
@pytest.mark.parametrize("model", [llama, bert, t5])
def test_batches_need_not_be_like_the_example(model, inputs, batches):
    """Scores and corrections are made of them; only where the example asks for a cache are heads held."""

    def decoded(batch):
        batch = dict(batch)
        if model is t5 and "labels" not in batch:
            batch["decoder_input_ids"] = batch["input_ids"]
        return {name: value for name, value in batch.items() if (model, name) != (bert, "use_cache")}

    data = [decoded(batch) for batch in batches]
    given = inputs and decoded({**inputs, "use_cache": False})
    result = engine.prune(model(), example_inputs=given, data=data, criterion="wanda", compensate="lstsq")
    has_cache = inputs is None and data[0].get("use_cache", False)
    assert result.after < result.before
    assert any(name.endswith("heads") for name in result.plan.groups) != has_cache
