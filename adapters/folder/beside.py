"""What lies in a folder beside the model: what prunus wrote, and what came along from where the model was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files import at_home

PLAN = "plan.json"
FILES = "prunus.json"  # names what prunus wrote into a folder
_WEIGHTS = (
    "*.safetensors",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.gguf",
    "*.distcp",
    "*.index.json",
)
_NOT_COPIED = (*_WEIGHTS, "config.json", "generation_config.json", "README.md", PLAN, FILES, "*.py", ".*")
_TOLD_IN = {".json", ".jinja", ".txt", ".model"}  # the files of tokenizers and processors, in folders
_LARGEST_COPIED = 2**27  # bytes: the largest tokenizers have a tenth


def is_ours(place: Path) -> bool:
    """Whether prunus wrote a folder, and all that is in it."""
    try:
        known = json.loads((place / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(known, list) and files_in(place) <= {*known, FILES}


def files_in(place: Path) -> set[str]:
    return {file.relative_to(place).as_posix() for file in place.rglob("*") if not file.is_dir()}


def source_of(model: Any) -> Path | None:
    """The folder that a model was loaded from, if it was from one."""
    source = Path(at_home(str(getattr(model, "name_or_path", "") or "")))
    return source if source.name and source.is_dir() else None


def save_tokenizer(part: Path, model: Any, tokenizer: Any) -> None:
    if tokenizer is not None:
        tokenizer.save_pretrained(part)
        return
    source = source_of(model)
    if source is None:
        return
    for file in _copied_from(source):
        target = part / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _copied_from(source: Path) -> Iterator[Path]:
    """The files of a tokenizer or processor: small ones, and folders that have nothing else.

    What else lies there, as steps of a training or whatever a home is for, is no part of the model.
    """
    for entry in sorted(source.iterdir()):
        if any(map(entry.match, _NOT_COPIED)):
            continue
        files = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        files = [file for file in files if not file.is_dir()]
        told = entry.is_file() or all(file.suffix in _TOLD_IN and file.name[0] != "." for file in files)
        if told and all(file.is_file() and file.stat().st_size <= _LARGEST_COPIED for file in files):
            yield from files
