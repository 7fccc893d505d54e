"""The flow of the data: the calls before and after a value, and the values before and after a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tracing import Call, Trace, Value


class DataFlow:
    """The steps of `Trace.network`, without the cost of building a networkx graph."""

    def __init__(self, trace: Trace):
        self._readers: dict[Value, list[Call]] = {}
        for call in trace.calls:
            for value in dict.fromkeys(call.values):
                self._readers.setdefault(value, []).append(call)

    def following(self, node: Value | Call) -> Sequence[Any]:
        """The calls that take a value, or the values that a call makes."""
        return node.results if isinstance(node, Call) else self._readers.get(node, ())

    def neighbours(self, node: Value | Call) -> list[Any]:
        """The calls that take or make a value, or the values that a call takes or makes."""
        before = node.values if isinstance(node, Call) else [node.call] if node.call else []
        return [*before, *self.following(node)]
