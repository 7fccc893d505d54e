"""The file of a pruned model: safetensors, with the plan and a sum over everything in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..engine.plan import Plan
from ..errors import CheckpointError, PlanError
from ..files import PathLike, expect_regular, shown, written

FORMAT, VERSION = "prunus", "1"


@frozen(eq=False)
class Archive:
    """What a file holds: the plan, and each tensor under the first of its names, on the CPU and contiguous.

    ``tied`` gives that name for the other names, ``strides`` the strides of tensors whose axes were not in
    order in memory (``torch.channels_last``).
    """

    plan: Plan
    tensors: dict[str, Tensor]
    tied: dict[str, str]
    strides: dict[str, list[int]]

    def metadata(self) -> dict[str, str]:
        """All but the tensors as text, with a sum by which a change of any of it is noticed."""
        plain = {
            "format": FORMAT,
            "version": VERSION,
            "plan": self.plan.to_json(),
            "tied": json.dumps(self.tied),
            "strides": json.dumps(self.strides),
        }
        return {**plain, "sha256": _sum(plain, self.tensors)}


def write(path: PathLike, archive: Archive) -> None:
    """Write the file; it appears as a whole or not at all."""
    with written(path, CheckpointError) as part:
        try:
            save_file(archive.tensors, part, archive.metadata())
        except SafetensorError as error:
            raise CheckpointError(f"cannot write {shown(path)}: {error}") from error


def read(path: PathLike) -> Archive:
    """The contents of a file that `write` wrote and that is whole and unchanged, else `CheckpointError`."""
    file_path = expect_regular(path, CheckpointError)
    try:
        with safe_open(file_path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_version(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{shown(path)} is not a whole safetensors file ({error}): copy or save it again"
        ) from error
    given = metadata.pop("sha256", "")
    if given != _sum(metadata, tensors):
        raise CheckpointError(f"{shown(path)} was changed after it was saved: copy or save it again")
    try:
        plan, tied, strides = (metadata[key] for key in ("plan", "tied", "strides"))
        return Archive(Plan.from_json(plan), tensors, json.loads(tied), json.loads(strides))
    except (PlanError, KeyError, ValueError) as error:
        raise CheckpointError(f"{shown(path)} lacks what prunus saves ({error}): save it again") from error


def _check_version(path: PathLike, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{shown(path)} was not saved by prunus: make such a file with result.save() or engine.save()"
        )
    version = metadata.get("version", "unknown")
    if version != VERSION:
        raise CheckpointError(
            f"{shown(path)} has version {shown(version)} of the format, this prunus reads version {VERSION}: "
            "update prunus"
        )


def _sum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the metadata and, name by name, dtype, shape and bytes of the tensors."""
    found = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
