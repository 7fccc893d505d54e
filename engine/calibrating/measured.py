"""What data tell of a model, kept: measured once, and given to several prunings in the place of the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import CheckpointError, PlanError, shown
from ...files import PathLike, expect_regular, written
from ..coupling import Place
from ..grouping import Groups
from .readers import readers
from .statistics import Statistics

_FORMAT = "prunus statistics 1"
_ANOTHER = "data= was measured on another model, or with other example inputs: measure it again"


@frozen(eq=False)
class Measured:
    """Statistics of all that the weights of a model read, made by `engine.measure`; ``data=`` of a prune.

    It holds for the model as it was when it was measured, and can be pickled, or kept in a file by `save`.

    ``halves`` are those of the first and of the last half of the data, by the name of what reads;
    ``gradients`` the moments of the loss's gradients in the results of weights, by their names; ``inputs``
    what the model was traced with, by the names of arguments, if those are tensors, numbers and truth values.
    """

    halves: Mapping[str, tuple[Statistics, Statistics]] = field(repr=lambda one: f"of {len(one)} places")
    gradients: Mapping[str, Tensor] = field(repr=lambda one: f"of {len(one)} weights")
    inputs: Mapping[str, Any] | None = field(repr=lambda one: f"{one and list(one)}")

    def of(
        self, graph: Groups, places: Iterable[Place], products: bool, parts: int
    ) -> dict[Place, list[Statistics]]:
        """The halves at these places, or all as one part.

        Raises `PlanError` if they are another model's, or products are wanted where there are squares alone.
        """
        known = {place: name for name, place in read_places(graph).items()}
        if not self.halves.keys() <= set(known.values()):
            raise PlanError(_ANOTHER)
        found = {}
        for place in dict.fromkeys(places):
            value, axis = place
            halves = self.halves.get(known.get(place, ""))
            if halves is None:
                continue
            if any(len(half.mean) != value.shape[axis] for half in halves):
                raise PlanError(_ANOTHER)
            if products and any(half.scatter.dim() == 1 for half in halves):
                raise PlanError("this needs the products of all pairs: engine.measure(..., products=True)")
            found[place] = list(halves) if parts == 2 else [halves[0] + halves[1]]
        return found

    def save(self, path: PathLike) -> None:
        """Write a safetensors file, as a whole or not at all; raises `CheckpointError` if it cannot be."""
        tensors = {f"gradients/{name}": one for name, one in self.gradients.items()}
        plain = {}
        for name, halves in self.halves.items():
            for number, half in enumerate(halves):
                tensors |= {f"mean/{number}/{name}": half.mean, f"scatter/{number}/{name}": half.scatter}
        for name, given in (self.inputs or {}).items():
            if isinstance(given, Tensor):
                tensors[f"inputs/{name}"] = given.clone()  # no two of a file may share memory
            else:
                plain[name] = given
        counts = {name: [half.count for half in halves] for name, halves in self.halves.items()}
        told = {"format": _FORMAT, "counts": json.dumps(counts), "inputs": json.dumps(plain)}
        whole = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
        with written(path, CheckpointError) as part:
            save_file(whole, part, {**told, "has_inputs": json.dumps(self.inputs is not None)})

    @classmethod
    def load(cls, path: PathLike) -> Measured:
        """What `save` wrote, on the CPU; raises `CheckpointError` for any other file."""
        place = expect_regular(path, CheckpointError)
        try:
            with safe_open(place, framework="pt") as file:
                told = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if told.get("format") != _FORMAT:
                raise ValueError("it has another format")
            return cls(*_parsed(told, tensors))
        except Exception as error:  # of bytes that anybody may have written
            raise CheckpointError(
                f"{shown(path)} is not what Measured.save wrote ({shown(str(error))}): measure it again"
            ) from error


def read_places(graph: Groups) -> dict[str, Place]:
    """The axes of values that weights of groups read, each by its first reader: the same for every trace."""
    found: dict[str, Place] = {}
    known: set[Place] = set()
    times: dict[str, int] = {}
    for one in readers(graph):
        if one.data in known or not graph.groups_at(one.weight):
            continue
        known.add(one.data)
        name = f"{one.weight.tensor}[{one.weight.axis}]"
        times[name] = times.get(name, 0) + 1
        found[f"{name}#{times[name]}"] = one.data
    return found


def kept_inputs(named: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Inputs that a file can hold, by the names of arguments; none if they are in another form."""
    plain = (Tensor, bool, int, float, str, type(None))
    return named if named and all(isinstance(one, plain) for one in named.values()) else None


def _parsed(
    told: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, tuple[Statistics, Statistics]], dict[str, Tensor], dict[str, Any] | None]:
    """What a file says, if that can be."""
    halves = {}
    for name, counts in json.loads(told["counts"]).items():
        first, last = (
            _statistics(count, tensors[f"mean/{number}/{name}"], tensors[f"scatter/{number}/{name}"])
            for number, count in enumerate(counts)
        )
        halves[name] = first, last
    gradients = _under("gradients/", tensors)
    inputs = {**json.loads(told["inputs"]), **_under("inputs/", tensors)}
    return halves, gradients, inputs if json.loads(told["has_inputs"]) else None


def _statistics(count: Any, mean: Tensor, scatter: Tensor) -> Statistics:
    sizes = {mean.shape, (*mean.shape, *mean.shape)}
    if type(count) is not int or count < 0 or mean.dim() != 1 or scatter.shape not in sizes:
        raise ValueError("counts and tensors do not go together")
    return Statistics(count, mean, scatter)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
