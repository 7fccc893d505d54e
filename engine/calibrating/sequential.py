"""Corrections in sequence: each block is corrected for what the corrected blocks before it hand on.

A reader makes up for what its result lacks of that of the whole model; in a residual network that is the sum
that its result goes into. So errors do not add up from block to block. The blocks of a chain are run one at
a time: what is held are the products of one block's readers, and one tensor for each batch. Such a target is
that of ThiNet (Luo et al., ICCV 2017) and GPTAQ (Li et al., ICML 2025).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from ...adapters.apply import carry_out
from ...adapters.plan import Plan
from ...adapters.tensors import named_tensors
from ...errors import PlanError
from ..grouping import Groups
from ..tracing import Call, Value, call_arguments
from .batches import check_finite, part_of
from .block import Block, holding, is_inside
from .chain import Given, chains_of, given_to, run_plain, with_state
from .changes import Added, Corrections, Shifted
from .inputs import first_sequence, named_inputs
from .losing import Losing
from .padding import Padding
from .ridge import choose_strength, fit
from .spots import Spot, spot_of
from .statistics import Statistics
from .told import WORSE, Told


@frozen(eq=False)
class InSequence:
    """The chains of a model, as far as their blocks read what is pruned, and what they read."""

    graph: Groups
    plan: Plan
    data: Sequence[Any]
    chains: Sequence[Sequence[Block]]
    losing: Mapping[Spot, Losing]

    def correct(self, found: Corrections, strength: float | None, told: Told) -> None:
        """Add the corrections of these blocks to `found`, which has those of all else."""
        model, twin = self.graph.model, _pruned_twin(self.graph.model, self.plan, found)
        parts = 1 if strength is not None else 2
        for chain in self.chains:
            paths = [block.path for block in chain]
            states, given = self._start(model, paths)
            after, given_after = self._start(twin, paths)
            for number, block in enumerate(chain):
                whole = [with_state(one[number], state) for one, state in zip(given, states)]
                pruned = [with_state(one[number], state) for one, state in zip(given_after, after)]
                if block.spots:
                    states, statistics = self._look(block, twin, whole, pruned, parts)
                    for spot, seen in statistics.items():
                        self._fit(spot, seen, strength, found, told)
                        _follow(twin, self.graph, self.plan, found, self.losing[spot])
                else:
                    states = [run_plain(model, block.path, one) for one in whole]
                after = [run_plain(twin, block.path, one) for one in pruned]

    def entries(self) -> int:
        """How many entries of a slot the data have: tokens, or positions."""
        path = self.chains[0][0].path
        states, _ = self._start(self.graph.model, [path])
        return sum(state.numel() // max(state.shape[-1], 1) for state in states)

    def _start(self, model: nn.Module, paths: Sequence[str]) -> tuple[list[Tensor], list[list[Given]]]:
        """For each batch what the chain starts with, and what its modules are given beside that."""
        states, found = [], []
        for number, batch in enumerate(self.data):
            try:
                state, given = given_to(model, paths, partial(_run, model, batch))
            except Exception as error:
                raise PlanError(f"batch {number} of data= does not run: {error}") from error
            if len(given) < len(paths):
                raise PlanError(
                    f"for batch {number} of data= the model calls other modules than for the example inputs\n"
                    "give example_inputs= like the batches, or leave out sequential="
                )
            states.append(state)
            found.append(given)
        return states, found

    def _look(
        self, block: Block, twin: nn.Module, whole: Sequence[Given], pruned: Sequence[Given], parts: int
    ) -> tuple[list[Tensor], dict[Spot, list[Statistics]]]:
        """What the whole block hands on, and of each spot what the pruned one reads and what it lacks."""
        states: list[Tensor] = []
        found: dict[Spot, list[Statistics]] = {}
        for number, batch in enumerate(self.data):
            state, wanted = block.run(self.graph.model, whole[number])
            _, left = block.run(twin, pruned[number])
            states.append(state)
            padding = self._padding(batch)
            for spot in block.spots:
                made = self._kept(spot, spot.made, state.device)
                lack = wanted.result[spot].index_select(-1, made) - left.result[spot]
                both = torch.cat([left.read[spot], lack.to(left.read[spot].dtype)], -1)
                rows = padding.without(spot.reader.data[0], both, both.dim() - 1)[0].flatten(0, -2)
                known = found.setdefault(spot, [Statistics.none(rows, True) for _ in range(parts)])
                for part, share in part_of(known, rows, number, len(self.data)):
                    part.take(share)
        return states, found

    def _padding(self, batch: Any) -> Padding:
        """What the mask of a batch calls padding; of two masks nothing tells which is a block's."""
        inputs = named_inputs(self.graph.model, batch)
        return Padding({} if "decoder_input_ids" in inputs else inputs)

    def _fit(
        self, spot: Spot, parts: list[Statistics], strength: float | None, found: Corrections, told: Told
    ) -> None:
        """What a reader lacks, by what it reads: the first slots of the statistics are those."""
        one = self.losing[spot]
        device = parts[0].mean.device
        read, made = (self._kept(spot, axis, device) for axis in (one.weight.axis, spot.made))
        check_finite(parts, one.weight.tensor)
        slots = len(parts[0].mean)
        if strength is None:
            told.count(sum(part.count for part in parts), self._shape(spot)[one.weight.axis])
            lacking = torch.eye(slots, dtype=parts[0].mean.dtype, device=device)[:, len(read) :]
            strength = choose_strength(parts, range(len(read)), one.bias is not None, [lacking])
        if strength is None:
            told.leave(one.weight.tensor, WORSE)
            return
        made_up = fit(reduce(add, parts), range(len(read)), one.bias is not None, strength)
        if made_up.shares is not None:
            found.tensors[one.weight.tensor] = Shifted(one.weight.axis, read, made, made_up.shares)
        if one.bias is not None:
            size = self.graph.trace.tensors[one.bias].shape[0]
            found.tensors[one.bias] = Added(made_up.rest.new_zeros(size).index_copy(0, made, made_up.rest))

    def _kept(self, spot: Spot, axis: int, device: torch.device) -> Tensor:
        """The indices that the plan keeps of an axis of a weight."""
        kept = self.plan.tensors.get(spot.reader.weight.tensor, {}).get(axis)
        return torch.as_tensor(kept or list(range(self._shape(spot)[axis])), device=device)

    def _shape(self, spot: Spot) -> tuple[int, ...]:
        return self.graph.trace.tensors[spot.reader.weight.tensor].shape


def in_sequence(
    graph: Groups, plan: Plan, data: Sequence[Any], losing: Iterable[Losing]
) -> InSequence | None:
    """The chains of blocks that read what is pruned; none if there are none."""
    run = graph.trace.runs[0]
    users: dict[Value, list[Call]] = defaultdict(list)
    for call in graph.trace.calls[run.start : run.stop]:
        for value in dict.fromkeys(call.values):
            users[value].append(call)
    spots: dict[Spot, Losing] = {}
    for one in losing:
        spot = spot_of(graph, one.readers[0], users) if len(one.readers) == 1 else None
        if spot is not None and one.weight.tensor not in plan.scales:
            spots[spot] = one
    first = first_sequence(data[0])
    spots = {spot: spots[spot] for spot in holding(graph, spots, first)}
    chains = []
    for paths in chains_of(graph.model, partial(_run, graph.model, first)):
        blocks = [Block(graph, path, _inside(path, spots)) for path in paths]
        while blocks and not blocks[-1].spots:
            blocks.pop()
        chains += [blocks] if blocks else []
    known = {spot: spots[spot] for chain in chains for block in chain for spot in block.spots}
    return InSequence(graph, plan, data, chains, known) if known else None


def _inside(path: str, spots: Iterable[Spot]) -> list[Spot]:
    return [
        spot
        for spot in spots
        if is_inside(spot.reader.call.module, path) and is_inside(spot.call.module, path)
    ]


def _run(model: nn.Module, batch: Any) -> Any:
    args, kwargs = call_arguments(batch)
    return model(*args, **kwargs)


def _pruned_twin(model: nn.Module, plan: Plan, found: Corrections) -> nn.Module:
    """A copy of the model, pruned and corrected as far as is known.

    What is not sliced is in the memory of the model's own tensors, which nothing here writes to.
    """
    try:
        twin = copy.deepcopy(model, {id(one): _in_its_memory(one) for one in named_tensors(model).values()})
    except Exception as error:
        raise PlanError(
            f"sequential=True prunes a copy of the model first, and it cannot be copied: {error}"
        ) from error
    carry_out(twin, plan, corrections=found.tensors)
    return twin


def _in_its_memory(tensor: Tensor) -> Tensor:
    found = tensor.detach()
    return nn.Parameter(found, requires_grad=False) if isinstance(tensor, nn.Parameter) else found


def _follow(twin: nn.Module, graph: Groups, plan: Plan, found: Corrections, one: Losing) -> None:
    """Correct the twin's tensors as those of the model will be."""
    whole, pruned = named_tensors(graph.model), named_tensors(twin)
    for name in filter(None, (one.weight.tensor, one.bias)):
        if name in found.tensors:
            changed = found.tensors[name](whole[name].detach())
            for axis, kept in plan.tensors.get(name, {}).items():
                changed = changed.index_select(axis, torch.as_tensor(kept, device=changed.device))
            pruned[name].data = changed
