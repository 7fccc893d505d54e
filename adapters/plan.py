"""A plan, as data: which slots are kept of every group, and what that makes of every tensor and attribute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeVar

from attrs import field, frozen

from ..errors import PlanError, shown
from . import strict_json

K = TypeVar("K", str, int)
Scales = dict[str, dict[int, list[float]]]

# What the JSON of a plan must be, by field.
_FORM = strict_json.record(
    {
        "groups": strict_json.table(strict_json.slots),
        "tensors": strict_json.table(strict_json.by_axis(strict_json.slots)),
        "attributes": strict_json.table(strict_json.positive),
        "shapes": strict_json.table(strict_json.shape),
        "before": strict_json.table(strict_json.positive),
    },
    {"scales": strict_json.table(strict_json.by_axis(strict_json.factors)), "made": strict_json.names},
)


@frozen(eq=True)
class Plan:
    """What pruning will do, as data: printable, comparable, to JSON and back, for any instance of the model.

    ``groups`` gives the kept slots of each pruned group, ``tensors`` the kept indices of each changed axis
    by tensor name and axis, ``attributes`` the new values by dotted name, ``shapes`` the shapes that the
    changed tensors must have before, ``before`` the values of the changed attributes. ``scales`` gives by
    tensor name and axis what each kept index is multiplied by, where that makes up for a change of size.
    ``made`` are the attributes, and entries of dicts, in which the forward leaves tensors for the next one:
    they are emptied. ``tensors`` has what their tensors keep, too.
    """

    groups: dict[str, list[int]] = field(factory=dict)
    tensors: dict[str, dict[int, list[int]]] = field(factory=dict)
    attributes: dict[str, int] = field(factory=dict)
    shapes: dict[str, list[int]] = field(factory=dict)
    before: dict[str, int] = field(factory=dict)
    scales: Scales = field(factory=dict)
    made: list[str] = field(factory=list)

    @property
    def sliced(self) -> dict[str, dict[int, list[int]]]:
        """``tensors`` without those that the forward makes again."""
        return {name: axes for name, axes in self.tensors.items() if name not in self.made}

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(
            {
                "groups": self.groups,
                "tensors": {
                    name: {str(axis): kept for axis, kept in axes.items()}
                    for name, axes in self.tensors.items()
                },
                "attributes": self.attributes,
                "shapes": self.shapes,
                "before": self.before,
                "scales": {
                    name: {str(axis): factors for axis, factors in axes.items()}
                    for name, axes in self.scales.items()
                },
                "made": self.made,
            }
        )

    @staticmethod
    def is_json(start: str) -> bool:
        """Whether a file that starts like this is one that `to_json` wrote."""
        return start.startswith('{"groups": ')

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote; raises `PlanError` if `text` is not one."""
        try:
            data = strict_json.parsed(text)
            _FORM(data, "")
            _check_consistent(data)
        except strict_json.Malformed as error:
            raise PlanError(f"this is not the JSON of a plan, the text of its file: {error}") from error
        scales = {
            name: {int(axis): list(map(float, factors)) for axis, factors in axes.items()}
            for name, axes in data.get("scales", {}).items()
        }
        tensors = {
            name: {int(axis): kept for axis, kept in axes.items()} for name, axes in data["tensors"].items()
        }
        return cls(**{"made": [], **data, "tensors": tensors, "scales": scales})

    def followed_by(self, later: Plan) -> Plan:
        """The one plan that does to a model what this one and then `later`, on the pruned model, would do.

        Bit for bit, unless both scale the same slots: then it rounds once and the two plans twice.
        Tensors and attributes are what counts; groups are put together by name. Raises `PlanError` if `later`
        is not for what this plan makes of its model.
        """
        expect_plan(later)
        later._check_follows(self)
        # Once a group has one slot left it is none any more, and another may have its name.
        named = {
            name: kept
            for name, kept in later.groups.items()
            if name not in self.groups or max(kept) < len(self.groups[name])
        }
        tensors = {name: dict(axes) for name, axes in self.tensors.items()}
        for name, axes in later.tensors.items():
            tensors[name] = {**tensors.get(name, {}), **_composed(tensors.get(name, {}), axes)}
        return Plan(
            groups={**self.groups, **_composed(self.groups, named)},
            tensors=tensors,
            attributes={**self.attributes, **later.attributes},
            shapes={**later.shapes, **self.shapes},
            before={**later.before, **self.before},
            scales=_scaled_twice(self.scales, later),
            made=list(dict.fromkeys([*self.made, *later.made])),
        )

    def _check_follows(self, first: Plan) -> None:
        for name in self.shapes.keys() & first.shapes.keys():
            axes = first.tensors.get(name, {})
            left = [len(axes.get(axis, range(size))) for axis, size in enumerate(first.shapes[name])]
            if list(self.shapes[name]) != left:
                raise PlanError(f"the later plan is for {name} of shape {self.shapes[name]}, not {left}")
        for name in self.before.keys() & first.attributes.keys():
            if self.before[name] != first.attributes[name]:
                raise PlanError(
                    f"the later plan is for {name} = {self.before[name]}, not {first.attributes[name]}"
                )

    def __str__(self) -> str:
        if not self.groups:
            return "a plan that keeps everything"
        axes = sum(len(axes) for axes in self.tensors.values())
        return (
            f"a plan for {len(self.groups)} groups: {axes} axes of {len(self.tensors)} tensors, "
            f"{len(self.attributes)} attributes"
        )


def expect_plan(given: Any) -> None:
    """Raise `PlanError` if this is another thing than a plan."""
    if not isinstance(given, Plan):
        raise PlanError(f"this is no plan but a {type(given).__name__}; a result has its own as result.plan")


def _check_consistent(data: Mapping[str, Any]) -> None:
    """What is kept must be there before, and for each attribute that is set there must be what it was.

    No size is larger than all that the model had, or its forward would take as much memory as one likes.
    """
    for field_of, other in (("tensors", "shapes"), ("attributes", "before")):
        for name in data[field_of].keys() ^ data[other].keys():
            raise strict_json.Malformed(f"{shown(name)} is only in one of {field_of} and {other}")
    for name, axes in data["tensors"].items():
        shape = data["shapes"][name]
        for axis, kept in axes.items():
            if int(axis) >= len(shape) or kept[-1] >= shape[int(axis)]:
                raise strict_json.Malformed(f"tensors[{shown(name)}][{axis}] keeps slots that are not there")
    largest = max([1, *data["before"].values(), *chain.from_iterable(data["shapes"].values())])
    for name, value in data["attributes"].items():
        if value > largest:
            raise strict_json.Malformed(f"attributes[{shown(name)}] is {value}, and no size was so large")


def _composed(first: Mapping[K, list[int]], second: Mapping[K, list[int]]) -> dict[K, list[int]]:
    """The slots that are kept in both steps, where the second counts what the first has left."""
    try:
        return {
            key: [first[key][slot] for slot in kept] if key in first else kept for key, kept in second.items()
        }
    except IndexError:
        raise PlanError("the later plan keeps slots that this one removes; was it made after it?") from None


def _scaled_twice(first: Scales, later: Plan) -> Scales:
    """The factors of both steps, for the slots that the later one leaves."""
    scales = {name: dict(axes) for name, axes in later.scales.items()}
    for name, axes in first.items():
        for axis, factors in axes.items():
            left = later.tensors.get(name, {}).get(axis, range(len(factors)))
            again = later.scales.get(name, {}).get(axis, [1.0] * len(left))
            if max(left) >= len(factors) or len(left) != len(again):
                raise PlanError(f"the plans scale other slots of {shown(name)}; was one made for another?")
            scales.setdefault(name, {})[axis] = [factors[slot] * by for slot, by in zip(left, again)]
    return scales
