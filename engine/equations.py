"""Size equations: the numbers that a model's own code computes must stay the sizes of its tensors.

An equation that does not hold for all sizes is repaired by a *tie*: atoms that may only shrink by the same
proportion. Whether one holds is not reasoned about but tried, at random sizes: an identity holds there, and
anything else fails with probability about 1. The arithmetic is exact, modulo a large prime, where division
(``//`` is exact on a path that the model takes) is as cheap as multiplication.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from .axes import Atom, Layout, Reason, Sum, atoms, block, factors, resolve, terms
from .origin import Origin
from .sizes import Attribute, Const, Dim, Expr, Op
from .values import Condition, Source, Value

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


@frozen(eq=False)
class Violation:
    """An equation or comparison that the chosen sizes break."""

    text: str
    source: Source | None
    atoms: tuple[Atom, ...]


class Ties:
    """Atoms that shrink by the same proportion: a union-find with the equation that joined each pair."""

    def __init__(self) -> None:
        self._parent: dict[Atom, Atom] = {}
        self.causes: dict[Atom, list[Equation]] = {}

    def root(self, atom: Atom) -> Atom:
        """The representative of the atoms tied with `atom`."""
        while atom in self._parent:
            atom = self._parent[atom]
        return atom

    def join(self, tied: Iterable[Atom], cause: Equation) -> bool:
        """Tie atoms; whether anything changed."""
        roots = list(dict.fromkeys(self.root(atom) for atom in tied))
        for other in roots[1:]:
            self._parent[other] = roots[0]
            self.causes.setdefault(roots[0], []).extend([*self.causes.pop(other, []), cause])
        return len(roots) > 1


@frozen(eq=False)
class _Opaque:
    """A factor that is a sum or difference: its terms scale together or not at all."""

    terms: tuple[Side, ...]


@define(eq=False)
class Sizes:
    """The size equations of a model, what defines each attribute, and the ties that make all hold."""

    layouts: Callable[[Value], list[Layout]]
    equations: list[Equation]
    conditions: list[Condition]
    originals: dict[AttributeKey, int]
    definitions: dict[AttributeKey, Side] = field(factory=dict)
    ties: Ties = field(factory=Ties)
    blocked: int = 0

    @classmethod
    def solve(
        cls,
        layouts: Callable[[Value], list[Layout]],
        equations: Iterable[Equation],
        conditions: Iterable[Condition],
        originals: dict[AttributeKey, int],
        prefer: str = "outer",
    ) -> Sizes:
        """Tie, or else block, until every equation holds for all sizes that are left."""
        equations = [*equations, *_asserted(conditions)]
        paths = [condition for condition in conditions if not _is_equality(condition)]
        self = cls(layouts, equations, paths, originals)
        self._define()
        self._repair(prefer)
        return self

    def _define(self) -> None:
        """An attribute is what it is first equated with; ``self.dim // heads == d`` defines it, too."""
        for equation in self.equations:
            if isinstance(equation.left, Attribute):
                self.definitions.setdefault(key_of(equation.left), equation.right)
            elif isinstance(equation.right, Attribute):
                self.definitions.setdefault(key_of(equation.right), equation.left)
        for equation in self.equations:
            self._define_inverse(equation.left, equation.right)

    def _define_inverse(self, left: Side, right: Side) -> None:
        """Solve for the one undefined attribute of `left` where the solution is a whole number for sure."""
        while isinstance(left, Op):
            in_left, in_right = self._undefined(left.left), self._undefined(left.right)
            if len(in_left) + len(in_right) != 1:
                return
            if in_left and left.symbol in _INVERSE:
                right = Op(_INVERSE[left.symbol], right, left.right)  # type: ignore[arg-type]
                left = left.left
            elif in_right and left.symbol == "+":
                right = Op("-", right, left.left)  # type: ignore[arg-type]
                left = left.right
            else:
                return
        if isinstance(left, Attribute) and key_of(left) not in self.definitions and self._depends(right):
            self.definitions[key_of(left)] = right

    def _undefined(self, side: Side) -> list[Attribute]:
        if isinstance(side, Op):
            return self._undefined(side.left) + self._undefined(side.right)
        return [side] if isinstance(side, Attribute) and key_of(side) not in self.definitions else []

    def _repair(self, prefer: str) -> None:
        live = [one for one in self.equations if self._depends(one.left) or self._depends(one.right)]
        changed = True
        while changed:
            changed = False
            values = _RandomSizes(self)
            for equation in live:
                if values.of(equation.left) != values.of(equation.right):
                    self._repair_one(equation, prefer)
                    values = _RandomSizes(self)
                    changed = True
            live = [one for one in live if self._depends(one.left) or self._depends(one.right)]

    def _repair_one(self, equation: Equation, prefer: str) -> None:
        (above, below), (other_above, other_below) = (
            self._fraction(equation.left),
            self._fraction(equation.right),
        )
        left, right = other_below + above, below + other_above
        for factor in list(left):
            if any(factor is one for one in right):
                left.remove(factor)
                right.remove(factor)
        blocked_before = self.blocked
        kept: list[Atom] = []
        for side in (left, right):
            kept_here = self._keep_one(side, equation, prefer)
            if not kept_here:
                kept = []
                break
            kept += kept_here
        # If that changes nothing, the two sides do not shrink alike whatever is tied: then both stay.
        if not kept or not (self.ties.join(kept, equation) or self.blocked > blocked_before):
            for factor in left + right:
                self._block_factor(factor, equation)

    def _keep_one(self, side: list, equation: Equation, prefer: str) -> list[Atom]:
        """Leave one factor of a product free and block the others; the atoms that must then be tied."""
        loose = [factor for factor in side if self._free_factor(factor)]
        if not loose:
            return []
        chosen = loose[0] if prefer == "outer" else loose[-1]
        for factor in loose:
            if factor is not chosen:
                self._block_factor(factor, equation)
        if isinstance(chosen, Atom):
            return [chosen]
        kept: list[Atom] = []
        for term in chosen.terms:
            above, below = self._fraction(term)
            for factor in below:
                self._block_factor(factor, equation)
            one = self._keep_one(above, equation, prefer)
            if not one:
                self._block_factor(chosen, equation)
                return []
            kept += one
        return kept

    def _fraction(self, side: Side) -> tuple[list, list]:
        """Numerator and denominator of `side`, as factors: ints, atoms, and sums that stay whole."""
        if isinstance(side, SizeOf):
            return self._layout_factors(side.layout), []
        if isinstance(side, Dim):
            return self._layout_factors(self.layouts(side.value)[side.axis]), []
        if isinstance(side, Attribute):
            defined = self.definitions.get(key_of(side))
            return self._fraction(defined) if defined is not None else ([], [])
        if isinstance(side, Const):
            return [], []
        above, below = self._fraction(side.left)
        if side.symbol in ("*", "//"):
            more_above, more_below = self._fraction(side.right)
            if side.symbol == "//":
                more_above, more_below = more_below, more_above
            return above + more_above, below + more_below
        return [_Opaque((side.left, side.right))], []

    def _layout_factors(self, layout: Layout) -> list:
        found: list = []
        for part in factors(layout):
            found.append(_Opaque(tuple(map(SizeOf, terms(part)))) if type(part) is Sum else part)
        return found

    def _free_factor(self, factor: object) -> bool:
        if isinstance(factor, _Opaque):
            return any(self._depends(term) for term in factor.terms)
        return isinstance(factor, Atom) and factor.reason is None

    def _block_factor(self, factor: object, equation: Equation) -> None:
        where = equation.where.short if equation.where else "the code"
        text = f"a size that {where} fixes ({equation.argument}: {self.describe(equation.left)})"
        reason = Reason(text, equation.origin or equation.source)
        if isinstance(factor, _Opaque):
            loose = [atom for term in factor.terms for atom in self._free(term)]
        else:
            loose = [factor] if isinstance(factor, Atom) and factor.reason is None else []
        self.blocked += len(loose)
        for atom in loose:
            block(atom, reason)

    def _depends(self, side: Side) -> bool:
        return next(iter(self._free(side)), None) is not None

    def _free(self, side: Side) -> Iterable[Atom]:
        """The free atoms on which `side` depends."""
        for layout in self._layouts_in(side):
            for atom in atoms(layout):
                if atom.reason is None:
                    yield atom

    def _layouts_in(self, side: Side) -> Iterable[Layout]:
        if isinstance(side, SizeOf):
            yield side.layout
        elif isinstance(side, Dim):
            yield self.layouts(side.value)[side.axis]
        elif isinstance(side, Attribute):
            defined = self.definitions.get(key_of(side))
            if defined is not None:
                yield from self._layouts_in(defined)
        elif isinstance(side, Op):
            yield from self._layouts_in(side.left)
            yield from self._layouts_in(side.right)

    def free_atoms(self, side: Side) -> set[Atom]:
        """The free atoms on which `side` depends."""
        return set(self._free(side))

    def varying_atoms(self, side: Side) -> set[Atom]:
        """The free atoms with which the number `side` changes: ``C // heads`` stays if both shrink alike."""
        by_root: dict[Atom, set[Atom]] = {}
        for atom in self._free(side):
            by_root.setdefault(self.ties.root(atom), set()).add(atom)
        before = self.exactly(side, lambda atom: atom.size) % PRIME
        varying = (tied for root, tied in by_root.items() if _RandomSizes(self, root).of(side) != before)
        return set().union(*varying)

    def exactly(self, side: Side, count: Callable[[Atom], int]) -> int:
        """`side` in whole numbers, as Python will compute it, with `count` slots kept of each atom."""
        if isinstance(side, SizeOf):
            return size_of(side.layout, count)
        if isinstance(side, Const):
            return side.value
        if isinstance(side, Dim):
            return size_of(self.layouts(side.value)[side.axis], count)
        if isinstance(side, Attribute):
            defined = self.definitions.get(key_of(side))
            return self.originals[key_of(side)] if defined is None else self.exactly(defined, count)
        left, right = self.exactly(side.left, count), self.exactly(side.right, count)
        return _PYTHON[side.symbol](left, right)

    def violations(self, count: Callable[[Atom], int]) -> list[Violation]:
        """What the model's own code would get wrong, or do differently, with these sizes."""
        found = []
        for one in self.equations:
            involved = self.free_atoms(one.left) | self.free_atoms(one.right)
            if involved and self._broken(one.left, one.right, "==", True, count):
                found.append(
                    Violation(
                        f"{self.describe(one.left)} is no longer {one.argument}", one.where, tuple(involved)
                    )
                )
        for path in self.conditions:
            involved = self.free_atoms(path.left) | self.free_atoms(path.right)
            if involved and self._broken(path.left, path.right, path.symbol, path.outcome, count):
                text = f"{self.describe(path.left)} {path.symbol} {self.describe(path.right)}"
                found.append(Violation(f"{text} is no longer {path.outcome}", path.source, tuple(involved)))
        return found

    def _broken(self, left: Side, right: Side, symbol: str, outcome: bool, count: Callable) -> bool:
        try:
            found = _COMPARE[symbol](self.exactly(left, count), self.exactly(right, count))
        except ZeroDivisionError:
            return True
        return found is not outcome

    def attributes(self, count: Callable[[Atom], int]) -> dict[AttributeKey, int]:
        """The attributes that change with these sizes, and their new values."""
        changed = {}
        for key, side in self.definitions.items():
            value = self.exactly(side, count)
            if value != self.originals[key] and self._depends(side):
                changed[key] = value
        return changed

    def describe(self, side: Side) -> str:
        """`side` as a user would write it."""
        if isinstance(side, SizeOf):
            return f"a size of {side.layout.size}"
        if isinstance(side, Dim) and side.value.name is None and side.value.call is not None:
            made_by = side.value.call.name.rpartition(".")[2]
            return f"size {side.value.shape[side.axis]} (axis {side.axis} of a {made_by})"
        if isinstance(side, Op):
            return f"({self.describe(side.left)} {side.symbol} {self.describe(side.right)})"
        return str(side)


class _RandomSizes:
    """Random sizes for all free atoms, or those tied with `only`, modulo a prime; tied ones share a ratio."""

    def __init__(self, sizes: Sizes, only: Atom | None = None):
        self._sizes = sizes
        self._only = only
        self._random = random.Random(0)
        self._ratios: dict[Atom, int] = {}
        self._known: dict[int, int] = {}

    def of(self, side: Side) -> int:
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
        if not self._sizes._depends(side):
            # Nothing in it can change, so it is what Python makes of it, floors and remainders included.
            return self._sizes.exactly(side, lambda atom: atom.size) % PRIME
        left, right = self.of(side.left), self.of(side.right)
        if side.symbol == "//":
            return left * pow(right, -1, PRIME) % PRIME if right else 0
        if side.symbol == "%":
            return 0  # it was a divisor where the model ran; the exact check after the choice sees the rest
        return _PYTHON[side.symbol](left, right) % PRIME

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
    sizes = [size_of(part, count) for part in layout.parts]  # type: ignore[union-attr]
    if type(layout) is Sum:
        return sum(sizes)
    result = 1
    for size in sizes:
        result *= size
    return result


def key_of(attribute: Attribute) -> AttributeKey:
    """What tells one attribute of the model from another."""
    return attribute.path, attribute.name, attribute.key


def _is_equality(condition: Condition) -> bool:
    held = condition.outcome if condition.symbol == "==" else not condition.outcome
    return condition.symbol in ("==", "!=") and held


def _asserted(conditions: Iterable[Condition]) -> list[Equation]:
    """Equalities that held while tracing are equations like those of the calls."""
    return [
        Equation(one.left, one.right, None, "compared", one.source) for one in conditions if _is_equality(one)
    ]


_INVERSE = {"//": "*", "+": "-", "-": "+"}
_PYTHON: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
