"""Runs one block of a chain by itself, and looks at what its readers are given, and at what comes of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import Factory, define
from torch import Tensor, nn

from ...adapters.lower import LOWERINGS
from ...adapters.submodules import module_at
from ...errors import PlanError
from ..grouping import Groups
from ..tracing import Call, Value, trace
from .chain import Given, first_tensor
from .spots import Spot


@define(eq=False)
class Looked:
    """By spot the rows that its reader was given, and those of what is to stay as it was."""

    read: dict[Spot, Tensor] = Factory(dict)
    result: dict[Spot, Tensor] = Factory(dict)


class Block:
    """A block of the model that was analysed, at its path, and the spots inside; run in it or in its twin."""

    def __init__(self, graph: Groups, path: str, spots: Iterable[Spot]):
        self.path = path
        self.spots = list(spots)
        self._graph = graph
        self._wanted: dict[tuple[Any, int], list[tuple[Spot, bool]]] = defaultdict(list)
        own = [call for call in graph.trace.calls if is_inside(call.module, path)]
        turns = dict(zip(own, _turns(own)))
        for spot in self.spots:
            self._wanted[turns[spot.reader.call]].append((spot, True))
            self._wanted[turns[spot.call]].append((spot, False))

    def run(self, model: nn.Module, given: Given) -> tuple[Tensor, Looked]:
        """What the block hands on, and what was looked at; raises `PlanError` if it makes other calls."""
        found, seen = Looked(), Counter[Any]()
        handed: dict[str, Tensor] = {}  # of a list in a hook all would be put back

        def look(call: Call, tensors: Mapping[Value, Tensor], made: tuple[Tensor, ...]) -> None:
            turn = _maker(call), seen[_maker(call)]
            seen[turn[0]] += 1
            for spot, is_reader in self._wanted.get(turn, ()):
                if is_reader:
                    position = spot.reader.call.values.index(spot.reader.data[0])
                    found.read[spot] = tensors[call.values[position]].detach()
                if spot.call is spot.reader.call or not is_reader:
                    found.result[spot] = made[0].detach()

        rooted = _Rooted(module_at(model, self.path), self.path)
        rooted.register_forward_hook(lambda _, __, result: handed.update(on=result.detach()))
        trace(
            rooted,
            given,
            opaque=self._graph.rules.opaque,
            lower=LOWERINGS,
            observe=look,
            training=False,
            filed=self._graph.trace.filed,
        )
        if len(found.read) < len(self.spots) or len(found.result) < len(self.spots):
            raise PlanError(
                f"with data= {self.path} makes other calls than for the example inputs: give example_inputs= "
                "like the batches, or leave out sequential="
            )
        return handed["on"], found


def is_inside(path: str, block: str) -> bool:
    """Whether a module is a block, or inside of it."""
    return path == block or path.startswith(f"{block}.")


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
