"""Makes a plan: what the slots that are kept make of every tensor and attribute of a graph's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized

import numpy as np

from ...adapters.collector import paused
from ...adapters.modules import bookkeeping
from ...adapters.plan import Plan, Scales
from ...adapters.settings import attribute_of
from ..axes import Atom, atoms, mask, resolve
from ..grouping import Groups
from ..tracing import Value, attribute_name
from .near import broken_plan
from .repeated import repeating_attributes


@paused()
def make_plan(graph: Groups, kept: dict[Atom, np.ndarray]) -> Plan:
    """The plan that keeps `kept` (sorted slots) of these atoms and everything of all others.

    Raises `PlanError` naming the user's line if the model's own code would not go along.
    """
    kept = {atom: slots for atom, slots in kept.items() if len(slots) < atom.size}
    broken = graph.broken(kept_counts(kept))
    if broken is not None:
        raise broken_plan(broken.text(graph.whole_count(kept_counts(kept))), broken.source)
    masks = {atom: _mask_of(atom, slots) for atom, slots in kept.items()}
    tensors: dict[str, dict[int, list[int]]] = {}
    touched = {member: None for atom in kept for member in graph.group_of(atom).members}  # type: ignore[union-attr]  # what is kept is a group's
    known: dict[int, list[int]] = {}  # tensors share their layouts, and then also the list of kept indices
    for member in touched:
        layout = resolve(graph.layout(member))
        if id(layout) not in known:
            known[id(layout)] = np.flatnonzero(mask(layout, masks.get)).tolist()
        tensors.setdefault(member.tensor, {})[member.axis] = known[id(layout)]
    made = graph.trace.made if kept else {}
    axes_made = _axes_made(graph, made, masks)
    shapes = {name: list(graph.trace.tensors[name].shape) for name in tensors}
    shapes.update((name, list(made[name][0].shape)) for name in axes_made)
    attributes = _attributes(graph, kept, tensors)
    return Plan(
        groups={graph.group_of(atom).name: slots.tolist() for atom, slots in kept.items()},  # type: ignore[union-attr]  # what is kept is a group's
        tensors={**tensors, **axes_made},
        attributes=attributes,
        shapes=shapes,
        before={name: int(attribute_of(graph.model, name)) for name in attributes},
        scales=_scales(graph, kept, tensors),
        made=list(made),
    )


def _axes_made(
    graph: Groups, made: Mapping[str, list[Value]], masks: Mapping[Atom, np.ndarray]
) -> dict[str, dict[int, list[int]]]:
    """The kept indices of the tensors that the forward leaves in attributes of their own."""
    return {
        name: axes
        for name, (value, *more) in made.items()
        if not more
        and not name.endswith("]")
        and (
            axes := {
                axis: np.flatnonzero(mask(layout, masks.get)).tolist()
                for axis, layout in enumerate(graph.coupled.of(value))
                if not masks.keys().isdisjoint(atoms(layout))
            }
        )
    }


def kept_counts(kept: Mapping[Atom, Sized]) -> Callable[[Atom], int]:
    """How many slots are kept of an atom."""
    return lambda atom: len(kept[atom]) if atom in kept else atom.size


def kept_slots(graph: Groups, plan: Plan) -> Callable[[Atom], int]:
    """How many slots `plan`, made for this graph, keeps of an atom."""
    return kept_counts({graph.group(name).atom: slots for name, slots in plan.groups.items()})


def _scales(graph: Groups, kept: dict[Atom, np.ndarray], tensors: dict) -> Scales:
    """What makes up for changes of size, also in the tensors that go along with a sibling."""
    scales = graph.temperatures.scales(kept_counts(kept), tensors)
    followed = graph.coupled.followed.items()
    return {**scales, **{name: scales[sibling] for name, sibling in followed if sibling in scales}}


def _mask_of(atom: Atom, slots: np.ndarray) -> np.ndarray:
    keep = np.zeros(atom.size, bool)
    keep[slots] = True
    return keep


def _attributes(graph: Groups, kept: dict[Atom, np.ndarray], tensors: dict) -> dict[str, int]:
    """What the forward reads (from the size equations) and what certainly repeats a size."""
    count = graph.whole_count(kept_counts(kept))
    changed = {attribute_name(*key): value for key, value in graph.sizes.attributes(count).items()}
    changed = {**bookkeeping(graph.model, graph.rules, tensors, changed), **changed}
    return {**repeating_attributes(graph, tensors, changed), **changed}
