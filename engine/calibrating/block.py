"""Runs one block of a chain by itself, and looks at what its readers are given, and at what comes of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from attrs import Factory, define
from torch import Tensor, nn

from ...adapters.submodules import module_at
from ...errors import PlanError
from ..grouping import Groups
from ..tracing import Call, Value
from .batches import run_observed
from .chain import Given, first_tensor
from .spots import Spot


@define(eq=False)
class Looked:
    """By spot what its reader was given, its result, what is added to that, and the sum, or the result."""

    read: dict[Spot, Tensor] = Factory(dict)
    made: dict[Spot, Tensor] = Factory(dict)
    other: dict[Spot, Tensor] = Factory(dict)
    result: dict[Spot, Tensor] = Factory(dict)


class _Look:
    """Follows a run of a model, or of a block of it, and looks at the calls of its spots."""

    def __init__(self, graph: Groups, spots: Iterable[Spot], path: str):
        own = [call for call in graph.trace.calls if is_inside(call.module, path)]
        turns = dict(zip(own, _turns(own)))
        self._wanted: dict[tuple[Any, int], list[Spot]] = defaultdict(list)
        for spot in spots:
            for call in {spot.reader.call, spot.call}:
                self._wanted[turns[call]].append(spot)
        self._seen = Counter[Any]()
        self.found = Looked()

    def __call__(self, call: Call, tensors: Mapping[Value, Tensor], made: tuple[Tensor, ...]) -> None:
        maker = _maker(call)
        turn = maker, self._seen[maker]
        self._seen[maker] += 1
        for spot in self._wanted.get(turn, ()):
            if spot not in self.found.read:
                position = spot.reader.call.values.index(spot.reader.data[0])
                self.found.read[spot] = _now(tensors[call.values[position]])
                self.found.made[spot] = _now(made[0])
            elif spot.other is not None:
                self.found.other[spot] = _now(tensors[call.values[spot.other]])
            self.found.result[spot] = _now(made[0])


class Block:
    """A block of the model that was analysed, at its path, and the spots inside; run in it or in its twin."""

    def __init__(self, graph: Groups, path: str, spots: Iterable[Spot]):
        self.path = path
        self.spots = list(spots)
        self._graph = graph

    def run(self, model: nn.Module, given: Given) -> tuple[Tensor, Looked]:
        """What the block hands on, and what was looked at; raises `PlanError` if it makes other calls."""
        handed: dict[str, Tensor] = {}  # of a list in a hook all would be put back
        rooted = _Rooted(module_at(model, self.path), self.path)
        rooted.register_forward_hook(lambda _, __, result: handed.update(on=result.detach()))
        look = _Look(self._graph, self.spots, self.path)
        run_observed(self._graph, rooted, given, look)
        sums = sum(spot.other is not None for spot in self.spots)
        if len(look.found.read) < len(self.spots) or len(look.found.other) < sums:
            raise PlanError(
                f"with data= {self.path} makes other calls than for the example inputs: give example_inputs= "
                "like the batches, or leave out sequential="
            )
        return handed["on"], look.found


def holding(graph: Groups, spots: Iterable[Spot], batch: Any) -> list[Spot]:
    """The spots where the sum is, to rounding, what the reader gives and what is added to that."""
    look = _Look(graph, spots, "")
    run_observed(graph, graph.model, batch, look)
    return [spot for spot in spots if spot.other is None or _is_sum(look.found, spot)]


def _is_sum(found: Looked, spot: Spot) -> bool:
    if spot not in found.other:
        return False
    made, other, result = found.made[spot], found.other[spot], found.result[spot]
    rounding = 4 * torch.finfo(result.dtype).eps * result.abs().amax()
    return bool((result - other - made).abs().amax() <= 0.01 * made.abs().amax() + rounding)


def _now(tensor: Tensor) -> Tensor:
    """What stands in a tensor, which a later call may write to."""
    return tensor.detach().clone()


def is_inside(path: str, block: str) -> bool:
    """Whether a module is a block, or inside of it."""
    return not block or path == block or path.startswith(f"{block}.")


def _turns(calls: Iterable[Call]) -> list[tuple[Any, int]]:
    """For each call what made it, and how often that had made one before."""
    seen = Counter[Any]()
    found = []
    for call in calls:
        found.append((_maker(call), seen[_maker(call)]))
        seen[_maker(call)] += 1
    return found


def _maker(call: Call) -> Any:
    """What made a call; not on which line, which is another one where the block itself is a layer."""
    return call.target, call.module


class _Rooted(nn.Module):
    """Calls a module that lies at a path in it, so that all inside has the names that it has in the model."""

    def __init__(self, module: nn.Module, path: str):
        super().__init__()
        around: nn.Module = self
        *names, last = path.split(".")
        for name in names:
            inner = nn.Module()
            around.add_module(name, inner)
            around = inner
        around.add_module(last, module)
        self._path = path

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the module hands on."""
        found = first_tensor(module_at(self, self._path)(*args, **kwargs))
        assert found is not None
        return found
