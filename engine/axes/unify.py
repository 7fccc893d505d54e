"""Unification of layouts: two axes that must shrink together get the same type, by refining their atoms.

Blocking is always sound (less is pruned), so every hard case has a safe answer and nothing is refused. Knows
neither torch nor networkx.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import prod

from .layout import (
    UNIT,
    Atom,
    Layout,
    Product,
    Reason,
    Sum,
    atoms,
    block,
    blocked,
    factors,
    product,
    resolve,
    terms,
    total,
)

# A single pair of layouts needs a few hundred steps at worst (channel shuffles); whatever takes more is
# blocked rather than followed for ever.
FUEL = 20_000


class Unifier:
    """Makes layouts the same, by refining their atoms; hard cases are blocked, never refused."""

    def __init__(self) -> None:
        self._pending: deque[tuple[Layout, Layout, object]] = deque()
        self._settling = False
        self.origin: object = None

    def unify(self, a: Layout, b: Layout, origin: object = None) -> None:
        """Make `a` and `b`, of equal size, one layout; `origin` is named when they do not nest."""
        if a is not b:
            self._pending.append((a, b, origin))
            self.settle()

    def settle(self) -> None:
        """Carry out what is pending. A work list, as refinement can nest hundreds of steps deep."""
        if self._settling:
            return
        self._settling = True
        fuel = FUEL
        try:
            while self._pending:
                a, b, self.origin = self._pending.popleft()
                fuel -= 1
                if fuel > 0:
                    self._step(resolve(a), resolve(b))
                else:
                    self._block_both(a, b, "the two sides refine each other without end")
        finally:
            self._settling = False

    def split_inner(self, layout: Layout, size: int) -> tuple[Layout, Layout]:
        """``(hi, lo)`` with ``layout = Product(hi, lo)`` and ``lo`` of `size`, which divides the layout's."""
        parts = self._split(layout, size)
        self.settle()
        return parts

    def cut(self, layout: Layout, at: int) -> tuple[Layout, Layout]:
        """The two pieces of `layout` before and from slot `at`, which lies strictly inside. Total."""
        layout = resolve(layout)
        if type(layout) is Atom:
            head, tail = Atom(at, layout.reason), Atom(layout.size - at, layout.reason)
            layout.bound = Sum([head, tail])
            return head, tail
        if type(layout) is Sum:
            return self._cut_sum(layout, at)
        return self._cut_product(layout, at)

    def regroup(self, axes: Sequence[Layout], sizes: Sequence[int]) -> list[Layout]:
        """The layouts of the axes of `sizes` that a row-major reshape of `axes` gives.

        Both shapes are walked from the left, and a bracket closes whenever the running products agree.
        Inside a bracket the new axes are split off the product of the old ones, from the right.
        """
        result: list[Layout] = [UNIT] * len(sizes)
        old = [axis for axis in axes if axis.size != 1]
        new = [index for index, size in enumerate(sizes) if size != 1]
        while old and new:
            inside, opened = [old.pop(0)], [new.pop(0)]
            before, after = inside[0].size, sizes[opened[0]]
            while before != after:
                if before < after:
                    inside.append(old.pop(0))
                    before *= inside[-1].size
                else:
                    opened.append(new.pop(0))
                    after *= sizes[opened[-1]]
            whole = product(inside)
            for index in reversed(opened[1:]):
                whole, result[index] = self.split_inner(whole, sizes[index])
            result[opened[0]] = whole
        return result

    def _step(self, a: Layout, b: Layout) -> None:
        if a is b:
            return
        if a.size != b.size:
            self._block_both(a, b, f"sizes {a.size} and {b.size} meet")
            return
        for one, other in ((a, b), (b, a)):
            reason = blocked(one)
            if reason is not None:
                block(other, reason)
                return
        if type(a) is Atom:
            self._bind(a, b)
        elif type(b) is Atom:
            self._bind(b, a)
        elif type(a) is Product and type(b) is Product:
            self._unify_products(a, b)
        elif type(a) is Sum and type(b) is Sum:
            self._unify_sums(a, b)
        elif type(a) is Sum and type(b) is Product:
            self._unify_mixed(a, b)
        elif type(a) is Product and type(b) is Sum:
            self._unify_mixed(b, a)

    def _later(self, a: Layout, b: Layout) -> None:
        self._pending.append((a, b, self.origin))

    def _bind(self, atom: Atom, layout: Layout) -> None:
        """`atom` becomes `layout`; a cycle can only come from presence atoms, which then must stay."""
        if type(layout) is Atom:
            young, old = sorted((atom, layout), key=lambda one: one.serial, reverse=True)
            young.bound = old
        elif any(part is atom for part in atoms(layout)):
            for part in atoms(layout):
                if part is not atom:
                    block(part, Reason("the layout would contain itself", self.origin))
        else:
            atom.bound = layout

    def _unify_products(self, a: Product, b: Product) -> None:
        left, left_presence = _apart(factors(a))
        right, right_presence = _apart(factors(b))
        while left and right:
            x, y = left[-1], right[-1]
            if x.size == y.size:
                self._later(left.pop(), right.pop())
            elif x.size % y.size == 0:
                self._peel(left, left_presence, right.pop())
            elif y.size % x.size == 0:
                self._peel(right, right_presence, left.pop())
            else:
                self._block_non_nesting(left, right)
                break
        self._unify_presence(left_presence + left, right_presence + right)

    def _peel(self, parts: list[Layout], presence: list[Layout], inner: Layout) -> None:
        """Unify `inner` with the innermost slots of the last, larger part of `parts`."""
        high, low = self._split(parts.pop(), inner.size)
        self._later(low, inner)
        more, more_presence = _apart(factors(high))
        parts.extend(more)
        presence.extend(more_presence)

    def _block_non_nesting(self, left: list[Layout], right: list[Layout]) -> None:
        """3 x 4 against 2 x 6: no rectangular removal satisfies both; outer parts that agree still do."""
        while left[0].size == right[0].size:
            self._later(left.pop(0), right.pop(0))
        sizes = " against ".join(" x ".join(str(part.size) for part in side) for side in (left, right))
        reason = Reason(f"the axis is read as {sizes}, which do not nest", self.origin)
        for part in left + right:
            block(part, reason)
        left.clear()
        right.clear()

    def _unify_presence(self, left: list[Layout], right: list[Layout]) -> None:
        """Size-1 parts commute, so equal ones drop out and the others pair up; the left-over must stay."""
        both = [part for part in left if any(part is other for other in right)]
        left = [part for part in left if not any(part is other for other in both)]
        right = [part for part in right if not any(part is other for other in both)]
        for x, y in zip(left, right):
            self._later(x, y)
        for part in left[len(right) :] + right[len(left) :]:
            block(part, Reason("the other side has no such slot", self.origin))

    def _unify_sums(self, a: Sum, b: Sum) -> None:
        left, right = terms(a)[::-1], terms(b)[::-1]
        while left and right:
            x, y = left.pop(), right.pop()
            if x.size > y.size:
                x, rest = self.cut(x, y.size)
                left.append(rest)
            elif y.size > x.size:
                y, rest = self.cut(y, x.size)
                right.append(rest)
            self._later(x, y)

    def _unify_mixed(self, segments: Sum, whole: Product) -> None:
        first, *rest = terms(segments)
        head, tail = self.cut(whole, first.size)
        self._later(first, head)
        self._later(total(rest), tail)

    def _split(self, layout: Layout, size: int) -> tuple[Layout, Layout]:
        layout = resolve(layout)
        if size == layout.size:
            return UNIT, layout
        if size == 1:
            return layout, UNIT
        if type(layout) is Atom:
            high, low = Atom(layout.size // size, layout.reason), Atom(size, layout.reason)
            layout.bound = Product([high, low])
            return high, low
        if type(layout) is Sum:
            return self._split_sum(layout, size)
        return self._split_product(layout, size)

    def _split_product(self, layout: Layout, size: int) -> tuple[Layout, Layout]:
        high, low = factors(layout), []
        while size > 1:
            part = high.pop()
            if size % part.size == 0:
                low.append(part)
                size //= part.size
            elif part.size % size == 0:
                outer, inner = self._split(part, size)
                high.append(outer)
                low.append(inner)
                size = 1
            else:
                done = prod(one.size for one in low)
                reason = Reason(
                    f"an axis of {layout.size} is split inside a part of {part.size}", self.origin
                )
                block(layout, reason)
                return Atom(layout.size // (size * done), reason), Atom(size * done, reason)
        return product(high), product(reversed(low))

    def _split_sum(self, layout: Sum, size: int) -> tuple[Layout, Layout]:
        segments = terms(layout)
        if any(segment.size % size for segment in segments):
            high, low = Atom(layout.size // size), Atom(size)
            self._later(layout, Product([high, low]))
            return high, low
        highs, lows = zip(*(self._split(segment, size) for segment in segments))
        for low in lows[1:]:
            self._later(lows[0], low)
        return total(highs), lows[0]

    def _cut_sum(self, layout: Sum, at: int) -> tuple[Layout, Layout]:
        before, after = [], terms(layout)
        while after and after[0].size <= at:
            before.append(after.pop(0))
            at -= before[-1].size
        if at:
            head, tail = self.cut(after.pop(0), at)
            before.append(head)
            after.insert(0, tail)
        return total(before), total(after)

    def _cut_product(self, layout: Layout, at: int) -> tuple[Layout, Layout]:
        outer, *inner = factors(layout)
        rest = product(inner)
        whole, into = divmod(at, rest.size)
        if into == 0:
            head, tail = self.cut(outer, whole)
            return product([head, rest]), product([tail, rest])
        before, after = [], []
        if whole:
            head, outer = self.cut(outer, whole)
            before.append(product([head, rest]))
        if outer.size > 1:
            outer, tail = self.cut(outer, 1)
            after.append(product([tail, rest]))
        first, second = self.cut(rest, into)
        return total([*before, product([outer, first])]), total([product([outer, second]), *after])

    def _block_both(self, a: Layout, b: Layout, text: str) -> None:
        block(a, Reason(text, self.origin))
        block(b, Reason(text, self.origin))


def _apart(parts: list[Layout]) -> tuple[list[Layout], list[Layout]]:
    """Parts of more than one slot, and presence atoms."""
    return [part for part in parts if part.size > 1], [part for part in parts if part.size == 1]
