"""Ties: atoms that may only shrink by the same proportion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .axes import Atom


class Ties:
    """A union-find of atoms, with the equations that joined them."""

    def __init__(self) -> None:
        self._parent: dict[Atom, Atom] = {}
        self.causes: dict[Atom, list[Any]] = {}

    def root(self, atom: Atom) -> Atom:
        """The representative of the atoms tied with `atom`."""
        while atom in self._parent:
            atom = self._parent[atom]
        return atom

    def join(self, tied: Iterable[Atom], cause: Any) -> bool:
        """Tie atoms; whether anything changed."""
        roots = list(dict.fromkeys(self.root(atom) for atom in tied))
        for other in roots[1:]:
            self._parent[other] = roots[0]
            self.causes.setdefault(roots[0], []).extend([*self.causes.pop(other, []), cause])
        return len(roots) > 1
