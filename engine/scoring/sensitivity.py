"""How much the loss depends on what reads the groups: the mean squared gradients of its results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from attrs import define
from torch import Tensor, nn

from ...adapters.submodules import find_module, registered
from ...adapters.undo import Undo
from ..calibrating import Reader, readers
from ..grouping import Groups
from ..tracing import Value
from .gradients import loss_of, pass_backward
from .slot_tensors import Tensors


def sensitivity(tensors: Tensors) -> dict[str, Tensor]:
    """For each weight that reads a group, the mean squared gradient of its results, ``(results,)``, by name.

    Nothing without a loss, or unless each of these weights is a matrix of a module that does nothing else:
    then nobody knows what the results of some count beside the others. Raises `PlanError` if the loss cannot
    be used.
    """
    loss, graph = loss_of(tensors), tensors.graph
    read = [one for one in readers(graph) if graph.groups_at(one.weight)]
    if loss is None or tensors.data is None or not _are_alone(graph, tensors, read):
        return {}
    found = {one.weight.tensor: _Squares() for one in read}
    # Gradients with respect to these pass through the results of all.
    first = [tensors[one.weight.tensor] for one in _first(graph, read)]

    def watch(undo: Undo) -> None:
        for one in {one.call.module: one for one in read}.values():
            module = find_module(graph.model, one.call.module)
            assert module is not None
            handle = module.register_forward_hook(found[one.weight.tensor].after)
            undo.add(handle.remove)

    for number, batch in enumerate(tensors.data):
        pass_backward(graph.model, loss, number, batch, first, watch)
    return {name: one.mean() for name, one in found.items()}


@define(eq=False)
class _Squares:
    """The sum of the squared gradients of a module's results, and of how many."""

    total: Tensor | float = 0.0
    count: int = 0

    def after(self, module: nn.Module, args: Any, result: Any) -> None:
        """A forward hook: wait for the gradient of the result."""
        if isinstance(result, Tensor) and result.requires_grad:
            result.register_hook(self._take)

    def _take(self, gradient: Tensor) -> None:
        rows = gradient.detach().flatten(0, -2).float()
        self.total = self.total + rows.square().sum(0)
        self.count += len(rows)

    def mean(self) -> Tensor:
        return torch.as_tensor(self.total) / max(self.count, 1)


def _are_alone(graph: Groups, tensors: Tensors, read: Iterable[Reader]) -> bool:
    """Whether each of these is all that its module does, and multiplies with a matrix."""
    made: dict[str, set[Any]] = defaultdict(set)
    for call in graph.trace.calls:
        made[call.module].add(call.code)
    modules = {one: find_module(graph.model, one.call.module) for one in read}
    return all(
        len(made[one.call.module]) == 1
        and module is not None
        and not registered(module, "_modules")
        and tensors[one.weight.tensor].dim() == 2
        for one, module in modules.items()
    )


def _first(graph: Groups, read: Iterable[Reader]) -> list[Reader]:
    """The readers that no other one comes before."""
    by_call = {one.call: one for one in read}
    after: set[Value] = set()
    found = []
    for call in graph.trace.calls:
        is_after = not after.isdisjoint(call.values)
        if call in by_call and not is_after:
            found.append(by_call[call])
        if is_after or call in by_call:
            after.update(call.results)
    return found
