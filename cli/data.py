"""Calibration data from files: texts, pictures in a folder, or a tensor of inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..errors import PrunusError, shown
from .modules import import_installed
from .parser import DATA_HELP

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_NO_TEXTS = {".json", ".csv", ".tsv", ".parquet", ".arrow"}  # which would be read as if they were
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # how tokens are kept, and what no embedding takes
_BATCH = 16
_HELD_OUT = 0.1  # of the documents


def read_data(path: str, source: str | None) -> list[Any]:
    """What a file holds: texts, or batches of tensors. `source` is the folder of a transformers model."""
    place = Path(path)
    try:
        if place.is_dir():
            found = _pictures(place, source)
        elif place.suffix in (".npy", ".safetensors"):
            found = list(_tensor(place).split(_BATCH))
        else:
            found = _texts(place)
    except (OSError, ValueError) as error:  # UnicodeError and JSONDecodeError are values, too
        raise PrunusError(f"cannot read {shown(path)} as data: {error}\n--data has {DATA_HELP}") from error
    if not found:
        raise PrunusError(f"there are no data in {shown(path)}; --data has {DATA_HELP}")
    return found


def held_out(data: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The data to calibrate with, and the last tenth of them, which are not; none of a single document."""
    count = max(1, round(_HELD_OUT * len(data))) if len(data) > 1 else 0
    return data[: len(data) - count], data[len(data) - count :]


def _texts(place: Path) -> list[Any]:
    if place.suffix in _NO_TEXTS:
        raise ValueError(f"a {place.suffix} is no list of texts: write a .jsonl with a line for each")
    text = place.read_text(encoding="utf-8-sig")
    if place.suffix == ".jsonl":
        # Lines end in nothing else: a text may have other separators in it.
        lines = enumerate(text.split("\n"), start=1)
        return [_text_of(line, number) for number, line in lines if line.strip()]
    parts = re.split(r"\n\s*\n", text) if re.search(r"\S\s*\n\s*\n\s*\S", text) else text.splitlines()
    return [part.strip() for part in parts if part.strip()]


def _text_of(line: str, number: int) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError(f'line {number} is to be an object with "text"')
    return str(row["text"])


def _tensor(place: Path) -> torch.Tensor:
    if place.suffix == ".npy":
        found = torch.from_numpy(np.load(place, allow_pickle=False))
        return found.long() if found.dtype in _UNSIGNED else found
    tensors = list(load_file(place).values())
    if len(tensors) != 1:
        raise ValueError(f"it has {len(tensors)} tensors")
    return tensors[0]


def _pictures(folder: Path, source: str | None) -> list[Any]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _PICTURES)
    if source is None or not files:
        raise ValueError("a folder is to have pictures, for a model hf:FOLDER with processor files")
    transformers, images = import_installed("transformers"), import_installed("PIL.Image")
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    pictures = [images.open(file).convert("RGB") for file in files]
    return [
        dict(processor(images=pictures[start : start + _BATCH], return_tensors="pt"))
        for start in range(0, len(pictures), _BATCH)
    ]
