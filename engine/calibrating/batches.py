"""Runs a model on batches of calibration data, and collects what its calls are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...adapters.lower import LOWERINGS
from ...errors import PlanError, TraceError
from ..coupling import Place
from ..grouping import Groups
from ..tracing import Observe, trace
from .inputs import named_inputs
from .measured import Measured
from .padding import Padding
from .statistics import Statistics, rows_of
from .watch import Watch


def batches(data: Any) -> list[Any]:
    """The batches of ``data=``, lists as tuples; raises `PlanError` unless it is several of them."""
    if data is None:
        raise PlanError("this needs calibration data: give data=, a list of batches like the example inputs")
    if isinstance(data, Measured):
        raise PlanError("data= that was measured is no batches, and this runs some: give these")
    if isinstance(data, (Tensor, Mapping)) or not isinstance(data, Iterable):
        raise PlanError(
            "data= is a list of batches like the example inputs; for a single one write data=[batch]"
        )
    # A DataLoader makes lists of tuples.
    found = [tuple(batch) if type(batch) is list else batch for batch in data]
    if not found:
        raise PlanError("data= has no batch")
    return found


def calibrate(
    graph: Groups, data: Iterable[Any] | Measured | None, places: Iterable[Place], *, products: bool = False
) -> dict[Place, Statistics]:
    """Run the model on every batch and collect the statistics of what stands at these axes.

    A place that no batch has reached has none, of example inputs of several calls for one. What a batch's
    ``attention_mask`` calls padding counts nowhere, see `padding.Padding`.

    Parameters
    ----------
    graph : the analysed model, which is left as it was.
    data : batches in the forms that `analyze` takes; their batch sizes and lengths may differ. Or what was
        measured of them.
    places : axes of values that calls multiply with weights.
    products : collect the products of all pairs of slots, which takes size x size for each axis.

    Raises
    ------
    PlanError
        There are no batches, one does not run, or the model makes other calls with its weights for it than
        were analysed.
    """
    found = calibrate_parts(graph, data, places, products=products)
    return {place: parts[0] for place, parts in found.items()}


def calibrate_parts(
    graph: Groups,
    data: Iterable[Any] | Measured | None,
    places: Iterable[Place],
    *,
    products: bool = False,
    parts: int = 1,
) -> dict[Place, list[Statistics]]:
    """As `calibrate`, with statistics of so many parts of the data: runs of batches, or of a batch's entries.

    Neighbours are in one part, as they are alike: what holds in one part need not hold in another.
    """
    if isinstance(data, Measured):
        return data.of(graph, places, products, parts)
    given, wanted = batches(data), dict.fromkeys(places)
    found: dict[Place, list[Statistics]] = {}
    if not wanted:
        return found
    for number, batch in enumerate(given):
        padding = Padding(named_inputs(graph.model, batch))
        watch = Watch(
            graph.trace, wanted, padding, partial(_take, found, products, parts, number, len(given))
        )
        try:
            run_observed(graph, graph.model, batch, watch)
        except TraceError as error:
            text = f"batch {number} of data= does not run: {error}\ndata= has inputs alone, without labels"
            raise PlanError(text) from error
        watch.check(number)
    return found


def run_observed(graph: Groups, model: nn.Module, given: Any, observe: Observe) -> None:
    """Run a model as it was analysed, or a part of it, and show what its calls are given and return."""
    trace(
        model,
        given,
        opaque=graph.rules.opaque,
        lower=LOWERINGS,
        observe=observe,
        training=False,
        filed=graph.trace.filed,
    )


def _take(
    found: dict[Place, list[Statistics]],
    products: bool,
    parts: int,
    number: int,
    batches: int,
    place: Place,
    values: Tensor,
    axis: int,
) -> None:
    """Add what stands at a place to the parts of the data that it belongs to."""
    rows = rows_of(values, axis)
    if place not in found:
        found[place] = [Statistics.none(rows, products) for _ in range(parts)]
    for part, share in part_of(found[place], rows, number, batches):
        part.take(share)


def part_of(
    parts: Sequence[Statistics], rows: Tensor, number: int, batches: int
) -> list[tuple[Statistics, Tensor]]:
    """The part that batch `number` of so many belongs to, or with few batches each part and its share."""
    if batches >= len(parts):
        return [(parts[number * len(parts) // batches], rows)]
    return list(zip(parts, rows.tensor_split(len(parts))))


def check_finite(parts: Iterable[Statistics], weight: str) -> None:
    """Raise `PlanError` if what a weight is multiplied with is not finite."""
    if not all(bool(part.scatter.isfinite().all()) for part in parts):
        raise PlanError(f"with data= the model computes what is not finite: {weight} is multiplied with it")
