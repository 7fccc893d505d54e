"""Where in the user's code something happens: frames of torch, prunus and threads are passed over."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from types import CodeType, FrameType, TracebackType

import torch
from attrs import frozen

_PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
# Only its folders: an environment with torch may lie beside them.
_OWN = tuple(os.path.join(_PACKAGE, part, "") for part in ("adapters", "engine", "grammar", "rules"))
# What hands work to threads: a line of Python's own would say nothing of whose work it is.
_THREADS = tuple(
    os.path.join(os.path.dirname(threading.__file__), part)
    for part in ("threading.py", os.path.join("concurrent", ""), os.path.join("multiprocessing", ""))
)
_LIBRARY = (os.path.join(os.path.dirname(torch.__file__), ""), *_OWN, *_THREADS)
_is_library: dict[str, bool] = {}  # by file name: hashing a string is free, hashing a code object is not


@frozen
class Source:
    """A place in the user's code."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The source line itself, or nothing where it cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def short(self) -> str:
        """The path from the current folder, or its last parts, and the line: enough to find it."""
        here = os.path.join(os.getcwd(), "")
        path = self.file[len(here) :] if self.file.startswith(here) else self.file
        return "/".join(path.replace("\\", "/").split("/")[-3:]) + f":{self.line}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def is_library_file(file: str) -> bool:
    """Whether a file belongs to torch or to prunus, and so is not what a user wants to be shown."""
    known = _is_library.get(file)
    if known is None:
        known = _is_library[file] = file.startswith(_LIBRARY)
    return known


def locate(root: CodeType | None, depth: int = 1) -> Source:
    """Where the user's code is now: the first frame outside torch and prunus.

    The search ends at the frame that runs ``root``. A model made of torch's own modules has no other
    frames than torch's; the innermost of those is then the best answer.
    """
    frame: FrameType | None = sys._getframe(depth)
    innermost: FrameType | None = None
    while frame is not None:
        code = frame.f_code
        if code is root:
            break
        file = code.co_filename
        known = _is_library.get(file)
        if known is None:
            known = is_library_file(file)
        if not known:
            return Source(file, frame.f_lineno, code.co_name)
        if innermost is None and not file.startswith(_OWN) and code.co_name not in _DISPATCH:
            innermost = frame
        frame = frame.f_back
    frame = innermost or sys._getframe(depth)
    return Source(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


_DISPATCH = frozenset({"handle_torch_function", "wrapped", "_pop_mode_temporarily"})


def locate_error(trace: TracebackType | None) -> Source | None:
    """The innermost line of the user's code that an exception passed through."""
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if not is_library_file(code.co_filename):
            found = Source(code.co_filename, trace.tb_lineno, code.co_name)
        trace = trace.tb_next
    return found
