"""A pruned checkpoint appears whole or not at all, goes on after a kill, and bad sources are told."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import tiny_language
import torch
from prunus import CheckpointError, PlanError, PrunusError, engine
from prunus.adapters.streaming.resume import beside_of

INDEX = "model.safetensors.index.json"
OPTIONS = {"ratio": 0.3, "kinds": ["hidden", "heads"], "shard_size": "10KB"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with several shards."""
    folder = tmp_path_factory.mktemp("checkpoint") / "source"
    tiny_language.llama().to(torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
    return folder


@pytest.fixture
def source(checkpoint, tmp_path):
    return Path(shutil.copytree(checkpoint, tmp_path / "source"))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def in_a_child(source, target, progress):
    """Prune in a process that may be killed; its exit status, or minus the signal."""
    child = os.fork()
    if not child:
        try:
            engine.prune_checkpoint(source, target, progress=progress, **OPTIONS)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step):
    """What kills its process when progress is told for the step-th time."""
    steps = iter(range(step))

    def progress(*_):
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


@pytest.mark.parametrize("step", sorted(random.Random(0).sample(range(28), 5)))
def test_killed_it_goes_on_and_ends_with_the_same_bytes(step, source, tmp_path):
    engine.prune_checkpoint(source, tmp_path / "whole", **OPTIONS)
    target = tmp_path / "target"
    assert in_a_child(source, target, killed_at(step)) == -signal.SIGKILL
    assert not target.exists()
    finished = {file.name: file.stat().st_mtime_ns for file in beside_of(target).glob("done/*.safetensors")}
    kept = {}

    def progress(what, done, count):
        kept.update(
            (file.name, file.stat().st_mtime_ns) for file in beside_of(target).glob("done/*.safetensors")
        )

    engine.prune_checkpoint(source, target, progress=progress, **OPTIONS)
    assert {name: kept[name] for name in finished} == finished
    assert contents(target) == contents(tmp_path / "whole")
    assert not beside_of(target).exists()


def test_what_is_left_of_other_work_is_not_taken(source, tmp_path):
    target = tmp_path / "target"
    assert in_a_child(source, target, killed_at(25)) == -signal.SIGKILL
    assert list(beside_of(target).glob("done/*.safetensors"))
    other = {**OPTIONS, "criterion": "random"}
    engine.prune_checkpoint(source, tmp_path / "whole", **other)
    engine.prune_checkpoint(source, target, **other)
    assert contents(target) == contents(tmp_path / "whole")


def test_a_source_that_changed_meanwhile_is_read_anew(source, tmp_path):
    target = tmp_path / "target"
    assert in_a_child(source, target, killed_at(25)) == -signal.SIGKILL
    tiny_language.llama(rms_norm_eps=0.1).to(torch.bfloat16).save_pretrained(source, max_shard_size="20KB")
    engine.prune_checkpoint(source, target, **OPTIONS)
    engine.prune_checkpoint(source, tmp_path / "whole", **OPTIONS)
    assert contents(target) == contents(tmp_path / "whole")


def test_a_folder_of_ours_is_replaced_and_others_are_not(source, tmp_path):
    target = tmp_path / "target"
    engine.prune_checkpoint(source, target, **OPTIONS)
    engine.prune_checkpoint(source, target, **{**OPTIONS, "ratio": 0.5})
    assert '"intermediate_size": 24' in (target / "config.json").read_text()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="prunus did not write all of it"):
        engine.prune_checkpoint(source, target, **OPTIONS)
    assert (target / "notes.txt").exists()
    (target / "notes.txt").unlink()
    with pytest.raises(CheckpointError, match="replaced by its own"):
        engine.prune_checkpoint(target, target, **OPTIONS)
    assert (target / "config.json").exists()


def test_two_do_not_write_one_folder(source, tmp_path):
    target = tmp_path / "target"
    told = []

    def progress(what, done, count):
        if what == "writing" and not told:
            with pytest.raises(CheckpointError, match="another process is writing it") as caught:
                engine.prune_checkpoint(source, target, **OPTIONS)
            told.append(caught)

    engine.prune_checkpoint(source, target, progress=progress, **OPTIONS)
    assert told and target.exists()


def test_no_space_left_is_one_error_and_it_goes_on(source, tmp_path, monkeypatch):
    from prunus.adapters.streaming.shards import ShardFile

    target = tmp_path / "target"
    engine.prune_checkpoint(source, tmp_path / "whole", **OPTIONS)
    write, left = ShardFile.write, iter(range(9))

    def full(self, name, tensor):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, name, tensor)

    monkeypatch.setattr(ShardFile, "write", full)
    with pytest.raises(
        CheckpointError, match=r"cannot write .*target.*: No space left on device; once that is mended"
    ):
        engine.prune_checkpoint(source, target, **OPTIONS)
    assert not target.exists()
    monkeypatch.undo()
    engine.prune_checkpoint(source, target, **OPTIONS)
    assert contents(target) == contents(tmp_path / "whole")


# --- sources that are not whole ----------------------------------------------------------------------------


def of_index(source, change):
    index = json.loads((source / INDEX).read_text())
    change(index["weight_map"])
    (source / INDEX).write_text(json.dumps(index))


def last_shard(source):
    return sorted(source.glob("*.safetensors"))[-1]


def cut_off(source):
    os.truncate(last_shard(source), last_shard(source).stat().st_size - 10)


def one_removed(source):
    last_shard(source).unlink()


def names_missing(source):
    of_index(source, lambda files: files.pop("model.norm.weight"))


def names_too_many(source):
    of_index(source, lambda files: files.update(other="model-00001-of-00002.safetensors"))


def elsewhere(source):
    of_index(source, lambda files: files.update({"model.norm.weight": "../x.safetensors"}))


def no_tensor(source):
    of_index(
        source,
        lambda files: [files.pop(name) for name in list(files) if files[name] == last_shard(source).name],
    )
    last_shard(source).unlink()


def other_sizes(source):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "intermediate_size": 50}))


def packed(source):
    config = json.loads((source / "config.json").read_text())
    told = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (source / "config.json").write_text(json.dumps(told))


def pickled(source):
    for file in [*source.glob("*.safetensors"), source / INDEX]:
        file.unlink()
    (source / "pytorch_model.bin").write_bytes(b"")


def text_for(name, text):
    def change(source):
        (source / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cut_off, r"is damaged or cut off .*copy it again"),
        (one_removed, r"is missing, and the index names it"),
        (names_missing, r"model.norm.weight.* by the index nowhere; copy the folder again"),
        (names_too_many, r"index|'other' is in no file"),
        (elsewhere, r"is no index .*weight_map"),
        (no_tensor, r"it has no .*copy or save it again"),
        (other_sizes, r"by its config"),
        (packed, r"packed by gptq: prune the checkpoint that they were made from"),
        (pickled, r"only safetensors can be read tensor by tensor"),
        (lambda source: (source / "config.json").unlink(), r"has no config.json"),
        (text_for("config.json", "{}"), r"cannot make the model|names no class"),
        (text_for("config.json", "["), r"cannot make the model"),
        (text_for(INDEX, "[]"), r"is no index"),
        (shutil.rmtree, r"there is no folder"),
    ],
)
def test_a_source_that_is_not_whole_is_one_error(change, told, source, tmp_path):
    change(source)
    with pytest.raises(CheckpointError, match=told):
        engine.prune_checkpoint(source, tmp_path / "target", **OPTIONS)
    assert {file.name for file in tmp_path.iterdir()} <= {"source"}


def test_a_source_cut_off_meanwhile_is_one_error(source, tmp_path):
    def progress(what, done, count):
        if what == "writing" and done == 12:
            cut_off(source)

    with pytest.raises(CheckpointError, match="is damaged or cut off"):
        engine.prune_checkpoint(source, tmp_path / "target", progress=progress, **OPTIONS)
    assert not (tmp_path / "target").exists()


def test_a_plan_of_another_model_is_one_error(source, tmp_path):
    plan = engine.prune(tiny_language.llama(hidden_size=40), ratio=0.5).plan
    with pytest.raises(PrunusError, match="the plan is for"):
        engine.prune_checkpoint(source, tmp_path / "target", plan=plan)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(PlanError, match="not the JSON of a plan"):
        engine.prune_checkpoint(source, tmp_path / "target", plan=tmp_path / "plan.json")
    assert not (tmp_path / "target").exists()


def test_a_target_that_cannot_be_is_told_before_any_work(source, tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder"):
        engine.prune_checkpoint(source, tmp_path / "no/target", **OPTIONS)
    with pytest.raises(CheckpointError, match="max_shard_size"):
        engine.prune_checkpoint(source, tmp_path / "target", shard_size="large")
