"""The way from a choice to a result: corrected, sliced and verified, or only told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen
from torch import nn

from ..adapters.apply import carry_out
from ..adapters.optimizers import Optimizers
from ..adapters.plan import Plan
from ..adapters.submodules import parameters_of
from ..errors import PlanError, VerificationError
from .calibrating import Corrections, Measured, corrections, inputs_of
from .choosing import (
    Choice,
    Options,
    check_reached,
    choose,
    kept_slots,
    parameters,
    repeated_notes,
    unreached_notes,
)
from .derive import witnessed, witnessed_at
from .graph import DependencyGraph
from .result import Result
from .scoring import unlike_notes
from .tracing import Trace, handed_notes
from .witnessing import DoesOtherwise, check_pruned, check_tried


@frozen
class Finish:
    """What is done with a choice: it is carried out, or only told."""

    options: Options
    inputs: str
    compensate: str | tuple[str, float] | None
    sequential: bool | None
    optimizer: Optimizers | None
    dry_run: bool
    verify: bool
    strict: bool

    def __call__(
        self, graph: DependencyGraph, choice: Choice, retrace: Callable[..., Trace] | None = None
    ) -> Result:
        """The result; with `retrace` the model must do at the sizes of the plan what the graph says."""
        model, plan = graph.model, choice.plan
        if self.strict:
            check_reached(graph.unreached, plan.groups.keys())
        before = count_parameters(model)
        inputs = self._inputs(graph)
        corrected = self._corrections(graph, plan, inputs)
        notes = [*choice.notes, *unreached_notes(graph, graph.unreached, plan), *repeated_notes(graph, plan)]
        notes += [*handed_notes(graph.trace), *corrected.notes]
        if inputs is not None and not isinstance(inputs, Measured):
            notes += unlike_notes(model, inputs)
        left_alone = dict(choice.left_alone)
        if self.dry_run:
            if retrace is not None:
                check_tried(graph, plan, retrace)
            after = parameters(graph, kept_slots(graph, plan))
            return Result(
                model, plan, graph, before, after, notes, self.inputs, left_alone, self.options.tokenizer
            )
        return carry_out(
            model,
            plan,
            optimizer=self.optimizer,
            corrections=corrected.tensors,
            check=partial(check_pruned, model, graph, plan, retrace) if self.verify else None,
            then=lambda dropped: Result(
                model,
                plan,
                graph,
                before,
                count_parameters(model),
                notes + dropped,
                self.inputs,
                left_alone,
                self.options.tokenizer,
            ),
        )

    def _inputs(self, graph: DependencyGraph) -> Any:
        """What the model is given of the data, or what was measured of it."""
        data, loss = self.options.data, self.options.loss
        if data is None or isinstance(data, Measured):
            return data
        return inputs_of(graph.model, data, paired=loss is not None)

    def _corrections(self, graph: DependencyGraph, plan: Plan, inputs: Any) -> Corrections:
        if self.compensate is None:
            return Corrections()
        return corrections(graph, plan, inputs, self.compensate, self.sequential)


def finished(finish: Finish, graph: DependencyGraph, retrace: Callable[..., Trace]) -> Result:
    """The result, with what the forward does at other sizes looked at as closely as it takes."""
    options = finish.options
    # The sizes of the plan are those that matter. Only if the model does not do there what its trace says, or
    # a plan cannot be had, others have to tell whose fault that is.
    if finish.verify and not finish.strict:
        try:  # and no block that is left when the model is pruned: an interrupt there would lose the result
            return finish(graph, choose(graph, options), retrace)
        except (DoesOtherwise, PlanError, VerificationError):
            pass
    graph = witnessed(graph, retrace)
    choice = choose(graph, options)
    while finish.verify and (known := witnessed_at(graph, choice.plan, retrace)) is not graph:
        graph, choice = known, choose(known, options)
    return finish(graph, choice)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in parameters_of(model).values())
