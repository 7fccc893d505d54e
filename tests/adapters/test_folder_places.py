"""Where a folder is written: in the place of nothing that matters, whole or not at all, as it was asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest
import tiny_language
import torch
from chaos.disturbances import Lines
from prunus import CheckpointError, engine, files
from saved_folders import IDS, assert_same, llama, pruned
from torch import nn

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


ROOMS = ("prunus/files.py", "folder/folder.py", "folder/beside.py", "folder/same.py")


def files_in(folder):
    """What is there, by name; safetensors has keys in any order. `None` where there is no folder."""
    found = {one.relative_to(folder).as_posix(): one for one in folder.rglob("*") if one.is_file()}
    return {name: sorted(one.read_bytes()) for name, one in found.items()} if folder.exists() else None


def test_memory_that_runs_out_says_nothing_of_the_model(tmp_path, monkeypatch):
    """The model that is loaded for comparison may be too much; then it is not one that cannot be loaded."""
    result = engine.prune(llama(), params=0.8)

    def full(*args, **options):
        raise MemoryError

    monkeypatch.setattr(type(result.model), "from_pretrained", full)
    with pytest.raises(MemoryError):
        result.save(tmp_path / "half")
    assert not list(tmp_path.iterdir())


def left_behind(model):
    """What a save changes for a while, beside the folder."""
    from transformers.utils import logging

    return list(vars(model)), str(model.config), logging.get_verbosity(), logging.is_progress_bar_enabled()


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("form", ["plain", "shaped"])
def test_an_interrupt_leaves_what_was_there_or_the_whole(form, replaced, tmp_path):
    """At any line, with no leftovers; and the next save is as any other."""
    options = {"ratios": {"model.layers.0.*": 0.25}} if form == "shaped" else {}
    result = engine.prune(tiny_language.llama(), ratio=0.5, kinds=["hidden"], **options)
    before = left_behind(result.model)
    assert result.save(tmp_path / "half").form == form
    assert left_behind(result.model) == before
    whole = files_in(tmp_path / "half")
    counted, chance = Lines(), Random(0)
    if not replaced:
        shutil.rmtree(tmp_path / "half")
    with counted:
        result.save(tmp_path / "half")
    lines = [line for line in counted.met if line[0].co_filename.endswith(ROOMS)]
    first = [line for line in lines if line[0].co_name in ("quiet", "_without_quantizer", "_configs_kept")]
    for line in [*first, *chance.sample(lines, 12)]:
        if not replaced:
            shutil.rmtree(tmp_path / "half", ignore_errors=True)
        was, disturbance = files_in(tmp_path / "half"), Lines(line, chance.randrange(counted.met[line]))
        with pytest.raises(KeyboardInterrupt), disturbance:
            result.save(tmp_path / "half")
        assert files_in(tmp_path / "half") in (was, whole), disturbance
        assert {one.name for one in tmp_path.iterdir()} <= {"half"}, disturbance
        assert left_behind(result.model) == before, disturbance
    result.save(tmp_path / "half")
    assert files_in(tmp_path / "half") == whole
