"""A checkpoint pruned tensor by tensor is what the loaded model gives, bit for bit."""

from __future__ import annotations

import json

import pytest
import tiny_language
import torch
import transformers
from prunus import CheckpointError, PlanError, engine
from prunus.adapters.streaming.shards import Shard, ShardFile
from prunus.adapters.streaming.stored import DTYPES, Stored
from safetensors.torch import load_file, save_file

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
ALL = {"ratio": 0.5, "only": ["*"]}


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100)
    )


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(intermediate_size=64, **SMALL))


def t5():
    config = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**config))


def mixtral():
    sizes = {"intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 4}
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SMALL, **sizes))


def tied():
    return tiny_language.llama(tie_word_embeddings=True)


def stored(make, folder, dtype=torch.bfloat16, **options):
    torch.manual_seed(0)
    make().to(dtype).save_pretrained(folder, **options)
    return folder


def both(source, tmp_path, **options):
    """What the loaded model gives, and what the checkpoint does; in folders `memory` and `disk`."""
    named = json.loads((source / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, named).from_pretrained(source, dtype="auto")
    expected = engine.prune(model, **options)
    expected.save(tmp_path / "memory", max_shard_size="40KB")
    found = engine.prune_checkpoint(source, tmp_path / "disk", shard_size="40KB", **options)
    assert found.plan == expected.plan
    assert (found.folder.form, found.folder.fields) == (expected.folder.form, expected.folder.fields)
    assert (found.before, found.after) == (expected.before, expected.after)
    return expected, found


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def tensors_in(folder):
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (tiny_language.llama, {"params": 0.7}),
        (tiny_language.llama, {**ALL, "criterion": "fpgm", "scope": "local"}),
        (tied, {"params": 0.8, "criterion": "l1"}),
        (tied, ALL),
        (bert, {**ALL, "criterion": "lamp", "scope": "global"}),
        (gpt2, ALL),
        (t5, {**ALL, "criterion": "random"}),
    ],
)
def test_the_folders_are_the_same_byte_for_byte(make, options, dtype, tmp_path):
    source = stored(make, tmp_path / "source", dtype, max_shard_size="50KB")
    both(source, tmp_path, **options)
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


@pytest.mark.parametrize("options", [{"params": 0.7}, {**ALL, "criterion": "l1"}, {**ALL, "prefer": "inner"}])
def test_experts_are_merged_and_parted_again(options, tmp_path):
    """In memory they are one tensor, on disk each has its own."""
    source = stored(mixtral, tmp_path / "source")
    both(source, tmp_path, **options)
    expected, found = tensors_in(tmp_path / "memory"), tensors_in(tmp_path / "disk")
    assert expected.keys() == found.keys()
    assert any(".experts.3.w1" in name or "experts.3.gate_proj" in name for name in found)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    index = json.loads((tmp_path / "disk/model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == found.keys()
    loaded = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "disk", dtype="auto")
    for name, tensor in engine.load(tmp_path / "memory").state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_of_large_tensors_scores_are_taken_some_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("prunus.engine.scoring.slot_sums._ENTRIES", 300)
    source = stored(tiny_language.llama, tmp_path / "source", torch.float32)
    both(source, tmp_path, **ALL)
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


def test_tokenizers_and_how_it_generates_go_along(tmp_path):
    source = stored(tiny_language.llama, tmp_path / "source")
    (source / "tokenizer.json").write_text("{}")
    config = transformers.GenerationConfig(max_new_tokens=7, eos_token_id=3)
    config.save_pretrained(source)
    engine.prune_checkpoint(source, tmp_path / "disk", params=0.7)
    assert (tmp_path / "disk/tokenizer.json").read_text() == "{}"
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "disk").max_new_tokens == 7


def test_what_was_pruned_is_pruned_again(tmp_path):
    """A shaped folder tells its sizes in a record, which the second one goes on from."""
    first = stored(tiny_language.llama, tmp_path / "source")
    options = {"ratio": 0.25, "kinds": ["heads", "hidden"], "scope": "local", "criterion": "l1"}
    engine.prune_checkpoint(first, tmp_path / "once", **options)
    model = engine.load(tmp_path / "once")
    expected = engine.prune(model, **options)
    found = engine.prune_checkpoint(tmp_path / "once", tmp_path / "twice", **options)
    assert found.plan == expected.plan
    assert expected.save(tmp_path / "memory").form == found.folder.form
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, engine.load(tmp_path / "twice").state_dict()[name]), name


@pytest.mark.parametrize("as_file", [False, True])
def test_a_plan_made_elsewhere_is_carried_out(as_file, tmp_path):
    source = stored(tied, tmp_path / "source")
    model = transformers.LlamaForCausalLM.from_pretrained(source, dtype="auto")
    expected = engine.prune(model, ratio=0.3, criterion="random")
    given = expected.plan
    if as_file:
        given = tmp_path / "plan.json"
        given.write_text(expected.plan.to_json())
    engine.prune_checkpoint(source, tmp_path / "disk", plan=given)
    expected.save(tmp_path / "memory")
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


def test_a_callable_sees_the_values(tmp_path):
    def last_first(group, tensors):
        return sum(tensors.slots(group, member).float().sum(1) for member in tensors.weights(group))

    source = stored(tiny_language.llama, tmp_path / "source", torch.float32)
    both(source, tmp_path, ratio=0.5, criterion=last_first)


def test_the_result_has_no_values_to_save_again(tmp_path):
    source = stored(tiny_language.llama, tmp_path / "source")
    result = engine.prune_checkpoint(source, tmp_path / "disk", params=0.7)
    with pytest.raises(CheckpointError, match="on the meta device and has no values"):
        result.save(tmp_path / "again")


def test_dtypes_are_those_that_the_library_gives_and_what_no_model_has_is_left(tmp_path):
    source = stored(tiny_language.llama, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file({**tensors, "other": torch.ones(3)}, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="has other, which the model that its config makes does not have"):
        both(source, tmp_path, params=0.7)
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


def test_progress_tells_of_every_tensor(tmp_path):
    source = stored(tiny_language.llama, tmp_path / "source")
    told = []
    engine.prune_checkpoint(source, tmp_path / "disk", params=0.7, progress=lambda *one: told.append(one))
    count = len(Stored.at(source).tensors)
    assert all(one[2] == count for one in told)
    assert [done for what, done, _ in told if what == "writing"][-1] == count
    assert {what for what, _, _ in told} == {"reading", "writing"}
    read = [done for what, done, _ in told if what == "reading"]
    assert read == list(range(1, len(read) + 1))  # none is read twice to be scored


def test_a_file_is_the_librarys_byte_for_byte(tmp_path):
    """Of every dtype, in any order, also tensors without values or axes."""
    tensors = {
        f"t{number % 3}.{name}é": torch.arange(2 * number).view(2, number).to(dtype)
        for number, (name, dtype) in enumerate(DTYPES.items())
        if name != "BOOL"
    }
    tensors |= {"bool": torch.tensor([True, False]), "one": torch.tensor(3.0), "none": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "library", metadata={"format": "pt"})
    with ShardFile(tmp_path / "ours", Shard.of("ours", tensors)) as file:
        for name in reversed(list(tensors)):
            file.write(name, tensors[name])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": [torch.zeros(1)]}, "data= needs a model that runs"),
        ({"loss": abs}, "loss= needs a model"),
        ({"compensate": "mean"}, "compensate= needs a model"),
        ({"latency": 0.5}, "latency= needs a model"),
        ({"criterion": "wanda"}, "'wanda' needs data"),
        ({"criterion": "taylor"}, "'taylor' needs data"),
        ({"criterion": "best"}, "no criterion 'best'"),
        ({"colour": 1}, "no option colour=; known are exact_only"),
        ({"ratio": 1.5}, "a ratio is a fraction"),
        ({"params": 0.5, "macs": 0.5}, "give one of them"),
        ({"plan": engine.Plan(), "ratio": 0.5}, "plan= tells what goes"),
        ({"plan": 7}, "this is no plan but a int"),
        ({"plan": "no/plan.json"}, "there is no file"),
    ],
)
def test_what_cannot_be_had_is_told_before_any_work(options, told, tmp_path):
    with pytest.raises(PlanError, match=told):
        engine.prune_checkpoint(tmp_path / "nowhere", tmp_path / "disk", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("equal", [True, False])
def test_a_tied_weight_that_is_stored_twice(tmp_path, equal):
    """It is tied if both are the same, as it is in memory."""
    source = stored(tied, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = table.clone() if equal else table.flip(0).contiguous()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    both(source, tmp_path, ratio=0.5, only=["*"])
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")
