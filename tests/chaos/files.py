"""Checkpoints, plans and states that lie, files that are damaged, and saves that are killed.

What is loaded must be what the file was made of, or be refused with one clear line and the model untouched.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import struct
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from prunus import engine
from prunus.adapters.archive import _sum
from prunus.errors import CheckpointError, PlanError, PrunusError
from safetensors.torch import save_file
from torch import nn

from .file_nets import NETS
from .mutations import ODD, mutated, mutated_text
from .saved import Saved, contents, difference, saved
from .tally import Tally

_MOST_MEMORY = 300 * 1024  # KiB that one try may take: all files together have less than one MiB


# --- one try -----------------------------------------------------------------------------------------------


def _tried(call: Callable[[], Any], model: nn.Module, allowed: type[PrunusError]) -> tuple[str | None, bool]:
    """What is wrong with a call that should do all or nothing to a model, and whether it did."""
    before = contents(model, identities=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        call()
    except allowed as error:
        message = str(error)
        if not (20 < len(message) < 1500 and "\n" not in message and "\0" not in message):
            return f"the message {message[:80]!r} of {len(message)} letters", False
        changed = contents(model, identities=True)
        return (None if changed == before else f"changed by a failure: {message[:200]}"), False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]}", False
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return (f"took {taken // 1024} MiB" if taken > _MOST_MEMORY else None), True


def _set_to(plan: str) -> set[int]:
    try:
        return {value for value in json.loads(plan)["attributes"].values() if type(value) is int}
    except Exception:  # it is no plan, and loaded all the same: then nothing is right
        return set()


# --- the kinds of tries ------------------------------------------------------------------------------------


def _with_sum(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    plain = {key: value for key, value in metadata.items() if key != "sha256"}
    save_file(tensors, path, {**plain, "sha256": _sum(plain, tensors)})


def lying_metadata(random: Random, path: Path) -> str | None:
    """Any field of the metadata, or a tensor, is another; the sum fits."""
    one = saved(random.choice(list(NETS)))
    metadata, tensors = dict(one.metadata), dict(one.tensors)
    key = random.choice(["plan"] * 6 + ["tied", "strides", "strides", "all", "format", "version"])
    if key == "all":
        metadata = mutated(metadata, random, list(metadata))
        metadata = {str(name): str(value) for name, value in metadata.items()}
    elif key in ("format", "version"):
        metadata[key] = str(random.choice(ODD))
    elif key == "strides" and random.random() < 0.7:
        name = random.choice(list(tensors))
        steps = [random.choice((0, 1, 2, 8, 9, 24, -1, 10**9, 2**62, True)) for _ in tensors[name].shape]
        metadata[key] = json.dumps({name: random.choice((steps, list(_turned(tensors[name]).stride())))})
    elif key == "plan" and random.random() < 0.4:
        metadata[key] = json.dumps(_with_attribute(json.loads(metadata[key]), random, one))
    else:
        metadata[key] = mutated_text(metadata[key], random, one.names)
    try:
        _with_sum(path, metadata, tensors)
    except Exception:  # safetensors has its own rules for what can be written
        return None
    model = one.fresh()
    fault, done = _tried(lambda: engine.load(path, model), model, CheckpointError)
    if done and fault is None:
        fault = difference(model, one.after, one.before, _set_to(metadata["plan"]))
    return fault and f"{key}: {fault}; {metadata.get(key, '')[:300]}"


def _with_attribute(plan: dict[str, Any], random: Random, one: Saved) -> dict[str, Any]:
    """A plan that sets, or empties, anything that the model has."""
    name = random.choice([*one.names, *plan["attributes"]])
    if random.random() < 0.3:
        plan["made"].append(name)
        return plan
    plan["attributes"][name] = random.choice([1, 2, 3, 4, 12, -1, 0, 10**6, True, 1.0, None, "1"])
    plan["before"].setdefault(name, random.choice([1, 4, 12, 12, True, 0.5]))
    return plan


def lying_tensors(random: Random, path: Path) -> str | None:
    """The tensors are others, of which the sum and the header tell."""
    one = saved(random.choice(list(NETS)))
    tensors = dict(one.tensors)
    name, other = random.choice(list(tensors)), random.choice(list(tensors))
    value = tensors[name]
    tensors[name] = random.choice([
        value.to(random.choice((torch.float64, torch.int64, torch.bool, torch.uint8, torch.complex64))),
        value.reshape(-1), value[None], value.new_empty(0), value.new_zeros(1, 0, 2), tensors[other],
        _turned(value).contiguous(), value.contiguous().reshape(-1).view(torch.uint8), value + 1,
    ]).clone()  # fmt: skip
    if random.random() < 0.2:
        tensors[random.choice([*one.names, "\u6881"])] = tensors.pop(name)
    _with_sum(path, one.metadata, tensors)
    model = one.fresh()
    fault, done = _tried(lambda: engine.load(path, model), model, CheckpointError)
    if done and fault is None:
        own = {**dict(model.named_parameters()), **dict(model.named_buffers()), **vars(model)}
        wrong = [key for key, tensor in tensors.items() if not _is_equal(own[key], tensor)]
        fault = f"{wrong} are not those of the file" if wrong else None
    return fault and f"{name}: {fault}"


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(list(range(tensor.dim()))[::-1])


def _is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def damaged_file(random: Random, path: Path) -> str | None:
    """Bytes are others, missing or too many, or the header lies about where the tensors are."""
    one = saved(random.choice(list(NETS)))
    file = bytearray(one.file)
    how = random.randrange(6)
    if how == 0:
        file = file[: random.randrange(len(file))]
    elif how == 1:
        for _ in range(random.choice((1, 1, 8))):
            file[random.randrange(len(file))] ^= 1 << random.randrange(8)
    elif how == 2:
        file = bytearray(struct.pack("<Q", random.choice((0, 1, 10**8, 2**32, 2**63, 2**64 - 1)))) + file[8:]
    elif how == 3:
        file += bytes(random.randrange(1, 99))
    elif how == 4:
        start = 8 + struct.unpack("<Q", file[:8])[0]
        header = mutated_text(file[8:start].decode(), random, one.names).encode(errors="replace")
        file = bytearray(struct.pack("<Q", len(header)) + header + file[start:])
    else:
        file = bytearray(
            random.choice((b"", b"PK\x03\x04", b"\x80\x02}", b"\x1f\x8b\x08")) + random.randbytes(64)
        )
    path.write_bytes(file)
    model = one.fresh()
    fault, done = _tried(lambda: engine.load(path, model), model, CheckpointError)
    if done and fault is None:
        fault = difference(model, one.after, one.before)
    return fault and f"way {how}: {fault}"


def lying_plan(random: Random, path: Path) -> str | None:
    """The JSON of a plan that is carried out on a model."""
    one = saved(random.choice(list(NETS)))
    if random.random() < 0.4:
        text = json.dumps(_with_attribute(json.loads(one.metadata["plan"]), random, one))
    else:
        text = mutated_text(one.metadata["plan"], random, one.names)
    model = one.fresh()
    fault, done = _tried(lambda: engine.apply(model, engine.Plan.from_json(text)), model, PrunusError)
    if done and fault is None:
        fault = _not_carried_out(json.loads(text), one, model)
    return fault and f"{fault}; {text[:300]}"


def _not_carried_out(plan: dict[str, Any], one: Saved, model: nn.Module) -> str | None:
    """What a plan says and the model has not become."""
    before = one.fresh()
    made = set(plan.get("made", ()))
    for name, axes in plan["tensors"].items():
        if name in made or plan.get("scales"):
            continue
        owner, _, last = name.rpartition(".")
        wanted, found = (getattr(root.get_submodule(owner), last) for root in (before, model))
        for axis, kept in axes.items():
            wanted = wanted.index_select(int(axis), torch.tensor(kept))
        if not _is_equal(wanted, found):
            return f"{name} is not what the plan keeps of it"
    found_now, values = contents(model), set(plan["attributes"].values())
    for place, was in one.before.items():
        now = found_now.get(place)
        plain = isinstance(was, tuple) and len(was) == 2 and isinstance(was[1], (int, float, str))
        if plain and now != was and (now is None or now[0] is not was[0] or now[1] not in values):
            return f"{place} is {now}, not {was}"
    return None


def lying_state(random: Random, path: Path) -> str | None:
    """The state of a schedule."""
    state = _schedule().state_dict()
    state["plan"] = json.loads(state["plan"])
    state = mutated(state, random, list(state))
    if "plan" in state and random.random() < 0.9:
        state["plan"] = json.dumps(state["plan"])
    schedule = copy.deepcopy(_schedule())
    text = str(schedule)
    fault, done = _tried(lambda: schedule.load_state_dict(state), schedule.model, PlanError)
    if not done and fault is None and str(schedule) != text:
        fault = "the schedule was changed by a failure"
    if done and fault is None:
        str(schedule)
    return fault and f"{fault}; {str(state)[:300]}"


@lru_cache
def _schedule() -> engine.Schedule:
    make, x = NETS["images"]
    schedule = engine.Schedule(make().eval(), example_inputs=x, macs=0.5, steps=2, every=1, criterion="l1")
    schedule.step()
    return schedule


def killed_save(random: Random, path: Path) -> str | None:
    """The process that saves is killed: the old file or the new one is there, and nothing else for long."""
    one, other = saved("language"), saved("images")
    path.write_bytes(one.file)
    child = os.fork()
    if child == 0:
        try:
            while True:
                engine.save(path, other.model, other.plan)
                engine.save(path, one.model, one.plan)
        finally:
            os._exit(1)
    time.sleep(random.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not any(map(partial(_is_file_of, path), (one, other))):
        return "neither the old file nor the new one"
    engine.save(path.with_name("another"), one.model, one.plan)
    left = sorted(entry.name for entry in path.parent.iterdir())
    return None if left == ["another", path.name] else f"left behind: {left}"


def _is_file_of(path: Path, one: Saved) -> bool:
    try:
        return difference(engine.load(path, one.fresh()), one.after, one.before) is None
    except CheckpointError:
        return False


# What is tried, and how often of a hundred tries.
KINDS: dict[str, tuple[Callable[[Random, Path], str | None], int]] = {
    "load, metadata that lies": (lying_metadata, 50),
    "load, tensors that lie": (lying_tensors, 10),
    "load, a damaged file": (damaged_file, 15),
    "apply, a plan that lies": (lying_plan, 15),
    "schedule, a state that lies": (lying_state, 5),
    "save, killed": (killed_save, 5),
}


def run(seed: int, count: int) -> list[Tally]:
    """Make `count` tries of all kinds."""
    random = Random(seed)
    tallies = {name: Tally(name) for name in KINDS}
    shares = [share for _, share in KINDS.values()]
    for number in range(count):
        name = random.choices(list(KINDS), shares)[0]
        with tempfile.TemporaryDirectory() as folder:
            fault = KINDS[name][0](Random(f"{seed} {number}"), Path(folder) / "file")
        tallies[name].count(fault and f"seed {seed}, try {number}: {fault}")
    return list(tallies.values())
