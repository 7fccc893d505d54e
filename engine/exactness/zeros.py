"""Where slots that are zero in all members are zero, and so whether a sum notices that they are gone.

Removing a slot equals zeroing it in all tensors that hold it. In the values that a model computes from them
the slot need not be zero any more: a sigmoid makes one half of it. That is of no concern as long as the slot
meets a weight that is zero there, but a sum over such slots is another one without them. This module follows
the zeros forward, in the words of the rules: ``zero input weight + bias`` says where results are zero, and a
factor that is not in the results is summed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from attrs import Factory, define

from ..axes import Atom, Layout, Reason, atoms, free_atoms
from ..coupling import Couplings, Place, Reading
from ..sizes import Sizes
from ..tracing import Call, Value

_OWN = frozenset({"parameter", "buffer", "attribute"})


def inexact_atoms(
    coupled: Couplings, sizes: Sizes, unmended: Iterable[tuple[Call, Layout, Reason]] = ()
) -> dict[Atom, Reason]:
    """The atoms whose removal is not the same as zeroing them, each with the first reason.

    `unmended` are layouts whose sizes a call multiplies with, and no weight can make up for it.
    """
    live = coupled.live
    found: dict[Atom, Reason] = {}
    for call, layout, reason in unmended:
        if call in live:
            for atom in atoms(layout):
                found.setdefault(atom, reason)
    for one in coupled.mixed:
        if one.origin.call in live:
            reason = Reason(one.text, one.origin)
            for atom in atoms(one.layout):
                found.setdefault(atom, reason)
    for number, origin in coupled.numbers:
        if origin.call in live:
            for atom in sizes.varying_atoms(number):
                where = f"at {origin.call.source.short} ({sizes.describe(number)})"
                found.setdefault(atom, Reason(f"its size is used as a number {where}", origin))
    for hidden, reason in coupled.disguised:
        for atom in hidden:
            found.setdefault(atom, reason)
    for call, atom, reason in _sums_over_nonzero(coupled):
        if call in live:
            found.setdefault(atom, reason)
    _spread(found, coupled, sizes)
    return found


def _spread(found: dict[Atom, Reason], coupled: Couplings, sizes: Sizes) -> None:
    """What no tensor holds, such as the slots of `ones(n)`, has the number of those whose size it follows.

    ``ones(n).sum()`` is that number.
    """
    tensors = coupled.trace.tensors.values()
    held = {atom for value in tensors for layout in coupled.of(value) for atom in free_atoms(layout)}
    counted = {sizes.ties.root(atom): reason for atom, reason in found.items() if atom not in held}
    for atom in held if counted else ():
        reason = counted.get(sizes.ties.root(atom))
        if reason is not None:
            found.setdefault(atom, reason)


def _sums_over_nonzero(coupled: Couplings) -> Iterator[tuple[Call, Atom, Reason]]:
    """The calls that sum over slots that are not zero where they are masked, in order."""
    zeros = _Zeros()
    for call in coupled.trace.calls:
        reading = coupled.readings.get(call)
        if reading is not None:
            yield from zeros.read(call, reading)
        elif call.results:
            zeros.move(coupled, call)
        if call.inplace:
            zeros.spoil(call)


@define(eq=False)
class _Zeros:
    """What is known of the zeros of the values met so far; whatever is unknown is not zero.

    ``filled`` are atoms whose slots are not zero on an axis. ``spoiled`` gives for an atom the value that an
    in-place change filled: all earlier values may share its memory.
    """

    filled: dict[Place, set[Atom]] = Factory(lambda: defaultdict(set))
    spoiled: dict[Atom, int] = Factory(dict)

    def zero(self, place: Place, atom: Atom) -> bool:
        """Whether the masked slots of `atom` are zero on this axis."""
        value, _ = place
        if value.kind in _OWN:
            return _has_fractions(value)
        if value.kind != "call" or self.spoiled.get(atom, -1) > value.index:
            return False
        return place not in self.filled or atom not in self.filled[place]

    def read(self, call: Call, reading: Reading) -> Iterator[tuple[Call, Atom, Reason]]:
        """Follow a call whose rule says which operands have which factor."""
        made = set(call.results)
        for factor, layout, places in reading.factors:
            operands = [place for place in places if place[0] not in made]
            results = [place for place in places if place[0] in made]
            summed = not results or factor in reading.summed
            # Whole numbers are positions or flags, of which no rule says that they are zero.
            fractions = {place: _has_fractions(place[0]) for place in results}
            told: dict[tuple[bool, ...], tuple[bool, bool]] = {}  # many atoms are zero in the same operands
            for atom in free_atoms(layout):
                zeros = tuple([self.zero(place, atom) for place in operands])
                if zeros not in told:
                    told[zeros] = _told(reading.terms, operands, zeros)
                adds_nothing, zero = told[zeros]
                if summed and not adds_nothing:
                    text = f"'{factor}' is summed where its slots are not zero"
                    yield call, atom, Reason(text, reading.origin)
                for place in results:
                    if not (zero and fractions[place]):
                        self.filled[place].add(atom)

    def move(self, coupled: Couplings, call: Call) -> None:
        """Follow a call that only rearranges slots: new ones, and those filled from outside, are not zero."""
        zero: dict[Atom, bool] = {}
        filler = call.arguments.get("value", call.arguments.get("values"))
        sources = call.values
        for source in sources:
            for axis, layout in enumerate(coupled.of(source)):
                for atom in free_atoms(layout):
                    zero[atom] = zero.get(atom, True) and self.zero((source, axis), atom)
        if isinstance(filler, Value):
            given = {atom for layout in coupled.of(filler) for atom in free_atoms(layout)}
            zero = {atom: known and atom in given for atom, known in zero.items()}
        elif not _vanishes(filler, {}):
            zero = {}
        for result in call.results:
            if call in coupled.zeros:
                continue
            for axis, layout in enumerate(coupled.of(result)):
                for atom in free_atoms(layout):
                    if not zero.get(atom, False):
                        self.filled[result, axis].add(atom)

    def spoil(self, call: Call) -> None:
        """What an in-place change filled is filled in all values that may share the memory."""
        for result in call.results:
            for axis in range(len(result.shape)):
                for atom in self.filled.get((result, axis), ()):
                    self.spoiled[atom] = result.index


def _told(
    terms: Sequence[Sequence[object]] | None, operands: Sequence[Place], zeros: Sequence[bool]
) -> tuple[bool, bool]:
    """Whether slots add nothing to a sum over them, and whether the results are zero there.

    `zeros` says whether they are zero on each of the axes of operands that have them.
    """
    vanishing: dict[Value, bool] = {}
    for (value, _), zero in zip(operands, zeros):
        vanishing[value] = vanishing.get(value, True) and zero
    return _adds_nothing(terms or (), vanishing), _is_zero(terms, vanishing)


def _has_fractions(value: Value) -> bool:
    return value.dtype.is_floating_point or value.dtype.is_complex


def _is_zero(terms: Sequence[Sequence[object]] | None, vanishing: dict[Value, bool]) -> bool:
    """Whether every term of a result is zero in the slots of a factor."""
    return terms is not None and all(_term_is_zero(term, vanishing) for term in terms)


def _term_is_zero(term: Sequence[object], vanishing: dict[Value, bool]) -> bool:
    """A product is zero if one of its operands is; one without operands was left out of the call."""
    given = [found for found in term if found is not None]
    return not given or any(_vanishes(found, vanishing) for found in given)


def _vanishes(found: object, vanishing: dict[Value, bool]) -> bool:
    if isinstance(found, Value):
        return vanishing.get(found, False)
    if isinstance(found, (list, tuple)):
        return all(_vanishes(one, vanishing) for one in found)
    return found is None or (isinstance(found, (int, float)) and found == 0)


def _adds_nothing(terms: Sequence[Sequence[object]], vanishing: dict[Value, bool]) -> bool:
    """Whether masked slots add nothing to a sum: a product needs one operand that is zero there."""
    alone = set(vanishing)
    for term in terms:
        inside = [found for found in term if isinstance(found, Value) and found in vanishing]
        alone.difference_update(inside)
        if inside and not any(vanishing[value] for value in inside):
            return False
    return all(vanishing[value] for value in alone)
