"""A folder that takes long to write: as a whole or not at all, and after a kill it goes on where it was.

It is written beside its place, in a folder with a record of what it is made of, and moved there at the end.
Whoever starts the same work again finds the files that were finished; those of other work are removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import CheckpointError, shown
from ...files import PathLike, folder_place, give_back, locked, told

_PART, _DONE, _OLD, _LOCK, _RECORD = "part", "done", "old", "lock", "record"
_OURS = {_PART, _DONE, _OLD, _LOCK, _RECORD}


@contextmanager
def resumed_folder(
    path: PathLike, is_ours: Callable[[Path], bool], record: str
) -> Iterator[tuple[Path, Path]]:
    """Where to write the files of what is to be a folder; it is moved to `path` when the block ends well.

    Beside it is given a folder for files that are finished, and are to be moved into the first one in the
    end: those that were finished before, for the same `record`, are in it still. Raises `CheckpointError`
    if the folder cannot be written, is something else's, or another process is writing it.
    """
    with told(path, CheckpointError):
        place = folder_place(path, is_ours)
        beside = beside_of(place)
        beside.mkdir(mode=0o700, exist_ok=True)
        if not _OURS.issuperset(os.listdir(beside)):
            raise ValueError(f"{shown(beside)} is in the way; remove it")
        with (beside / _LOCK).open("wb") as lock:
            if locked(lock) is False:
                raise ValueError(f"another process is writing it, in {shown(beside)}")
            give_back(beside)
            part, done = beside / _PART, _done(beside, record)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part, done
            _move(beside, part, place)
        shutil.rmtree(beside, ignore_errors=True)


def beside_of(place: Path) -> Path:
    """The folder in which the one at `place` is written."""
    return place.parent / f".prunus-{hashlib.sha256(place.name.encode()).hexdigest()[:16]}.stream"


def _done(beside: Path, record: str) -> Path:
    """Where the finished files are; empty unless those there are of the same work."""
    done, known = beside / _DONE, beside / _RECORD
    if not (done.is_dir() and known.is_file() and known.read_text(encoding="utf-8") == record):
        known.unlink(missing_ok=True)  # first, lest a kill in between leaves what is half removed with it
        shutil.rmtree(done, ignore_errors=True)
        done.mkdir()
        known.write_text(record, encoding="utf-8")
    return done


def _move(beside: Path, part: Path, place: Path) -> None:
    for file in part.rglob("*"):
        if file.is_file():
            with file.open("r+b") as written:
                os.fsync(written.fileno())
    if place.exists():
        (beside / _OLD).mkdir(exist_ok=True)
        place.replace(beside / _OLD / place.name)
    part.replace(place)
