"""Where the graph ends: what somebody looks at, or what is in no way to be sliced, keeps its shape."""

from __future__ import annotations

from collections.abc import Sequence

from ..axes import Atom, Reason, atoms, block, free_atoms
from ..tracing import Value
from .coupled import Couplings


def hold_ends(state: Couplings, free_outputs: Sequence[int] = ()) -> None:
    """Hold the axes of what every run gives, but for the positions `free_outputs`, of what Python reads,
    of what cannot be sliced, and of what nobody reads."""
    runs = state.trace.runs
    free = {value for run in runs for number, value in enumerate(run.outputs) if number in free_outputs}
    for run in runs:
        text = "the model's output in training" if run.training else "the model's output"
        for value in run.outputs:
            if value not in free:
                _hold(state, value, text, value)
    for read in state.trace.reads:
        _hold(state, read.value, f"what Python reads at {read.source.short}: {read.source.text}", read.source)
    for name in state.trace.tensors.keys() & set(state.trace.whole):
        value = state.trace.tensors[name]
        _hold(state, value, f"{name}, which cannot be sliced", value)
    _hold_unused(state, free)


def _hold(state: Couplings, value: Value, what: str, origin: object) -> None:
    for axis, layout in enumerate(state.of(value)):
        block(layout, Reason(f"axis {axis} of {what}", origin))


def _hold_unused(state: Couplings, free: set[Value]) -> None:
    """Hold the slots that a layer makes and nothing reads: no weight, and nothing that somebody looks at.

    A head whose result is thrown away, or used in training only, has classes like any other, and so has one
    of which only a number is read, such as an exit that this input has not taken. What weights
    go on with beside that is no end, such as a feature that is looked at on the way.
    """
    made = {atom: one.origin for one in reversed(state.produced) for atom in free_atoms(one.layout)}
    if not made:
        return
    given_up = {atom for value in free for layout in state.of(value) for atom in atoms(layout)}
    for atom in made.keys() - _summed(state) - given_up:
        source = made[atom].call.source
        text = f"neither a weight nor an output reads them, which are made at {source.short}: {source.text}"
        block(atom, Reason(text, made[atom]))


def _summed(state: Couplings) -> set[Atom]:
    """The atoms over which data and a weight are summed, or anything on the way to an output, or two
    tensors on the way to a number that Python reads. One alone may be a head whose confidence is read."""
    found: set[Atom] = set()
    for call, reading in state.readings.items():
        for factor, layout, places in reading.held:
            values = {value for value, _ in places}
            if factor in reading.summed or values.isdisjoint(call.results):
                weighted = bool(values & state.from_input and values - state.from_input)
                compared = call in state.live and len(values - set(call.results)) > 1
                if call in state.given or weighted or compared:
                    found.update(atoms(layout))
    return found
