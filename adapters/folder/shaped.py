"""What a config cannot say of a pruned model: sizes of tensors, numbers in modules, slots of buffers.

It is stored beside the config, and gives a model that was just built the sizes of the pruned one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, PlanError, shown
from .. import strict_json
from ..modules import ChangedAttribute
from ..plan import Plan
from ..settings import attribute_of
from ..submodules import each_module, find_module, module_at, modules_of, own_attributes
from .solve import lasting_tensors

Record = dict[str, Any]


def record_of(model: nn.Module, twin: nn.Module, plan: Plan, earlier: Mapping[str, Any]) -> Record:
    """What makes `twin`, fresh from its config, a model of the sizes of `model`, on which `plan` was done.

    `earlier` is the record of the folder that the model came from, if it was shaped already.
    """
    tensors, fresh = lasting_tensors(model), lasting_tensors(twin)
    for name in sorted(tensors.keys() ^ fresh.keys()):
        whose = "this model has" if name in tensors else "this model does not have"
        made = "does not make" if name in tensors else "makes"
        raise CheckpointError(
            f"the config {made} {name}, which {whose}: save it as a file, as in save('half.safetensors')"
        )
    shapes = {
        name: list(tensor.shape) for name, tensor in tensors.items() if tensor.shape != fresh[name].shape
    }
    return {
        "shapes": shapes,
        "attributes": {
            **dict(_other_numbers(model, twin)),
            **_now(model, [*earlier.get("attributes", ()), *plan.attributes]),
        },
        "buffers": _buffers(model, plan, earlier.get("buffers", {})),
    }


def sealed(record: Record) -> Record:
    """The record with its sum: a number that somebody changed in it could not be told from the weights."""
    return {**record, "sha256": _sum(record)}


def _sum(record: Mapping[str, Any]) -> str:
    told = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_record(record: Any) -> None:
    """Raise `CheckpointError` unless it is a record, whole and unchanged, as anybody may have written it."""
    forms = {
        "shapes": strict_json.table(strict_json.shape),
        "attributes": strict_json.table(strict_json.positive),
        "buffers": strict_json.table(strict_json.by_axis(strict_json.slots)),
        "sha256": strict_json.text,
    }
    try:
        strict_json.record(forms, {})(record, "the record")
    except strict_json.Malformed as error:
        raise CheckpointError(
            f"the config does not say how prunus shaped the model ({error}): save it again"
        ) from error
    if record["sha256"] != _sum(record):
        raise CheckpointError(
            "what the config says of how prunus shaped the model was changed since it was saved; save it anew"
        )


def fitted(model: nn.Module, record: Record) -> Record:
    """The record by the names of `model`: the base of the model that was saved, or one with a head more."""
    tensors = lasting_tensors(model)
    if record["shapes"].keys() <= tensors.keys():
        return record
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for rename in (lambda name: name.removeprefix(prefix), lambda name: prefix + name):
        if any(rename(name) in tensors for name in record["shapes"]):
            return {
                "shapes": {rename(k): v for k, v in record["shapes"].items() if rename(k) in tensors},
                **{
                    part: {rename(k): v for k, v in record[part].items() if _has(model, rename(k))}
                    for part in ("attributes", "buffers")
                },
            }
    return record


def _has(model: nn.Module, name: str) -> bool:
    return find_module(model, name.partition("[")[0].rpartition(".")[0]) is not None


def reshape(model: nn.Module, record: Mapping[str, Any]) -> None:
    """Give a model without values the sizes of the record; its buffers that are not saved come later."""
    tensors = lasting_tensors(model)
    made: dict[int, Tensor] = {}
    for name, shape in record["shapes"].items():
        if name not in tensors:
            raise CheckpointError(f"the config makes no {name}, of which the folder has the shape")
        before = tensors[name]
        if id(before) not in made:  # what is tied stays tied
            new = torch.empty(shape, dtype=before.dtype, device=before.device)
            is_parameter = isinstance(before, nn.Parameter)
            made[id(before)] = nn.Parameter(new, before.requires_grad) if is_parameter else new
        path, _, last = name.rpartition(".")
        owner = module_at(model, path)
        held: dict[str, Any] = owner._parameters if last in owner._parameters else owner._buffers
        held[last] = made[id(before)]


def finish(model: nn.Module, record: Mapping[str, Any]) -> None:
    """Once a model has all of its values: the numbers in modules, and the slots of buffers that it made."""
    for name, number in record["attributes"].items():
        try:
            ChangedAttribute(model, name, number, None).carry_out()
        except PlanError as error:
            raise CheckpointError(f"this folder is of another model: {error}") from error
    for name, axes in record["buffers"].items():
        path, _, last = name.rpartition(".")
        owner = find_module(model, path)
        buffers = {} if owner is None else owner._buffers
        for axis, kept in axes.items():
            buffers[last] = _sliced(buffers.get(last), name, int(axis), kept)


def _sliced(whole: Tensor | None, name: str, axis: int, kept: Sequence[int]) -> Tensor:
    if whole is None or axis >= whole.dim() or kept[-1] >= whole.shape[axis]:
        raise CheckpointError(
            f"this folder is of another model: it has slots of the buffer {shown(name)} that this one has not"
        )
    return whole.index_select(axis, torch.tensor(kept, device=whole.device)).contiguous()


def _other_numbers(model: nn.Module, twin: nn.Module) -> Iterator[tuple[str, int]]:
    """The whole numbers of modules that are others than those of the fresh model."""
    fresh = dict(modules_of(twin))
    for path, module in each_module(model):
        others = own_attributes(fresh[path]) if path in fresh else {}
        for name, value in own_attributes(module).items():
            before = others.get(name)
            if type(value) is type(before) is int and value != before and value > 0 and before > 0:
                yield f"{path}.{name}" if path else name, value


def _now(model: nn.Module, names: list[str]) -> dict[str, int]:
    return {name: int(attribute_of(model, name)) for name in names}


def _buffers(model: nn.Module, plan: Plan, earlier: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """The slots, of those that the fresh model makes, of each buffer that is not saved."""
    lasting = lasting_tensors(model)
    found = {name: dict(axes) for name, axes in earlier.items()}
    for name, axes in plan.sliced.items():
        path, _, last = name.rpartition(".")
        if name not in lasting and last in module_at(model, path)._buffers:
            for axis, kept in axes.items():
                before = found.setdefault(name, {}).get(str(axis))
                found[name][str(axis)] = kept if before is None else [before[slot] for slot in kept]
    return found
