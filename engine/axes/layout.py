"""The axis algebra: layouts made of atoms, and what is kept of an axis.

A layout says how the slots of an axis are made up: an `Atom` of n slots that stay or go one by one, a
`Product` (row-major, outermost first; a slot is there if every part is) or a `Sum` (segments one after
the other). Atoms are refined in place: once an atom is *bound* to another layout, everybody who held the
atom sees that layout. This module knows neither torch nor networkx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import accumulate, count
from math import prod
from typing import final

import numpy as np
from attrs import frozen

_serials = count()


@frozen
class Reason:
    """Why an atom keeps all its slots; ``origin`` is whatever the caller can explain (a call, a clause)."""

    text: str
    origin: object = None


@final
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


@final
class Product:
    """Row-major product of its parts, outermost first; ``plain`` if none of several can ever drop out."""

    __slots__ = ("parts", "plain", "size")

    def __init__(self, parts: Sequence[Layout]):
        self.parts = list(parts)
        self.size: int = prod([part.size for part in self.parts])
        self.plain = _is_plain(self.parts)

    def __repr__(self) -> str:
        return f"({' '.join(map(repr, factors(self)))})"


@final
class Sum:
    """Segments one after the other; ``plain`` if none of several can ever drop out."""

    __slots__ = ("parts", "plain", "size")

    def __init__(self, parts: Sequence[Layout]):
        self.parts = list(parts)
        self.size: int = sum([part.size for part in self.parts])
        self.plain = _is_plain(self.parts)

    def __repr__(self) -> str:
        return f"({' + '.join(map(repr, terms(self)))})"


Layout = Atom | Product | Sum


def _is_plain(parts: Sequence[Layout]) -> bool:
    return len(parts) > 1 and all(part.size > 1 for part in parts)


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


def parts_of(layout: Product | Sum) -> list[Layout]:
    """The parts of a resolved product or sum, those of nested ones of its kind among them."""
    return _opened(layout, type(layout)) or layout.parts


def _opened(layout: Layout, kind: type) -> list[Layout]:
    whole = resolve(layout)
    if type(whole) is not kind:
        return [] if _absent(whole, kind) else [whole]
    parts: list[Layout] = []
    stack = whole.parts[::-1]  # type: ignore[union-attr]  # of that kind, which mypy does not follow
    while stack:
        part = resolve(stack.pop())
        if type(part) is kind:
            stack.extend(reversed(part.parts))  # type: ignore[union-attr]  # of that kind, which mypy does not follow
        elif not _absent(part, kind):
            parts.append(part)
    if parts:
        whole.parts = list(parts)  # type: ignore[union-attr]  # refinement only goes on from here
        whole.plain = _is_plain(parts)  # type: ignore[union-attr]  # of that kind, which mypy does not follow
    return parts


def resolve(layout: Layout) -> Layout:
    """What `layout` stands for now: bindings followed, products and sums of one part opened."""
    while True:
        if type(layout) is Atom:
            if layout.bound is None:
                return layout
            layout = layout.bound
            continue
        if layout.plain:
            return layout
        kind = type(layout)
        parts = [part for part in layout.parts if not _absent(part, kind)]
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
            stack.extend(reversed(part.parts))


def collect_parts(layout: Layout, met: dict[Layout, None]) -> None:
    """Add a layout, and everything that it is made of, to those that were met, outer ones first."""
    waiting = [layout]
    while waiting:
        part = resolve(waiting.pop())
        if part not in met:
            met[part] = None
            if type(part) is not Atom:
                waiting.extend(reversed(parts_of(part)))


def free_atoms(layout: Layout) -> list[Atom]:
    """The atoms of `layout` whose slots may go, each once."""
    if type(layout) is Atom and layout.bound is None:
        return [layout] if layout.reason is None else []
    return [atom for atom in dict.fromkeys(atoms(layout)) if atom.reason is None]


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


def mask(layout: Layout, kept: Callable[[Atom], np.ndarray | None]) -> np.ndarray:
    """The keep-mask of an axis, bool of shape ``(layout.size,)``; `kept` gives an atom's own, or ``None``."""
    layout = resolve(layout)
    if type(layout) is Atom:
        own = kept(layout)
        return np.ones(layout.size, bool) if own is None else own
    masks = [mask(part, kept) for part in parts_of(layout)]
    if type(layout) is Sum:
        return np.concatenate(masks)
    return reduce(lambda outer, inner: np.logical_and.outer(outer, inner).reshape(-1), masks)


def arranged(layout: Layout, order: Callable[[Atom], np.ndarray | None]) -> np.ndarray:
    """The indices of an axis, ``(n,)``, when of its atoms only the slots in `order` are taken, in turn.

    `order` gives an atom's own, or ``None`` for all of them.
    """
    layout = resolve(layout)
    if type(layout) is Atom:
        own = order(layout)
        return np.arange(layout.size) if own is None else own
    parts = parts_of(layout)
    pieces = [arranged(part, order) for part in parts]
    if type(layout) is Sum:
        starts = accumulate((part.size for part in parts[:-1]), initial=0)
        return np.concatenate([start + piece for start, piece in zip(starts, pieces)])
    result = pieces[0]
    for part, piece in zip(parts[1:], pieces[1:]):
        result = np.add.outer(result * part.size, piece).reshape(-1)
    return result


def spread(layout: Layout) -> dict[Atom, tuple[np.ndarray, np.ndarray]]:
    """For each atom of `layout` the indices of the axis that it has, and the slot at each of them."""
    layout = resolve(layout)
    if type(layout) is Atom:
        whole = np.arange(layout.size)
        return {layout: (whole, whole)}
    found: dict[Atom, list[tuple[np.ndarray, np.ndarray]]] = {}
    before = 0 if type(layout) is Sum else 1
    for part in parts_of(layout):
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
