"""Folders: `from_pretrained` loads the pruned model, with prunus or, where the config says it, without."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_language
import torch
import transformers
from prunus import CheckpointError, engine, files
from prunus.adapters.folder.fields import numbers_of, with_numbers
from prunus.adapters.folder.shaped import sealed
from torch import nn
from zoo_models import build_transformers

IDS = torch.arange(3, 19).view(1, 16)
PLAIN = ["MistralForCausalLM", "Qwen3ForCausalLM", "MixtralForCausalLM", "SwitchTransformersModel"]
PLAIN += ["BertModel", "GPT2LMHeadModel", "OPTForCausalLM", "CLIPModel"]
SHAPED = ["BertModel", "GPT2LMHeadModel", "BartModel", "ViTModel", "SwinModel", "CLIPModel"]


def pruned(name: str, **options) -> tuple[engine.Result, dict]:
    torch.manual_seed(0)
    model, inputs = build_transformers(name)
    options = options or {"params": 0.7}
    return engine.prune(model.eval(), example_inputs=inputs, **options), inputs


def llama(**settings):
    """With grouped queries, and room for what is generated."""
    small = {"hidden_size": 48, "intermediate_size": 90, "num_attention_heads": 8, "num_key_value_heads": 4}
    return tiny_language.llama(max_position_embeddings=64, **small, **settings)


def outputs(model, inputs):
    with torch.no_grad():
        found = model(**inputs)
    return [one for one in found.to_tuple() if isinstance(one, torch.Tensor)]


def assert_same(model, other, inputs):
    state, found = model.state_dict(), other.state_dict()
    assert state.keys() == found.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, found[name]), name
    for one, two in zip(outputs(model, inputs), outputs(other, inputs), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


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


OPTIONS = [("tokenizer", 3), ("max_shard_size", -1), ("max_shard_size", "x"), ("max_shard_size", "0GB")]
OPTIONS += [("max_shard_size", True), ("max_shard_size", None)]


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_an_option_of_another_kind_is_one_error(name, value, tmp_path):
    with pytest.raises(CheckpointError, match=f"{name}= is .*, not {value!r}"):
        engine.prune(llama(), params=0.8).save(tmp_path / "half", **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_is_a_function_is_not_saved(tmp_path):
    """It made tokens of texts for the prune, and nothing says how it is written."""
    data = ["0 1 2 3 4 5 6 7"] * 9
    result = engine.prune(llama(), params=0.8, data=data, tokenizer=lambda text: [*map(int, text.split())])
    assert result.save(tmp_path / "half").form == "plain"


def test_no_folder_to_write_into_is_told(tmp_path):
    result = engine.prune(llama(), params=0.8)
    for name in ("gone/half", "gone/half.safetensors"):
        with pytest.raises(CheckpointError, match=r"there is no folder .*gone; make it first"):
            result.save(tmp_path / name)


def test_the_home_of_the_user_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = engine.prune(llama(), params=0.8)
    for name in ("~/half", "~/half.safetensors"):
        result.save(name)
    assert {entry.name for entry in tmp_path.iterdir()} == {"half", "half.safetensors"}
    assert_same(result.model, engine.load("~/half"), {"input_ids": IDS})
    assert_same(result.model, engine.load("~/half.safetensors", llama()), {"input_ids": IDS})


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


def test_a_folder_of_somebody_else_stays(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half/thesis.tex").write_text("mine")
    result = engine.prune(llama(), params=0.8)
    with pytest.raises(CheckpointError, match="prunus did not write all of it"):
        result.save(tmp_path / "half")
    assert [file.name for file in tmp_path.rglob("*")] == ["half", "thesis.tex"]


@pytest.mark.parametrize("name", ["plan.json", "model.safetensors"])
def test_a_folder_with_a_file_that_could_be_ours_stays(name, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / name).write_text("{}")
    with pytest.raises(CheckpointError, match="choose another name"):
        engine.prune(llama(), params=0.8).save(tmp_path / "half")
    assert (tmp_path / "half" / name).read_text() == "{}"


def test_a_file_that_came_later_keeps_a_folder_from_being_replaced(tmp_path):
    result = engine.prune(llama(), params=0.8)
    result.save(tmp_path / "half")
    (tmp_path / "half/results").mkdir()
    (tmp_path / "half/results/notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="choose another name"):
        result.save(tmp_path / "half")
    assert (tmp_path / "half/results/notes.txt").read_text() == "mine"


def test_a_folder_that_was_to_be_replaced_comes_back(tmp_path, monkeypatch):
    """Whatever fails after it was moved away, a kill too: then the next save puts it back."""
    result = engine.prune(llama(), params=0.8)
    result.save(tmp_path / "half")
    before = (tmp_path / "half/model.safetensors").read_bytes()
    monkeypatch.setattr(files._Folder, "remove", lambda self: [file.close() for file in self._files])
    replace = Path.replace

    def dies(self, target):
        if self.name == "part" and Path(target).name == "half":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        result.save(tmp_path / "half")
    assert not (tmp_path / "half").exists()
    monkeypatch.undo()
    result.save(tmp_path / "other")
    assert (tmp_path / "half/model.safetensors").read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"half", "other"}


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


CHANGES = {
    "num_hidden_layers": (3, "has no model.layers.2"),
    "intermediate_size": (7, "is of .* by its config"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_weights_that_the_files_lack_are_never_random(name, tmp_path):
    engine.prune(llama(), params=0.8).save(tmp_path / "half")
    text = json.loads((tmp_path / "half/config.json").read_text())
    text[name], said = CHANGES[name]
    (tmp_path / "half/config.json").write_text(json.dumps(text))
    with pytest.raises(CheckpointError, match=said):
        engine.load(tmp_path / "half")


def test_a_class_that_is_no_model_is_one_error(tmp_path):
    engine.prune(llama(), params=0.8).save(tmp_path / "half")
    text = json.loads((tmp_path / "half/config.json").read_text())
    (tmp_path / "half/config.json").write_text(json.dumps({**text, "architectures": ["AutoTokenizer"]}))
    with pytest.raises(CheckpointError, match="names no class"):
        engine.load(tmp_path / "half")


def test_a_folder_of_prunus_is_replaced_as_a_whole(tmp_path):
    result = engine.prune(llama(), params=0.8)
    result.save(tmp_path / "half", max_shard_size="20KB")
    result.save(tmp_path / "half")
    assert not list((tmp_path / "half").glob("*-of-*"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["half"]


def test_a_model_that_the_plan_did_not_make_is_not_saved(tmp_path):
    result = engine.prune(llama(), params=0.8)
    with pytest.raises(CheckpointError, match="not what the plan makes"):
        engine.save(tmp_path / "half", llama(), result.plan)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    result = engine.prune(llama(), params=0.8)
    monkeypatch.setattr(type(result.model), "from_pretrained", lambda *args, **named: llama())
    with pytest.raises(CheckpointError, match="nothing was written"):
        result.save(tmp_path / "half")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.write_text("x"), lambda path: None]
)
def test_what_is_no_folder_of_transformers_is_one_error(make, tmp_path):
    make(tmp_path / "none")
    with pytest.raises(CheckpointError):
        engine.load(tmp_path / "none")


LIES = {
    "training": lambda record: record["attributes"].update(training=7),
    "num_heads": lambda record: record["attributes"].update(num_heads=-7),
    "no size": lambda record: record["shapes"].update({"pooler.dense.weight": [3, -4]}),
    "the buffer nope.x that": lambda record: record["buffers"].update({"nope.x": {"0": [1]}}),
    "the buffer pooler.x that": lambda record: record["buffers"].update({"pooler.x": {"0": [1]}}),
    "embeddings.position_ids that": lambda record: record["buffers"].update(
        {"embeddings.position_ids": {"1": [10**9]}}
    ),
    "shapes": lambda record: record.update(shapes="x"),
    "attributes": lambda record: record.pop("attributes"),
}


def rewritten(folder, change, sum_too):
    """The record in a folder as somebody else has it."""
    text = json.loads((folder / "config.json").read_text())
    record = text["quantization_config"]["record"]
    change(record)
    text["quantization_config"]["record"] = sealed(record) if sum_too else record
    (folder / "config.json").write_text(json.dumps(text))


@pytest.mark.parametrize("said", LIES)
def test_a_record_that_lies_is_one_error(said, tmp_path):
    pruned("BertModel", ratio=0.3)[0].save(tmp_path / "half")
    rewritten(tmp_path / "half", LIES[said], sum_too=True)
    with pytest.raises(CheckpointError, match=said):
        engine.load(tmp_path / "half")


@pytest.mark.parametrize("number", ["head_dim", "in_features"])
def test_a_number_of_a_record_is_not_changed(number, tmp_path):
    """Such a model would load, and fail or compute something else when it is used."""
    engine.prune(llama(), ratio=0.5, prefer="inner", kinds=["qk", "v"]).save(tmp_path / "half")

    def change(record):
        name = next(name for name in record["attributes"] if name.endswith(number))
        record["attributes"][name] += 1

    rewritten(tmp_path / "half", change, sum_too=False)
    with pytest.raises(CheckpointError, match="was changed since it was saved"):
        engine.load(tmp_path / "half")


def test_tensors_that_the_model_does_not_have_are_an_error_or_a_warning(tmp_path):
    """In a folder of prunus its config was changed; any other may be for several classes."""
    engine.prune(llama(), params=0.8).save(tmp_path / "half")
    config = tmp_path / "half/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"has model\.layers\.1.* and 8 more, which the model"):
        engine.load(tmp_path / "half")
    (tmp_path / "half/prunus.json").unlink()
    with pytest.warns(UserWarning, match=r"has model\.layers\.1.* and 8 more") as told:
        engine.load(tmp_path / "half")
    assert told[0].filename == __file__


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


@pytest.mark.parametrize("path", [None, 7, "", "a\0b"])
def test_what_is_no_path_is_one_error(path):
    with pytest.raises(CheckpointError):
        engine.prune(llama(), params=0.8).save(path)


def test_other_models_are_files(tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    result = engine.prune(model, example_inputs=torch.randn(1, 4))
    assert result.save(tmp_path / "half") is None
    assert (tmp_path / "half").is_file()
    bert, _ = pruned("BertModel")
    assert bert.save(tmp_path / "bert.safetensors") is None
    assert Path(tmp_path / "bert.safetensors").is_file()


def test_numbers_of_a_config_are_found_and_set_wherever_they_are():
    config = transformers.CLIPConfig(text_config={"hidden_size": 48}, vision_config={"hidden_size": 96})
    assert numbers_of(config)["text_config", "hidden_size"] == 48
    changed = with_numbers(config, {("text_config", "hidden_size"): 24})
    assert (changed.text_config.hidden_size, config.text_config.hidden_size) == (24, 48)
    swin = with_numbers(transformers.SwinConfig(num_heads=[2, 4]), {("num_heads", 1): 3})
    assert list(swin.num_heads) == [2, 3]
