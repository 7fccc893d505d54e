"""Which results somebody looks at, and which tensors are one number everywhere."""

from __future__ import annotations

from collections.abc import Container

from .values import Call, Trace, Value


def live_calls(trace: Trace, constants: Container[Call] = ()) -> tuple[set[Call], set[Value]]:
    """The calls whose results somebody looks at, and the values that these need; the rest is thrown away.

    Of `constants` only the shape of the first tensor counts.
    """
    live: set[Call] = set()
    needed = trace.ends
    for call in reversed(trace.calls):
        if call.inplace or not needed.isdisjoint(call.results):
            live.add(call)
            unread = call.arguments.get("input") if call in constants else None
            needed.update(value for value in call.values if value is not unread)
    return live, needed


def is_uniform(call: Call, uniform: Container[Value], moves: bool, multilinear: bool) -> bool:
    """Whether a call makes one number everywhere of tensors that are so, each of a number of its own.

    `moves` says that it only puts slots elsewhere, `multilinear` that it adds up products of its operands.
    """
    source = call.arguments.get("input")
    if moves:
        return isinstance(source, Value) and source in uniform
    return multilinear and bool(call.values) and all(value in uniform for value in call.values)
