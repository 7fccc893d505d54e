"""Watches a second run of an analysed model: what its calls multiply with weights, call by call.

Which call is which is told by the weights that go into it. All others only prepare (masks, positions, a
cache) or are between: they may differ from batch to batch, as what a weight reads is the same slots anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen
from torch import Tensor

from ...errors import PlanError
from ..coupling import Place
from ..tracing import Call, Trace, Value
from .padding import Padding

# What is done with the values that stand at a place, and the axis of them that it is.
Look = Callable[[Place, Tensor, int], None]


class Watch:
    """Follows a run of a model and looks at what stands at some places.

    Of several calls of the model that were analysed it is one that a batch makes; which, its steps tell.
    """

    def __init__(self, analysed: Trace, places: Iterable[Place], padding: Padding, look: Look):
        runs = [analysed.calls[run.start : run.stop] for run in analysed.runs if not run.training]
        self._paths = [_Path(_steps(calls, places)) for calls in runs]
        self._padding = padding
        self._look = look
        self._weights = _Weights()
        self._number = 0
        self._differs: Call | None = None

    def __call__(self, call: Call, tensors: Mapping[Value, Tensor], _: tuple[Tensor, ...]) -> None:
        """Look at what `call` is given; nothing more after the first step that was not analysed."""
        self._padding.follow(call)
        weights = self._weights.of(call)
        if self._differs is not None or not any(weights):
            return
        left = [path for path in self._paths if path.expects(self._number, call, weights)]
        if not left:
            self._differs = call
            return
        self._paths = left
        for position, place in left[0].steps[self._number].places:
            value = call.values[position]
            tensor, axis = self._padding.without(value, tensors[value], place[1])
            self._look(place, tensor, axis)
        self._number += 1

    def check(self, number: int) -> None:
        """Raise `PlanError` unless the steps of batch `number` were those that were analysed."""
        if self._differs is None and any(len(path.steps) == self._number for path in self._paths):
            return
        call = self._differs or self._paths[0].steps[self._number].call
        raise PlanError(
            f"for batch {number} of data= the model makes other calls with its weights than for the example "
            f"inputs, first {call.name} at {call.source}: {call.source.text}\n"
            "give example_inputs= like the batches, or leave it out, and batches that take the same path"
        )


# The weights that each operand of a call is made of, and of nothing else.
_ByOperand = tuple[frozenset[str], ...]


@frozen(eq=False)
class _Step:
    """A call that weights go into, and what there is to look at: operands by position."""

    call: Call
    weights: _ByOperand
    places: Sequence[tuple[int, Place]]


@frozen(eq=False)
class _Path:
    """The steps of one run that was analysed."""

    steps: Sequence[_Step]

    def expects(self, number: int, call: Call, weights: _ByOperand) -> bool:
        """Whether it is the step that was analysed at this point, on values of the same kinds."""
        if number >= len(self.steps):
            return False
        known = self.steps[number]
        if known.call.target != call.target or known.weights != weights:
            return False
        return all(
            len(call.values[position].shape) == len(value.shape)
            and call.values[position].shape[axis] == value.shape[axis]
            for position, (value, axis) in known.places
        )


class _Weights:
    """Which parameters go into the calls of a run, also turned, cut or computed from others, as they come."""

    def __init__(self) -> None:
        self._known: dict[Value, frozenset[str]] = {}

    def of(self, call: Call) -> _ByOperand:
        """Those of each operand; none for one that anything else has a part in."""
        return tuple(map(self._of_value, call.values))

    def _of_value(self, value: Value) -> frozenset[str]:
        if value not in self._known:
            if value.call is None:
                found = {value.name or ""} if value.kind == "parameter" else set()
            else:
                parts = self.of(value.call)
                found = set().union(*parts) if all(parts) else set()
            self._known[value] = frozenset(found)
        return self._known[value]


def _steps(calls: Iterable[Call], places: Iterable[Place]) -> list[_Step]:
    """The calls that weights go into, each with the places that it is the first of them to read."""
    axes: dict[Value, list[Place]] = {}
    for place in places:
        axes.setdefault(place[0], []).append(place)
    weights = _Weights()
    found = []
    for call in calls:
        by_operand = weights.of(call)
        if any(by_operand):
            met = [value for value in dict.fromkeys(call.values) if value in axes]
            read = [(call.values.index(one), place) for one in met for place in axes.pop(one)]
            found.append(_Step(call, by_operand, read))
    return found
