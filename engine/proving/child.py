"""Tries operations in another process: an operation that does not check its sizes may end the one it runs in.

The process is a fresh Python, no fork: a fork of one that has run torch may wait forever for threads that it
does not have. It is started by the first question and serves all that follow, until it dies of one.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import torch
from attrs import define, evolve, field

from ...rules.examples import Example
from ...rules.targets import resolve

_PATIENCE = 120.0  # seconds for one question, and the start of the process if it is the first
_START = "import sys; sys.path[:] = {path!r}; from prunus.engine.proving.child import serve; serve()"

_NOT_REGISTERING = ("__main__", "torch", *sys.stdlib_module_names)


class CannotBeTried(Exception):
    """There is no answer; the message says why, as the end of 'trial says nothing: ...'."""


def stub_by_child(examples: Sequence[Example], seconds: float = _PATIENCE) -> str | None:
    """The rule that trial finds for the first of these calls that runs, or ``None`` if none does.

    Raises `CannotBeTried` if another process cannot make the calls, or does not survive them.
    """
    try:
        question = pickle.dumps([_packed(example) for example in examples])
        modules = sorted({name for one in examples for name in _registering(one.name)})
    except Exception as error:  # a module may have anything in it
        raise CannotBeTried(f"it cannot be handed to another process ({type(error).__name__})") from error
    with _lock:
        answer = _child().ask(pickle.dumps((modules, question)), seconds)
    if isinstance(answer, CannotBeTried):
        raise answer
    return answer


def serve() -> None:
    """What the other process does: answer questions until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what operations print is no answer
    with suppress(ImportError, ValueError, OSError):
        import resource  # which not every system has

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    questions = sys.stdin.buffer
    while length := int.from_bytes(questions.read(8), "big"):
        answer = _answer(questions.read(length))
        pickle.dump(answer, answers)
        answers.flush()


def _answer(question: bytes) -> str | CannotBeTried | None:
    # Only the other process answers; what finds rules there asks this file here.
    from .draft_rule import stub_for
    from .probe import Probe, results_of

    try:
        modules, packed = pickle.loads(question)
        for name in modules:
            importlib.import_module(name)
        examples = [_unpacked(*one) for one in pickle.loads(packed)]
    except Exception as error:
        return CannotBeTried(f"another process cannot import it ({type(error).__name__})")
    try:
        return next((stub_for(one) for one in examples if results_of(Probe(one))), None)
    except Exception as error:
        return CannotBeTried(f"{type(error).__name__}: {error}")


def _packed(example: Example) -> tuple[Example, bool]:
    """An example that can be pickled: a function by its name, as the rule would have it."""
    named = not isinstance(example.target, torch.nn.Module)
    return (evolve(example, target=None) if named else example), named


def _unpacked(example: Example, named: bool) -> Example:
    return evolve(example, target=resolve(example.name)) if named else example


def _registering(name: str) -> Iterator[str]:
    """The modules that may have registered an operator: it has no Python name that would import them."""
    if not name.startswith("torch.ops."):
        return
    namespace = name.split(".")[2]
    for module, found in [*sys.modules.items()]:
        file = getattr(found, "__file__", None) or ""
        if file.endswith(".py") and module.partition(".")[0] not in _NOT_REGISTERING:
            with suppress(OSError, UnicodeDecodeError):
                if namespace in Path(file).read_text(encoding="utf-8"):
                    yield module


def _here() -> tuple[int, str, list[str]]:
    """Which process this is, and where it looks for modules."""
    return os.getpid(), os.getcwd(), list(sys.path)


@define
class _Child:
    """The other process, seen from this one."""

    process: subprocess.Popen[bytes]
    place: tuple[int, str, list[str]] = field(factory=_here)
    is_late: bool = False

    @classmethod
    def start(cls) -> _Child:
        command = [sys.executable, "-c", _START.format(path=sys.path)]
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        except (OSError, ValueError, TypeError) as error:  # there may be no executable in an embedded Python
            raise CannotBeTried(f"no other process can be started ({type(error).__name__})") from error
        return cls(process)

    @property
    def is_usable(self) -> bool:
        """Whether it lives, finds modules where this one does, and is not that of one that forked it."""
        return self.place == _here() and self.process.poll() is None

    def ask(self, question: bytes, seconds: float) -> Any:
        """The answer; raises `CannotBeTried` if the process dies or takes too long, and ends it then."""
        process = self.process
        late = Timer(seconds, self._stop)
        late.daemon = True
        late.start()
        try:
            assert process.stdin and process.stdout  # both are pipes
            process.stdin.write(len(question).to_bytes(8, "big") + question)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.end()
            why = f"it took more than {seconds:g} s" if self.is_late else "the process that tried it died"
            raise CannotBeTried(why) from None
        except BaseException:  # an interrupt: the answer that is still to come would be the next one's
            self.end()
            raise
        finally:
            late.cancel()

    def _stop(self) -> None:
        self.is_late = True
        self.process.kill()

    def end(self) -> None:
        """Stop the process, and wait until it has."""
        if self.place[0] == os.getpid():
            self.process.kill()
            self.process.wait()
            for stream in filter(None, (self.process.stdin, self.process.stdout)):
                with suppress(OSError):
                    stream.close()


def _renew_lock() -> None:
    """A process that is forked meanwhile has no thread that would give the lock back."""
    global _lock
    _lock = Lock()


_lock = Lock()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_lock)
_current: list[_Child] = []


def _child() -> _Child:
    """The process that serves this one, started if there is none."""
    if not _current or not _current[0].is_usable:
        _end()
        _current.append(_Child.start())
    return _current[0]


@atexit.register
def _end() -> None:
    while _current:
        _current.pop().end()
