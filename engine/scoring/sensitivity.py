"""How much the loss depends on what reads the groups: the gradients of its results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from attrs import define
from torch import Tensor, nn

from ...adapters.submodules import find_module, registered
from ...adapters.undo import Undo
from ...errors import PlanError
from ..calibrating import Measured, Reader
from ..grouping import Groups
from ..tracing import Value
from .gradients import loss_of, pass_backward
from .slot_tensors import Loss, Tensors

# Of so many results all pairs are looked at, of more each by itself: of a vocabulary, say.
PAIRS = 4096


def sensitivity(tensors: Tensors, read: Iterable[Reader]) -> dict[str, Tensor]:
    """By the names of weights that read, the moments of the gradients of the loss in their results.

    These are ``(results, results)``, of the products of all pairs, or ``(results,)`` where they are many.
    What an error ``e`` of the results costs is ``e @ moments @ e``, as with the Fisher information as Hessian
    of the loss. Without a loss, where the model's own cannot be had, and for a weight that is no matrix, or
    whose module does more than multiply with it, there are none. Raises `PlanError` if a loss that was given
    cannot be used.
    """
    if isinstance(tensors.inputs, Measured):
        return dict(tensors.inputs.gradients)
    loss, read = loss_of(tensors), _alone(tensors.graph, tensors, read)
    if loss is None or not tensors.data or not read:
        return {}
    try:
        return _measured(tensors, loss, tensors.data, read)
    except PlanError:
        if tensors.loss is not None:
            raise
        return {}


def _measured(tensors: Tensors, loss: Loss, data: Sequence[Any], read: Sequence[Reader]) -> dict[str, Tensor]:
    graph = tensors.graph
    found = {one.weight.tensor: _Products() for one in read}
    # Gradients with respect to these pass through the results of all.
    first = [tensors[one.weight.tensor] for one in _first(graph, read)]

    def watch(undo: Undo) -> None:
        for one in {one.call.module: one for one in read}.values():
            module = find_module(graph.model, one.call.module)
            assert module is not None
            handle = module.register_forward_hook(found[one.weight.tensor].after)
            undo.add(handle.remove)

    for number, batch in enumerate(data):
        pass_backward(graph.model, loss, number, batch, first, watch)
    return {name: one.mean() for name, one in found.items() if one.count}


@define(eq=False)
class _Products:
    """The sum of the products of the gradients of a module's results, and of how many."""

    total: Tensor | float = 0.0
    count: int = 0

    def after(self, module: nn.Module, args: Any, result: Any) -> None:
        """A forward hook: wait for the gradient of the result."""
        if isinstance(result, Tensor) and result.requires_grad:
            result.register_hook(self._take)

    def _take(self, gradient: Tensor) -> None:
        rows = gradient.detach().flatten(0, -2).float()
        self.total = self.total + (rows.T @ rows if rows.shape[1] <= PAIRS else rows.square().sum(0))
        self.count += len(rows)

    def mean(self) -> Tensor:
        return torch.as_tensor(self.total) / self.count


def _alone(graph: Groups, tensors: Tensors, read: Iterable[Reader]) -> list[Reader]:
    """Those that are all that their module does, and multiply with a matrix that may have gradients."""
    made: dict[str, set[Any]] = defaultdict(set)
    for call in graph.trace.calls:
        made[call.module].add(call.code)
    found = []
    for one in read:
        module = find_module(graph.model, one.call.module)
        is_leaf = module is not None and not registered(module, "_modules")
        weight = tensors[one.weight.tensor]
        is_all = is_leaf and len(made[one.call.module]) == 1
        if is_all and weight.dim() == 2 and not weight.is_inference():
            found.append(one)
    return found


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
