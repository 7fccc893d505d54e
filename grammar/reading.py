"""Reading rule files: regular files of bounded size, in UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import RuleError, Span, did_you_mean
from .limits import SIZE


def read(path: Path, shown: str, span: Span | None = None) -> str:
    """The text of a rule file, with every line end as ``\\n``.

    Parameters
    ----------
    path : the file.
    shown : what errors call it.
    span : where it is asked for.

    Raises
    ------
    RuleError
        There is no such file, it is none (a folder, a device, a pipe), too large, or not in UTF-8.
    """
    try:
        text = read_exactly(path, shown, span)
    except RuleError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        takes = did_you_mean(shown, ["default"]) or "rules= takes 'default', paths and lists of these"
        help = "write 'use default' or a path" if span else takes
        raise RuleError(f"no rule file '{shown}'", span, help) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_exactly(path: Path, shown: str, span: Span | None = None) -> str:
    """The text of a rule file as `read` gives it, with the line ends that it has."""
    try:
        data = _bytes(path)
    except (OSError, ValueError) as error:  # a null byte or a lone surrogate in a name is a ValueError
        why = getattr(error, "strerror", None) or error
        raise RuleError(f"cannot read {shown}: {why}", span, "rules are text files in UTF-8") from error
    return decoded(data, shown, span)


def decoded(data: bytes, shown: str, span: Span | None = None) -> str:
    """The text that these bytes are; some editors of Windows mark UTF-8."""
    if len(data) > SIZE:
        raise RuleError(f"cannot read {shown}: rule files have at most {SIZE:,} bytes", span)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        why = f"line {line} is not UTF-8"
        raise RuleError(f"cannot read {shown}: {why}", span, "rules are text files in UTF-8") from None


def identity(path: Path) -> str:
    """What two paths to one file have in common: an absolute path, without links if it can be a file's."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.path.abspath(path)


def _bytes(path: Path) -> bytes:
    """What is in a regular file, one byte more than allowed at most; nothing else is waited for."""
    # A pipe without a writer would be waited for when it is opened.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(0, "it is not a regular file")
        return stream.read(SIZE + 1)
