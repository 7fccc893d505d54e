"""Makes up in the weights for numbers that operations compute from a size: the temperature of attention.

``scales query by qk ** -0.5`` says that an operation multiplies an operand by a power of the size of a
factor. With fewer slots that is another number. If the weights that make the operand, and nothing else, are
multiplied by the ratio of the two, removing slots is again the same as zeroing them.

The weights are found by going back from the operand through calls that move slots and those in which, as
their rules say, the results are a sum of products. Then their slots are followed forward again: wherever
they are read, they must come to such operands, all of them, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from attrs import Factory, define, frozen
from torch import Tensor

from ..axes import Atom, Layout, Reason, atoms, resolve
from ..coupling import Couplings, Reading, Scaled
from ..sizes import size_of
from ..tracing import Call, Value
from .regions import Moves, NoRegion, corresponding, is_whole, marked_axis, united, whole

_OWN = frozenset({"parameter", "buffer", "attribute"})


@frozen(eq=False)
class Folding:
    """The slots of tensors that make up for `scaled`: by name the tensor, an axis, and the slots, bool."""

    scaled: Scaled
    weights: tuple[tuple[str, int, np.ndarray], ...]

    def ratio(self, count: Callable[[Atom], int]) -> float:
        """What the weights are multiplied by, with `count` slots kept of each atom."""
        layout = self.scaled.layout
        return (layout.size / size_of(layout, count)) ** self.scaled.power


@define(eq=False)
class Temperatures:
    """What can be folded into weights, and what cannot, with the reason."""

    foldings: list[Folding] = Factory(list)
    unmended: list[tuple[Call, Layout, Reason]] = Factory(list)

    def scales(
        self, count: Callable[[Atom], int], kept: dict[str, dict[int, list[int]]]
    ) -> dict[str, dict[int, list[float]]]:
        """By tensor and axis what each of the `kept` indices is multiplied by, with these sizes."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for folding in self.foldings:
            ratio = folding.ratio(count)
            for name, axis, slots in folding.weights if ratio != 1 else ():
                scale = np.where(slots, ratio, 1.0)
                scale = scale[kept.get(name, {}).get(axis, slice(None))]
                axes = found.setdefault(name, {})
                axes[axis] = axes.get(axis, 1.0) * scale
        return {name: {axis: one.tolist() for axis, one in axes.items()} for name, axes in found.items()}


def temperatures(coupled: Couplings) -> Temperatures:
    """How the model's weights can make up for every number that an operation computes from a size."""
    found = Temperatures()
    search = _Search(coupled) if coupled.scaled else None
    done: set[Scaled] = set()
    for one in coupled.scaled:
        if search is None or one in done:
            continue
        try:
            weights = search.weights_of(one)
            together = search.reached_by(weights)
            if one not in together or any(_key(other) != _key(one) for other in together):
                raise NoRegion("what makes it also makes one that is scaled by another size")
            found.foldings.append(Folding(one, tuple(_listed(weights))))
            done.update(together)
        except NoRegion as error:
            text = f"the size of '{one.factor}' sets a temperature, which no weight takes on: {error}"
            found.unmended.append((one.origin.call, one.layout, Reason(text, one.origin)))
    return found


def _key(one: Scaled) -> tuple:
    return (one.power, *map(id, atoms(one.layout)), id(type(resolve(one.layout))))


def _listed(weights: dict[Value, Tensor]) -> Iterator[tuple[str, int, np.ndarray]]:
    """The slots of each tensor along one axis; the first, where all of them are meant."""
    for value, region in weights.items():
        axis = marked_axis(region)
        slots = np.ones(value.shape[0], bool) if axis is None else region.flatten().numpy()
        yield str(value.name), axis or 0, slots


class _Search:
    """Goes back from operands to weights, and forward again."""

    def __init__(self, coupled: Couplings):
        self._coupled = coupled
        self._scaled: dict[Call, Scaled] = {one.origin.call: one for one in coupled.scaled}
        self._from_weights = _from_weights(coupled)
        self._ends = coupled.trace.ends
        self._moves = Moves()
        self._readers: dict[Value, list[Call]] = {}
        for call in coupled.live:
            for value in dict.fromkeys(call.values):
                self._readers.setdefault(value, []).append(call)

    def weights_of(self, one: Scaled) -> dict[Value, Tensor]:
        """The tensors of the model, and the regions of them, that make the operand of `one`."""
        if not isinstance(one.operand, Value):
            raise NoRegion("it is no tensor")
        wanted: dict[Value, Tensor] = {one.operand: whole(one.operand)}
        waiting = [-one.operand.index]
        by_index = {one.operand.index: one.operand}
        found: dict[Value, Tensor] = {}
        while waiting:
            value = by_index[-heappop(waiting)]
            region = wanted.pop(value, None)
            if region is None:
                continue  # it was met together with another result of the same call
            if value.kind in _OWN:
                found[value] = self._checked(value, region)
                continue
            for source, part in self._before(value, region, wanted).items():
                wanted[source] = united(wanted.get(source), part)
                by_index[source.index] = source
                heappush(waiting, -source.index)
        return found

    def _checked(self, value: Value, region: Tensor) -> Tensor:
        if not value.dtype.is_floating_point or not value.shape:
            raise NoRegion(f"{value.name} cannot be scaled slot by slot")
        return region

    def _before(self, value: Value, region: Tensor, wanted: dict[Value, Tensor]) -> dict[Value, Tensor]:
        """What must be multiplied for this region of `value` to be."""
        call = value.call
        if call is None or call.inplace:
            raise NoRegion("it comes from an input" if call is None else f"{call.name} changes it in place")
        if call in self._coupled.moves:
            others = {other: wanted.pop(other) for other in call.results if other in wanted}
            return self._moves.came_from(call, {value: region, **others})
        reading = self._coupled.readings.get(call)
        if reading is None or reading.products is None:
            raise NoRegion(f"it is made by {call.name}, of which no multiple is known")
        found: dict[Value, Tensor] = {}
        for term in _given(reading.products):
            source, part = self._chosen(term, reading, value, region)
            found[source] = united(found.get(source), part)
        return found

    def _chosen(
        self, term: Sequence[object], reading: Reading, value: Value, region: Tensor
    ) -> tuple[Value, Tensor]:
        """The operand of a product to multiply: a weight if there is one, else what is made of weights."""
        choices: list[tuple[Value, Tensor]] = []
        for operand in term:
            if isinstance(operand, Value):
                part = corresponding(reading, region, value, operand)
                choices += [] if part is None else [(operand, part)]
        if not choices:
            raise NoRegion(f"a term of {reading.origin.call.name} has no operand with its slots")
        return max(choices, key=lambda choice: self._rank(choice[0]))

    def _rank(self, value: Value) -> tuple[bool, bool, bool]:
        made = value in self._from_weights
        return value.kind == "parameter", made and value not in self._coupled.from_input, made

    def reached_by(self, weights: dict[Value, Tensor]) -> set[Scaled]:
        """The scaled operands, each whole, that these regions come to; raises `NoRegion` for all else."""
        regions = dict(weights)
        reached: set[Scaled] = set()
        waiting = [(call.index, id(call), call) for value in weights for call in self._readers.get(value, ())]
        heapify(waiting)
        last = None
        while waiting:
            *_, call = heappop(waiting)
            if call is last:
                continue
            last = call
            if self._arrives(call, regions):
                reached.add(self._scaled[call])
                continue
            for value, region in self._after(call, regions).items():
                if value in self._ends:
                    raise NoRegion("what makes it also makes an output of the model")
                regions[value] = region
                for reader in self._readers.get(value, ()):
                    heappush(waiting, (reader.index, id(reader), reader))
        return reached

    def _arrives(self, call: Call, regions: dict[Value, Tensor]) -> bool:
        """Whether `call` scales an operand that has come to it as a whole, and no other one."""
        one = self._scaled.get(call)
        come = [value for value in call.values if value in regions]
        return one is not None and come == [one.operand] and is_whole(regions[come[0]])

    def _after(self, call: Call, regions: dict[Value, Tensor]) -> dict[Value, Tensor]:
        """The regions of the results of a call that are multiplied with those of its operands."""
        reading = self._coupled.readings.get(call)
        if not call.inplace and call in self._coupled.moves:
            return self._moves.moved(call, regions)
        if call.inplace or reading is None or reading.products is None:
            raise NoRegion(f"what makes it is also read by {call.name} in {call.module or 'the model'}")
        found = {}
        for result in call.results:
            parts = [_multiplied(term, reading, regions, result) for term in _given(reading.products)]
            if any(not part.equal(parts[0]) for part in parts) or not result.dtype.is_floating_point:
                raise NoRegion(f"{call.name} in {call.module or 'the model'} adds something else to it")
            found[result] = parts[0]
        return found


def _multiplied(
    term: Sequence[object], reading: Reading, regions: dict[Value, Tensor], result: Value
) -> Tensor:
    """The region of the result of a call in which one product is multiplied once."""
    operands = [operand for operand in term if isinstance(operand, Value) and operand in regions]
    if len(operands) == 1:
        part = corresponding(reading, regions[operands[0]], operands[0], result)
        if part is not None:
            return part
    raise NoRegion(f"{reading.origin.call.name} has another part in what is made of it")


def _given(products: Sequence[Sequence[object]]) -> Iterator[Sequence[object]]:
    """The terms that the call has; one of which no operand is given adds nothing."""
    return (term for term in products if any(operand is not None for operand in term))


def _from_weights(coupled: Couplings) -> set[Value]:
    """The values in which a parameter has a part."""
    found = {value for value in coupled.trace.tensors.values() if value.kind == "parameter"}
    for call in coupled.trace.calls:
        if not found.isdisjoint(call.values):
            found.update(call.results)
    return found
