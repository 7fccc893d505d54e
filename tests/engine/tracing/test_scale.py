"""Models larger than the machine are analysed without their weights."""

import pytest
import torch
from prunus import PlanError, TraceError, engine

transformers = pytest.importorskip("transformers")


def test_a_llama_of_seventy_billion_parameters_is_analysed_on_fake_tensors():
    """Every layer has its group of heads and its hidden width; nothing lacks a rule; no weight is made."""
    config = transformers.LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        use_cache=False,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).eval()
    inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    graph = engine.analyze(model, inputs, fake=True)
    sizes = {group.name: group.size for group in graph.groups}
    for layer in range(80):
        assert sizes[f"model.layers.{layer}.self_attn.heads"] == 8
        assert sizes[f"model.layers.{layer}.mlp.gate_proj.out"] == 28672
    assert not [call for call in graph.unknown if call.costs]
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_fake_analysis_finds_what_a_real_one_finds():
    """The same groups with the same members."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 1))
    x = torch.randn(1, 3, 8, 8)
    real, fake = (engine.analyze(model, x, fake=fake) for fake in (False, True))
    assert [(g.name, g.members) for g in real.groups] == [(g.name, g.members) for g in fake.groups]


def test_what_depends_on_data_is_refused_with_a_clear_message():
    """The message says what to do instead."""

    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(3, 4)

        def forward(self, x):
            return self.a(x) if x.sum() > 0 else x

    with pytest.raises(TraceError, match="without fake=True"):
        engine.analyze(Branching(), torch.randn(2, 3), fake=True)


def test_weights_that_are_not_there_cannot_be_ranked():
    """Choosing by magnitude needs weights; the error says so instead of ranking nothing."""
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2))
    graph = engine.analyze(model, torch.zeros(1, 3), fake=True)
    with pytest.raises(PlanError, match="meta"):
        graph.choose(0.5)
    assert graph.choose(0.5, criterion="random").groups


def test_a_long_sequence_needs_no_memory_either():
    """The weights that set the temperature of attention are found without tensors of that length."""

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (torch.nn.Linear(16, 32) for _ in range(3))
            self.out = torch.nn.Linear(32, 16)

        def forward(self, x):
            made = (layer(x).view(1, x.shape[1], 4, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
            return self.out(
                torch.nn.functional.scaled_dot_product_attention(*made).transpose(1, 2).flatten(2)
            )

    x = torch.empty(1, 2**28, 16, device="meta")
    graph = engine.analyze(Attention(), x, fake=True, prefer="inner")
    (found,) = graph.temperatures.foldings
    assert {name for name, *_ in found.weights} == {"q.weight", "q.bias"}
