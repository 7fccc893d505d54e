"""Which results somebody looks at."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ..tracing import Call, Trace, Value


def live_calls(
    trace: Trace, ends: Iterable[Value], constants: Container[Call] = ()
) -> tuple[set[Call], set[Value]]:
    """The calls on the way to `ends`, and the values that these need; the rest is thrown away.

    Of `constants` only the shape of the first tensor counts.
    """
    live: set[Call] = set()
    needed = set(ends)
    for call in reversed(trace.calls):
        if call.inplace or not needed.isdisjoint(call.results):
            live.add(call)
            unread = call.arguments.get("input") if call in constants else None
            needed.update(value for value in call.values if value is not unread)
    return live, needed
