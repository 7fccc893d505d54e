"""Writes files: as a whole or not at all, through links, and over nothing but regular files.

A file is written in a folder beside its place and moved there. The folder is locked for as long as its
process lives, so that the next one can tell, and clear away, what was left by one that was killed.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from .errors import PrunusError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

PathLike = str | os.PathLike[str]

_PREFIX, _SUFFIX = ".prunus-", ".part"
_DAY = 24 * 60 * 60
_LONGEST = 200  # of a name in a message


@contextmanager
def written(path: PathLike, error: type[PrunusError] = PrunusError) -> Iterator[Path]:
    """Where to write what is to be at `path`; it is moved there when the block ends well.

    A file that was there is replaced, with its permissions, and a link stays one. Raises `error` if `path`
    cannot be written, or is there and no regular file.
    """
    with _told(path, error):
        place = _place(path)
        _clear(place.parent)
        with _folder_in(place.parent) as folder:
            part = folder / "part"
            part.touch()
            mode = stat.S_IMODE((place if place.exists() else part).stat().st_mode)
            yield part
            part.chmod(mode)
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            part.replace(place)
        _names_to_disk(place.parent)


def write_text(path: PathLike, text: str, error: type[PrunusError] = PrunusError) -> None:
    """Write a text file in one step, with the line ends that the text has; raises as `written`."""
    with written(path, error) as part:
        part.write_bytes(text.encode("utf-8"))


def expect_writable(path: PathLike, error: type[PrunusError] = PrunusError) -> None:
    """Raise `error` unless a file can be written at `path`, as it is to be known before long work."""
    with _told(path, error), _folder_in(_place(path).parent):
        pass


def expect_regular(path: PathLike, error: type[PrunusError] = PrunusError) -> Path:
    """The file to be read; raises `error` if there is none, or another thing, which may never end."""
    try:
        found = Path(_text(path))
        kind = found.stat().st_mode
    except FileNotFoundError:
        raise error(f"there is no file {shown(path)}") from None
    except (OSError, ValueError) as reason:
        raise error(f"cannot read {shown(path)}: {_reason(reason)}") from reason
    if not stat.S_ISREG(kind):
        raise error(f"cannot read {shown(path)}: it is {_kind(kind)}, no file")
    return found


def shown(name: Any) -> str:
    """A name from elsewhere for a message: on one line, not endless, and with nothing that does not print."""
    text = name if isinstance(name, str) else os.fspath(name) if isinstance(name, os.PathLike) else repr(name)
    text = text if isinstance(text, str) and text.isprintable() and text else repr(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


# --- the place ---------------------------------------------------------------------------------------------


def _text(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)) or not (text := os.fsdecode(path)):
        raise ValueError("it is no name of a file")
    if text.endswith(("/", os.sep)):
        raise ValueError("it is the name of a folder")
    return text


def _place(path: PathLike) -> Path:
    """The file that `path` leads to, which may not be there yet, but nothing else may be."""
    place = Path(os.path.realpath(_text(path)))
    try:
        kind = place.lstat().st_mode
    except FileNotFoundError:
        return place
    if not stat.S_ISREG(kind):
        raise ValueError(f"it is {_kind(kind)}, no file")
    if not os.access(place, os.W_OK):
        raise ValueError("it is write-protected")
    return place


def _kind(mode: int) -> str:
    kinds: dict[Callable[[int], bool], str] = {
        stat.S_ISDIR: "a folder",
        stat.S_ISLNK: "a link to itself",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for test, name in kinds.items() if test(mode)), "a device")


@contextmanager
def _told(path: Any, error: type[PrunusError]) -> Iterator[None]:
    """Whatever the system says against writing is one message."""
    try:
        yield
    except (OSError, ValueError) as reason:
        raise error(f"cannot write {shown(path)}: {_reason(reason)}") from reason


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _names_to_disk(folder: Path) -> None:
    """Have the system write which file is where, if it can be told to."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


# --- the folder beside it ----------------------------------------------------------------------------------


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    """A new folder, which is locked, and gone afterwards."""
    folder, lock = _new_folder(parent)
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _new_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder and its lock; without locks, what is left over is known by its age."""
    while True:
        folder = Path(mkdtemp(dir=parent, prefix=_PREFIX, suffix=_SUFFIX))
        try:
            lock = _locked(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process was quicker, and clears it away
        except OSError:
            return folder, None
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove(folder: Path, lock: int | None) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int:
    """A lock that ends with this process; raises `BlockingIOError` if another one has it."""
    if flock is None:
        raise OSError("there are no locks")
    number = os.open(folder, os.O_RDONLY)
    try:
        flock(number, LOCK_EX | LOCK_NB)
    except BaseException:
        os.close(number)
        raise
    return number


def _clear(parent: Path) -> None:
    """Remove the folders of processes that are no more."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            ours = entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)
            if ours and entry.is_dir(follow_symlinks=False):
                _clear_one(Path(entry.path))


def _clear_one(folder: Path) -> None:
    lock = None
    try:
        lock = _locked(folder)
    except BlockingIOError:
        return
    except OSError:
        if time.time() - folder.stat().st_mtime < _DAY:
            return
    _remove(folder, lock)
