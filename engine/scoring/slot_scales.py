"""Finds the weights that multiply data slot by slot, such as the scale of a normalisation, without a name.

A weight is one if a term of a rule's ``zero`` clause has it beside data (``zero input weight + bias``), and
if a factor of it is one of that data and of the result, too: its slots are neither summed nor made there.
"""

from __future__ import annotations

from ..axes import Atom, atoms
from ..grouping import Groups
from ..tracing import Value


def slotwise_weights(graph: Groups) -> set[tuple[str, int, Atom]]:
    """The names and axes of these weights, each with an atom whose slots they multiply one by one."""
    names = {value: name for name, value in graph.trace.tensors.items()}
    found: set[tuple[str, int, Atom]] = set()
    for reading in graph.coupled.readings.values():
        results = set(reading.origin.call.results)
        for term in reading.terms or ():
            operands = {one for one in term if isinstance(one, Value)}
            data = operands & graph.coupled.from_input
            for factor, layout, places in reading.factors:
                holders = {value for value, _ in places}
                if factor in reading.summed or not (data & holders and results & holders):
                    continue
                found.update(
                    (names[value], axis, atom)
                    for value, axis in places
                    if value in operands and value in names
                    for atom in atoms(layout)
                )
    return found
