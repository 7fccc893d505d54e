"""Where the graph ends: what somebody looks at keeps its shape."""

from __future__ import annotations

from collections.abc import Sequence

from .axes import Reason, block
from .couplings import Couplings


def hold_ends(state: Couplings, free_outputs: Sequence[int] = ()) -> None:
    """Hold the axes of the model's outputs but those at the positions `free_outputs`, and of what is read."""
    trace = state.trace
    kept = [value for number, value in enumerate(trace.outputs) if number not in free_outputs]
    for value in [*kept, *trace.training_outputs]:
        for axis, layout in enumerate(state.of(value)):
            block(layout, Reason(f"axis {axis} of the model's output", value))
    for read in trace.reads:
        where = f"{read.source.short}: {read.source.text}"
        for axis, layout in enumerate(state.of(read.value)):
            block(layout, Reason(f"axis {axis} of what Python reads at {where}", read.source))
