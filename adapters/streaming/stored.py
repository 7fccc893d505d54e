"""A checkpoint as it lies on disk: which tensors it has, of what dtype and shape, and in which file.

Nothing but headers is read until a tensor is asked for. Each is mapped from its file by itself, and let go
with the tensor: what a process has looked at of a mapped file counts as its memory for as long as it is open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import CheckpointError, shown
from ...files import PathLike, at_home

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@frozen(eq=False)
class Stored:
    """A folder of transformers: the file of each tensor, and each tensor on the meta device, by name."""

    place: Path
    files: Mapping[str, str]
    tensors: Mapping[str, Tensor]

    @classmethod
    def at(cls, path: PathLike) -> Stored:
        """What lies in a folder; raises `CheckpointError` if it is no whole checkpoint in safetensors."""
        place = place_of(path)
        indexed = _indexed(place)
        names = sorted(set(indexed.values())) if indexed is not None else [WEIGHTS]
        tensors: dict[str, Tensor] = {}
        files: dict[str, str] = {}
        for file in names:
            for name, tensor in _header(place / file).items():
                if name in files:
                    raise CheckpointError(
                        f"{shown(place)} has {shown(name)} twice, in {files[name]} and {file}"
                    )
                files[name], tensors[name] = file, tensor
        if indexed is not None:
            _check_index(place, indexed, files)
        return cls(place, files, tensors)

    def read(self, name: str) -> Tensor:
        """A tensor, in memory that is mapped from its file; raises `CheckpointError` if that is damaged."""
        place = self.place / self.files[name]
        try:
            with safe_open(place, framework="pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise damaged(place, error) from error

    def fingerprint(self) -> str:
        """A text that is another one where the files are: by their names, sizes and times, and the config."""
        told: list[Any] = [str(self.place.resolve()), (self.place / CONFIG).read_text(encoding="utf-8")]
        for file in sorted(set(self.files.values())):
            status = (self.place / file).stat()
            told.append([file, status.st_size, status.st_mtime_ns])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def place_of(path: PathLike) -> Path:
    """A folder that tells what model it is of; raises `CheckpointError` for any other."""
    place = Path(at_home(path))
    if not place.is_dir():
        raise CheckpointError(
            f"there is no folder {shown(path)}; download the checkpoint, and name its folder"
        )
    if not (place / CONFIG).is_file():
        raise CheckpointError(
            f"{shown(path)} has no {CONFIG}, which tells what model it is; copy it from where "
            "the weights are from"
        )
    return place


def _indexed(place: Path) -> dict[str, str] | None:
    """The file of each tensor as the index tells; ``None`` if there is one file, and no index."""
    if not (place / INDEX).is_file():
        if (place / WEIGHTS).is_file():
            return None
        raise CheckpointError(
            f"{shown(place)} has neither {WEIGHTS} nor {INDEX}: only safetensors can be read tensor by "
            "tensor; load the model once, and save it again with save_pretrained"
        )
    try:
        found = json.loads((place / INDEX).read_text(encoding="utf-8"))["weight_map"]
        is_map = isinstance(found, dict) and all(isinstance(file, str) for file in found.values())
        if not is_map or not found or any(Path(file).name != file for file in found.values()):
            raise ValueError("its weight_map does not give a file in the folder for each tensor")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{shown(place / INDEX)} is no index ({error}); copy it again") from error
    return found


def _header(place: Path) -> dict[str, Tensor]:
    """The tensors of a file, without values."""
    if not place.is_file():
        raise CheckpointError(f"{shown(place)} is missing, and the index names it; copy it again")
    found = {}
    try:
        with safe_open(place, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                part = file.get_slice(name)
                dtype = DTYPES.get(part.get_dtype())
                if dtype is None:
                    raise CheckpointError(
                        f"{shown(name)} in {shown(place)} is of {part.get_dtype()}, which cannot be sliced"
                    )
                found[name] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
    except (OSError, SafetensorError) as error:
        raise damaged(place, error) from error
    return found


def _check_index(place: Path, indexed: Mapping[str, str], files: Mapping[str, str]) -> None:
    for name in sorted(indexed.keys() | files.keys()):
        told, found = indexed.get(name), files.get(name)
        if told != found:
            where = f"is in {found}" if found else "is in no file"
            by_index = f"in {told}" if told else "nowhere"
            raise CheckpointError(
                f"the index of {shown(place)} is of other files: {shown(name)} {where}, by the "
                f"index {by_index}; copy the folder again"
            )


def damaged(place: Path, error: BaseException) -> CheckpointError:
    """The error for a file that cannot be read."""
    return CheckpointError(f"{shown(place)} is damaged or cut off ({error}); copy it again")
