"""Makes the size equations of a model hold for all sizes that are left, by ties or else by blocking.

An equation that does not hold is repaired by a tie between one factor of each side; the other factors of a
product are blocked, as are both sides where one of them cannot change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import gcd

from attrs import define, frozen

from ..axes import Atom, Layout, Reason, Sum, block, factors, terms
from ..tracing import Attribute, Condition, Const, Dim, Op, Value
from .equations import AttributeKey, Equation, RandomSizes, Side, SizeOf, Sizes, key_of


def solve(
    layouts: Callable[[Value], list[Layout]],
    equations: Iterable[Equation],
    conditions: Iterable[Condition],
    originals: dict[AttributeKey, int],
    ties: Iterable[Equation] = (),
    prefer: str = "outer",
) -> Sizes:
    """Define the attributes, then tie, or else block, until every equation holds.

    Equalities among the comparisons that the code made are equations like those of its calls. The two sides
    of `ties` need not be equal, but shrink by the same proportion.
    """
    equations = [*equations, *_asserted(conditions)]
    paths = [condition for condition in conditions if not _is_equality(condition)]
    sizes = Sizes(layouts, equations, paths, originals)
    _define(sizes)
    repair = _Repair(sizes, prefer)
    for tie in ties:
        repair.tie(tie)
    repair.run()
    return sizes


def _asserted(conditions: Iterable[Condition]) -> list[Equation]:
    """Equalities that held while tracing are equations like those of the calls."""
    return [
        Equation(one.left, one.right, None, "compared", one.source) for one in conditions if _is_equality(one)
    ]


def _is_equality(condition: Condition) -> bool:
    held = condition.outcome if condition.symbol == "==" else not condition.outcome
    return condition.symbol in ("==", "!=") and held


def _define(sizes: Sizes) -> None:
    """An attribute is what it is first equated with; ``self.dim // heads == d`` defines it, too."""
    for equation in sizes.equations:
        for attribute, side in ((equation.left, equation.right), (equation.right, equation.left)):
            if isinstance(attribute, Attribute):
                _set(sizes, attribute, side)
    for equation in sizes.equations:
        _define_inverse(sizes, equation.left, equation.right)
    for path in sizes.conditions:
        _define_bound(sizes, path.left, path.right, path.symbol, path.outcome)
        _define_bound(sizes, path.right, path.left, _MIRRORED[path.symbol], path.outcome)


def _define_bound(sizes: Sizes, side: Side, attribute: Side, symbol: str, outcome: bool) -> None:
    """An attribute that no call takes is a size all the same if it only tells that a size is not below it.

    ``if x.size(-1) < self.width: pad`` is for smaller inputs, and one of just that width is none.
    """
    if not isinstance(attribute, Attribute) or (symbol, outcome) not in ((">=", True), ("<", False)):
        return
    if sizes.depends(side) and sizes.exactly(side, _whole) == sizes.originals[key_of(attribute)]:
        _set(sizes, attribute, side)


# What a comparison is with its sides exchanged.
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


def _whole(atom: Atom) -> int:
    return atom.size


def _define_inverse(sizes: Sizes, left: Side, right: Side) -> None:
    """Solve for the one undefined attribute of `left` where the solution is a whole number for sure."""
    while isinstance(left, Op):
        in_left, in_right = _undefined(sizes, left.left), _undefined(sizes, left.right)
        if len(in_left) + len(in_right) != 1:
            return
        if in_left and left.symbol in _INVERSE:
            right = Op(_INVERSE[left.symbol], right, left.right)  # type: ignore[arg-type]  # SizeOf is a leaf as well
            left = left.left
        elif in_right and left.symbol == "+":
            right = Op("-", right, left.left)  # type: ignore[arg-type]  # SizeOf is a leaf as well
            left = left.right
        else:
            return
    if isinstance(left, Attribute) and sizes.depends(right):
        _set(sizes, left, right)


def _set(sizes: Sizes, attribute: Attribute, side: Side) -> None:
    """Define an attribute once, and never by itself."""
    key = key_of(attribute)
    if key not in sizes.definitions and not _mentions(sizes, side, key):
        sizes.definitions[key] = side


def _mentions(sizes: Sizes, side: Side, key: AttributeKey) -> bool:
    if isinstance(side, Op):
        return _mentions(sizes, side.left, key) or _mentions(sizes, side.right, key)
    if not isinstance(side, Attribute):
        return False
    other = sizes.definitions.get(key_of(side))
    return key_of(side) == key or (other is not None and _mentions(sizes, other, key))


def _undefined(sizes: Sizes, side: Side) -> list[Attribute]:
    if isinstance(side, Op):
        return _undefined(sizes, side.left) + _undefined(sizes, side.right)
    return [side] if isinstance(side, Attribute) and key_of(side) not in sizes.definitions else []


# What undoes an operation whose left side is unknown, so that the solution is a whole number for sure.
_INVERSE = {"//": "*", "+": "-", "-": "+"}


@frozen(eq=False)
class _Opaque:
    """A factor that is a sum or difference: its terms scale together or not at all."""

    terms: tuple[Side, ...]


@define(eq=False)
class _Repair:
    """The repair of one model's equations; ``blocked`` counts the atoms that it blocked."""

    sizes: Sizes
    prefer: str
    blocked: int = 0

    def run(self) -> None:
        """Repair one failing equation after the other until all hold."""
        live = [
            one
            for one in self.sizes.equations
            if self.sizes.depends(one.left) or self.sizes.depends(one.right)
        ]
        changed = True
        while changed:
            changed = False
            values = RandomSizes(self.sizes)
            for equation in live:
                if values.of(equation.left) != values.of(equation.right):
                    self._repair_one(equation)
                    values = RandomSizes(self.sizes)
                    changed = True
            live = [one for one in live if self.sizes.depends(one.left) or self.sizes.depends(one.right)]

    def _repair_one(self, equation: Equation) -> None:
        (above, below), (other_above, other_below) = (
            self._fraction(equation.left),
            self._fraction(equation.right),
        )
        left, right = other_below + above, below + other_above
        for factor in list(left):
            if any(factor is one for one in right):
                left.remove(factor)
                right.remove(factor)
        # If a tie changes nothing, the two sides do not shrink alike whatever is tied: then both stay.
        before = self.blocked
        if not self._tie(left, right, equation) and self.blocked == before:
            for factor in left + right:
                self._block_factor(factor, equation)

    def tie(self, equation: Equation) -> None:
        """Let the two sides shrink by the same proportion, whatever their sizes are."""
        self._tie(self._fraction(equation.left)[0], self._fraction(equation.right)[0], equation)

    def _tie(self, left: list, right: list, equation: Equation) -> bool:
        """Tie one factor of each side, or block both where one of them cannot change; whether that is new."""
        kept = [self._keep_one(side, equation) for side in (left, right)]
        if all(kept):
            return self.sizes.ties.join([*kept[0], *kept[1]], equation)
        for factor in left + right:
            self._block_factor(factor, equation)
        return False

    def _keep_one(self, side: list, equation: Equation) -> list[Atom]:
        """Leave one factor of a product free and block the others; the atoms that must then be tied."""
        loose = [factor for factor in side if self._free_factor(factor)]
        if not loose:
            return []
        # Runs of 2, 3 and 3 heads have no half: then what is inside them shrinks instead.
        able = [factor for factor in loose if self._steps(factor) > 1] or loose
        chosen = able[0] if self.prefer == "outer" else able[-1]
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
            one = self._keep_one(above, equation)
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
            return self._layout_factors(self.sizes.layouts(side.value)[side.axis]), []
        if isinstance(side, Attribute):
            defined = self.sizes.definitions.get(key_of(side))
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
            return any(self.sizes.depends(term) for term in factor.terms)
        return isinstance(factor, Atom) and factor.reason is None

    def _steps(self, factor: object) -> int:
        """In how many equal steps a factor can shrink: the terms of a sum only together."""
        if isinstance(factor, Atom):
            return factor.size
        return gcd(*(self.sizes.exactly(term, lambda atom: atom.size) for term in factor.terms))  # type: ignore[attr-defined]  # else it is opaque

    def _block_factor(self, factor: object, equation: Equation) -> None:
        where = equation.where.short if equation.where else "the code"
        text = f"a size that {where} fixes ({equation.argument}: {self.sizes.describe(equation.left)})"
        reason = Reason(text, equation.origin or equation.source)
        if isinstance(factor, _Opaque):
            loose = [atom for term in factor.terms for atom in self.sizes.free(term)]
        else:
            loose = [factor] if isinstance(factor, Atom) and factor.reason is None else []
        self.blocked += len(loose)
        for atom in loose:
            self.sizes.fixed[atom] = equation
            block(atom, reason)
