"""Random programs in which everything nests, so that no axis has a reason to stay.

Every axis has a *shape tree* besides its layout: a size that is never taken apart, or ``("x", trees)``, a
product, or ``("+", trees)``, a sum. Axes are split and cut only where their tree has a boundary, and made one
only if their trees are equal. Sizes of 1 never occur: presence atoms may rightly be blocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from axis_programs import LARGEST, LARGEST_INPUT, MOST_AXES, MOST_VALUES, Program
from hypothesis import strategies as st

Tree = int | tuple[str, tuple["Tree", ...]]


def _join(kind: str, trees: Sequence[Tree]) -> Tree:
    """The product or sum of `trees`, with those of the same kind opened."""
    opened = tuple(part for tree in trees for part in _parts(kind, tree))
    return opened[0] if len(opened) == 1 else (kind, opened)


def _parts(kind: str, tree: Tree) -> tuple[Tree, ...]:
    return tree[1] if isinstance(tree, tuple) and tree[0] == kind else (tree,)


def _size(tree: Tree) -> int:
    if isinstance(tree, int):
        return tree
    sizes = map(_size, tree[1])
    return prod(sizes) if tree[0] == "x" else sum(sizes)


def _grown(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    trees = st.lists(inner, min_size=2, max_size=3)
    return st.builds(_join, st.sampled_from("x+"), trees)


TREES = st.recursive(st.sampled_from((2, 3, 4)), _grown, max_leaves=5).filter(lambda tree: _size(tree) <= 24)


class _Nested:
    """A program, and the trees of the axes of each of its values."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw
        self.program = Program()
        self.trees: list[list[Tree]] = []

    def input(self, trees: list[Tree]) -> None:
        self.program.input([_size(tree) for tree in trees])
        self.trees.append(trees)

    def transpose(self, x: int) -> None:
        order = self.draw(st.permutations(range(len(self.trees[x]))))
        self.program.transpose(x, order)
        self.trees.append([self.trees[x][axis] for axis in order])

    def unflatten(self, x: int) -> None:
        """One axis becomes two."""
        axis = self._axis(x)
        parts = _parts("x", self.trees[x][axis])
        if len(parts) > 1 and len(self.trees[x]) < MOST_AXES:
            at = self.draw(st.integers(1, len(parts) - 1))
            self._reshape(x, axis, 1, [_join("x", parts[:at]), _join("x", parts[at:])])

    def flatten(self, x: int) -> None:
        """Two adjacent axes become one."""
        axis = self._axis(x)
        if axis + 1 < len(self.trees[x]):
            self._reshape(x, axis, 2, [_join("x", self.trees[x][axis : axis + 2])])

    def _reshape(self, x: int, axis: int, count: int, new: list[Tree]) -> None:
        trees = [*self.trees[x][:axis], *new, *self.trees[x][axis + count :]]
        self.program.reshape(x, [_size(tree) for tree in trees])
        self.trees.append(trees)

    def split(self, x: int) -> None:
        """An axis is cut between segments; those of an outermost part run through the parts inside it."""
        axis = self._axis(x)
        outer, *inner = _parts("x", self.trees[x][axis])
        segments = _parts("+", outer)
        if len(segments) > 1:
            ends = self.draw(st.sets(st.integers(1, len(segments) - 1), min_size=1))
            groups = [segments[a:b] for a, b in pairwise([0, *sorted(ends), len(segments)])]
            pieces = [_join("x", [_join("+", group), *inner]) for group in groups]
            self.program.split(x, axis, [_size(piece) for piece in pieces])
            for piece in pieces:
                self.trees.append(
                    [piece if number == axis else old for number, old in enumerate(self.trees[x])]
                )

    def cat(self, x: int) -> None:
        axis = self._axis(x)
        others = [y for y in range(len(self.trees)) if self._agree(x, y, axis)]
        xs = [x, *self.draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))]
        if sum(self.program.arrays[y].size for y in xs) <= LARGEST:
            self.program.cat(xs, axis)
            joined = _join("+", [self.trees[y][axis] for y in xs])
            self.trees.append([joined if number == axis else old for number, old in enumerate(self.trees[x])])

    def _agree(self, x: int, y: int, but: int) -> bool:
        one, other = list(self.trees[x]), list(self.trees[y])
        return len(one) == len(other) and one[:but] + one[but + 1 :] == other[:but] + other[but + 1 :]

    def _axis(self, x: int) -> int:
        return self.draw(st.integers(0, len(self.trees[x]) - 1))


@st.composite
def nested_programs(draw: st.DrawFn) -> Program:
    """One to three inputs, up to ten steps."""
    nested = _Nested(draw)
    pool = draw(st.lists(TREES, min_size=1, max_size=3))
    for _ in range(draw(st.integers(1, 3))):
        trees: list[Tree] = []
        for tree in draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3)):
            if prod(map(_size, [*trees, tree])) <= LARGEST_INPUT:
                trees.append(tree)
        nested.input(trees)
    steps = (nested.transpose, nested.unflatten, nested.flatten, nested.split, nested.cat, nested.cat)
    for _ in range(draw(st.integers(1, 10))):
        if len(nested.trees) < MOST_VALUES:
            draw(st.sampled_from(steps))(draw(st.integers(0, len(nested.trees) - 1)))
    return nested.program
