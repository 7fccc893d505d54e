"""Writes safetensors files tensor by tensor: all shapes are known before, so the header comes first.

The library writes a file from tensors that are all in memory. A file of this one is the same, byte for byte:
eight bytes with the length of the header, the header as JSON, then the tensors, those of wide numbers first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from ...errors import CheckpointError, shown
from .stored import DTYPES, INDEX

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# As the library orders them: of two that are equally wide, the later one here first.
_ORDER = (
    *("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32"),
    *("C64", "F64", "I64", "U64"),
)
_METADATA = {"format": "pt"}
_ALIGNED = 8


@frozen(eq=False)
class Shard:
    """A file that is to be: its header, and where each tensor lies behind that."""

    name: str
    header: bytes
    places: Mapping[str, tuple[int, int]]
    size: int

    @classmethod
    def of(cls, name: str, tensors: Mapping[str, Tensor]) -> Shard:
        """The file of these tensors, which may be on the meta device."""
        told: dict[str, Any] = {"__metadata__": _METADATA}
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for key, tensor in sorted(
            tensors.items(), key=lambda item: (-_ORDER.index(_NAMES[item[1].dtype]), item[0])
        ):
            start, end = end, end + tensor.numel() * tensor.itemsize
            told[key] = {
                "dtype": _NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, end],
            }
            places[key] = start, end
        text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNED)
        header = len(text).to_bytes(8, "little") + text
        return cls(name, header, places, len(header) + end)


def shards_of(tensors: Mapping[str, Tensor], shard_size: int | str) -> list[Shard]:
    """The files that ``save_pretrained`` would make of these tensors, which may be on the meta device."""
    from huggingface_hub import split_torch_state_dict_into_shards  # whoever has a folder has it

    split = split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern="model{suffix}.safetensors", max_shard_size=shard_size
    )
    return [
        Shard.of(file, {name: tensors[name] for name in names})
        for file, names in split.filename_to_tensors.items()
    ]


def write_index(part: Path, shards: Iterable[Shard], parameters: int) -> None:
    """Write which file each tensor is in, where there are several."""
    files = {name: shard.name for shard in shards for name in shard.places}
    if len(set(files.values())) < 2:
        return
    size = sum(end - start for shard in shards for start, end in shard.places.values())
    told = {"metadata": {"total_parameters": parameters, "total_size": size}, "weight_map": files}
    (part / INDEX).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class ShardFile:
    """A shard that is being written, at `path`; it is on disk, and whole, when the block ends well."""

    def __init__(self, path: Path, shard: Shard):
        self._shard = shard
        self._file = path.open("wb")
        self._left = set(shard.places)

    def __enter__(self) -> ShardFile:
        self._file.write(self._shard.header)
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor where it belongs; raises `CheckpointError` if it is of another size."""
        start, end = self._shard.places[name]
        flat = tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else None
        if (0 if flat is None else flat.numel()) != end - start:
            raise CheckpointError(f"{shown(name)} is of another size than was planned; nothing was written")
        self._left.remove(name)
        if flat is not None:
            self._file.seek(len(self._shard.header) + start)
            self._file.write(flat.numpy().data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._left:
                    raise CheckpointError(f"{shown(min(self._left))} was not made; nothing was written")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
