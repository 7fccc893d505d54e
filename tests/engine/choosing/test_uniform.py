"""Models with a config keep one number for all blocks, and language models their residual stream."""

from __future__ import annotations

import pytest
import torch
from prunus import PlanError, engine
from tiny_language import llama as tiny_llama
from tiny_language import tokens
from torch import nn
from transformers import AlbertConfig, AlbertForMaskedLM, T5Config
from transformers import T5ForConditionalGeneration as T5


def llama():
    """With widths that few numbers divide, and three blocks."""
    return tiny_llama(intermediate_size=90, num_hidden_layers=3, num_key_value_heads=4)


def albert():
    torch.manual_seed(0)
    small = {"embedding_size": 16, "hidden_size": 32, "intermediate_size": 90, "num_attention_heads": 4}
    return AlbertForMaskedLM(AlbertConfig(vocab_size=50, **small))


def t5():
    torch.manual_seed(0)
    config = T5Config(vocab_size=50, d_model=32, num_layers=3, num_heads=8, d_kv=4, d_ff=90)
    config.decoder_start_token_id = 0
    return T5(config)


def widths(model, last):
    return {module.out_features for name, module in model.named_modules() if name.endswith(last)}


@pytest.mark.parametrize("budget", [0.9, 0.8, 0.7, 0.63])
def test_all_blocks_keep_the_same_number(budget):
    model = llama()
    whole = sum(one.numel() for one in model.parameters())
    engine.prune(model, params=budget)
    assert len(widths(model, "up_proj")) == len(widths(model, "q_proj")) == 1
    assert sum(one.numel() for one in model.parameters()) / whole == pytest.approx(budget, abs=0.01)


def test_hidden_units_go_first_and_heads_when_these_are_not_enough():
    model = llama()
    few, many = engine.prune(model, params=0.7, dry_run=True), engine.prune(model, params=0.4, dry_run=True)
    assert {few.graph.group(name).kind for name in few.plan.groups} == {"out"}
    assert any("hidden units alone" in note for note in few.notes)
    assert {many.graph.group(name).kind for name in many.plan.groups} == {"out", "heads"}
    assert not any("hidden units alone" in note for note in many.notes)


def test_encoder_and_decoder_keep_the_same_number():
    model = t5()
    engine.prune(model, params=0.6, kinds=["heads", "d", "hidden"])
    assert len(widths(model, ".q")) == len(widths(model, ".wi")) == 1


def test_the_slots_are_each_blocks_own():
    plan = engine.prune(llama(), params=0.8, dry_run=True).plan
    kept = [slots for name, slots in plan.groups.items() if ".mlp." in name]
    assert len(kept) == 3 and len(set(map(len, kept))) == 1 and len(set(map(tuple, kept))) > 1


def test_a_ratio_of_its_own_is_a_blocks_own():
    model = llama()
    engine.prune(model, params=0.8, ratios={"model.layers.0.*": 0.0})
    assert model.model.layers[0].mlp.up_proj.out_features == 90
    assert (
        model.model.layers[1].mlp.up_proj.out_features == model.model.layers[2].mlp.up_proj.out_features < 90
    )


def test_models_without_a_config_are_pruned_locally():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    options = {"example_inputs": torch.randn(2, 4), "params": 0.7, "dry_run": True}
    assert engine.prune(model, **options).plan == engine.prune(model, scope="local", **options).plan


@pytest.mark.parametrize("model", [llama(), albert()])
def test_the_residual_stream_of_a_language_model_is_left_whole(model):
    result = engine.prune(model, ratio=0.5, dry_run=True)
    reasons = [why for why in result.left_alone.values() if "residual stream" in why]
    assert reasons and all("kinds=" in why for why in reasons)
    assert result.plan.groups


@pytest.mark.parametrize("asked", [{"kinds": ["stream", "hidden"]}, {"only": ["model.embed_tokens.d"]}])
def test_the_residual_stream_is_pruned_when_it_is_named(asked):
    model = llama()
    engine.prune(model, ratio=0.5, **asked)
    assert model.model.embed_tokens.embedding_dim == 16
    assert model.model.layers[0].self_attn.q_proj.out_features == 32


@pytest.mark.parametrize("pattern", ["*.mlp.*", "*.mlp.gate_proj", "*.mlp"])
def test_a_pattern_of_modules_leaves_the_stream_alone(pattern):
    model = llama()
    engine.prune(model, ratio=0.5, only=[pattern])
    assert model.model.embed_tokens.embedding_dim == 32
    assert widths(model, "up_proj") == {45}
    assert widths(model, "q_proj") == {32}


def test_data_rank_the_hidden_units_of_a_language_model():
    data = [{"input_ids": tokens(2, 12)}]
    plan = engine.prune(llama(), params=0.8, data=data, dry_run=True).plan
    assert plan == engine.prune(llama(), params=0.8, data=data, criterion="wanda", dry_run=True).plan
    assert plan != engine.prune(llama(), params=0.8, data=data, criterion="magnitude", dry_run=True).plan


def test_kinds_that_there_are_not_are_told():
    with pytest.raises(PlanError, match=r"there is no 'streams' here, there are .*hidden.*stream"):
        engine.prune(llama(), kinds=["streams"])
