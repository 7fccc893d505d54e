"""The file of a pruned model: safetensors, with the plan and a sum over everything in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, PlanError, shown
from ..files import PathLike, expect_regular, written
from . import strict_json
from .plan import Plan
from .strides import is_dense

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
            with safe_open(part, framework="pt"):  # some versions write what none would read
                pass
        except SafetensorError as error:
            raise CheckpointError(f"cannot write {shown(path)}: {error}") from error


def read(path: PathLike) -> Archive:
    """The contents of a file that `write` wrote and that is whole and unchanged, else `CheckpointError`."""
    file_path = expect_regular(path, CheckpointError)
    try:
        try:
            metadata, tensors, given, found = _contents(file_path)
        except Exception:  # of an interrupt the library makes an error of its own: once more
            metadata, tensors, given, found = _contents(file_path)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the library says of bytes that anybody may have written
        raise CheckpointError(
            f"{shown(path)} is not a whole safetensors file ({shown(str(error))}): copy or save it again"
        ) from error
    if given != found:
        raise CheckpointError(f"{shown(path)} was changed after it was saved: copy or save it again")
    try:
        return _archive(metadata, tensors)
    except (PlanError, strict_json.Malformed) as error:
        raise CheckpointError(f"{shown(path)} is not what prunus saves ({error}): save it again") from error


def _contents(path: Path) -> tuple[dict[str, str], dict[str, Tensor], str, str]:
    """The metadata and the tensors of a file, and the sum that it says, and that it has."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        _check_version(path, metadata)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    given = metadata.pop("sha256", "")
    return metadata, tensors, given, _sum(metadata, tensors)


def _archive(metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> Archive:
    """What the metadata say; raises `PlanError` or `Malformed` if that cannot be of these tensors."""
    texts = {"plan": strict_json.text, "tied": strict_json.text, "strides": strict_json.text}
    strict_json.record(texts, {"format": strict_json.text, "version": strict_json.text})(metadata, "metadata")
    tied, strides = strict_json.parsed(metadata["tied"]), strict_json.parsed(metadata["strides"])
    strict_json.table(strict_json.text)(tied, "tied")
    strict_json.table(strict_json.shape)(strides, "strides")
    for name, first in tied.items():
        if name in tensors or first not in tensors:
            raise strict_json.Malformed(f"tied[{shown(name)}] is not the name of another tensor")
    for name, steps in strides.items():
        if name not in tensors or not is_dense(tensors[name].shape, steps):
            raise strict_json.Malformed(f"strides[{shown(name)}] is no order of a tensor's axes")
    return Archive(Plan.from_json(metadata["plan"]), tensors, tied, strides)


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
