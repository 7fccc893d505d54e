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
from secrets import token_hex
from typing import IO, Any

from .errors import PrunusError, shown

# Windows has no such locks.
try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:
    flock = None  # type: ignore[assignment]  # there is none on Windows

PathLike = str | os.PathLike[str]

_PREFIX, _SUFFIX = ".prunus-", ".part"  # of the folder
_PART, _OLD, _LOCK = "part", "old", "lock"  # what is in it
_OURS = {_PART, _OLD, _LOCK}
_FILE = "file"
_DAY = 24 * 60 * 60


@contextmanager
def written(path: PathLike, error: type[PrunusError] = PrunusError) -> Iterator[Path]:
    """Where to write what is to be at `path`; it is moved there when the block ends well.

    A file that was there is replaced, with its permissions, and a link stays one. Raises `error` if `path`
    cannot be written, or is there and no regular file.
    """
    with told(path, error):
        place = _place(path)
        _clear(place.parent)
        with _folder_in(place.parent) as folder:
            part = folder.path / _PART / _FILE  # a library that writes it may do so by a file beside it
            part.parent.mkdir()
            part.touch()
            mode = stat.S_IMODE((place if place.exists() else part).stat().st_mode)
            yield part
            part.chmod(mode)
            folder.to_disk(part)
            part.replace(place)


@contextmanager
def written_folder(
    path: PathLike, is_ours: Callable[[Path], bool], error: type[PrunusError] = PrunusError
) -> Iterator[Path]:
    """Where to write the files of what is to be a folder; it is moved to `path` when the block ends well.

    An empty folder, or one that `is_ours`, is replaced. Raises `error` if it cannot be, or is another.
    """
    with told(path, error):
        place = folder_place(path, is_ours)
        _clear(place.parent)
        with _folder_in(place.parent) as folder:
            part = folder.path / _PART
            part.mkdir()
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    folder.to_disk(file)
            if place.exists():
                (folder.path / _OLD).mkdir()
                place.replace(folder.path / _OLD / place.name)
            part.replace(place)


def expect_folder(
    path: PathLike, is_ours: Callable[[Path], bool], error: type[PrunusError] = PrunusError
) -> None:
    """Raise `error` unless a folder can be written at `path`, as it is to be known before long work."""
    with told(path, error), _folder_in(folder_place(path, is_ours).parent):
        pass


def folder_place(path: PathLike, is_ours: Callable[[Path], bool]) -> Path:
    """Where a folder is to be; raises `ValueError` if it cannot be there, or something else is."""
    if not os.fspath(path):
        raise ValueError("it is no name of a folder")
    place = _in_a_folder(Path(os.path.realpath(at_home(path))))
    if place.exists() and not (place.is_dir() and (is_ours(place) or not any(place.iterdir()))):
        raise ValueError("it is there, and prunus did not write all of it: choose another name")
    return place


def write_text(path: PathLike, text: str, error: type[PrunusError] = PrunusError) -> None:
    """Write a text file in one step, with the line ends that the text has; raises as `written`."""
    with written(path, error) as part:
        part.write_bytes(text.encode("utf-8"))


def expect_writable(path: PathLike, error: type[PrunusError] = PrunusError) -> None:
    """Raise `error` unless a file can be written at `path`, as it is to be known before long work."""
    with told(path, error), _folder_in(_place(path).parent):
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


# --- the place ---------------------------------------------------------------------------------------------


def _text(path: Any) -> str:
    try:
        text = os.fsdecode(path) if isinstance(path, (str, os.PathLike)) else ""
    except TypeError:  # of a __fspath__ that gives something else
        text = ""
    if not text:
        raise ValueError("it is no name of a file")
    if text.endswith(("/", os.sep)):
        raise ValueError("it is the name of a folder")
    return at_home(text)


def at_home(path: PathLike) -> str:
    """The path with ``~`` as the user's home, as a shell has it."""
    return os.path.expanduser(os.fsdecode(path))


def _in_a_folder(place: Path) -> Path:
    """The place, in a folder that is there."""
    if not place.parent.is_dir():
        raise ValueError(f"there is no folder {shown(place.parent)}; make it first")
    return place


def _place(path: PathLike) -> Path:
    """The file that `path` leads to, which may not be there yet, but nothing else may be."""
    place = _in_a_folder(Path(os.path.realpath(_text(path))))
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
def told(path: Any, error: type[PrunusError] = PrunusError) -> Iterator[None]:
    """Whatever the system says against writing is one message."""
    try:
        yield
    except (OSError, ValueError) as reason:
        raise error(f"cannot write {shown(path)}: {_reason(reason)}") from reason


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


# --- the folder beside it ----------------------------------------------------------------------------------


@contextmanager
def _folder_in(parent: Path) -> Iterator[_Folder]:
    """A new folder, which is locked, and gone afterwards, at whatever line an interrupt strikes."""
    folder = _Folder()
    try:
        try:
            folder.make(parent)
            yield folder
        finally:
            folder.remove()
    finally:  # an interrupt may have struck in there
        folder.remove()


class _Folder:
    """A folder, with a file in it that is locked for as long as the process lives that made it."""

    path = Path()

    def __init__(self) -> None:
        self._files: list[IO[bytes]] = []

    def make(self, parent: Path) -> None:
        """Make it; if a process that clears up is quicker than the lock, make another one."""
        while True:
            self.path = parent / f"{_PREFIX}{token_hex(8)}{_SUFFIX}"
            self.path.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                self._files.append((self.path / _LOCK).open("wb"))
                if locked(self._files[-1]) is not False and (self.path / _LOCK).exists():
                    return

    def to_disk(self, part: Path) -> None:
        """Have the system write what it has of a file in the folder."""
        self._files.append(part.open("r+b"))
        os.fsync(self._files[-1].fileno())
        self._files[-1].close()  # some systems move no open file

    def remove(self) -> None:
        """Remove it with what is in it, if it is there."""
        for file in self._files:
            file.close()
        if self.path.name:
            give_back(self.path)
            shutil.rmtree(self.path, ignore_errors=True)


def give_back(folder: Path) -> None:
    """Put back the folder that was to be replaced, where nothing has come in its place."""
    for old in (folder / _OLD).glob("*"):
        place = folder.parent / old.name
        if not place.exists():
            old.replace(place)


def locked(file: IO[bytes]) -> bool | None:
    """Whether this process has the lock now, or another one; ``None`` where there are no locks."""
    if flock is None:
        return None
    try:
        flock(file, LOCK_EX | LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _clear(parent: Path) -> None:
    """Remove the folders of processes that are no more."""
    for entry in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if entry.is_dir() and not entry.is_symlink():
                _clear_one(entry)


def _clear_one(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()  # its process has not come to lock it, and makes another one if it is alive
    if not _OURS.issuperset(os.listdir(folder)):
        return  # whoever made this, it is no leftover
    if not (folder / _LOCK).exists():
        shutil.rmtree(folder, ignore_errors=True)  # its process removes it, or was killed when it did
        return
    with (folder / _LOCK).open("rb") as file:
        free = locked(file)
        if free is None:  # then age tells
            free = time.time() - folder.stat().st_mtime > _DAY
        if free:
            give_back(folder)
            shutil.rmtree(folder, ignore_errors=True)
