"""Runs a model on batches of calibration data, and collects what its calls are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from torch import Tensor

from ...adapters.lower import LOWERINGS
from ...errors import PlanError, TraceError
from ..coupling import Place
from ..grouping import Groups
from ..tracing import Call, Trace, Value, trace
from .statistics import Statistics, rows_of


def batches(data: Any) -> list[Any]:
    """The batches of ``data=``, lists as tuples; raises `PlanError` unless it is several of them."""
    if data is None:
        raise PlanError("this needs calibration data: give data=, a list of batches like the example inputs")
    if isinstance(data, (Tensor, Mapping)) or not isinstance(data, Iterable):
        raise PlanError(
            "data= is a list of batches like the example inputs; for a single one write data=[batch]"
        )
    # A DataLoader makes lists of tuples.
    found = [tuple(batch) if type(batch) is list else batch for batch in data]
    if not found:
        raise PlanError("data= has no batch")
    return found


def inputs_of(data: Iterable[Any] | None) -> list[Any]:
    """The model's inputs in batches that a loss takes: the first of each pair (of inputs and targets)."""
    return [
        batch[0] if isinstance(batch, tuple) and len(batch) == 2 and not isinstance(batch[1], dict) else batch
        for batch in batches(data)
    ]


def calibrate(
    graph: Groups, data: Iterable[Any] | None, places: Iterable[Place], *, products: bool = False
) -> dict[Place, Statistics]:
    """Run the model on every batch and collect the statistics of what stands at these axes.

    A place that no batch has reached has none, of example inputs of several calls for one.

    Parameters
    ----------
    graph : the analysed model, which is left as it was.
    data : batches in the forms that `analyze` takes; their batch sizes and lengths may differ.
    places : axes of values that calls read.
    products : collect the products of all pairs of slots, which takes size x size for each axis.

    Raises
    ------
    PlanError
        There are no batches, one does not run, or the model makes other calls for it than were analysed.
    """
    found = calibrate_parts(graph, data, places, products=products)
    return {place: parts[0] for place, parts in found.items()}


def calibrate_parts(
    graph: Groups,
    data: Iterable[Any] | None,
    places: Iterable[Place],
    *,
    products: bool = False,
    parts: int = 1,
) -> dict[Place, list[Statistics]]:
    """As `calibrate`, with statistics of so many parts of the data: runs of batches, or of a batch's entries.

    Neighbours are in one part, as they are alike: what holds in one part need not hold in another.
    """
    given, wanted = batches(data), dict.fromkeys(places)
    found: dict[Place, list[Statistics]] = {}
    if not wanted:
        return found
    for number, batch in enumerate(given):
        only = number * parts // len(given) if len(given) >= parts else None
        watch = _Watch(graph.trace, wanted, partial(_take, found, products, parts, only))
        try:
            opaque = graph.rules.opaque
            seen = trace(
                graph.model,
                batch,
                opaque=opaque,
                lower=LOWERINGS,
                observe=watch,
                training=False,
                filed=graph.trace.filed,
            )
        except TraceError as error:
            text = f"batch {number} of data= does not run: {error}\ndata= has inputs alone, without labels"
            raise PlanError(text) from error
        watch.check(seen, number)
    return found


def _take(
    found: dict[Place, list[Statistics]],
    products: bool,
    parts: int,
    only: int | None,
    place: Place,
    values: Tensor,
) -> None:
    """Add what stands at a place to one part, or to each its share."""
    rows = rows_of(values, place[1])
    if place not in found:
        found[place] = [Statistics.none(rows, products) for _ in range(parts)]
    if only is not None:
        found[place][only].take(rows)
    else:
        for part, share in zip(found[place], rows.tensor_split(parts)):
            part.take(share)


class _Watch:
    """Follows a second trace of a model, call by call, and looks at some of the values.

    Of several calls that were analysed it is one that a batch makes; which, its calls tell.
    """

    def __init__(self, analysed: Trace, places: Iterable[Place], look: Callable[[Place, Tensor], None]):
        runs = [analysed.calls[run.start : run.stop] for run in analysed.runs if not run.training]
        self._paths = [_Path(calls, _by_first_reader(calls, places)) for calls in runs]
        self._look = look
        self._differs: Call | None = None

    def __call__(self, call: Call, tensors: Mapping[Value, Tensor]) -> None:
        """Look at what `call` is given; nothing more after the first call that was not analysed."""
        if self._differs is not None:
            return
        left = [path for path in self._paths if path.expects(call)]
        if not left:
            self._differs = call
            return
        self._paths = left
        for position, place in left[0].places.get(call.index, ()):
            self._look(place, tensors[call.values[position]])

    def check(self, seen: Trace, number: int) -> None:
        """Raise `PlanError` unless the calls of batch `number` were those that were analysed."""
        if self._differs is None and any(len(path.calls) == len(seen.calls) for path in self._paths):
            return
        call = self._differs or self._paths[0].calls[len(seen.calls)]
        raise PlanError(
            f"for batch {number} of data= the model makes other calls than for the example inputs, first "
            f"{call.name} at {call.source}: {call.source.text}\ngive batches that take the same path"
        )


@frozen(eq=False)
class _Path:
    """The calls of one run that was analysed, and what there is to look at, by number of the call."""

    calls: Sequence[Call]
    places: dict[int, Sequence[tuple[int, Place]]]

    def expects(self, call: Call) -> bool:
        """Whether it is the call that was analysed at this point, on values of the same kinds."""
        if call.index >= len(self.calls):
            return False
        known = self.calls[call.index]
        if known.target != call.target or len(known.values) != len(call.values):
            return False
        return all(
            len(call.values[position].shape) == len(value.shape)
            and call.values[position].shape[axis] == value.shape[axis]
            for position, (value, axis) in self.places.get(call.index, ())
        )


def _by_first_reader(
    calls: Sequence[Call], places: Iterable[Place]
) -> dict[int, Sequence[tuple[int, Place]]]:
    """The axes to look at by the number of the first call that reads them, with the operand's position."""
    axes: dict[Value, list[Place]] = {}
    for place in places:
        axes.setdefault(place[0], []).append(place)
    found: dict[int, Sequence[tuple[int, Place]]] = {}
    for number, call in enumerate(calls):
        met = [value for value in dict.fromkeys(call.values) if value in axes]
        if met:
            found[number] = [(call.values.index(one), place) for one in met for place in axes.pop(one)]
    return found
