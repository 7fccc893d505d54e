"""What the rules say of a trace: which axes belong together, what is produced, mixed, equated or unknown."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, frozen

from ..axes import UNIT, Atom, Layout, Reason, Unifier
from ..sizes import Equation, Multiple
from ..tracing import Call, Condition, Expr, Origin, Trace, Value

Place = tuple[Value, int]


@frozen(eq=False)
class Coupling:
    """A factor instance: `factor` of this call's rule makes the axes at `places` share their atoms."""

    origin: Origin
    factor: str
    places: tuple[Place, ...]
    layout: Layout | None = None


@frozen(eq=False)
class Produced:
    """The slots of `layout` are produced by this call, under the name of `factor`."""

    layout: Layout
    origin: Origin
    factor: str


@frozen(eq=False)
class Mixed:
    """The slots of `layout` are not on their own in this call; `text` says what is taken over them."""

    layout: Layout
    origin: Origin
    text: str


@frozen(eq=False)
class Beside(Mixed):
    """The order of the slots counts: each is made with those beside it."""

    text: str = "each of its slots is made with those beside it"


@frozen(eq=False)
class Scaled:
    """The call multiplies `operand` by the size of `layout`, which is its rule's `factor`, to a power."""

    operand: object
    layout: Layout
    power: float
    origin: Origin
    factor: str


@frozen(eq=False)
class CallMacs:
    """Multiply-accumulates of a call: a sum of products of layout sizes."""

    call: Call
    terms: tuple[tuple[Layout, ...], ...]


@frozen(eq=False)
class Reading:
    """What a rule says of the slots of one call: by factor, its layout and the axes that have it.

    ``terms`` are the operands whose products add up to the results, as far as their zeros go (``None`` if
    the rule does not say), ``products`` the same where it is true of all numbers, ``summed`` the factors
    that are summed although the results have them.
    """

    origin: Origin
    factors: tuple[tuple[str, Layout, tuple[Place, ...]], ...]
    terms: tuple[tuple[object, ...], ...] | None
    products: tuple[tuple[object, ...], ...] | None
    summed: frozenset[str]


@define(eq=False)
class Couplings:
    """Everything that the rules say about a trace; ``from_input`` are the values that depend on its inputs,
    ``needed`` those on which something depends that somebody looks at, ``picked`` those among them that
    are weights all the same, ``opened`` the signatures' dims with their stars opened, ``fits`` how
    rules fit calls, by shapes and numbers, ``zeros`` the calls whose results are zero, ``moves`` those
    that only put slots elsewhere, ``live`` those whose results somebody looks at, ``given`` those on
    the way to what the model gives, ``uniform`` the values that are one number everywhere,
    ``sizes_read`` the arguments of a call that are sizes, ``trusted`` the equations of plain numbers
    that were seen to follow, by call and argument, ``disguised`` atoms whose sizes became numbers in a
    way that the trace cannot see. Of the tensors that no forward has reached, ``followed`` has by name
    the sibling that they go along with, ``twins`` the same by whole elements of a list, and
    ``unfollowed`` a sibling that was reached, but does not tell.
    """

    trace: Trace
    live: set[Call] = Factory(set)
    given: set[Call] = Factory(set)
    from_input: set[Value] = Factory(set)
    needed: set[Value] = Factory(set)
    picked: set[Value] = Factory(set)
    layouts: dict[Value, list[Layout]] = Factory(dict)
    couplings: list[Coupling] = Factory(list)
    equations: list[Equation] = Factory(list)
    conditions: list[Condition] = Factory(list)
    produced: list[Produced] = Factory(list)
    mixed: list[Mixed] = Factory(list)
    scaled: list[Scaled] = Factory(list)
    ties: list[Equation] = Factory(list)
    numbers: list[tuple[Expr, Origin]] = Factory(list)
    macs: list[CallMacs] = Factory(list)
    multiples: list[Multiple] = Factory(list)
    readings: dict[Call, Reading] = Factory(dict)
    zeros: set[Call] = Factory(set)
    moves: set[Call] = Factory(set)
    uniform: set[Value] = Factory(set)
    sizes_read: dict[Call, set[str]] = Factory(dict)
    trusted: dict[tuple[int, str], list[Equation]] = Factory(dict)
    disguised: list[tuple[frozenset[Atom], Reason]] = Factory(list)
    unknown: list[Reason] = Factory(list)
    followed: dict[str, str] = Factory(dict)
    twins: dict[str, str] = Factory(dict)
    unfollowed: dict[str, str] = Factory(dict)
    unifier: Unifier = Factory(Unifier)
    opened: dict[tuple, list] = Factory(dict)
    fits: dict[tuple, Any] = Factory(dict)

    def of(self, value: Value) -> list[Layout]:
        """The layouts of the axes of `value`, made when it is first met."""
        layouts = self.layouts.get(value)
        if layouts is None:
            layouts = self.layouts[value] = _first_layouts(value)
        return layouts


_FIXED = {
    "input": "the model's input",
    "constant": "a tensor that was there before the forward",
    "untracked": "a tensor that the trace did not see being made",
    "call": "the result of a call that gave it no axes",
}


def _first_layouts(value: Value) -> list[Layout]:
    """Parameters, buffers and tensor attributes are free; whatever comes from outside keeps its slots."""
    text = _FIXED.get(value.kind)
    reason = None if text is None else Reason(f"an axis of {text}", value)
    return [UNIT if size == 1 else Atom(size, reason) for size in value.shape]
