"""The calls that read a group: they multiply data with a weight and sum over an axis that both have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from ..axes import Layout, atoms
from ..coupling import Place, Reading
from ..grouping import Groups, Member
from ..tracing import Call, Value, values_in


@frozen(eq=False)
class Reader:
    """One product in a call: ``data`` is summed with ``weight`` along an axis of the same layout.

    ``weight`` is the axis of a parameter, ``bias`` the name of the parameter that the call adds to the
    result of the product, if there is one. ``paired`` says that another axis goes through both as well,
    so that each of its slots has a weight of its own (the experts of a mixture).
    """

    call: Call
    data: Place
    weight: Member
    bias: str | None
    paired: bool


def readers(graph: Groups) -> list[Reader]:
    """Every reader of a model, in the order of its calls."""
    return [
        reader for call, reading in graph.coupled.readings.items() for reader in _of(graph, call, reading)
    ]


def uses(graph: Groups) -> dict[str, set[Call]]:
    """The calls that compute with a parameter, by its name: those that only rearrange it are passed."""
    found: dict[str, set[Call]] = {}
    for call in graph.trace.calls:
        if not _rearranges(graph, call):
            for parameter in filter(None, (_parameter(graph, value) for value in call.values)):
                found.setdefault(parameter.name or "", set()).add(call)
    return found


def _of(graph: Groups, call: Call, reading: Reading) -> Iterator[Reader]:
    products = [tuple(values_in(term)) for term in reading.terms or ()]
    summed = (
        (factor, dict(places))
        for factor, _, places in reading.factors
        if factor not in reading.summed and not any(value in call.results for value, _ in places)
    )
    for factor, axes in summed:
        for operands in products:
            if len(operands) == 2 and set(operands) == axes.keys():
                yield from _reader(graph, call, reading, factor, axes)


def _reader(
    graph: Groups, call: Call, reading: Reading, factor: str, axes: dict[Value, int]
) -> Iterator[Reader]:
    data = [value for value in axes if value in graph.coupled.from_input and value.dtype.is_floating_point]
    others = [value for value in axes if value not in graph.coupled.from_input]
    if len(data) != 1 or len(others) != 1:
        return
    read, multiplied = (data[0], axes[data[0]]), (others[0], axes[others[0]])
    weight = _member(graph, multiplied)
    if weight is not None and _alike(graph.layout_at(read), graph.layout_at(multiplied)):
        paired = any(
            other != factor and layout.size > 1 and axes.keys() <= {value for value, _ in places}
            for other, layout, places in reading.factors
        )
        yield Reader(call, read, weight, _bias(graph, reading, weight), paired)


def _bias(graph: Groups, reading: Reading, weight: Member) -> str | None:
    """The parameter that the call adds, if its axes are axes of the weight that the result has, too."""
    for term in reading.terms or ():
        alone = tuple(values_in(term))
        parameter = _parameter(graph, alone[0]) if len(alone) == 1 else None
        if parameter is not None and added_axes(graph, parameter.name or "", weight) is not None:
            return parameter.name
    return None


def added_axes(graph: Groups, bias: str, weight: Member) -> list[int] | None:
    """For each axis of `bias` the axis of the weight that it is, but for the one that is summed."""
    layouts = _layouts(graph, graph.trace.tensors[weight.tensor])
    free = [axis for axis in range(len(layouts)) if axis != weight.axis]
    found = []
    for layout in _layouts(graph, graph.trace.tensors[bias]):
        axis = next((axis for axis in free if _alike(layouts[axis], layout)), None)
        if axis is None:
            return None
        free.remove(axis)
        found.append(axis)
    return found


def _member(graph: Groups, place: Place) -> Member | None:
    """The axis of a parameter that an axis of a weight is."""
    value, axis = place
    parameter = _parameter(graph, value)
    if parameter is None:
        return None
    if parameter is not value:
        layout = graph.layout_at(place)
        same = [n for n, other in enumerate(_layouts(graph, parameter)) if _alike(other, layout)]
        if len(same) != 1:
            return None
        axis = same[0]
    return Member(parameter.name or "", axis)


def _parameter(graph: Groups, value: Value) -> Value | None:
    """The parameter that `value` is, perhaps cut or turned, as a packed projection is before use."""
    while value.call is not None and _rearranges(graph, value.call):
        value = value.call.values[0]
    return value if value.kind == "parameter" else None


def _rearranges(graph: Groups, call: Call) -> bool:
    """Whether a call only moves the entries of one tensor that no input reaches."""
    alone = len(call.values) == 1 and call.values[0] not in graph.coupled.from_input
    return alone and call in graph.coupled.moves and not call.inplace


def _layouts(graph: Groups, value: Value) -> Sequence[Layout]:
    return graph.coupled.of(value)


def _alike(one: Layout, other: Layout) -> bool:
    """Whether the slots are the same, as far as any may go: what is blocked only has its size."""
    parts = ([atom.size if atom.reason else atom for atom in atoms(layout)] for layout in (one, other))
    return one.size == other.size and next(parts) == next(parts)
