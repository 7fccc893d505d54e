"""Where the graph ends: what somebody looks at, or what is in no way to be sliced, keeps its shape."""

from __future__ import annotations

from collections.abc import Sequence

from ..axes import Atom, Reason, atoms, block, free_atoms
from ..tracing import Value
from .coupled import Couplings


def hold_ends(coupled: Couplings, free_outputs: Sequence[int] = ()) -> None:
    """Hold the axes of what every run gives, but for the positions `free_outputs`, of what Python reads,
    of what cannot be sliced, and of what nobody reads."""
    runs = coupled.trace.runs
    free = {value for run in runs for number, value in enumerate(run.outputs) if number in free_outputs}
    for run in runs:
        text = "the model's output in training" if run.training else "the model's output"
        for value in run.outputs:
            if value not in free:
                _hold(coupled, value, text, value)
    for read in coupled.trace.reads:
        _hold(
            coupled, read.value, f"what Python reads at {read.source.short}: {read.source.text}", read.source
        )
    for name in coupled.trace.tensors.keys() & set(coupled.trace.whole):
        value = coupled.trace.tensors[name]
        _hold(coupled, value, f"{name}, which cannot be sliced", value)
    _hold_unused(coupled, free)


def _hold(coupled: Couplings, value: Value, what: str, origin: object) -> None:
    for axis, layout in enumerate(coupled.of(value)):
        block(layout, Reason(f"axis {axis} of {what}", origin))


def _hold_unused(coupled: Couplings, free: set[Value]) -> None:
    """Hold the slots that a layer makes and nothing reads: no weight, and nothing that somebody looks at.

    A head whose result is thrown away, or used in training only, has classes like any other, and so has one
    of which only a number is read, such as an exit that this input has not taken. What weights
    go on with beside that is no end, such as a feature that is looked at on the way.
    """
    made = {atom: one.origin for one in reversed(coupled.produced) for atom in free_atoms(one.layout)}
    if not made:
        return
    given_up = {atom for value in free for layout in coupled.of(value) for atom in atoms(layout)}
    for atom in made.keys() - _summed(coupled) - given_up:
        source = made[atom].call.source
        text = f"neither a weight nor an output reads them, which are made at {source.short}: {source.text}"
        block(atom, Reason(text, made[atom]))


def _summed(coupled: Couplings) -> set[Atom]:
    """The atoms over which data and a weight are summed, or anything on the way to an output, or two
    tensors on the way to a number that Python reads. One alone may be a head whose confidence is read."""
    found: set[Atom] = set()
    for call, reading in coupled.readings.items():
        for factor, layout, places in reading.factors:
            values = {value for value, _ in places}
            if factor in reading.summed or values.isdisjoint(call.results):
                weighted = bool(values & coupled.from_input and values - coupled.from_input)
                compared = call in coupled.live and len(values - set(call.results)) > 1
                if call in coupled.given or weighted or compared:
                    found.update(atoms(layout))
    return found
