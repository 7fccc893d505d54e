"""One call as its rule sees it: operands, axes, and the ways to say how they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...grammar import ast
from ...rules.arguments import argument_defaults
from ..axes import UNIT, Atom, Layout, Reason, block
from ..sizes import Equation, SizeOf
from ..tracing import Call, Condition, Const, Expr, Op, Origin, SizeInt, Value, expr_of, found_in
from .coupled import Coupling, Couplings, Place


class Misfit(Exception):
    """The rule does not fit this call, which then counts as unknown; the message says where they differ."""


class ByData(Reason):
    """The reason of an axis whose size only the data tells: another model may well give another."""


class Site:
    """One call as its rule sees it: the operands, their axes, and what the rule says of them."""

    def __init__(self, coupled: Couplings, call: Call, rule: ast.Rule):
        self.coupled = coupled
        self.call = call
        self.rule = rule
        self.arguments = call.arguments
        self.origin = Origin(call, rule)
        self.factors: dict[str, list[Layout]] = {}
        self.placed: list[tuple[str, Layout, tuple[Place, ...]]] = []
        self.terms: tuple[tuple[object, ...], ...] | None = None
        self.sizes_read: set[str] = set()

    @property
    def is_unread(self) -> bool:
        """Whether nobody looks at what the results are, beside their shape."""
        return self.call not in self.coupled.live

    def axes(self, value: Value) -> list[Layout]:
        """The layouts of the axes of `value`."""
        return self.coupled.of(value)

    def unify(self, a: Layout, b: Layout) -> None:
        """Make two layouts the same, on behalf of this rule."""
        self.coupled.unifier.unify(a, b, self.origin)

    def block(self, layout: Layout, text: str) -> None:
        """Keep all slots of `layout`, because of `text`."""
        block(layout, Reason(text, self.origin))

    def pick(self, source: Value, layout: Layout, number: object) -> None:
        """One slot is picked by number. Of equal ones, and for nobody, the first or last may be another."""
        at_an_end = type(number) is int and number in (0, -1)
        if not (at_an_end and (self.is_unread or source in self.coupled.uniform)):
            self.block(layout, "one of its slots is picked by number")

    def couple(self, factor: str, places: Iterable[Place], layout: Layout | None = None) -> None:
        """Record that `factor` relates the axes at `places`, for explanations and names."""
        self.coupled.couplings.append(Coupling(self.origin, factor, tuple(places), layout))

    def give(self, value: Value, layouts: Sequence[Layout]) -> None:
        """The axes of a result of this call."""
        sizes = tuple(layout.size for layout in layouts)
        if sizes != value.shape:
            raise Misfit(f"it gives a result of {_by(sizes)}, the call one of {_by(value.shape)}")
        self.coupled.layouts[value] = list(layouts)

    def equate(self, number: object, layout: Layout, argument: str) -> None:
        """The integer (or its expression) given as `argument` is, and must stay, the size of `layout`.

        Where a tensor is given, data tells the size.
        """
        self.sizes_read.add(argument.partition("[")[0])
        if isinstance(number, Value):
            block(layout, ByData("data tells its size", self.origin))
        if isinstance(number, int):
            number = expr_of(number)
        if isinstance(number, Expr):
            self.coupled.equations.append(Equation(number, SizeOf(layout), self.origin, argument))

    def expect_at_least(self, layout: Layout, number: object) -> None:
        """As many slots as `number` are picked of `layout`, so that it must keep them."""
        if isinstance(number, int):
            source = self.call.source
            self.coupled.conditions.append(Condition("<=", expr_of(number), SizeOf(layout), True, source))

    def keep(self, found: object) -> None:
        """The sizes in an argument say what is done (which axis, or that nothing is): they must stay."""
        for number in found_in(found, SizeInt):
            is_now = Const(int(number))
            self.coupled.conditions.append(Condition("==", number.expr, is_now, True, self.call.source))

    def same_size(self, left: Layout, right: Layout, argument: str) -> None:
        """Two layouts must stay of equal size, though not of equal slots."""
        self.coupled.equations.append(Equation(SizeOf(left), SizeOf(right), self.origin, argument))

    def depend_on(self, found: object) -> None:
        """The sizes in an argument are used as numbers: what the call makes depends on them."""
        self.coupled.numbers += [(number.expr, self.origin) for number in found_in(found, SizeInt)]

    def result(self) -> Value:
        """The first result of the call."""
        return self.call.results[0]

    def tensor(self, *names: str) -> Value:
        """The tensor argument of the first of `names` that is given, else the first tensor argument."""
        for name in names:
            found = self.arguments.get(name)
            if isinstance(found, Value):
                return found
        for found in self.arguments.values():
            if isinstance(found, Value):
                return found
        raise Misfit("the call has no tensor argument")

    def tensors(self) -> list[Value]:
        """The tensors of the call's first list of tensors."""
        for found in self.arguments.values():
            if isinstance(found, (list, tuple)) and found and all(isinstance(one, Value) for one in found):
                return list(found)
        return [found for found in self.arguments.values() if isinstance(found, Value)]

    def argument(self, *names: str, default: object = None) -> object:
        """The argument of the first of `names` that is given."""
        for name in names:
            if name in self.arguments:
                return self.arguments[name]
        return default

    def name_of(self, *names: str) -> str:
        """Which of these names of one argument the call has; the first if none."""
        return next((name for name in names if name in self.arguments), names[0])

    def default(self, name: str) -> object:
        """What an argument is that the call leaves out."""
        found = argument_defaults(self.call.target).get(name)
        return tuple(found) if isinstance(found, list) else found

    def operand(self, name: str) -> object:
        """What the call has in the place of a rule's operand: a tensor, several, a number or nothing."""
        if name == "in" and name not in self.arguments:
            return self.tensor()
        return self.arguments.get(name)

    def cut(self, layout: Layout, at: int) -> tuple[Layout, Layout]:
        """The two pieces of `layout` before and from slot `at`."""
        if at <= 0 or at >= layout.size:
            raise Misfit(f"an axis of {layout.size} is cut at {at}")
        return self.coupled.unifier.cut(layout, at)

    def carry(self, source: Value, result: Value, axes: Iterable[tuple[int, int]] | None = None) -> None:
        """Record that axes of `source` become axes of `result`: ``(old, new)`` pairs, or each its own."""
        for old, new in axes if axes is not None else ((axis, axis) for axis in range(len(result.shape))):
            self.couple(f"axis {new}", [(source, old), (result, new)])


def axis_number(dim: object, rank: int) -> int:
    """A dim argument counted from the left."""
    if not isinstance(dim, int):
        raise Misfit("an axis that is not a number")
    return int(dim) % max(rank, 1)


def as_tuple(found: object) -> tuple:
    """An argument that may be one item or several."""
    return tuple(found) if isinstance(found, (list, tuple)) else (found,)


def negated(number: int) -> Expr:
    """The expression of ``-number``, for a number that counts from the other side."""
    expr = expr_of(number)
    if isinstance(expr, Op) and expr.symbol == "-" and isinstance(expr.left, Const) and expr.left.value == 0:
        return expr.right
    return Const(-expr.value) if isinstance(expr, Const) else Op("-", Const(0), expr)


def new_axis(size: int) -> Layout:
    """An axis of equal slots: free, but for what the number that made it says."""
    return UNIT if size == 1 else Atom(size)


def told_by_data(site: Site, size: int) -> Atom:
    """An axis of as many slots as data tells."""
    return Atom(size, ByData("data tells its size", site.origin))


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "a scalar"
