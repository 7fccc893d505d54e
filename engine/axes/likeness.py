"""Whether two layouts are alike, and what of the one is what of the other."""

from __future__ import annotations

from collections.abc import Mapping

from .layout import Atom, Layout, Product, Sum, atoms, blocked, resolve


def pair(layout: Layout, ours: Layout, found: dict[Atom, Layout]) -> bool:
    """Note which atom of `ours` each atom of `layout` is; whether that is clear."""
    layout, ours = resolve(layout), resolve(ours)
    if isinstance(layout, Atom):
        return same(found.setdefault(layout, ours), ours)
    if isinstance(ours, Atom) or type(layout) is not type(ours) or len(layout.parts) != len(ours.parts):
        return blocked(layout) is not None and blocked(ours) is not None
    return all(pair(one, other, found) for one, other in zip(layout.parts, ours.parts))


def put(found: Mapping[Atom, Layout], layout: Layout) -> Layout:
    """A layout with other atoms."""
    layout = resolve(layout)
    if not any(atom in found for atom in atoms(layout)):
        return layout
    if isinstance(layout, Atom):
        return found[layout]
    parts = [put(found, part) for part in layout.parts]
    return Sum(parts) if type(layout) is Sum else Product(parts)


def same(one: Layout, other: Layout) -> bool:
    """Whether the slots are the same, as far as any may go."""
    one, other = resolve(one), resolve(other)
    if one is other or (blocked(one) is not None and blocked(other) is not None):
        return True
    if isinstance(one, Atom) or isinstance(other, Atom) or type(one) is not type(other):
        return False
    return len(one.parts) == len(other.parts) and all(map(same, one.parts, other.parts))
