"""What the command line writes: answers on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from threading import current_thread, main_thread
from typing import Any

from ..errors import brief

_LONGEST = 4000  # characters of a message: whatever a model or an argument has in it ends up there


def take_over() -> None:
    """Keep standard output for answers: what else is written there, by whatever means, is an aside.

    Characters that the terminal's encoding does not have are escaped. A stream that is closed is none.
    """
    global _is_taken_over
    _is_taken_over = True
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    with suppress(OSError, ValueError):  # no streams of the system
        sys.stdout.flush()
        ours = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.stdout = open(ours, "w", encoding=sys.stdout.encoding, errors="backslashreplace")  # noqa: SIM115


_is_taken_over = False


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """While torch is imported, which swallows interrupts here and there, one ends the process at once."""
    before = signal.getsignal(signal.SIGINT)
    if (
        not _is_taken_over
        or before is not signal.default_int_handler
        or current_thread() is not main_thread()
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(end("interrupted", 130)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def working(what: str) -> Iterator[None]:
    """While something long is done: it is shown on a terminal, and what the work prints goes beside."""
    with _spinner(what), redirect_stdout(sys.stderr):
        yield


@contextmanager
def counting(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """The same, and how far it is: to be told what is done, how much of it, and of how much."""
    with _spinner(what) as spinner, redirect_stdout(sys.stderr):
        yield lambda doing, done, count: spinner and spinner.update(f"{doing} {done} of {count} tensors ...")


def _spinner(what: str) -> Any:
    """Words that move on a terminal, and are gone at the end; nothing in a pipe or a file."""
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    # Takes a while, and is for terminals alone.
    from rich.console import Console
    from rich.markup import escape

    what = brief(what, 60)
    console = Console(stderr=True)
    if console.is_dumb_terminal or console.width < len(what) + 3:  # it would leave lines behind
        return nullcontext()
    return console.status(escape(what))


def answer(data: dict[str, Any]) -> None:
    """Print plain data as JSON, in nothing but ASCII."""
    print(json.dumps(data, indent=2))


def fail(message: str, as_json: bool) -> int:
    """Tell of the error that is being handled, and return the exit status 2."""
    if os.environ.get("PRUNUS_TRACEBACK"):
        traceback.print_exc()
    message = brief(message.removeprefix("error:").strip(), _LONGEST)
    if as_json:
        try:
            answer({"error": message})
            sys.stdout.flush()
        except OSError:  # nobody can read it there, or the disk is full
            let_go(2)
    return end(f"error: {message}", 2)


def end(message: str, status: int) -> int:
    """Say a last word on standard error, and return the exit status."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)
    return status


def let_go(status: int) -> int:
    """Forget what is still to be written to standard output, which nobody reads, and return the status."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
