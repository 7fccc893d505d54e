"""Size equations: the numbers that a model's own code computes must stay the sizes of its tensors.

Whether an equation holds for all sizes is not reasoned about but tried, at random sizes: an identity holds
there, and anything else fails with probability about 1. The arithmetic is exact, modulo a large prime, where
division (``//`` is exact on a path that the model takes) is as cheap as multiplication.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Iterator
from math import prod

from attrs import define, field, frozen

from ..axes import Atom, Layout, Sum, atoms, parts_of, resolve
from ..tracing import (
    ARITHMETIC,
    Attribute,
    Condition,
    Const,
    Dim,
    Expr,
    Op,
    Origin,
    Source,
    Value,
    evaluate,
    leaves,
)
from .ties import Ties

PRIME = 2**61 - 1


@frozen(eq=False)
class SizeOf:
    """The size of a layout, as a leaf of an expression."""

    layout: Layout


Side = Expr | SizeOf
AttributeKey = tuple[str, str, tuple | None]


@frozen(eq=False)
class Equation:
    """``left == right`` must hold for whatever sizes are chosen; it was written as `argument` of a call."""

    left: Side
    right: Side
    origin: Origin | None
    argument: str
    source: Source | None = None

    @property
    def where(self) -> Source | None:
        """The user's line that needs it."""
        return self.source or (self.origin.call.source if self.origin else None)


@define(eq=False)
class Sizes:
    """The size equations of a model, what defines each attribute, and the ties that make all hold.

    ``fixed`` are the atoms that an equation blocks.
    """

    layouts: Callable[[Value], list[Layout]]
    equations: list[Equation]
    conditions: list[Condition]
    originals: dict[AttributeKey, int]
    definitions: dict[AttributeKey, Side] = field(factory=dict)
    ties: Ties = field(factory=Ties)
    fixed: dict[Atom, Equation] = field(factory=dict)

    def depends(self, side: Side) -> bool:
        """Whether the number `side` may change."""
        return next(iter(self.free(side)), None) is not None

    def atoms(self, side: Side) -> Iterator[Atom]:
        """The atoms on which `side` depends."""
        for layout in self._layouts_in(side):
            yield from atoms(layout)

    def free(self, side: Side) -> Iterator[Atom]:
        """The free atoms on which `side` depends."""
        return (atom for atom in self.atoms(side) if atom.reason is None)

    def _layouts_in(self, side: Side) -> Iterable[Layout]:
        for leaf in leaves(side):  # type: ignore[arg-type]  # SizeOf is a leaf as well
            if isinstance(leaf, Attribute):
                defined = self.definitions.get(key_of(leaf))
                if defined is not None:
                    yield from self._layouts_in(defined)
            else:
                yield self._layout_of(leaf)

    def _layout_of(self, leaf: SizeOf | Dim) -> Layout:
        return leaf.layout if isinstance(leaf, SizeOf) else self.layouts(leaf.value)[leaf.axis]

    def varying_atoms(self, side: Side) -> set[Atom]:
        """The free atoms with which the number `side` changes: ``C // heads`` stays if both shrink alike."""
        by_root: dict[Atom, set[Atom]] = {}
        for atom in self.free(side):
            by_root.setdefault(self.ties.root(atom), set()).add(atom)
        if not by_root:
            return set()  # as most numbers have none
        before = self.exactly(side, lambda atom: atom.size) % PRIME
        varying = (tied for root, tied in by_root.items() if RandomSizes(self, root).of(side) != before)
        return set().union(*varying)

    def exactly(self, side: Side, count: Callable[[Atom], int]) -> int:
        """`side` in whole numbers, as Python will compute it, with `count` slots kept of each atom."""

        def size(leaf: SizeOf | Dim | Attribute) -> int:
            if not isinstance(leaf, Attribute):
                return size_of(self._layout_of(leaf), count)
            defined = self.definitions.get(key_of(leaf))
            return self.originals[key_of(leaf)] if defined is None else self.exactly(defined, count)

        return evaluate(side, size)  # type: ignore[arg-type]  # SizeOf is a leaf as well

    def equal(self, equation: Equation, count: Callable[[Atom], int]) -> bool:
        """Whether an equation holds with `count` slots kept of each atom."""
        return self._compare(equation.left, equation.right, "==", count) is True

    def same(self, condition: Condition, count: Callable[[Atom], int]) -> bool:
        """Whether a comparison comes out as it did."""
        found = self._compare(condition.left, condition.right, condition.symbol, count)
        return found is condition.outcome

    def _compare(self, left: Side, right: Side, symbol: str, count: Callable[[Atom], int]) -> bool | None:
        try:
            return _COMPARE[symbol](self.exactly(left, count), self.exactly(right, count))
        except ZeroDivisionError:
            return None

    def attributes(self, count: Callable[[Atom], int]) -> dict[AttributeKey, int]:
        """The attributes that change with these sizes, and their new values."""
        changed = {}
        for key, side in self.definitions.items():
            value = self.exactly(side, count)
            if value != self.originals[key] and self.depends(side):
                changed[key] = value
        return changed

    def describe(self, side: Side, size: Callable[[Layout], str] | None = None) -> str:
        """`side` as a user would write it; `size` has words for the size of a layout."""
        if isinstance(side, SizeOf):
            return size(side.layout) if size else f"a size of {side.layout.size}"
        if isinstance(side, Dim) and side.value.name is None and side.value.call is not None:
            if size:
                return size(self._layout_of(side))
            made_by = side.value.call.name.rpartition(".")[2]
            return f"size {side.value.shape[side.axis]} (axis {side.axis} of a {made_by})"
        if isinstance(side, Op):
            return f"({self.describe(side.left, size)} {side.symbol} {self.describe(side.right, size)})"
        return str(side)


class RandomSizes:
    """Random sizes for all free atoms, or those tied with `only`, modulo a prime; tied ones share a ratio."""

    def __init__(self, sizes: Sizes, only: Atom | None = None):
        self._sizes = sizes
        self._only = only
        self._random = random.Random(0)
        self._ratios: dict[Atom, int] = {}
        self._known: dict[int, int] = {}

    def of(self, side: Side) -> int:
        """`side` at these sizes."""
        known = self._known.get(id(side))
        if known is None:
            known = self._known[id(side)] = self._compute(side)
        return known

    def _compute(self, side: Side) -> int:
        if isinstance(side, Const):
            return side.value % PRIME
        if isinstance(side, SizeOf):
            return size_of(side.layout, self._atom) % PRIME
        if isinstance(side, Dim):
            return size_of(self._sizes.layouts(side.value)[side.axis], self._atom) % PRIME
        if isinstance(side, Attribute):
            key = key_of(side)
            defined = self._sizes.definitions.get(key)
            return self._sizes.originals[key] % PRIME if defined is None else self.of(defined)
        if not self._sizes.depends(side):
            # Nothing in it can change, so it is what Python makes of it, floors and remainders included.
            return self._sizes.exactly(side, lambda atom: atom.size) % PRIME
        left, right = self.of(side.left), self.of(side.right)
        if side.symbol == "//":
            return left * pow(right, -1, PRIME) % PRIME if right else 0
        if side.symbol == "%":
            return 0  # it was a divisor where the model ran; the exact check after the choice sees the rest
        return ARITHMETIC[side.symbol](left, right) % PRIME

    def _atom(self, atom: Atom) -> int:
        if atom.reason is not None:
            return atom.size
        root = self._sizes.ties.root(atom)
        if self._only is not None and root is not self._only:
            return atom.size
        ratio = self._ratios.get(root)
        if ratio is None:
            ratio = self._ratios[root] = self._random.randrange(1, PRIME)
        return atom.size * ratio % PRIME


def size_of(layout: Layout, count: Callable[[Atom], int]) -> int:
    """The size of `layout` with `count` slots kept of each of its atoms."""
    layout = resolve(layout)
    if type(layout) is Atom:
        return count(layout)
    sizes = [size_of(part, count) for part in parts_of(layout)]
    return sum(sizes) if type(layout) is Sum else prod(sizes)


def key_of(attribute: Attribute) -> AttributeKey:
    """What tells one attribute of the model from another."""
    return attribute.path, attribute.name, attribute.key


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
