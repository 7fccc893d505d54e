"""Folders that are damaged, or lie, or are none: one clear error, and never a model that is another one."""

from __future__ import annotations

import json

import pytest
from prunus import CheckpointError, PlanError, engine
from prunus.adapters.folder.shaped import sealed
from saved_folders import llama, pruned

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


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "cannot load "),
        (lambda path: path.write_text("x"), "there is no folder "),
        (lambda path: None, "there is no folder "),
    ],
)
def test_what_is_no_folder_of_transformers_is_one_error(make, said, tmp_path):
    make(tmp_path / "none")
    with pytest.raises(CheckpointError, match=said):
        engine.load(tmp_path / "none")


def test_what_is_saved_without_a_plan_is_one_error(tmp_path):
    for path in (tmp_path / "half", tmp_path / "half.safetensors"):
        with pytest.raises(PlanError, match="this is no plan but a NoneType"):
            engine.save(path, llama(), None)
    assert not list(tmp_path.iterdir())


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
