"""Ties: atoms that may only shrink by the same proportion."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import networkx as nx

from ..axes import Atom


class Ties:
    """A union-find of atoms, with the equations that joined them: a forest whose edges are equations."""

    def __init__(self) -> None:
        self._parent: dict[Atom, Atom] = {}
        self._forest = nx.Graph()

    def root(self, atom: Atom) -> Atom:
        """The representative of the atoms tied with `atom`."""
        root = atom
        while root in self._parent:
            root = self._parent[root]
        while atom is not root:  # the next time it is found at once
            self._parent[atom], atom = root, self._parent[atom]
        return root

    def join(self, tied: Iterable[Atom], cause: Any) -> bool:
        """Tie atoms; whether anything changed."""
        by_root: dict[Atom, Atom] = {}
        for atom in tied:
            by_root.setdefault(self.root(atom), atom)
        (root, first), *others = by_root.items()
        for other, atom in others:
            self._parent[other] = root
            self._forest.add_edge(first, atom, cause=cause)
        return bool(others)

    def causes(self, atom: Atom) -> list[Any]:
        """The equations that tie `atom` with others directly, in the order in which they were found."""
        if atom not in self._forest:
            return []
        return list(dict.fromkeys(cause for _, _, cause in self._forest.edges(atom, data="cause")))

    def between(self, one: Atom, other: Atom) -> list[Any]:
        """The equations through which two atoms are tied, in order from the one to the other."""
        if self.root(one) is not self.root(other) or one is other:
            return []
        way = nx.shortest_path(self._forest, one, other)
        return list(dict.fromkeys(self._forest.edges[pair]["cause"] for pair in pairwise(way)))

    def edges(self) -> list[tuple[Atom, Atom, Any]]:
        """The pairs of atoms that an equation ties directly, with that equation."""
        return list(self._forest.edges(data="cause"))
