"""What there is to make up for in a block: the results of its readers, or the sums that they go into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from ..coupling import Reading
from ..grouping import Groups
from ..tracing import Call, Value, values_in
from .readers import Reader

# So many calls behind a reader are looked at.
_AHEAD = 16

Users = Mapping[Value, Sequence[Call]]


@frozen(eq=False)
class Spot:
    """A reader that multiplies rows with a matrix, and the call whose result is to stay as it was.

    That is the reader's own, or the one that adds to it what flows past, in a residual network: that has
    lost something by the blocks before, too. ``other`` is the position of what is added. ``made`` is the
    axis of the weight that the result has.
    """

    reader: Reader
    call: Call
    other: int | None
    made: int


def spot_of(graph: Groups, reader: Reader, users: Users) -> Spot | None:
    """The spot of a reader; `None` if its weight is no matrix of rows, or if its result is changed before
    something is added to it: then nothing tells what the reader has to make up for.

    Between the reader and the sum there may be calls that leave their one operand as it is, as dropout does;
    whether they do is seen when they run.
    """
    value, axis = reader.data
    made = 1 - reader.weight.axis
    shape = graph.trace.tensors[reader.weight.tensor].shape
    result = reader.call.results[0]
    is_matrix = len(shape) == 2 and axis == len(value.shape) - 1
    if not is_matrix or result.shape != (*value.shape[:-1], shape[made]):
        return None
    sums = _sums(graph, result, users)
    if not sums:
        return Spot(reader, reader.call, None, made)
    call, other, is_direct = sums[0]
    if len(sums) > 1 or not is_direct or call.inplace:
        return None
    return Spot(reader, call, other, made)


def _sums(graph: Groups, result: Value, users: Users) -> list[tuple[Call, int, bool]]:
    """The calls that add something to a value or to what becomes of it, the position of that, and whether
    what is between may leave it as it is."""
    found = []
    ahead, seen = [(result, True)], 0
    while ahead and seen < _AHEAD:
        value, is_direct = ahead.pop(0)
        for user in users.get(value, ()):
            seen += 1
            terms = _terms(graph.coupled.readings.get(user))
            other = _added(terms, user, value)
            if other is not None:
                found.append((user, other, is_direct))
            elif user.results[0].shape == value.shape:
                ahead.append((user.results[0], is_direct and terms == [[value]]))
    return found


def _terms(reading: Reading | None) -> list[list[Value]]:
    return [list(values_in(term)) for term in (reading.terms if reading else None) or ()]


def _added(terms: list[list[Value]], user: Call, value: Value) -> int | None:
    """The position of what a call adds to a value, entry by entry."""
    if len(terms) != 2 or [value] not in terms or any(len(term) != 1 for term in terms):
        return None
    other = next((one for (one,) in terms if one is not value), None)
    return user.values.index(other) if other is not None and other.shape == value.shape else None
