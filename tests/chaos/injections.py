"""Exceptions at any line of prunus: afterwards all is as before, and the same call succeeds as it would have.

Where the work was done already it may also all be as after it, but never in between. The exception reaches
the caller as it is, but for those that prunus takes for the model's and reports as its own error.
"""

from __future__ import annotations

import random
import sys
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import prunus
from attrs import define, field, frozen

from .nets import NETS
from .operations import OPERATIONS, Case
from .photograph import Photograph
from .process import repair
from .tally import Tally

_ROOT = str(Path(prunus.__file__).parent) + "/"
_ERRORS = (KeyboardInterrupt, MemoryError, RuntimeError)

Line = tuple[CodeType, int]


def run(seed: int, count: int) -> list[Tally]:
    """`count` injections into one operation on one network, which `seed` decides."""
    operation = list(OPERATIONS)[seed % len(OPERATIONS)]
    net = list(NETS)[seed // len(OPERATIONS) % len(NETS)]
    tally, chance = Tally(f"{operation}"), random.Random(seed)
    while tally.tried < count:
        at = chance.choice(list(undisturbed(operation, net).lines.items()))
        place = Place(at[0], chance.choice([0, at[1] - 1, chance.randrange(at[1])]), chance.choice(_ERRORS))
        tally.count(_fault(operation, net, place))
    return [tally]


@frozen
class Place:
    """The line before which an exception is raised, at one of the times that it is reached."""

    line: Line
    time: int
    error: type[BaseException]

    def __str__(self) -> str:
        code, number = self.line
        return f"{self.error.__name__} at {code.co_filename.removeprefix(_ROOT)}:{number}, time {self.time}"


@frozen
class Reference:
    """What the operation does when nothing happens: which lines it runs, how often, and what it leaves."""

    lines: dict[Line, int]
    result: Any
    after: Photograph


_references: dict[tuple[str, str], Reference] = {}


def undisturbed(operation: str, net: str) -> Reference:
    """What an operation does, found out once."""
    if (operation, net) not in _references:
        _references[operation, net] = _run_undisturbed(operation, net)
    return _references[operation, net]


def _run_undisturbed(operation: str, net: str) -> Reference:
    """Run an operation, after it has filled all caches."""
    for _ in range(2):
        OPERATIONS[operation](net).run()
    case, lines = OPERATIONS[operation](net), Lines()
    with lines:
        case.run()
    case = OPERATIONS[operation](net)
    result = case.run()
    return Reference(lines.met, result, case.photograph())


def _fault(operation: str, net: str, place: Place) -> str | None:
    """What was wrong after an injection, if anything was."""
    case, reference = OPERATIONS[operation](net), undisturbed(operation, net)
    before = case.photograph()
    raised: BaseException | None = None
    result = None
    lines = Lines(place)
    try:
        with lines:
            result = case.run()
    except BaseException as error:
        raised = error
    what = _judged(case, reference, before, raised, lines.raised, result)
    if what is not None:
        repair()
    return what and f"{operation} of {net}, {place}: {what}"


def _judged(
    case: Case,
    reference: Reference,
    before: Photograph,
    raised: BaseException | None,
    injected: BaseException | None,
    result: Any,
) -> str | None:
    after = case.photograph()
    if raised is not None and injected is not None and not _is_from(raised, injected):
        return f"another error comes out: {raised!r}"
    if raised is None:
        done = reference.after.difference(after, same_objects=False)
        return done or (None if result == reference.result else f"the result is another one: {result}")
    changed = before.difference(after)
    if changed is not None:
        return None if reference.after.difference(after, same_objects=False) is None else changed
    try:
        result = case.run()
    except BaseException as error:
        return f"it fails afterwards: {error!r}"
    done = reference.after.difference(case.photograph(), same_objects=False)
    if done is not None or result != reference.result:
        return f"it does something else afterwards: {done or result}"
    return None


def _is_from(raised: BaseException, injected: BaseException) -> bool:
    """Whether an error is the injected one, or, if that is one a model could raise, was made of it."""
    chain: list[BaseException | None] = [raised]
    while chain[-1] is not None and isinstance(injected, Exception):
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    return any(one is injected for one in chain)


@define
class Lines:
    """While this is entered, counts the lines of prunus that are run, and raises at one of them."""

    place: Place | None = None
    met: dict[Line, int] = field(factory=dict)
    raised: BaseException | None = None

    def __enter__(self) -> Lines:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._trace_line if is_ours(frame.f_code.co_filename) else None

    def _trace_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            line = frame.f_code, frame.f_lineno
            if self.place is None or self.place.line == line:
                self.met[line] = self.met.get(line, 0) + 1
                if self.place is not None and self.met[line] == self.place.time + 1:
                    sys.settrace(None)
                    self.raised = self.place.error("injected")
                    raise self.raised
        return self._trace_line


@cache
def is_ours(file: str) -> bool:
    """Whether a file belongs to prunus, but for its tests."""
    return file.startswith(_ROOT) and not file.startswith((_ROOT + "tests", _ROOT + ".venv"))
