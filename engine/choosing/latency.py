"""How long the calls of a model take at the sizes of a plan: measured one by one, or as the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from attrs import frozen
from torch.utils.benchmark import Timer

from ...adapters.submodules import parameters_of
from ...errors import PlanError
from ...rules.examples import called
from ..grouping import Groups
from ..sizes import size_of
from ..tracing import Call, SizeInt, Value, mapped
from .cost import Count

Shapes = Mapping[str, tuple[int, ...]]
Seconds = Callable[[Call, Shapes], float]
# How often a call is run for one measurement; the mean counts.
RUNS = 5


@frozen
class _Tensor:
    """A tensor that a call takes, without its data."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Latency:
    """The seconds of one forward with ``count`` slots kept of each atom: the sum over its calls.

    `seconds` is called as ``seconds(call, shapes)``: ``call.name`` and ``call.module`` say which call, and
    `shapes` are those of its tensor arguments by name and of its ``result``. Without it each call is run by
    itself on random tensors of these shapes, on the device of the model, once for each combination of sizes;
    what cannot be run by itself counts as nothing.
    """

    def __init__(self, graph: Groups, seconds: Seconds | None = None):
        self._graph = graph
        self._seconds = seconds
        self._known: dict[str, float] = {}

    def __call__(self, count: Count) -> float:
        return sum(self._of(call, count) for call in self._graph.trace.forward)

    def _of(self, call: Call, count: Count) -> float:
        arguments = self._at(call.arguments, count)
        key = f"{call.index if self._seconds else call.name} {arguments}"
        if key not in self._known:
            self._known[key] = (
                self._given(call, arguments, count) if self._seconds else self._run(call, arguments)
            )
        return self._known[key]

    def _at(self, arguments: Mapping[str, Any], count: Count) -> dict[str, Any]:
        """Arguments at these sizes."""

        def sized(part: Any) -> Any:
            if isinstance(part, Value):
                return _Tensor(self._shape(part, count), part.dtype)
            return self._graph.sizes.exactly(part.expr, count) if isinstance(part, SizeInt) else part

        return mapped(arguments, sized)

    def _shape(self, value: Value, count: Count) -> tuple[int, ...]:
        return tuple(size_of(layout, count) for layout in self._graph.coupled.of(value))

    def _given(self, call: Call, arguments: Mapping[str, Any], count: Count) -> float:
        shapes = {name: one.shape for name, one in arguments.items() if isinstance(one, _Tensor)}
        if call.results:
            shapes["result"] = self._shape(call.results[0], count)
        assert self._seconds is not None
        given = self._seconds(call, shapes)
        if not isinstance(given, (int, float)) or not 0 <= given < float("inf"):
            raise PlanError(f"latency: the function gave {given!r} for {call.name}, which is no time")
        return float(given)

    def _run(self, call: Call, arguments: Mapping[str, Any]) -> float:
        device = next((one.device for one in parameters_of(self._graph.model).values()), torch.device("cpu"))
        with torch.no_grad(), torch.random.fork_rng(devices=()), device:
            try:
                example = called(call.name, call.target, mapped(arguments, _drawn))
                names = {"target": example.target, "args": example.args, "options": example.kwargs}
                timer = Timer("target(*args, **options)", globals=names, num_threads=torch.get_num_threads())
                return timer.timeit(RUNS).mean
            except Exception:  # what needs its module, or real data, fails in its own way
                return 0.0


def _drawn(item: Any) -> Any:
    """A random tensor in the place of one that was described."""
    if not isinstance(item, _Tensor):
        return item
    if item.dtype.is_floating_point or item.dtype.is_complex:
        return torch.randn(item.shape, device="cpu").to(item.dtype)
    return torch.zeros(item.shape, dtype=item.dtype, device="cpu")
