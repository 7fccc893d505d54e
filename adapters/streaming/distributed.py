"""A checkpoint that torch.distributed has written: its tensors may lie in parts, in a file for each rank.

The folder has ``config.json`` beside what `torch.distributed.checkpoint.save` wrote of a ``state_dict()``.
The list of its tensors, ``.metadata``, is a pickle, which runs what it holds when it is read.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, shown
from ...files import PathLike
from .stored import Stored, damaged, place_of

METADATA = ".metadata"


def stored_at(path: PathLike) -> Stored:
    """What lies in a folder; raises `CheckpointError` if it is no whole checkpoint of either kind."""
    place = place_of(path)
    return _by_ranks(place) if (place / METADATA).is_file() else Stored.at(place)


class StoredByRanks(Stored):
    """As `Stored`; what is in the files of several ranks is put together by torch."""

    def read(self, name: str) -> Tensor:
        """A tensor in memory; raises `CheckpointError` if its files are damaged."""
        from torch.distributed import checkpoint  # some builds of torch are without

        found = {name: torch.empty_like(self.tensors[name], device="cpu")}
        try:
            with warnings.catch_warnings(action="ignore"):  # that it is done in one process
                checkpoint.load(found, storage_reader=checkpoint.FileSystemReader(self.place), no_dist=True)
        except (Exception, checkpoint.CheckpointException) as error:  # the latter is no Exception
            raise damaged(self.place, error) from error
        return found[name]


def _by_ranks(place: Path) -> StoredByRanks:
    from torch.distributed import checkpoint  # some builds of torch are without

    try:
        told: Any = checkpoint.FileSystemReader(place).read_metadata()
        tensors = {
            name: torch.empty(one.size, dtype=one.properties.dtype, device="meta")
            for name, one in told.state_dict_metadata.items()
            if hasattr(one, "properties")  # what is no tensor has none
        }
        parts = [(one.relative_path, one.offset + one.length) for one in told.storage_data.values()]
    except Exception as error:  # of bytes that anybody may have written
        raise damaged(place / METADATA, error) from error
    for file, end in parts:
        if not (place / file).is_file():
            raise CheckpointError(f"{shown(place / file)} is missing, and {METADATA} names it; copy it again")
        if (place / file).stat().st_size < end:
            raise CheckpointError(f"{shown(place / file)} is cut off; copy it again")
    return StoredByRanks(place, dict.fromkeys(tensors, METADATA), tensors)
