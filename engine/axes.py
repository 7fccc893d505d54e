"""The axis algebra: layouts made of atoms, and their unification.

A layout says how the slots of an axis are made up: an `Atom` of n slots that stay or go one by one, a
`Product` (row-major, outermost first; a slot is there if every part is) or a `Sum` (segments one after
the other). Atoms are refined in place: once an atom is *bound* to another layout, everybody who held the
atom sees that layout. This module knows neither torch nor networkx.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from math import prod

import numpy as np
from attrs import frozen

_serials = count()

# A single pair of layouts needs a few hundred steps at worst (channel shuffles); whatever takes more is
# blocked rather than followed for ever.
FUEL = 20_000


@frozen
class Reason:
    """Why an atom keeps all its slots; ``origin`` is whatever the caller can explain (a call, a clause)."""

    text: str
    origin: object = None


class Atom:
    """`size` slots, each of which stays or goes on its own, unless a ``reason`` blocks them all."""

    __slots__ = ("bound", "reason", "serial", "size")

    def __init__(self, size: int, reason: Reason | None = None):
        self.size = size
        self.reason = reason
        self.bound: Layout | None = None
        self.serial = next(_serials)

    def __repr__(self) -> str:
        return f"{'#' if self.reason else 'a'}{self.serial}:{self.size}"


class Product:
    """Row-major product of its parts, outermost first."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Sequence[Layout]):
        self.parts = list(parts)
        self.size: int = prod(part.size for part in self.parts)

    def __repr__(self) -> str:
        return f"({' '.join(map(repr, factors(self)))})"


class Sum:
    """Segments one after the other."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Sequence[Layout]):
        self.parts = list(parts)
        self.size: int = sum(part.size for part in self.parts)

    def __repr__(self) -> str:
        return f"({' + '.join(map(repr, terms(self)))})"


Layout = Atom | Product | Sum

# An axis of size 1 that comes from the model (broadcasting, a batch of one). Presence atoms, the size-1
# pieces of a cut, are free: the two never mix.
UNIT = Atom(1, Reason("an axis of size 1"))


def product(parts: Iterable[Layout]) -> Layout:
    """The product of `parts`, which is the part itself if there is only one that is not `UNIT`."""
    kept = [part for part in parts if part is not UNIT]
    return UNIT if not kept else kept[0] if len(kept) == 1 else Product(kept)


def total(parts: Iterable[Layout]) -> Layout:
    """The sum of `parts`, which is the part itself if there is only one that is not empty."""
    kept = [part for part in parts if part.size]
    return kept[0] if len(kept) == 1 else Sum(kept)


def factors(layout: Layout) -> list[Layout]:
    """The parts of `layout` as a product, outermost first: nested products opened, units left out."""
    return _opened(layout, Product)


def terms(layout: Layout) -> list[Layout]:
    """The parts of `layout` as a sum: nested sums opened, empty segments left out."""
    return _opened(layout, Sum)


def _opened(layout: Layout, kind: type) -> list[Layout]:
    whole = resolve(layout)
    parts: list[Layout] = []
    stack = [whole]
    while stack:
        part = resolve(stack.pop())
        if type(part) is kind:
            stack.extend(reversed(part.parts))  # type: ignore[union-attr]
        elif not _absent(part, kind):
            parts.append(part)
    if type(whole) is kind and parts:
        whole.parts = list(parts)  # type: ignore[union-attr]  # refinement only goes on from here
    return parts


def resolve(layout: Layout) -> Layout:
    """What `layout` stands for now: bindings followed, products and sums of one part opened."""
    while True:
        if type(layout) is Atom:
            if layout.bound is None:
                return layout
            layout = layout.bound
            continue
        kind = type(layout)
        parts = layout.parts  # type: ignore[union-attr]
        if any(part.size <= 1 for part in parts):
            parts = [part for part in parts if not _absent(part, kind)]
        if len(parts) != 1:
            return layout if parts or kind is Sum else UNIT
        layout = parts[0]


def _absent(part: Layout, kind: type) -> bool:
    """Whether `part` adds nothing to a product (a unit) or to a sum (an empty segment)."""
    return part.size == 0 if kind is Sum else part.size == 1 and not free(part)


def atoms(layout: Layout) -> Iterator[Atom]:
    """Every atom of `layout`, in order, once for each time that it occurs."""
    stack = [layout]
    while stack:
        part = stack.pop()
        while type(part) is Atom and part.bound is not None:
            part = part.bound
        if type(part) is Atom:
            yield part
        else:
            stack.extend(reversed(part.parts))  # type: ignore[union-attr]


def free(layout: Layout) -> bool:
    """Whether any slot of `layout` may go."""
    return any(atom.reason is None for atom in atoms(layout))


def blocked(layout: Layout) -> Reason | None:
    """The reason of the first atom if all atoms of `layout` are blocked, else ``None``."""
    first = None
    for atom in atoms(layout):
        if atom.reason is None:
            return None
        first = first or atom.reason
    return first or UNIT.reason


def block(layout: Layout, reason: Reason) -> None:
    """Keep all slots of `layout` for good. Always sound: less is pruned."""
    for atom in atoms(layout):
        if atom.reason is None:
            atom.reason = reason


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


def mask(layout: Layout, kept: Callable[[Atom], np.ndarray | None]) -> np.ndarray:
    """The keep-mask of an axis, bool of shape ``(layout.size,)``; `kept` gives an atom's own, or ``None``."""
    layout = resolve(layout)
    if type(layout) is Atom:
        own = kept(layout)
        return np.ones(layout.size, bool) if own is None else own
    parts = [mask(part, kept) for part in layout.parts]  # type: ignore[union-attr]
    if type(layout) is Sum:
        return np.concatenate(parts)
    result = parts[0]
    for part in parts[1:]:
        result = np.logical_and.outer(result, part).reshape(-1)
    return result


def spread(layout: Layout) -> dict[Atom, tuple[np.ndarray, np.ndarray]]:
    """For each atom of `layout` the indices of the axis that it has, and the slot at each of them."""
    layout = resolve(layout)
    if type(layout) is Atom:
        whole = np.arange(layout.size)
        return {layout: (whole, whole)}
    found: dict[Atom, list[tuple[np.ndarray, np.ndarray]]] = {}
    before = 0 if type(layout) is Sum else 1
    for part in layout.parts:  # type: ignore[union-attr]
        for atom, (indices, slots) in spread(part).items():
            if type(layout) is Sum:
                found.setdefault(atom, []).append((indices + before, slots))
            else:
                # The part is repeated for every slot of the parts outside, each slot for those inside.
                inside = layout.size // (before * part.size)
                runs = indices[:, None] * inside + np.arange(inside)
                outer = np.arange(before)[:, None, None] * (part.size * inside)
                where = (outer + runs).reshape(-1)
                found.setdefault(atom, []).append((where, np.tile(np.repeat(slots, inside), before)))
        before = before + part.size if type(layout) is Sum else before * part.size
    return {atom: _joined(pieces) for atom, pieces in found.items()}


def _joined(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([where for where, _ in pieces]), np.concatenate([slots for _, slots in pieces])
