"""Modules that the user names on the command line: where they are looked for, and what goes wrong in them."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, TracebackType

from ..engine.tracing import is_library_file
from ..errors import PrunusError
from .output import working

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def import_named(name: str) -> ModuleType:
    """The module of that name; the current folder is looked into first if it has it."""
    if not _DOTTED.fullmatch(name):
        raise PrunusError(f"{name!r} is no name of a module; write package.module")
    make_importable(name)
    return import_installed(name)


def import_installed(name: str) -> ModuleType:
    """The module of that name, from where installed ones are."""
    try:
        with of_the_user(f"importing {name}"), working(f"importing {name} ..."):
            return importlib.import_module(name)
    except PrunusError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        which = f"no module named {missing.name or name!r}{_place(missing)}"
        raise PrunusError(f"{which}; is it installed, or in the current directory?") from missing


def import_all(packages: Iterable[str]) -> None:
    """Import packages for what they register."""
    for package in packages:
        try:
            import_named(package)
        except PrunusError as error:
            text = str(error)
            raise PrunusError(
                text if text.startswith("importing") else f"importing {package} failed: {text}"
            ) from error


@contextmanager
def of_the_user(what: str) -> Iterator[None]:
    """Code of the user runs in here: whatever it raises, ``sys.exit()`` too, is one error with its line."""
    try:
        yield
    except (PrunusError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PrunusError(f"{what} failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """The kind of an exception, what it says, and the innermost line of the user's code that it passed."""
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:
        said = type(error).__name__
    if isinstance(error, SystemExit):
        said = f"it calls sys.exit({error.code!r})"
    return said + _place(error)


def _place(error: BaseException) -> str:
    """In brackets, the innermost line of the user's code that an exception passed, if there is one."""
    place = _line_of(error.__traceback__)
    return f" ({place})" if place else ""


def _line_of(trace: TracebackType | None) -> str | None:
    """The innermost line of a file that is nobody's library; of a package's if there is none."""
    own = elsewhere = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        is_own = trace.tb_frame.f_globals.get("__package__") == __package__ or file == importlib.__file__
        if not is_own and not is_library_file(file) and not file.startswith("<frozen"):
            elsewhere = f"{file}:{trace.tb_lineno}"
            own = own if file.startswith(_INSTALLED) else elsewhere
        trace = trace.tb_next
    return own or elsewhere


def make_importable(name: str) -> None:
    """Let the module that a dotted name or a call begins with be found in the current folder, if it is there.

    Where it is not, nothing of the folder can be meant, and its files must not pass for installed modules.
    """
    here = os.getcwd()
    (top,) = re.findall(r"^\w*", name)
    found = PathFinder.find_spec(top, [here]) if top else None
    if found is not None and here not in sys.path:
        # A folder without __init__.py may just be called like an installed package.
        sys.path.insert(0 if found.loader else len(sys.path), here)


def make_folders_importable(files: Iterable[str]) -> None:
    """Let targets be found beside the rule file that names them, and in the current folder if it is above."""
    here = Path.cwd()
    for folder in [Path(file).resolve().parent for file in files if os.path.isfile(file)]:
        for chosen in [folder, *([here] if here in folder.parents else [])]:
            if str(chosen) not in sys.path:
                sys.path.append(str(chosen))
