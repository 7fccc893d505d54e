"""Exceptions at any line of prunus: afterwards all is as before, and the same call succeeds as it would have.

Where the work was done already it may also all be as after it, but never in between. The exception reaches
the caller as it is, but for those that prunus takes for the model's and reports as its own error. With other
sizes a `RuntimeError` is the model's answer: more is held then, and only the process must be as before.
"""

from __future__ import annotations

from random import Random
from time import perf_counter
from typing import Any

from attrs import define

from .cases import Case
from .disturbances import Lines, Operators, Signal, UserCode
from .operations import OPERATIONS, nets_of
from .photograph import Photograph
from .process import process_state, repair
from .tally import Tally


def run(seed: int, count: int) -> list[Tally]:
    """`count` injections into one operation on one network, which `seed` decides."""
    operation, net = drawn_case(seed)
    tally, chance = Tally(operation), Random(seed)
    lines = reference(operation, net).lines
    for _ in range(count):
        tally.count(fault(operation, net, Lines.drawn(lines, chance)))
    return [tally]


def drawn_case(seed: int) -> tuple[str, str]:
    """Another operation with each seed, and then another network."""
    operation = list(OPERATIONS)[seed % len(OPERATIONS)]
    nets = nets_of(operation)
    return operation, nets[seed // len(OPERATIONS) % len(nets)]


@define
class Reference:
    """What an operation does when nothing happens: what could be disturbed, and what it leaves."""

    result: Any
    after: Photograph
    seconds: float
    lines: Lines
    operators: Operators
    user_code: UserCode


_references: dict[tuple[str, str], Reference] = {}


def reference(operation: str, net: str) -> Reference:
    """What an operation does, found out once."""
    if (operation, net) not in _references:
        _references[operation, net] = _undisturbed(operation, net)
    return _references[operation, net]


def _undisturbed(operation: str, net: str) -> Reference:
    for _ in range(2):  # which fills all caches
        OPERATIONS[operation](net).run()
    counting = Lines(), Operators(), UserCode()
    for one in counting:
        case = OPERATIONS[operation](net)
        with one:
            case.run()
    case, start = OPERATIONS[operation](net), perf_counter()
    result = case.run()
    return Reference(result, case.photograph(), perf_counter() - start, *counting)


def fault(operation: str, net: str, disturbance: Lines | Operators | UserCode | Signal) -> str | None:
    """What was wrong after a disturbance, if anything was."""
    case, expected = OPERATIONS[operation](net), reference(operation, net)
    before = case.photograph()
    result: Any = None
    error: BaseException | None = None
    try:
        with disturbance:
            result = case.run()
    except BaseException as failure:
        error = failure
    what = _wrong(case, expected, before, disturbance.raised, error, result)
    if what is not None:
        repair()
    return what and f"{operation} of {net}, {disturbance}: {what}"


def _wrong(
    case: Case,
    expected: Reference,
    before: Photograph,
    injected: BaseException | None,
    error: BaseException | None,
    result: Any,
) -> str | None:
    after = case.photograph()
    if error is not None and not _is_from(error, injected):
        return f"another error comes out: {error!r}"
    for name in process_state():
        if before.facts[name] != after.facts[name]:
            return f"{name} was {before.facts[name]} and is {after.facts[name]}"
    if error is None and isinstance(injected, RuntimeError):
        return None
    is_done = expected.after.difference(after, same_objects=False) is None
    changed = before.difference(after)
    if error is not None and changed is not None:
        return None if is_done else changed
    if error is not None:
        try:
            result = case.run()
        except BaseException as failure:
            return f"it fails afterwards: {failure!r}"
    differs = expected.after.difference(case.photograph(), same_objects=False)
    return differs or (None if result == expected.result else f"the result is another one: {result}")


def _is_from(error: BaseException, injected: BaseException | None) -> bool:
    """Whether an error is the injected one, or, if that is one a model could raise, was made of it."""
    chain: list[BaseException | None] = [error]
    while chain[-1] is not None and isinstance(injected, Exception):
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    return injected is not None and any(one is injected for one in chain)
