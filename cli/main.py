"""One command from its words to its exit status.

Whatever the user got wrong, or the user's code raises, ends as one line ``error: ...`` on standard error and
exit status 2; an interrupt as one line and status 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import PrunusError
from . import output
from .parser import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 is success, 1 that ``rules check`` or ``fmt --check`` found something, 2 an error that the user can
    mend, 130 an interrupt. With ``arguments`` this is a function like others; without, standard output is
    taken over for the rest of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments is None:
            output.take_over()
        return _run(words)
    except KeyboardInterrupt:
        return output.end("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return output.let_go(0)
    except PrunusError as error:
        return output.fail(str(error), as_json="--json" in words)
    except OSError as error:  # most likely of standard output: the disk is full
        return output.let_go(output.fail(f"{type(error).__name__}: {error}", as_json=False))
    except BaseException as error:  # of code that rules have run, perhaps: sys.exit() is no success then
        text = f"{type(error).__name__}: {error}\nhelp: PRUNUS_TRACEBACK=1 shows where it comes from"
        return output.fail(text, as_json="--json" in words)


def _run(words: list[str]) -> int:
    top = parser()
    if os.environ.get("_ARGCOMPLETE"):
        _complete(top)
    try:
        options = top.parse_args(words)
    except SystemExit:  # --help and --version
        options = argparse.Namespace(run=lambda _: 0)
    status: int | None = options.run(options)
    sys.stdout.flush()
    return status or 0


def _complete(top: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what could be typed next, and exit."""
    try:
        import argcomplete  # an extra
    except ModuleNotFoundError:
        return
    argcomplete.autocomplete(top)
