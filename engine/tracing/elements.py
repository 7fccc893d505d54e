"""The elements of lists and dicts that a model is made of, by the tensors in them that are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set

from .values import Trace


class KnownElements:
    """The elements of lists and dicts in which a tensor was reached, or follows one that was."""

    def __init__(self, trace: Trace):
        self._names: dict[str, list[str]] = defaultdict(list)  # of every tensor all names but the first
        for other, name in trace.aliases.items():
            self._names[name].append(other)
        # Only those are looked for that are called, or lie, like one that is left.
        self._called = {name.rpartition(".")[2] for name in trace.left}
        self._beside = {name.rpartition(".")[0] for name in trace.left}
        self._keys: dict[tuple[str, str], set[str]] = defaultdict(set)
        for name in trace.tensors:
            self.add(name)

    def add(self, name: str) -> None:
        """The tensor of this first name is known."""
        for one in (name, *self._names.get(name, ())):
            path, _, last = one.rpartition(".")
            if last in self._called:
                for path, key, rest in levels(one):
                    self._keys[path, rest].add(key)
            elif path in self._beside:
                self._keys[path, ""].add(last)

    def of(self, path: str, rest: str) -> Set[str]:
        """The elements of a container in which the tensor of that name is known."""
        return self._keys.get((path, rest), frozenset())


def levels(name: str) -> Iterator[tuple[str, str, str]]:
    """The modules that a tensor is in, the innermost first: path, name of the element, and the rest."""
    parts = name.split(".")
    for depth in reversed(range(len(parts))):
        yield ".".join(parts[:depth]), parts[depth], ".".join(parts[depth + 1 :])
