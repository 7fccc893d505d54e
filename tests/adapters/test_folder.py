"""Folders: `from_pretrained` loads the pruned model, with prunus or, where the config says it, without."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
import transformers
from prunus import CheckpointError, engine
from prunus.adapters.folder.fields import numbers_of, with_numbers
from saved_folders import IDS, assert_same, llama, outputs, pruned
from torch import nn

PLAIN = ["MistralForCausalLM", "Qwen3ForCausalLM", "MixtralForCausalLM", "SwitchTransformersModel"]
PLAIN += ["BertModel", "GPT2LMHeadModel", "OPTForCausalLM", "CLIPModel"]
SHAPED = ["BertModel", "GPT2LMHeadModel", "BartModel", "ViTModel", "SwinModel", "CLIPModel"]


@pytest.mark.parametrize("name", PLAIN)
def test_a_config_says_the_sizes(name, tmp_path):
    result, inputs = pruned(name)
    assert result.save(tmp_path / "half").form == "plain"
    assert "quantization_config" not in json.loads((tmp_path / "half/config.json").read_text())
    assert_same(result.model, type(result.model).from_pretrained(tmp_path / "half"), inputs)


@pytest.mark.parametrize("name", SHAPED)
def test_what_no_config_says_is_beside_it(name, tmp_path):
    result, inputs = pruned(name, ratio=0.3)
    saved = result.save(tmp_path / "half")
    assert saved.form == "shaped" and saved.reason and result.folder is saved
    assert f"saved shaped: load it after `import prunus`, as {saved.reason}" in str(result)
    loaded = type(result.model).from_pretrained(tmp_path / "half")
    assert_same(result.model, loaded, inputs)
    assert not loaded.is_quantized
    loaded.save_pretrained(tmp_path / "again")
    assert_same(result.model, type(result.model).from_pretrained(tmp_path / "again"), inputs)


def test_blocks_of_different_widths_are_shaped_and_generate(tmp_path):
    model = llama(tie_word_embeddings=True)
    result = engine.prune(
        model, ratio=0.5, ratios={"model.layers.0.*": 0.25}, kinds=["stream", "hidden", "heads"]
    )
    assert result.save(tmp_path / "half").form == "shaped"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert_same(model, loaded, {"input_ids": IDS})
    for options in ({}, {"num_beams": 3}, {"cache_implementation": "static"}):
        texts = [one.generate(IDS, max_new_tokens=6, do_sample=False, **options) for one in (model, loaded)]
        assert torch.equal(*texts)


def test_a_head_size_is_solved_or_shaped_but_never_computed_anew(tmp_path):
    """Of half of every head, rotary tables and scaling stay those of the whole head."""
    model = llama()
    result = engine.prune(model, ratio=0.5, prefer="inner", kinds=["qk", "v"])
    saved = result.save(tmp_path / "half")
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "half")
    assert_same(model, loaded, {"input_ids": IDS})
    assert saved.form == "shaped"


def test_a_shaped_model_is_pruned_and_saved_again(tmp_path):
    engine.prune(llama(), ratio=0.25, ratios={"model.layers.0.*": 0.5}).save(tmp_path / "once")
    model = engine.load(tmp_path / "once")
    engine.prune(model, ratio=0.25, ratios={"model.layers.0.*": 0.0}, prefer="inner").save(tmp_path / "twice")
    assert_same(model, engine.load(tmp_path / "twice"), {"input_ids": IDS})


def test_what_was_shaped_may_be_plain_again(tmp_path):
    engine.prune(llama(), ratio=0.5, only=["model.layers.0.mlp"]).save(tmp_path / "once")
    model = engine.load(tmp_path / "once")
    result = engine.prune(model, ratio=0.5, only=["model.layers.1.mlp"])
    assert result.save(tmp_path / "twice").fields == {"intermediate_size": 45}
    assert_same(model, engine.load(tmp_path / "twice"), {"input_ids": IDS})


def test_plain_folders_load_where_prunus_is_not_and_shaped_ones_refuse(tmp_path):
    result, inputs = pruned("MistralForCausalLM")
    result.save(tmp_path / "plain")
    pruned("BertModel", ratio=0.3)[0].save(tmp_path / "shaped")
    torch.save((inputs, outputs(result.model, inputs)), tmp_path / "expected.pt")
    code = f"""
import sys
sys.modules["prunus"] = None
import torch, transformers
inputs, expected = torch.load(r"{tmp_path}/expected.pt")
model = transformers.AutoModelForCausalLM.from_pretrained(r"{tmp_path}/plain")
with torch.no_grad():
    torch.testing.assert_close(model(**inputs).logits, expected[0], rtol=1e-5, atol=1e-6)
try:
    transformers.AutoModel.from_pretrained(r"{tmp_path}/shaped")
except Exception:
    print("refused")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["refused"]


@pytest.mark.parametrize("first", ["prunus", "transformers"])
def test_shaped_folders_load_once_prunus_is_imported(first, tmp_path):
    pruned("BertModel", ratio=0.3)[0].save(tmp_path / "shaped")
    imports = ["import prunus", "from transformers import AutoModel"][:: 1 if first == "prunus" else -1]
    code = "\n".join(
        [*imports, f"print(len(list(AutoModel.from_pretrained(r'{tmp_path}/shaped').parameters())))"]
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and int(run.stdout) > 10, run.stderr


def test_importing_prunus_imports_no_transformers():
    code = "import sys, prunus; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_files_of_the_source_come_along(tmp_path):
    source = tmp_path / "source"
    llama().save_pretrained(source)
    for name in ("tokenizer.json", "chat_template.jinja", "preprocessor_config.json", "notes.py"):
        (source / name).write_text("{}")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    result = engine.prune(model, params=0.7)
    result.save(tmp_path / "half", max_shard_size="20KB")
    names = {file.name for file in (tmp_path / "half").iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "preprocessor_config.json"} < names
    assert {"generation_config.json", "model.safetensors.index.json", "plan.json", "README.md"} < names
    assert "notes.py" not in names and "model.safetensors" not in names
    assert engine.Plan.from_json((tmp_path / "half/plan.json").read_text()) == result.plan
    card = (tmp_path / "half/README.md").read_text()
    assert f"{result.before:,} before, {result.after:,} after" in card and "LlamaForCausalLM" in card
    assert_same(model, engine.load(tmp_path / "half"), {"input_ids": IDS})


def test_folders_of_the_source_come_along_if_they_can_be_a_tokenizers(tmp_path):
    """And none of what else may lie where a model was saved."""
    source = tmp_path / "source"
    llama().save_pretrained(source)
    for name in (
        "additional_chat_templates/tool.jinja",
        "1_Pooling/config.json",
        "checkpoint-5/trainer_state.json",
        "checkpoint-5/optimizer.pt",
        ".cache/known.json",
        "photos/me.jpg",
        "photos/list.txt",
    ):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("{}")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    result = engine.prune(model, params=0.7)
    for _ in range(2):
        result.save(tmp_path / "half")
    found = {file.relative_to(tmp_path / "half").as_posix() for file in (tmp_path / "half").rglob("*/*")}
    assert found == {"additional_chat_templates/tool.jinja", "1_Pooling/config.json"}


@pytest.mark.parametrize("form", ["plain", "shaped"])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_second_plan_tells_that_it_is_one(loaded, form, tmp_path):
    """And that of both steps does not."""
    model, options = llama(), {"ratios": {"model.layers.0.*": 0.25}} if form == "shaped" else {}
    first = engine.prune(model, ratio=0.5, kinds=["hidden"], **options)
    saved = first.save(tmp_path / "once")
    assert saved.form == form and not saved.again
    model = engine.load(tmp_path / "once") if loaded else model
    second = engine.prune(model, ratio=0.5, kinds=["hidden"])
    assert second.save(tmp_path / "twice").again
    told = "plan.json tells the last step alone, of a model pruned before"
    assert told in str(second) and told in (tmp_path / "twice/README.md").read_text()
    assert not engine.save(tmp_path / "whole", model, first.plan.followed_by(second.plan)).again


def test_a_mean_goes_into_biases_that_a_config_adds(tmp_path):
    """The way that the note shows, for a model that has none: in, pruned, out, and the same."""
    llama().save_pretrained(tmp_path / "source")
    options = {"ratio": 0.5, "kinds": ["hidden"], "compensate": "mean", "data": [{"input_ids": IDS}]}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "source").eval()
    note = [one for one in engine.prune(model, **options).notes if "mlp_bias=True" in one]
    assert len(note) == 1 and "model.layers.0.mlp.down_proj.weight" in note[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "source", mlp_bias=True).eval()
    result = engine.prune(model, **options)
    assert not [one for one in result.notes if "not corrected" in one]
    assert model.model.layers[0].mlp.down_proj.bias.abs().min() > 0
    assert result.save(tmp_path / "half").form == "plain"
    assert_same(model, engine.load(tmp_path / "half"), {"input_ids": IDS})


@pytest.mark.parametrize(("extra", "told"), [(True, "does not make"), (False, "makes")])
def test_tensors_that_no_config_makes_are_told(extra, told, tmp_path):
    """They can be kept in a file."""
    model = llama()
    down = model.model.layers[1].mlp.down_proj
    if extra:
        down.bias = nn.Parameter(torch.zeros(48))
    else:
        model.model.layers[1].input_layernorm = nn.Identity()
    result = engine.prune(model, ratio=0.5, kinds=["hidden"])
    with pytest.raises(CheckpointError, match=rf"config {told} model\.layers\.1.*half\.safetensors"):
        result.save(tmp_path / "half")
    result.save(tmp_path / "half.safetensors")


def test_what_a_schedule_made_is_saved(tmp_path):
    """In one folder, with the plan of all steps."""
    model = llama()
    schedule = engine.Schedule(model, example_inputs={"input_ids": IDS}, params=0.6, steps=3, every=1)
    while not schedule.done:
        schedule.step()
    saved = engine.save(tmp_path / "half", model, schedule.plan)
    assert saved.form == "plain" and not saved.again
    assert_same(model, engine.load(tmp_path / "half"), {"input_ids": IDS})
    assert engine.Plan.from_json((tmp_path / "half/plan.json").read_text()) == schedule.plan


def test_files_below_a_folder_come_along(tmp_path):
    """As a tokenizer with several chat templates writes them."""

    class Several:
        def save_pretrained(self, folder):
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates/tool.jinja").write_text("{{messages}}")

    result = engine.prune(llama(), params=0.8)
    for _ in range(2):
        result.save(tmp_path / "half", tokenizer=Several())
    assert (tmp_path / "half/additional_chat_templates/tool.jinja").read_text() == "{{messages}}"


def test_a_shaped_model_pickles_copies_and_trains(tmp_path):
    result, inputs = pruned("GPT2LMHeadModel", ratio=0.3)
    result.save(tmp_path / "half")
    loaded = engine.load(tmp_path / "half")
    for other in (pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):
        assert_same(loaded, other, inputs)
    loaded(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(one.grad is not None for one in loaded.parameters())


def test_the_base_of_a_shaped_model_loads(tmp_path):
    result, inputs = pruned("GPT2LMHeadModel", ratio=0.3)
    result.save(tmp_path / "half")
    base = transformers.AutoModel.from_pretrained(tmp_path / "half")
    assert_same(result.model.transformer, base, inputs)
    base.save_pretrained(tmp_path / "base")
    assert_same(base, transformers.AutoModel.from_pretrained(tmp_path / "base"), inputs)


def test_numbers_of_a_config_are_found_and_set_wherever_they_are():
    config = transformers.CLIPConfig(text_config={"hidden_size": 48}, vision_config={"hidden_size": 96})
    assert numbers_of(config)["text_config", "hidden_size"] == 48
    changed = with_numbers(config, {("text_config", "hidden_size"): 24})
    assert (changed.text_config.hidden_size, config.text_config.hidden_size) == (24, 48)
    swin = with_numbers(transformers.SwinConfig(num_heads=[2, 4]), {("num_heads", 1): 3})
    assert list(swin.num_heads) == [2, 3]
